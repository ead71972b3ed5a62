# SPDX-License-Identifier: GPL-2.0-only
"""Time in a library host: exact on the virtual clock, and the faults that can be planted in it."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from dissectors.events import HostEvent
from fixtures.hosts import Settings, Unsupported
from fixtures.library import LibraryHost, LibraryLauncher

CAPS = 0b1111  # of the main channel, SEMI_SEAMLESS_MIGRATE among them
PROTOCOL_AUTH_SELECTION, SPICE_AUTH, MINI_HEADER = 1, 2, 8


@pytest.fixture(scope="module")
def launcher() -> Iterator[LibraryLauncher]:
    with LibraryLauncher() as launcher:
        yield launcher


def _receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        assert part, f"closed after {len(data)} of {size} bytes"
        data += part
    return data


def linked_main(host: LibraryHost, ticket: str = "", connection_id: int = 0) -> socket.socket:
    """A client with its main channel linked, that then never says a word."""
    assert host.port
    sock = socket.create_connection((host.address, host.port), timeout=5)
    common = PROTOCOL_AUTH_SELECTION | SPICE_AUTH | MINI_HEADER
    mess = struct.pack("<IBBIIIII", connection_id, 1, 0, 1, 1, 18, common, CAPS)
    sock.sendall(b"REDQ" + struct.pack("<III", 2, 2, len(mess)) + mess)
    (size,) = struct.unpack_from("<I", _receive(sock, 16), 12)
    reply = _receive(sock, size)
    key = load_der_public_key(reply[4:166])
    assert isinstance(key, rsa.RSAPublicKey)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    sock.sendall(struct.pack("<I", 1) + key.encrypt(ticket.encode() + b"\0", oaep))
    assert struct.unpack("<I", _receive(sock, 4)) == (0,)
    return sock


def wait_for(host: LibraryHost, name: str, seconds: float = 5.0) -> list[HostEvent]:
    """Every event up to the first called `name`."""
    seen: list[HostEvent] = []
    while not any(event.name == name for event in seen):
        assert select.select([host], [], [], seconds)[0], f"no {name} among {[e.name for e in seen]}"
        seen += host.read_events()
    return seen


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
        assert 0.1 <= fired.time - started.time < 1.0
        with pytest.raises(Unsupported, match="real clock"):
            host.advance(1)
    host.stop()


def test_what_a_client_sent_is_served_before_a_call(launcher: LibraryLauncher) -> None:
    host = launcher.start("source")
    client = announced(host)
    wait_for(host, "return:migrate_connect")
    client.sendall(struct.pack("<HI", 102, 0))  # SPICE_MSGC_MAIN_MIGRATE_CONNECTED
    host.call("migrate_start")
    names = [event.name for event in host.read_events()]
    assert names.index("migrate_connect_complete") < names.index("call:migrate_start")
    client.close()
    host.stop()
