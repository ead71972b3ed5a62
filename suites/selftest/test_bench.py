# SPDX-License-Identifier: GPL-2.0-only
"""The bench: a server that lets a client wait in vain is a finding on what it owed there; hurried waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dissectors.constants import ChannelType, MsgMain
from dissectors.rules.model import Finding
from fixtures.bench import Bench
from fixtures.certificates import Authority
from fixtures.fault import Fault, accepted, lost, rule
from fixtures.library import LibraryLauncher
from fixtures.peer import Deadline, PeerFailure
from fixtures.relay import Replace

LIST = "SPICE_MSG_MAIN_CHANNELS_LIST"
OUT = rule("result", Replace(b"\7\0\0\0"), where=accepted)
SWITCH = MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST


@pytest.fixture(scope="module")
def launcher() -> Iterator[LibraryLauncher]:
    with LibraryLauncher() as made:
        yield made


@pytest.fixture
def made(launcher: LibraryLauncher, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes the test's bench, with a fault planted."""
    benches: list[Bench] = []

    def make(fault: Fault | None = None) -> Bench:
        benches.append(Bench({"source": launcher, "target": launcher}, tmp_path, Authority(tmp_path), fault))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


def found(bench: Bench, action: Callable[[], Any]) -> Finding:
    """The finding that a wait in vain becomes by itself."""
    with pytest.raises(PeerFailure) as caught:
        action()
    assert bench.in_vain(caught.value)
    (finding,) = bench.judgement.findings
    return finding


def test_silence(made: Callable[..., Bench]) -> None:
    bench = made(Fault("no list", lost(LIST)))
    source = bench.start()
    finding = found(bench, lambda: bench.client(source))
    assert (finding.requirement, finding.expected) == ("MAIN-008", LIST)
    assert finding.seen.startswith("silence after SPICE_MSG_")
    assert (finding.connection, finding.host) == (1, "source")


@pytest.mark.parametrize(
    ("settings", "wanted", "requirement"),
    [
        ({}, {}, "LINK-025"),
        ({"ticket": "x"}, {"password": "x"}, "LINK-020"),
        ({}, {"connection_id": 0x8A000001}, "MIG-DST-001"),
        ({}, {"connection_id": 1, "channel": ChannelType.SPICE_CHANNEL_INPUTS}, "CONNID-002"),
    ],
    ids=["no-ticket", "ticket", "target", "channel"],
)
def test_refusal(
    made: Callable[..., Bench], settings: dict[str, Any], wanted: dict[str, Any], requirement: str
) -> None:
    bench = made(Fault("kept out", OUT))
    source = bench.start(**settings)
    finding = found(bench, lambda: bench.link(source, **wanted))
    assert finding.requirement == requirement
    assert finding.expected == "link result: SPICE_LINK_ERR_OK"
    assert finding.seen.startswith("SPICE_LINK_ERR_")


def test_death(made: Callable[..., Bench]) -> None:
    bench = made(Fault("it dies", plant=("die:1",)))
    source = bench.start()
    with pytest.raises(PeerFailure), bench.owed("LINK-028"):
        bench.client(source)
    bench.finish()
    finding = next(f for f in bench.judgement.findings if f.requirement == "LINK-028")
    assert finding.expected.startswith("link re")
    assert "ROBUST-001" in bench.judgement.broken


def test_the_test_names_what_is_owed(made: Callable[..., Bench]) -> None:
    bench = made(Fault("none"))
    main = bench.link(bench.start())
    with bench.owed("CONNID-012"):
        bench.expect("MAIN-001", main, MsgMain.SPICE_MSG_MAIN_INIT)
    assert bench.judgement.kept == {"CONNID-012": 1, "MAIN-001": 1}
    with pytest.raises(Deadline), bench.owed("MIG-SRC-039"):
        bench.expect("MIG-SRC-018", main, SWITCH)
    (finding,) = bench.judgement.findings
    assert (finding.requirement, finding.expected) == ("MIG-SRC-039", SWITCH.name)


def test_what_nobody_owes(made: Callable[..., Bench]) -> None:
    bench = made(Fault("none"))
    bench.start()
    with pytest.raises(Deadline, match=r"waited 5 s for a miracle") as caught:
        bench.pump.until(lambda: False, what="a miracle")
    assert not bench.in_vain(caught.value)
    assert not bench.judgement.findings


def test_hurried_waits(made: Callable[..., Bench]) -> None:
    bench = made(Fault("none"))
    main = bench.link(bench.start())
    main.expect(MsgMain.SPICE_MSG_MAIN_INIT)
    begun = time.monotonic()
    rings = bench.pump.alarm(100)
    with pytest.raises(Deadline):
        main.expect(SWITCH, deadline=200)
    assert rings()
    assert time.monotonic() - begun < 60
    begun = time.monotonic()
    bench.pump.pass_real_time(0.3)
    assert time.monotonic() - begun >= 0.3


def test_clients_that_are_gone_at_once(made: Callable[..., Bench]) -> None:
    """The relay that plants faults accepts them all the same, and goes on."""
    bench = made(Fault("none", lost(LIST)))
    source = bench.start()
    for _ in range(20):
        bench.connect(source).reset()
    bench.link(source)
