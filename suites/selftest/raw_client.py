# SPDX-License-Identifier: GPL-2.0-only
"""A client of a few lines for the self-tests of hosts, which must not lean on the client peer."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from dissectors.events import HostEvent
from fixtures.hosts import Host

MAIN, DISPLAY, CURSOR = 1, 2, 4
CAPS = 0b1111  # of the main channel, SEMI_SEAMLESS_MIGRATE among them
PROTOCOL_AUTH_SELECTION, SPICE_AUTH, MINI_HEADER = 1, 2, 8


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        assert part, f"closed after {len(data)} of {size} bytes"
        data += part
    return data


def linked_main(host: Host, ticket: str = "") -> socket.socket:
    """A client with its main channel linked, that then never says a word."""
    return linked(host, MAIN, ticket=ticket)


def linked(host: Host, channel: int, connection_id: int = 0, ticket: str = "") -> socket.socket:
    """One linked channel; whoever closes it ends the connection."""
    assert host.port
    sock = socket.create_connection((host.address, host.port), timeout=5)
    common = PROTOCOL_AUTH_SELECTION | SPICE_AUTH | MINI_HEADER
    mess = struct.pack("<IBBIIIII", connection_id, channel, 0, 1, 1, 18, common, CAPS)
    sock.sendall(b"REDQ" + struct.pack("<III", 2, 2, len(mess)) + mess)
    (size,) = struct.unpack_from("<I", receive(sock, 16), 12)
    reply = receive(sock, size)
    key = load_der_public_key(reply[4:166])
    assert isinstance(key, rsa.RSAPublicKey)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    sock.sendall(struct.pack("<I", 1) + key.encrypt(ticket.encode() + b"\0", oaep))
    assert struct.unpack("<I", receive(sock, 4)) == (0,)
    return sock


def send(sock: socket.socket, kind: int, body: bytes = b"") -> None:
    """One message with the mini header."""
    sock.sendall(struct.pack("<HI", kind, len(body)) + body)


def messages(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each message as it comes."""
    while True:
        kind, size = struct.unpack("<HI", receive(sock, 6))
        yield kind, receive(sock, size)


def wait_for(host: Host, name: str, seconds: float = 5.0) -> list[HostEvent]:
    """Every event up to the first called `name`."""
    seen: list[HostEvent] = []
    while not any(event.name == name for event in seen):
        assert select.select([host], [], [], seconds)[0], f"no {name} among {[e.name for e in seen]}"
        seen += host.read_events()
    return seen
