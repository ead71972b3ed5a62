# SPDX-License-Identifier: GPL-2.0-only
"""The headers of messages as bare numbers: no packet is built where only types and sizes are asked for."""

from __future__ import annotations

import struct

from dissectors.wire.constants import DATA_HEADER_BYTES, MINI_HEADER_BYTES

MINI = struct.Struct("<HI")
FULL = struct.Struct("<QHII")
FULL_KIND_SIZE = struct.Struct("<8xHI")

Buffer = bytes | bytearray


def head_size(mini: bool) -> int:
    """Bytes of a header."""
    return MINI_HEADER_BYTES if mini else DATA_HEADER_BYTES


def head(buffer: Buffer, at: int, mini: bool) -> tuple[int, int, int | None, int]:
    """(type, size, serial, sub_list) of the header at `at`."""
    if mini:
        kind, size = MINI.unpack_from(buffer, at)
        return kind, size, None, 0
    serial, kind, size, sub_list = FULL.unpack_from(buffer, at)
    return kind, size, serial, sub_list


def skim(buffer: bytes, at: int, kinds: frozenset[int], mini: bool) -> tuple[int, list[int]]:
    """Where the whole messages of these kinds from `at` on end, and their types. The hot loop of bulk
    channels."""
    found: list[int] = []
    if not kinds:
        return at, found
    end, add, size_at = len(buffer), found.append, head_size(mini)
    unpack = MINI.unpack_from if mini else FULL_KIND_SIZE.unpack_from
    last = end - size_at
    while at <= last:
        kind, size = unpack(buffer, at)
        after = at + size_at + size
        if after > end or kind not in kinds:
            break
        add(kind)
        at = after
    return at, found
