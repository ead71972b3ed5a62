# SPDX-License-Identifier: GPL-2.0-only
"""A semi-seamless migration between two library hosts, driven through the Host protocol."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from fixtures.hosts import Settings
from fixtures.library import LibraryHost, LibraryLauncher
from suites.selftest.raw_client import linked, linked_main, messages, send, wait_for

BEGIN, CANCEL, INIT, MIGRATE_END = 101, 102, 103, 112  # SPICE_MSG_MAIN_*
CONNECTED, CLIENT_MIGRATE_END = 102, 109  # SPICE_MSGC_MAIN_*


@pytest.fixture(scope="module")
def launcher() -> Iterator[LibraryLauncher]:
    with LibraryLauncher() as launcher:
        yield launcher


def until(sock: socket.socket, wanted: int) -> bytes:
    """The body of the next message of that type."""
    return next(body for kind, body in messages(sock) if kind == wanted)


def pair(launcher: LibraryLauncher, *plant: str) -> tuple[LibraryHost, LibraryHost]:
    ticket = "T-71"
    return (
        launcher.start("source", Settings(ticket=ticket, plant=plant)),
        launcher.start("target", Settings(ticket=ticket, incoming=True)),
    )


def connected(source: LibraryHost, target: LibraryHost, client: socket.socket, session: int) -> socket.socket:
    """Announce the migration; the client links to the target and says so."""
    source.announce(target, subject="CN=target")
    assert b"CN=target" in until(client, BEGIN)
    moved = linked(target, 1, session, ticket="T-71")
    send(client, CONNECTED)
    wait_for(source, "migrate_connect_complete")
    return moved


def migrate(launcher: LibraryLauncher, *plant: str) -> list[str]:
    """Names of the source's callbacks from `complete` on."""
    source, target = pair(launcher, *plant)
    client = linked_main(source, ticket="T-71")
    (session,) = struct.unpack_from("<I", until(client, INIT))
    with connected(source, target, client, session) as moved:
        source.complete(target)
        until(client, MIGRATE_END)
        client.close()
        send(moved, CLIENT_MIGRATE_END)
        assert struct.unpack_from("<I", until(moved, INIT)) == (session,)
        events = wait_for(source, "channel_disconnected")
        source.settle()
        events += source.read_events()
    assert [e.name for e in events if e.name.startswith("call:")] == [
        "call:migrate_start",
        "call:vm_stop",
        "call:migrate_end",
    ]
    assert "call:vm_start" in [e.name for e in target.read_events()]
    assert (source.stop().status, target.stop().status) == (0, 0)
    return [e.name for e in events if e.name.startswith("migrate_")]


@pytest.mark.parametrize(
    ("plant", "callbacks"),
    [
        ((), ["migrate_end_complete"]),
        (("drop:migrate_end_complete",), []),
        (("twice:migrate_end_complete",), ["migrate_end_complete"] * 2),
    ],
)
def test_semi_seamless(launcher: LibraryLauncher, plant: tuple[str, ...], callbacks: list[str]) -> None:
    assert migrate(launcher, *plant) == callbacks


def test_cancelled_and_failed_attempts_leave_nothing(launcher: LibraryLauncher) -> None:
    source, target = pair(launcher)
    client = linked_main(source, ticket="T-71")
    (session,) = struct.unpack_from("<I", until(client, INIT))
    grown = []
    for attempt in range(10):
        with connected(source, target, client, session):
            if attempt % 2:
                source.complete(target, succeeded=False)
            else:
                source.cancel(target)
            until(client, CANCEL)
        wait_for(target, "channel_disconnected")
        source.settle()
        grown.append((source.stats()["fds"], target.stats()["fds"], source.stats()["armed"]))
    assert len(set(grown[1:])) == 1
    client.close()
    assert (source.stop().status, target.stop().status) == (0, 0)
