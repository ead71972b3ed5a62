# SPDX-License-Identifier: GPL-2.0-only
"""Replay: reading a recording, the outcome of a finding's replay, and wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dissectors.channels.main import SpiceMsgMainInit
from dissectors.framing.events import HostEvent, Message
from dissectors.wire.constants import ChannelType, MsgBase, MsgMain, Side
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, later, put, twice
from fixtures.library import LibraryLauncher
from fixtures.peer.duties import CANNOT_CONNECT, NEVER_ANSWERS, Duties
from fixtures.system.certificates import Authority
from fixtures.system.hosts import UsageError
from fixtures.system.tape import Tape
from reports.commands import replay
from reports.run.exit_status import Exit
from suites.fuzz import finding_file as finding
from suites.fuzz.moves import Setup
from suites.replay import capture_script as recording
from suites.replay import player
from suites.replay.script import Advance, Announce, Calls, Complete, Open, Say
from suites.replay.spoken import differences, spoken
from suites.selftest.suites.fuzz.fuzz_samples import LINK, failure

DUTIFUL = Duties()


def record(path: Path, duties: Duties = DUTIFUL, *, timeout: bool = False, wire_only: bool = False) -> Path:
    """A migration on the installed library as a capture. `wire_only`: without the hosts' events."""
    with LibraryLauncher() as launcher:
        bench = Bench({"source": launcher, "target": launcher}, path, Authority(path))
        source, target = bench.pair(name="machine", ticket="secret")
        client = bench.client(source, channels=(), duties=duties, password="secret")
        source.announce(target)
        if timeout:
            bench.pass_time(source, 10_000)
        bench.wait(source, "migrate_connect_complete", proves="MIG-SRC-028")
        source.complete(target)
        bench.pump.until(lambda: client.left or client.current.main.host == "target", what="the move")
        client.main.expect(MsgMain.SPICE_MSG_MAIN_INIT)
        bench.finish()
        if wire_only:
            tape = bench.pump.tape
            tape._entries = [entry for entry in tape._entries if not isinstance(entry, HostEvent)]
        bench.pump.tape.write_pcapng(path / "recorded.pcapng")
        bench.close()
    return path / "recorded.pcapng"


def test_hypervisor_calls_as_recorded(tmp_path: Path) -> None:
    """If the recording has the hosts' events, their calls are repeated, and time passes as recorded."""
    script = recording.read(record(tmp_path, NEVER_ANSWERS, timeout=True))
    assert script.host_calls == "recorded"
    actions = [action for action, _ in script.actions]
    assert [a.function for a in actions if isinstance(a, Calls)] == [
        "migrate_start",
        "vm_stop",
        "vm_start",
        "migrate_end",
    ]
    assert sum(a.ms for a in actions if isinstance(a, Advance)) == 10_000
    assert all(server.ticket for server in script.servers)


def test_hypervisor_calls_from_the_wire(tmp_path: Path) -> None:
    """Otherwise the calls follow from the servers' messages, and each waits for the messages before it."""
    script = recording.read(record(tmp_path, wire_only=True))
    calls = [(a, seen) for a, seen in script.actions if isinstance(a, Announce | Complete)]
    assert [(type(a), a.host, a.target) for a, _ in calls] == [
        (Announce, "source", "target"),
        (Complete, "source", "target"),
    ]
    assert (1, "SPICE_MSG_MAIN_MIGRATE_BEGIN") in calls[1][1]
    assert [server.label for server in script.servers] == ["source", "target"]


def test_ids_are_made_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The target's link names this run's session, not the recorded one, and nothing differs."""
    path = record(tmp_path)
    recorded = [a for a, _ in recording.read(path).actions if isinstance(a, Open)]
    assert replay.main(path, server="system", out=tmp_path / "out") == Exit.CONFORMANT
    again = recording.read(tmp_path / "out" / finding.PACKETS)
    opened = [a for a, _ in again.actions if isinstance(a, Open)]
    ids = [int.from_bytes(a.mess[player.ID_AT], "little") for a in (recorded[1], opened[1])]
    assert ids[0] != ids[1]
    assert ids[1] in again.sessions.values()
    assert "said what they said" in capsys.readouterr().out
    assert "secret" not in (tmp_path / "out" / "replay.json").read_text()


def test_a_switch_of_hosts(tmp_path: Path) -> None:
    """A client that could not connect gets SWITCH_HOST; the replay has the same outcome."""
    path = record(tmp_path, CANNOT_CONNECT)
    assert replay.main(path, server="system", out=tmp_path / "out") == Exit.CONFORMANT
    document = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert not document["differences"]
    assert "MIG-SRC-018" in document["kept"]


def test_reflexes_are_not_replayed(tmp_path: Path) -> None:
    """PONG, ACK_SYNC and ACK are computed again."""
    script = recording.read(record(tmp_path))
    assert not {a.type for a, _ in script.actions if isinstance(a, Say)} & {1, 2, 3}


def test_a_finding_that_shows(tmp_path: Path) -> None:
    """A declared deviation shows again: no failure."""
    failure().write(tmp_path, _tape())
    path = tmp_path / failure().name
    assert replay.main(path, server="system", out=tmp_path / "out") == Exit.CONFORMANT


def test_a_finding_that_is_gone(tmp_path: Path) -> None:
    """A deviation that is declared for the build and no longer shows has its own exit status."""
    path = tmp_path / "finding.json"
    gone = failure().as_dict()
    gone["moves"][1]["host"] = "target"  # where the client has no connection
    path.write_text(json.dumps(gone))
    assert replay.main(path, server="system", out=tmp_path / "out") == Exit.STALE_DEVIATION
    path.write_text(json.dumps(gone | {"seen": "nobody has declared this"}))
    assert replay.main(path, server="system", out=tmp_path / "out") == Exit.CONFORMANT


def _tape() -> Tape:
    with LibraryLauncher() as launcher:
        return finding.play({"source": launcher, "target": launcher}, Setup(), [LINK]).pump.tape


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"a": 1}', b"GET / HTTP/1.1", b"\x0a\x0d\x0d\x0a"])
def test_wrong_input_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    """A file that cannot be read, or is neither a capture nor a finding, gives one line (status 2)."""
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        replay.main(path, server="system", out=tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_capture_without_spice(tmp_path: Path) -> None:
    """A capture without a link has nothing to replay."""
    Tape().write_pcapng(tmp_path / "empty.pcapng")
    with pytest.raises(UsageError, match="no SPICE"):
        replay.main(tmp_path / "empty.pcapng", server="system", out=tmp_path / "out")


def record_seamless(path: Path) -> Path:
    """A seamless migration with an inputs channel on the installed library as a capture."""
    with LibraryLauncher() as launcher:
        bench = Bench({"source": launcher, "target": launcher}, path, Authority(path))
        source, target = bench.pair(seamless=True)
        client = bench.client(source, channels=(ChannelType.SPICE_CHANNEL_INPUTS,))
        source.announce(target)
        bench.pump.until(lambda: client.target and client.target.linked, what="the links to the target")
        bench.settle()
        source.complete(target)
        bench.pump.until(lambda: client.left, what="the move to the target")
        bench.finish()
        bench.pump.tape.write_pcapng(path / "recorded.pcapng")
        bench.close()
    return path / "recorded.pcapng"


def replayed_with(fault: Fault, recorded: Path, scratch: Path) -> player.Replay:
    """A recording, played on hosts with a planted fault."""
    with LibraryLauncher() as launcher:
        bench = Bench({"source": launcher, "target": launcher}, scratch, Authority(scratch), fault=fault)
        replay = player.Replay(bench, recording.read(recorded))
        try:
            replay.run()
        finally:
            bench.close()
    return replay


INIT, MIGRATE = MsgMain.SPICE_MSG_MAIN_INIT, MsgBase.SPICE_MSG_MIGRATE


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (
            later("one more token", INIT, "agent_tokens", 1, host="source"),
            "main of the source (connection 1): SPICE_MSG_MAIN_INIT:"
            " agent_tokens is 10 in the recording, 11 here",
        ),
        (
            put(MIGRATE, channel=1, flags=1),
            "main of the source (connection 1): SPICE_MSG_MIGRATE: flags is"
            " SPICE_MIGRATE_NEED_FLUSH+SPICE_MIGRATE_NEED_DATA_TRANSFER in the recording,"
            " SPICE_MIGRATE_NEED_FLUSH here",
        ),
        (
            put("reply", host="source", channel=1, common_caps=[0b101011]),
            "main of the source (connection 1): link reply: common_caps is",
        ),
        (
            twice(MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST, host="source"),
            "main of the source (connection 1): SPICE_MSG_MAIN_CHANNELS_LIST only here",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
def test_exactly_what_a_fault_changes(tmp_path: Path, fault: Fault, seen: str) -> None:
    """A build that sends one different field: this field is the one difference, with both values."""
    recorded = record_seamless(tmp_path)
    found = replayed_with(fault, recorded, tmp_path).differences
    assert len(found) == 1, found
    assert found[0].startswith(seen)


def test_volatile_fields_are_left_aside() -> None:
    """Ids, times, serials and ports are no differences; a length alone is none either."""
    packets = [
        SpiceMsgMainInit(session_id=n, multi_media_time=n, agent_tokens=10, ram_hint=n) for n in (1, 2)
    ]
    said = [
        [
            spoken(
                Message(
                    time=0,
                    connection=1,
                    channel=1,
                    sender=Side.SERVER,
                    type=INIT,
                    body=bytes(packet),
                    size=32,
                )
            )
        ]
        for packet in packets
    ]
    assert not list(differences(*said))
    assert "agent_tokens" in said[0][0].fields
