# SPDX-License-Identifier: GPL-2.0-only
"""Finds a message boundary in the middle of a stream, and proves it.

A chain of headers proves it: each names a message that the channel has, each size leads to the next header,
and the last one ends where the bytes end. With full headers the serials go up by one besides.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dissectors.constants import (
    CHANNEL_MESSAGES,
    DATA_HEADER_BYTES,
    MESSAGE_NAMES,
    MINI_HEADER_BYTES,
    ChannelType,
    Side,
)

MINI = struct.Struct("<HI")
FULL = struct.Struct("<QHII")
#: So many messages in a row prove a boundary.
PROOF = 3
#: Bytes that are kept while a boundary is looked for.
KEPT = 1 << 18
MAX_SIZE = 16 << 20


class Found(NamedTuple):
    """A proven boundary: the channel, its header, and the bytes from the boundary on."""

    channel: int
    mini: bool
    data: bytes


class Resync:
    """Looks for a boundary in one direction. `channel` 0: any; `mini` None: either header."""

    def __init__(self, channel: int, sender: Side, mini: bool | None) -> None:
        self._channels: Sequence[int] = [channel] if channel else list(ChannelType)
        self._headers: Sequence[bool] = [mini] if mini is not None else [True, False]
        self._sender = sender
        self._data = b""
        self._starts: list[int] = []

    def feed(self, data: bytes, starts: Iterable[int]) -> Found | None:
        """More bytes; `starts`: offsets in them where segments begin, the likely boundaries."""
        base = len(self._data)
        self._starts += [base + start for start in starts]
        self._data += data
        for start in self._starts:
            if (found := self._prove(start)) is not None:
                return found
        if len(self._data) > KEPT:
            cut = len(self._data) - KEPT
            self._data = self._data[cut:]
            self._starts = [start - cut for start in self._starts if start >= cut]
        return None

    def _prove(self, start: int) -> Found | None:
        proven = {
            (channel, mini)
            for mini in self._headers
            for channel in self._channels
            if _chain(self._data, start, channel, self._sender, mini=mini) >= PROOF
        }
        if len(proven) != 1:
            return None
        channel, mini = proven.pop()
        return Found(channel, mini, self._data[start:])


def _chain(data: bytes, at: int, channel: int, sender: Side, *, mini: bool) -> int:
    """How many messages follow each other from `at` to the very end; 0 if the chain breaks."""
    names = MESSAGE_NAMES.get((channel, sender), {})
    if not CHANNEL_MESSAGES.get((channel, sender)) and not names:
        return 0
    header = MINI_HEADER_BYTES if mini else DATA_HEADER_BYTES
    count, serial = 0, None
    while at + header <= len(data):
        if mini:
            kind, size = MINI.unpack_from(data, at)
        else:
            number, kind, size, sub_list = FULL.unpack_from(data, at)
            if (serial is not None and number != serial + 1) or sub_list > size:
                return 0
            serial = number
        if kind not in names or size > MAX_SIZE:
            return 0
        at += header + size
        count += 1
    return count if at == len(data) else 0
