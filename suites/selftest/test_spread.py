# SPDX-License-Identifier: GPL-2.0-only
"""Hosts and clients apart in the network: where they are, what clients are told, who makes a line worse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dissectors.events import Ending
from fixtures.bench import Bench
from fixtures.certificates import Authority
from fixtures.hosts import Unsupported
from fixtures.library import LibraryLauncher
from fixtures.namespaces import Called, Network
from fixtures.relay import Delay, Lose
from fixtures.remote import RemoteLauncher
from fixtures.spread import Line, Spread, spread, through_relay


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Bench]:
    """Two launchers of the system's library; skips where there can be no namespaces."""
    try:
        Network().close()
    except Unsupported as reason:
        pytest.skip(str(reason))
    launcher = LibraryLauncher()
    made = Bench({"source": launcher, "target": launcher}, tmp_path, Authority(tmp_path / "authority"))
    yield made
    made.close()
    launcher.close()


def apart(stand: Bench, called: Called) -> Spread:
    """`spread`; skips where there can be no IPv6."""
    try:
        return spread(stand, called)
    except Unsupported as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(
    ("called", "told", "host"),
    [
        (Called.IPV4, "198.51.100.2", "198.51.100.2"),
        (Called.IPV6, "2001:db8:c633:6400::2", "2001:db8:c633:6400::2"),
        (Called.NAME, "target.example", "198.51.100.2"),
    ],
)
def test_hosts_are_at_addresses_of_their_own(stand: Bench, called: Called, told: str, host: str) -> None:
    made = apart(stand, called)
    target = stand.start("target")
    assert (target.address, made.told("target")) == (host, {"host": told})
    assert target.port is not None
    with stand.pump.dial((told, target.port), 5.0) as connection:
        assert connection.getpeername()[:2] == (host, target.port)
    made.network.cut("client", "target")
    made.network.mend("client", "target")
    with pytest.raises(OSError, match="refused"):
        stand.pump.dial((told, 1), 5.0)


def test_what_the_kernel_cannot_do_is_left_to_a_relay(stand: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Unsupported("no netem")

    monkeypatch.setattr(Network, "shape", refuse)
    made = spread(stand, Called.NAME, Line(delay_ms=30, loss_percent=50))
    assert [type(rule.action) for rule in made.rules] == [Delay, Lose]
    assert made.told("source") == {}
    through_relay(stand, made)
    source = stand.start("source")
    assert source.address == "localhost"
    assert len(made.network.names) == 2


def test_what_the_kernel_can_do_it_does(stand: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(Network, "shape", lambda _, *ends, **how: asked.append((ends, how)))
    made = spread(stand, line=Line(delay_ms=30, loss_percent=2))
    through_relay(stand, made)
    assert made.rules == ()
    how = {"delay_ms": 30, "loss_percent": 2}
    assert asked == [(("client", "source"), how), (("client", "target"), how)]
    assert stand.start("source").address == "192.0.2.2"


@pytest.mark.parametrize("called", [Called.IPV4, Called.IPV6])
def test_a_relay_in_the_clients_namespace(stand: Bench, called: Called) -> None:
    made = apart(stand, called)
    relay = stand.relayed(place=made.place())
    source = stand.start("source")
    assert source.address == {Called.IPV4: "127.0.0.1", Called.IPV6: "::1"}[called]
    assert source.port is not None
    with stand.pump.dial((source.address, source.port), 5.0):
        stand.pump.until(lambda: relay.tape.tracks, what="a connection")
    stand.pump.until(lambda: relay.tape.tracks[1].closed, what="its end")
    assert relay.tape.tracks[1].opened.server.host == source.address
    assert relay.tape.tracks[1].closed.how is Ending.CLOSED  # type: ignore[union-attr]


def test_hosts_that_others_run_stay_where_they_are(stand: Bench) -> None:
    remote = RemoteLauncher.__new__(RemoteLauncher)
    stand.launchers["source"] = remote
    with pytest.raises(Unsupported, match="stay where they are"):
        spread(stand)
