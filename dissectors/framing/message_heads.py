# SPDX-License-Identifier: GPL-2.0-only
"""The headers of messages as bare numbers: needs no packet where only types and sizes matter."""

from __future__ import annotations

import struct
from typing import NamedTuple

from dissectors.wire.constants import DATA_HEADER_BYTES, MINI_HEADER_BYTES, MsgDisplay

MINI = struct.Struct("<HI")
FULL = struct.Struct("<QHII")

Buffer = bytes | bytearray

#: The display's messages that come with file descriptors.
WITH_DESCRIPTORS = frozenset(
    {MsgDisplay.SPICE_MSG_DISPLAY_GL_SCANOUT_UNIX, MsgDisplay.SPICE_MSG_DISPLAY_GL_SCANOUT2_UNIX}
)
#: What descriptors travel beside.
CARRIER = b"@"
#: The size of GL_SCANOUT_UNIX's body.
SCANOUT_BYTES = 20


def head_size(mini: bool) -> int:
    """The size of a data header in bytes."""
    return MINI_HEADER_BYTES if mini else DATA_HEADER_BYTES


def carrier_bytes(buffer: Buffer, at: int, mini: bool, serial: int | None) -> int | None:
    """The bytes from `at` on that carry descriptors, behind a message that may come with some: one, or none
    where it came over TCP; None: nothing is there yet. `serial`: the message's.

    A UNIX socket passes descriptors beside a byte of their own, "@", that no header counts (SCM_RIGHTS;
    server/red-stream.cpp, red_stream_send_msgfd). A header may begin with that byte too: that of the next
    such message."""
    if at >= len(buffer):
        return None
    if buffer[at] != CARRIER[0]:
        return 0
    if len(buffer) - at < head_size(mini):
        return 1
    kind, size, number, _ = head(buffer, at, mini)
    if mini:
        return int((kind, size) != (MsgDisplay.SPICE_MSG_DISPLAY_GL_SCANOUT_UNIX, SCANOUT_BYTES))
    return int(serial is None or number != serial + 1)


def head(buffer: Buffer, at: int, mini: bool) -> tuple[int, int, int | None, int]:
    """(type, size, serial, sub_list) of the header at `at`."""
    if mini:
        kind, size = MINI.unpack_from(buffer, at)
        return kind, size, None, 0
    serial, kind, size, sub_list = FULL.unpack_from(buffer, at)
    return kind, size, serial, sub_list


class Skimmed(NamedTuple):
    """Where counted messages end, their types, and the serial of the last one (None with mini headers)."""

    end: int
    kinds: list[int]
    serial: int | None


def skim(buffer: bytes, at: int, kinds: frozenset[int], mini: bool, serial: int | None) -> Skimmed:
    """Counts the whole messages of these kinds from `at` on. The hot loop of bulk channels.

    With full headers it stops before a message whose serial does not follow `serial` (None: any may), and
    before one that has sub-messages.
    """
    found: list[int] = []
    if not kinds:
        return Skimmed(at, found, serial)
    if not mini:
        return _skim_full(buffer, at, kinds, serial)
    end, add, unpack = len(buffer), found.append, MINI.unpack_from
    last = end - MINI_HEADER_BYTES
    while at <= last:
        kind, size = unpack(buffer, at)
        after = at + MINI_HEADER_BYTES + size
        if after > end or kind not in kinds:
            break
        add(kind)
        at = after
    return Skimmed(at, found, None)


def _skim_full(buffer: bytes, at: int, kinds: frozenset[int], serial: int | None) -> Skimmed:
    found: list[int] = []
    end, add, unpack = len(buffer), found.append, FULL.unpack_from
    last = end - DATA_HEADER_BYTES
    while at <= last:
        number, kind, size, sub_list = unpack(buffer, at)
        after = at + DATA_HEADER_BYTES + size
        if after > end or kind not in kinds or sub_list or (serial is not None and number != serial + 1):
            break
        add(kind)
        at, serial = after, number
    return Skimmed(at, found, serial)
