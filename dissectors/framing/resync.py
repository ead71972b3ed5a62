# SPDX-License-Identifier: GPL-2.0-only
"""Finds a message boundary in the middle of a stream, and proves it.

A chain of headers proves it: each names a message that the channel has, each size leads to the next header,
and the last one ends where the bytes end (or the chain is long). With full headers the serials go up by one
besides. Chains are followed as the bytes come, so that the time is linear.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dissectors.framing.message_heads import head, head_size
from dissectors.wire.constants import MESSAGE_NAMES, ChannelType, Side

#: Messages in a row that prove a boundary if the last one ends where the bytes end, and in any case.
PROOF, LONG = 3, 16
#: Bytes that are kept while a boundary is looked for.
KEPT = 1 << 18
MAX_SIZE = 16 << 20


class Found(NamedTuple):
    """A proven boundary: the channel, its header, and the bytes from the boundary on."""

    channel: int
    mini: bool
    data: bytes


class _Chain:
    """Messages that follow each other from a place where a segment begins. Offsets count from there on."""

    def __init__(self, start: int, mini: bool, channels: Sequence[int]) -> None:
        self.start = start
        self.mini = mini
        self.channels = channels  # that have had every message so far
        self.at = start
        self.count = 0
        self._serial: int | None = None

    def follow(self, data: bytes, sender: Side) -> bool:
        """Goes on as far as the bytes reach; False: it breaks."""
        header = head_size(self.mini)
        while self.at + header <= len(data) and self.count < LONG:
            kind, size, serial, sub_list = head(data, self.at, self.mini)
            if self._serial is not None and serial != self._serial + 1:
                return False
            self._serial = serial
            self.channels = [c for c in self.channels if kind in MESSAGE_NAMES.get((c, sender), ())]
            if not self.channels or size > MAX_SIZE or sub_list > size:
                return False
            self.at += header + size
            self.count += 1
        return True

    def proves(self, end: int) -> bool:
        """So far it is a proof."""
        return self.count >= LONG or (self.count >= PROOF and self.at == end)


class Resync:
    """Looks for a boundary in one direction. `channel` 0: any; `mini` None: either header."""

    def __init__(self, channel: int, sender: Side, mini: bool | None) -> None:
        self._channels: Sequence[int] = [channel] if channel else list(ChannelType)
        self._headers: Sequence[bool] = [mini] if mini is not None else [True, False]
        self._sender = sender
        self._data = b""
        self._chains: list[_Chain] = []

    def feed(self, data: bytes, starts: Iterable[int]) -> Found | None:
        """More bytes; `starts`: offsets in them where segments begin, the likely boundaries."""
        base = len(self._data)
        self._data += data
        begun = [_Chain(base + start, mini, self._channels) for start in starts for mini in self._headers]
        self._chains = [c for c in (*self._chains, *begun) if c.follow(self._data, self._sender)]
        for chain in self._chains:
            if chain.proves(len(self._data)) and not self._doubted(chain):
                return Found(chain.channels[0], chain.mini, self._data[chain.start :])
        self._forget(len(self._data) - KEPT)
        return None

    def _doubted(self, chain: _Chain) -> bool:
        """Another channel or header would do as well."""
        return len(chain.channels) > 1 or any(
            other.start == chain.start and other is not chain and other.proves(len(self._data))
            for other in self._chains
        )

    def _forget(self, cut: int) -> None:
        """The first bytes, and the chains that begin there."""
        if cut <= 0:
            return
        self._data = self._data[cut:]
        self._chains = [chain for chain in self._chains if chain.start >= cut]
        for chain in self._chains:
            chain.start -= cut
            chain.at -= cut
