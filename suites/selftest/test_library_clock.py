# SPDX-License-Identifier: GPL-2.0-only
"""Time in a library host: exact on the virtual clock, and the faults that can be planted in it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fixtures.hosts import Settings, Unsupported
from fixtures.library import LibraryHost, LibraryLauncher
from suites.selftest.raw_client import linked_main, send, wait_for


@pytest.fixture(scope="module")
def launcher() -> Iterator[LibraryLauncher]:
    with LibraryLauncher() as launcher:
        yield launcher


def announced(host: LibraryHost) -> socket.socket:
    """A silent client that has been told of a migration."""
    client = linked_main(host)
    wait_for(host, "channel_initialized")
    host.call("migrate_connect", host="127.0.0.1", port=0x1234)
    return client


def times(host: LibraryHost, name: str) -> list[float | None]:
    return [event.clock_ms for event in host.read_events() if event.name == name]


def test_timeout_is_exact(launcher: LibraryLauncher) -> None:
    host = launcher.start("source")
    with announced(host):
        events = host.read_events()
        call = next(event for event in events if event.name == "call:migrate_connect")
        after = events[events.index(call) :]
        assert 10_000 in [event.args["ms"] for event in after if event.name == "timer_start"]
        host.advance(9_999)
        assert times(host, "migrate_connect_complete") == []
        host.advance(1)
        assert call.clock_ms is not None
        assert times(host, "migrate_connect_complete") == [call.clock_ms + 10_000]
    assert host.stop().status == 0


@pytest.mark.parametrize(("plant", "expected"), [("timer+500", 10_500), ("timer-500", 9_500)])
def test_planted_timer(launcher: LibraryLauncher, plant: str, expected: int) -> None:
    host = launcher.start("source", Settings(plant=(plant,)))
    with announced(host):
        host.advance(20_000)
        assert times(host, "migrate_connect_complete") == [expected]
    host.stop()


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        ("drop:migrate_connect_complete", []),
        ("twice:migrate_connect_complete", [10_000, 10_000]),
        ("early:migrate_connect_complete", [0, 10_000]),
        ("drop:migrate_end_complete", [10_000]),
    ],
)
def test_planted_callback(launcher: LibraryLauncher, plant: str, expected: list[int]) -> None:
    host = launcher.start("source", Settings(plant=(plant,)))
    with announced(host):
        host.advance(10_000)
        assert times(host, "migrate_connect_complete") == expected
    host.stop()


def test_real_clock_runs_by_itself(launcher: LibraryLauncher) -> None:
    host = launcher.start("source", Settings(virtual_clock=False, plant=("timer-9900",)))
    with announced(host):
        events = wait_for(host, "migrate_connect_complete")
        fired = next(event for event in events if event.name == "timer_fired")
        started = next(event for event in events if event.name == "timer_start")
        assert 0.1 <= fired.time - started.time < 5
        with pytest.raises(Unsupported, match="real clock"):
            host.advance(1)
    host.stop()


def test_what_a_client_sent_is_served_before_a_call(launcher: LibraryLauncher) -> None:
    host = launcher.start("source")
    client = announced(host)
    wait_for(host, "return:migrate_connect")
    send(client, 102)  # SPICE_MSGC_MAIN_MIGRATE_CONNECTED
    host.call("migrate_start")
    names = [event.name for event in host.read_events()]
    assert names.index("migrate_connect_complete") < names.index("call:migrate_start")
    client.close()
    host.stop()
