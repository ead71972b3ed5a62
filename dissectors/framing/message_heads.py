# SPDX-License-Identifier: GPL-2.0-only
"""The headers of messages as bare numbers: needs no packet where only types and sizes matter."""

from __future__ import annotations

import struct
from typing import NamedTuple

from dissectors.wire.constants import DATA_HEADER_BYTES, MINI_HEADER_BYTES, ChannelType, MsgDisplay, Side

MINI = struct.Struct("<HI")
FULL = struct.Struct("<QHII")

Buffer = bytes | bytearray

#: The display's messages that come with file descriptors.
WITH_DESCRIPTORS = frozenset(
    {MsgDisplay.SPICE_MSG_DISPLAY_GL_SCANOUT_UNIX, MsgDisplay.SPICE_MSG_DISPLAY_GL_SCANOUT2_UNIX}
)


def head_size(mini: bool) -> int:
    """The size of a data header in bytes."""
    return MINI_HEADER_BYTES if mini else DATA_HEADER_BYTES


def carrier_bytes(channel: int, sender: Side, kind: int) -> int:
    """The bytes behind a message's body that the header's size does not count. Descriptors travel beside one
    such byte (SCM_RIGHTS; server/red-stream.cpp, red_stream_send_msgfd)."""
    display = channel == ChannelType.SPICE_CHANNEL_DISPLAY and sender is Side.SERVER
    return int(display and kind in WITH_DESCRIPTORS)


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
