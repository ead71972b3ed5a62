# SPDX-License-Identifier: GPL-2.0-only
"""A live semi-seamless migration, inspected from its packets alone: whole, broken, mutated and cut."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dissectors.capture.capture_files import CaptureFile
from dissectors.framing.events import Closed, LinkBytes, Opened
from dissectors.framing.framer import MINI
from dissectors.rules.doubts import MIXED_S
from dissectors.rules.inspector import Inspection
from dissectors.wire.constants import MsgcMain, MsgMain, Side
from fixtures.bench import Bench
from fixtures.captures import recorded
from fixtures.library import LibraryLauncher
from fixtures.peer.duties import MigrationStep
from fixtures.system.certificates import Authority
from fixtures.system.tape import Chunk, Tape
from suites.selftest.dissectors.capture.capture_mutations import (
    Packet,
    cut,
    dialogue,
    duplicated,
    overlapping,
    packets,
    record,
    save,
    without,
)
from suites.selftest.dissectors.capture.capture_mutations import packets as packets_of

INIT = MsgMain.SPICE_MSG_MAIN_INIT
SUBJECT = "C=XY,O=Source of truth,CN=target.example"
INIT_BYTES = 6 + 32
FROM_CLIENT_END = MINI.pack(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END, 0)
HANDSHAKE = 3  # packets
Findings = list[tuple[str, int | None]]


@dataclass(frozen=True)
class Recorded:
    """A migration on tape; ports of source and target; the session's id."""

    tape: Tape
    source: int
    target: int
    session_id: int

    def packets(self, folder: Path, name: str = "own.pcapng") -> list[Packet]:
        """The packets alone: no host events, no labels."""
        self.tape.write_pcapng(folder / name)
        return packets(folder / name)


@pytest.fixture(scope="module")
def migration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Two library hosts and a client that migrates correctly."""
    folder = tmp_path_factory.mktemp("migration")
    with LibraryLauncher() as launcher:
        bench = Bench({"source": launcher, "target": launcher}, folder, Authority(folder))
        try:
            source, target = bench.pair()
            client = bench.client(source)
            session_id = int(client.main.got(INIT)[0].packet.session_id)
            source.announce(target, subject=SUBJECT)
            bench.pump.until(lambda: MigrationStep.ANSWER in client.steps, what="the client's answer")
            bench.settle()
            source.complete(target)
            bench.pump.until(lambda: client.left and client.main.got(INIT), what="the target's INIT")
            bench.pump.until(
                lambda: MigrationStep.START_CHANNELS in client.steps, what="the target's channels"
            )
            bench.settle()
            assert source.port is not None
            assert target.port is not None
            ports = source.port, target.port
        finally:
            bench.close()
        yield Recorded(bench.pump.tape, *ports, session_id)


@pytest.fixture(scope="module")
def plain(migration: Recorded, tmp_path_factory: pytest.TempPathFactory) -> list[Packet]:
    return migration.packets(tmp_path_factory.mktemp("plain"))


def inspected(path: Path) -> dict[str, Any]:
    inspection = Inspection([path])
    inspection.finish()
    assert inspection.error is None
    return inspection.as_dict()


def findings(told: dict[str, Any]) -> Findings:
    return [(finding["requirement"], finding["packet"]) for finding in told["findings"]]


def essence(told: dict[str, Any]) -> dict[str, Any]:
    """The story without frame numbers and times, which reordering and resegmenting change."""
    return {
        "migrations": [
            {
                **m,
                "steps": [(s["connection"], s["sender"], s["message"]) for s in m["steps"]],
                "phases": [phase["name"] for phase in m["phases"]],
                "duration_ms": None,
            }
            for m in told["migrations"]
        ],
        "sessions": told["sessions"],
        "findings": [requirement for requirement, _ in findings(told)],
        "gaps": told["gaps"],
    }


def test_a_migration_is_described_from_its_packets(
    migration: Recorded, plain: list[Packet], tmp_path: Path
) -> None:
    result = inspected(save(tmp_path / "plain.pcap", plain))
    assert result["findings"] == []
    assert result["gaps"] == []
    (moved,) = result["migrations"]
    assert moved["scheme"] == "semi-seamless"
    assert moved["outcome"] == "completed"
    assert moved["source"] == f"127.0.0.1:{migration.source}"
    assert moved["target"] == f"127.0.0.1:{migration.target}"
    assert moved["session_id"] == moved["target_session_id"] == migration.session_id
    assert (moved["host"], moved["port"]) == ("127.0.0.1", migration.target)
    assert moved["cert_subject"].rstrip("\0") == SUBJECT
    steps = [step["message"].removeprefix("SPICE_MSG") for step in moved["steps"]]
    wanted = ["_MAIN_MIGRATE_BEGIN", "C_MAIN_MIGRATE_CONNECTED", "_MAIN_MIGRATE_END", "C_MAIN_MIGRATE_END"]
    assert [step for step in steps if step in wanted] == wanted
    assert steps.index("_MAIN_INIT") > steps.index("C_MAIN_MIGRATE_END")


def with_early_init(migration: Recorded) -> Tape:
    """The same tape with the target's INIT before the client's MIGRATE_END."""
    tape = migration.tape
    end = next(c for c in tape.chunks if c.sender is Side.CLIENT and c.data == FROM_CLIENT_END)
    answer = next(
        c
        for c in tape.chunks
        if c.connection == end.connection and c.sender is Side.SERVER and c.time > end.time
    )
    assert MINI.unpack_from(answer.data) == (INIT, 32)
    early = Chunk(end.time - 2e-6, end.connection, Side.SERVER, answer.data[:INIT_BYTES])
    chunks = [c for c in tape.chunks if c is not answer]
    chunks.append(early)
    if rest := answer.data[INIT_BYTES:]:
        chunks.append(replace(answer, data=rest))
    return retold(tape, chunks)


def retold(tape: Tape, chunks: Iterable[Chunk]) -> Tape:
    """The same connections with other bytes."""
    made = Tape()
    opened = [(track.opened.time, track.opened) for track in tape.tracks.values()]
    closed = [(track.closed.time, track.closed) for track in tape.tracks.values() if track.closed]
    said = [(chunk.time, chunk) for chunk in chunks]
    for _, entry in sorted([*opened, *said, *closed], key=itemgetter(0)):
        match entry:
            case Opened():
                made.opened(entry.client, entry.server, entry.time, tls=entry.tls, host=entry.host)
            case Chunk():
                made.data(entry.connection, entry.sender, entry.data, entry.time)
            case Closed():
                made.closed(entry.connection, entry.how, entry.time, by=entry.by)
    return made


def test_init_before_migrate_end_is_the_only_finding(migration: Recorded, tmp_path: Path) -> None:
    broken = replace(migration, tape=with_early_init(migration)).packets(tmp_path)
    path = save(tmp_path / "broken.pcap", broken)
    result = inspected(path)
    ((requirement, frame),) = findings(result)
    assert requirement == "MIG-DST-002"
    assert result["findings"][0]["level"] == "MUST"
    if shutil.which("tshark"):
        wanted = f"spice.message_type=={int(INIT)} && tcp.srcport=={migration.target}"
        command = ["tshark", "-r", str(path), "-d", f"tcp.port=={migration.target},spice", "-Y", wanted]
        command += ["-T", "fields", "-e", "frame.number"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.split() == [str(frame)]


def resegmented(migration: Recorded, size: int) -> Tape:
    """The same bytes in segments of `size`."""
    return retold(
        migration.tape,
        (
            replace(chunk, data=chunk.data[at : at + size])
            for chunk in migration.tape.chunks
            for at in range(0, len(chunk.data), size)
        ),
    )


@pytest.mark.parametrize("size", [3, 100, 1448, 1 << 16])
def test_any_segments_tell_the_same_story(
    migration: Recorded, plain: list[Packet], tmp_path: Path, size: int
) -> None:
    other = replace(migration, tape=resegmented(migration, size)).packets(tmp_path)
    result = inspected(save(tmp_path / "other.pcap", other))
    assert essence(result) == essence(inspected(save(tmp_path / "plain.pcap", plain)))


def test_duplicates_and_overlaps_tell_the_same_story(plain: list[Packet], tmp_path: Path) -> None:
    expected = essence(inspected(save(tmp_path / "plain.pcap", plain)))
    for seed in range(5):
        for mutate in (duplicated, overlapping):
            path = save(tmp_path / "mutated.pcap", mutate(plain, seed))
            assert essence(inspected(path)) == expected, (mutate.__name__, seed)


def test_a_directions_packets_in_any_order_tell_the_same_story(
    migration: Recorded, plain: list[Packet], tmp_path: Path
) -> None:
    """Packets that one end sent in a row, shuffled. (Who of two ends spoke first only their order tells.)"""
    expected = essence(inspected(save(tmp_path / "plain.pcap", plain)))
    pieces = replace(migration, tape=resegmented(migration, 100)).packets(tmp_path)
    runs = [list(run) for _, run in groupby(pieces, key=lambda packet: packet.data[12:24])]
    for seed in range(5):
        random = Random(seed)
        mixed = [packet for run in runs for packet in random.sample(run, len(run))]
        assert essence(inspected(save(tmp_path / "mixed.pcap", mixed))) == expected, seed


def connection_of(packet: Packet) -> frozenset[bytes]:
    """Both ends (IPv4 without options): the same for both directions."""
    addresses, ports = packet.data[12:20], packet.data[20:24]
    return frozenset({addresses[:4] + ports[:2], addresses[4:] + ports[2:]})


def pairs_of(places: Sequence[int], start: int) -> Iterator[tuple[int, int]]:
    """Each place once, with the one behind it."""
    yield from zip(places[start::2], places[start + 1 :: 2], strict=False)


def swapped(packets: Sequence[Packet], seed: int) -> list[Packet]:
    """The packets of each connection, both directions together, at most one place from where they were."""
    random, result = Random(seed), list(packets)
    places = defaultdict(list)
    for index, packet in enumerate(packets):
        places[connection_of(packet)].append(index)
    for own in places.values():
        for one, other in pairs_of(own, random.randrange(2)):
            if random.random() < 0.6 and packets[other].time - packets[one].time < MIXED_S / 2:
                first, second = result[one], result[other]
                result[one] = replace(second, time=first.time)
                result[other] = replace(first, time=second.time)
    return result


def test_acknowledgements_tell_the_order_between_directions(plain: list[Packet], tmp_path: Path) -> None:
    """Whatever order a capture shows, an end had received the bytes that it has acknowledged."""
    expected = essence(inspected(save(tmp_path / "plain.pcap", plain)))
    for seed in range(8):
        result = essence(inspected(save(tmp_path / "swapped.pcap", swapped(plain, seed))))
        assert (result["findings"], result["gaps"], result["sessions"]) == ([], [], expected["sessions"]), (
            seed
        )


def ends(migration: Recorded, plain: list[Packet], tmp_path: Path, skew: float = 0.0) -> tuple[Path, Path]:
    """Captures of the two hosts, the target's by another clock."""
    port = migration.target.to_bytes(2)
    target = [p for p in plain if port in (p.data[20:22], p.data[22:24])]
    source = [p for p in plain if p not in target]
    late = [replace(p, time=p.time + skew) for p in target]
    return save(tmp_path / "source.pcap", source), save(tmp_path / "target.pcap", late)


@pytest.mark.parametrize("skew", [0.0, -3.0, -0.01, 0.01, 3.0])
def test_two_hosts_with_two_clocks_invent_no_findings(
    migration: Recorded, plain: list[Packet], tmp_path: Path, skew: float
) -> None:
    source, target = ends(migration, plain, tmp_path, skew)
    for paths in ([source, target], [target, source]):
        inspection = Inspection(paths)
        inspection.finish()
        result = inspection.as_dict()
        assert result["findings"] == []
        assert [m["outcome"] for m in result["migrations"]] == ["completed"]


def test_captures_one_behind_the_other_invent_no_findings(
    migration: Recorded, plain: list[Packet], tmp_path: Path
) -> None:
    source, target = (packets_of(path) for path in ends(migration, plain, tmp_path))
    for together in (source + target, target + source):
        result = inspected(save(tmp_path / "together.pcap", together))
        assert result["findings"] == []
        assert [m["outcome"] for m in result["migrations"]] == ["completed"]


@pytest.mark.parametrize("sender", list(Side))
def test_one_direction_alone_invents_no_findings(
    migration: Recorded, plain: list[Packet], tmp_path: Path, sender: Side
) -> None:
    ports = {port.to_bytes(2) for port in (migration.source, migration.target)}
    half = [p for p in plain if (p.data[20:22] in ports) is (sender is Side.SERVER)]
    result = inspected(save(tmp_path / "half.pcap", half))
    assert result["findings"] == []
    assert result["gaps"] or not result["sessions"]


def test_a_hole_elsewhere_excuses_nothing(migration: Recorded, tmp_path: Path) -> None:
    """INIT too early stays a finding when another connection's bytes are missing."""
    broken = replace(migration, tape=with_early_init(migration)).packets(tmp_path)
    other = record(tmp_path / "other.pcapng", dialogue(turns=8))
    holed = without(packets_of(other), [5])
    path = save(tmp_path / "both.pcap", sorted([*broken, *holed], key=lambda packet: packet.time))
    result = inspected(path)
    assert result["gaps"]
    found = [requirement for requirement, _ in findings(result)]
    assert found == ["LINK-003", "MIG-DST-002"]  # the other one's link reply is made up


def test_lost_packets_invent_no_findings(plain: list[Packet], tmp_path: Path) -> None:
    """Each packet with data is lost once, then several at a time."""
    full = [index for index, packet in enumerate(plain) if packet.payload]
    random = Random(71)
    several = [random.sample(full, random.randint(2, 8)) for _ in range(60)]
    invented = {}
    for lost in [*([index] for index in full), *several]:
        output = inspected(save(tmp_path / "lost.pcap", without(plain, lost)))
        if output["findings"]:
            invented[tuple(lost)] = findings(output)
    assert invented == {}


def without_findings(packets: Sequence[Packet], folder: Path, link: int = 101) -> None:
    """The capture gives none, wherever it begins."""
    invented = {}
    for start in range(1, len(packets)):
        result = inspected(save(folder / "late.pcap", packets[start:], link))
        if result["findings"]:
            invented[start] = findings(result)
    assert invented == {}


def test_a_capture_that_begins_later_invents_no_findings(plain: list[Packet], tmp_path: Path) -> None:
    without_findings(plain, tmp_path)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_link_stage_without_its_tcp_handshake(plain: list[Packet], tmp_path: Path, lost: int) -> None:
    """Where the directions begin is then known only after some packets: order and frames do not suffer."""

    def link_packets(packets: Sequence[Packet]) -> list[tuple[Side, str, int | None]]:
        events = (event for event, _ in Inspection([save(tmp_path / "x.pcap", packets)]).run())
        return [(e.sender, e.kind, e.frame) for e in events if isinstance(e, LinkBytes) and e.connection == 1]

    whole = link_packets(plain)
    assert [kind for _, kind, _ in whole] == ["mess", "reply", "mechanism", "ticket", "result"]
    assert link_packets(plain[lost:]) == [(side, kind, (frame or 0) - lost) for side, kind, frame in whole]


@pytest.mark.parametrize("capture", [c for c in recorded() if "tls" not in c.name], ids=lambda c: c.name)
def test_a_recorded_capture_that_begins_later_invents_no_findings(capture: Path, tmp_path: Path) -> None:
    whole, link = packets_of(capture), next(iter(CaptureFile(capture).records()))[2]
    assert inspected(save(tmp_path / "whole.pcap", whole, link))["migrations"]
    without_findings(whole, tmp_path, link)


@pytest.mark.parametrize("snap", [60, 80, 96, 128, 200, 1000])
def test_a_snap_length_invents_no_findings(plain: list[Packet], tmp_path: Path, snap: int) -> None:
    result = inspected(save(tmp_path / "cut.pcap", cut(plain, snap)))
    assert result["findings"] == []
    assert result["gaps"]


@pytest.mark.parametrize("path", recorded(), ids=lambda p: p.name)
def test_the_real_clients_captures_keep_every_must(path: Path) -> None:
    result = inspected(path)
    assert [f for f in result["findings"] if f["level"] == "MUST"] == []
    assert len(result["migrations"]) == 1
