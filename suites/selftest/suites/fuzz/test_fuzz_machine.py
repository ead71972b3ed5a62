# SPDX-License-Identifier: GPL-2.0-only
"""The machine's parts: moves as JSON, bodies, shortening, findings as files; campaigns on real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.conversation.connection_states import State
from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import Finding
from dissectors.wire.constants import MsgBase, MsgcBase, MsgcMain, Side
from fixtures.bench.launchers import Launcher
from fixtures.library import LibraryLauncher
from fixtures.system.hosts import UsageError
from suites.fuzz import bodies, campaign, choices, fresh_play, minimise, moves
from suites.fuzz import finding_file as finding
from suites.fuzz.carrier_play import CarrierPlay
from suites.fuzz.moves import MAIN, Call, Caps, Carrier, End, Id, Link, Move, Pass, Send, Setup, Slot, Upto
from suites.fuzz.table_coverage import LEADS, coverage_of
from suites.selftest.suites.fuzz.fuzz_samples import FLUSH_MARK, LINK, failure

EVERY_KIND: list[Move] = [
    LINK,
    Link(1, "target", 3, Id.WRONG, Caps.FULL_HEADER, Upto.MESS),
    FLUSH_MARK,
    Send(1, "target", 3, 101, 77),
    End(0, "source", MAIN, True),
    Call("source", "announce"),
    Pass("target", 10_000),
]


@pytest.fixture(scope="module")
def launchers() -> Iterator[Mapping[str, Launcher]]:
    """The installed library, for source and target."""
    with LibraryLauncher() as launcher:
        yield {"source": launcher, "target": launcher}


def test_moves_survive_json() -> None:
    """Every kind of move is read as it was written."""
    assert moves.from_json(json.loads(json.dumps(moves.as_json(EVERY_KIND)))) == EVERY_KIND


@pytest.mark.parametrize(
    "entry",
    [
        "link",
        {"move": "jump"},
        {"move": "link", "client": 0},
        {"move": "link", "client": 0, "host": "third", "channel": 1},
        {"move": "link", "client": 0, "host": "source", "channel": "main"},
        {"move": "link", "client": 0, "host": "source", "channel": 1, "id": "mine"},
        {"move": "call", "host": "source", "name": "explode"},
    ],
)
def test_wrong_moves_are_one_line(entry: object) -> None:
    """An invalid move is reported in one line that names it."""
    with pytest.raises(ValueError, match="move 1") as caught:
        moves.from_json([entry])
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200), st.integers(1, 0xFFFF))
def test_mutations_repeat(body: bytes, seed: int) -> None:
    """The same seed mutates a body in the same way."""
    assert bodies.mutated(body, seed) == bodies.mutated(body, seed)


@given(st.sets(st.integers(0, 40), min_size=1, max_size=6))
def test_shortest_finds_what_matters(needed: set[int]) -> None:
    """Only the moves that the failure needs remain, in order."""
    assert minimise.shortest(range(41), lambda part: needed <= set(part), 2_000) == sorted(needed)


def test_shortest_keeps_to_its_budget() -> None:
    """Shortening uses no more plays than allowed, and returns the best list so far."""
    plays: list[int] = []

    def fails(part: Sequence[int]) -> bool:
        plays.append(len(part))
        return {1, 30} <= set(part)

    assert {1, 30} <= set(minimise.shortest(range(41), fails, 7))
    assert len(plays) == 7


def test_simplest_takes_the_first_simpler_form() -> None:
    """Each move is replaced by a simpler one if the failure still shows."""
    found = minimise.simplest([5, 6], lambda n: (0,), lambda part: part[1] == 6)
    assert found == [0, 6]


def test_keys_do_not_depend_on_figures() -> None:
    """Addresses and line numbers do not make a new failure; of a crash only the signal counts."""
    same = "it ended by SIGTRAP: x.c:{}: nobody at {}"
    assert failure(same.format(1, "0x12ab")).key == failure(same.format(22, "0xff")).key
    old, new = "SIGTRAP: reds.c:3101:f: it failed", "SIGABRT: ../server/reds.cpp:3025:f: it failed"
    assert failure(f"it ended by {old}").key == failure(f"it ended by {new}").key
    old, new = (
        "SIGTRAP: red-c.c:1:red_c_handle: unexpected x",
        "SIGABRT: ../server/red-c.cpp:2:handle: unexpected x",
    )
    assert failure(f"it ended by {old}").key == failure(f"it ended by {new}").key
    old, new = "SIGTRAP: r.c:1:r_f: assertion `client->a' failed", "SIGABRT: r.cpp:2:f: assertion `a' failed"
    assert failure(f"it ended by {old}").key == failure(f"it ended by {new}").key
    old, new = "SIGTRAP: m.h:213:f: unsupported 7", "SIGABRT: ../server/m.h:9:f: unsupported 4294967295"
    assert failure(f"it ended by {old}").key == failure(f"it ended by {new}").key
    old = "SIGTRAP: reds.c:1762:reds_get_client: assertion `n <= 1' failed"
    new = "SIGABRT: ../server/reds.cpp:1740:reds_get_client: assertion `reds->clients.size() <= 1' failed"
    assert failure(f"it ended by {old}").key == failure(f"it ended by {new}").key
    assert failure("it ended by SIGSEGV: this").key == failure("it ended by SIGSEGV: that").key
    assert failure().key != failure("it ended by SIGSEGV: this").key


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": 99}, "format 99"),
        ({"moves": "none"}, "no list"),
        ({"setup": {"colour": 1}}, "colour"),
        ({"level": "MAYBE"}, "MAYBE"),
        ({"seen": None, "requirement": None}, None),
    ],
)
def test_findings_that_are_none(tmp_path: Path, change: dict[str, object], why: str | None) -> None:
    """An incomplete finding is refused in one line."""
    path = tmp_path / "finding.json"
    path.write_text(json.dumps(failure().as_dict() | change))
    if why is None:
        assert finding.read(path)
        return
    with pytest.raises(UsageError, match=why) as caught:
        finding.read(path)
    assert "\n" not in str(caught.value)


def test_a_play_follows_the_tables(launchers: Mapping[str, Launcher]) -> None:
    """A client that only does its duties migrates, by the choices alone; there is no finding at the end."""
    play = fresh_play.FreshPlay(launchers, Setup())
    play.play_all([LINK, Link(0, "source", 3, Id.OWN), Call("source", "announce")])
    assert play.known(Slot(0, "source", MAIN)).state is State.ANNOUNCED
    play.play_all(choices.owed(play)[0])
    assert play.known(Slot(0, "source", MAIN)).state is State.CONNECTED
    play.play_all([Call("source", "migrate_start"), Call("source", "vm_stop"), Call("target", "vm_start")])
    play.play(Call("source", "finish"))
    assert play.known(Slot(0, "source", MAIN)).state is State.ENDED
    play.play_all(choices.owed(play)[0])
    assert play.known(Slot(0, "target", MAIN)).state is State.READY
    assert play.open_slots() == [Slot(0, "target", MAIN), Slot(0, "target", 3)]
    judgement = play.close()
    assert not play.failures()
    assert {"MIG-SRC-015", "MIG-DST-004", "ROBUST-003"} <= judgement.kept.keys()


OTHER_CARRIERS = (Carrier.TLS, Carrier.WEBSOCKET)


@pytest.mark.parametrize("carrier", OTHER_CARRIERS)
def test_a_play_over_another_carrier(launchers: Mapping[str, Launcher], carrier: Carrier) -> None:
    """A seamless migration over TLS or WebSocket, by the choices alone; its moves can be played again."""
    setup = Setup(seamless=True, carrier=carrier)
    first = CarrierPlay(launchers, setup)
    assert first.play_all([LINK]) == [LINK]
    while moves := choices.course(first):
        first.play_all(moves)
    judgement = first.close()
    assert first.known(Slot(0, "target", MAIN)).state is State.READY
    assert not first.failures()
    assert {"MIG-SRC-042", "MIG-DST-023", "ROBUST-003"} <= judgement.kept.keys()
    assert {c.opened.tls for c in first.connections} == {carrier is Carrier.TLS}
    again = finding.play(launchers, setup, first.played)
    assert again.played == first.played
    assert not again.failures()


@pytest.mark.parametrize("carrier", OTHER_CARRIERS)
def test_a_failure_over_another_carrier(
    launchers: Mapping[str, Launcher], carrier: Carrier, tmp_path: Path
) -> None:
    """It is played again from its file over the same carrier; shortening prefers TCP if it shows there."""
    play = fresh_play.FreshPlay(launchers, Setup(seamless=True, carrier=carrier))
    play.play_all([LINK, Call("source", "announce"), FLUSH_MARK])
    (key,) = play.failed()
    filed = replace(failure(), setup=play.setup, moves=play.played).write(tmp_path, play.pump.tape)
    read = finding.read(filed)
    assert read.setup == play.setup
    assert key in finding.play(launchers, read.setup, read.moves).failed()
    run = campaign.Campaign(launchers, "system", 1)
    run._ended(play)
    assert run.failures[key].moves == [LINK, FLUSH_MARK]
    assert run.failures[key].setup == Setup()


def test_a_hypervisor_does_not_misuse(launchers: Mapping[str, Launcher]) -> None:
    """A player skips a call that a hypervisor must not make at this moment."""
    play = fresh_play.FreshPlay(launchers, Setup())
    play.play_all([LINK, Call("source", "finish"), Call("source", "agent_attach"), Pass("target", 1)])
    play.close()
    assert play.played == [LINK]


def test_an_illegal_client_is_not_owed_the_order(launchers: Mapping[str, Launcher]) -> None:
    """After a client's breach of the order, a server's act is a failure only at level ROBUST."""
    play = fresh_play.FreshPlay(launchers, Setup())
    findings = play.oracle.judgement.findings

    def find(requirement: str) -> None:
        findings.append(Finding(requirement, CATALOGUE[requirement].level, "this", "that", 0.0))

    play.play(LINK)
    find("MAIN-002")
    play.play(Send(0, "source", MAIN, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)))
    find("MAIN-003")
    find("ROBUST-003")
    find("MIG-CLI-002")
    assert [f.requirement for f in play.provoked()] == ["MAIN-003"]
    assert [f.requirement for f in play.failures()] == ["MAIN-002", "ROBUST-003"]
    play.close()


def test_the_same_seed_finds_the_same(launchers: Mapping[str, Launcher], tmp_path: Path) -> None:
    """Two campaigns with one seed find the same failures by the same moves; each is saved and can be read."""
    runs = []
    for name in ("first", "second"):
        run = campaign.Campaign(launchers, "system", 2, tmp_path / name)
        run.run(examples=12)
        runs.append(run)
    first, second = ([(k, f.moves, f.example) for k, f in run.failures.items()] for run in runs)
    assert first == second
    # whether a PING is due depends on the server's own, real clock
    pings = {(Side.SERVER, int(MsgBase.SPICE_MSG_PING)), (Side.CLIENT, int(MsgcBase.SPICE_MSGC_PONG))}
    first_steps, second_steps = ({step for step in run.steps if step[2:] not in pings} for run in runs)
    assert first_steps == second_steps
    assert runs[0].inconsistent == 0
    for failed in runs[0].failures.values():
        saved = tmp_path / "first" / "findings" / failed.name
        assert finding.read(saved / finding.NAME).moves == list(failed.moves)
        assert (saved / finding.PACKETS).stat().st_size > 0


def test_a_failure_is_shortened(launchers: Mapping[str, Launcher]) -> None:
    """Unneeded moves are left out, and unusual values become plain if the failure allows it."""
    run = campaign.Campaign(launchers, "system", 1)
    odd = Link(0, "source", MAIN, caps=Caps.FULL_HEADER)
    play = fresh_play.FreshPlay(launchers, Setup(seamless=True))
    play.play_all([odd, Call("source", "announce"), FLUSH_MARK])
    run._ended(play)
    (failed,) = (f for k, f in run.failures.items() if k.requirement == "ROBUST-001")
    assert failed.moves == [LINK, FLUSH_MARK]
    assert failed.setup == Setup()
    assert failed.reproduced == (campaign.PROOFS, campaign.PROOFS)


def test_coverage_counts_what_the_tables_name() -> None:
    """Without plays the coverage is zero; with every step of the tables it is complete."""
    assert coverage_of(set())["steps"] == [0, len(LEADS)]
    everything = coverage_of(set(LEADS))
    assert everything["steps"] == [len(LEADS)] * 2
