# SPDX-License-Identifier: GPL-2.0-only
"""Recognises TLS by its first bytes (RFC 8446, 5.1)."""

from __future__ import annotations

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
CLIENT_HELLO, SERVER_HELLO = 1, 2  # handshake messages
HEADER = 5
LONGEST = (1 << 14) + 2048  # body of a record (RFC 5246, 6.2.3)


def is_record(head: bytes) -> bool:
    """The first bytes are the header of a TLS record."""
    return (
        len(head) >= HEADER
        and CHANGE_CIPHER_SPEC <= head[0] <= APPLICATION_DATA
        and head[1] == 3
        and head[2] <= 4
        and 0 < int.from_bytes(head[3:5]) <= LONGEST
    )


def is_client_hello(head: bytes) -> bool:
    """The first bytes are those of a ClientHello."""
    return is_record(head) and head[0] == HANDSHAKE and head[5:6] == bytes([CLIENT_HELLO])


def is_server_hello(head: bytes) -> bool:
    """The first bytes are those of a ServerHello."""
    return is_record(head) and head[0] == HANDSHAKE and head[5:6] == bytes([SERVER_HELLO])
