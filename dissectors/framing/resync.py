# SPDX-License-Identifier: GPL-2.0-only
"""Finds a message boundary in the middle of a stream, and proves it.

A chain of headers proves it: each names a message that the channel has, each size leads to the next header,
each body has that message's layout, and the last one ends where a segment ends (or the chain is long). With
full headers the serials go up by one besides. Chains are followed as the bytes come, so that the time is
linear.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dissectors.framing.message_heads import head, head_size
from dissectors.wire.constants import MESSAGE_NAMES, ChannelType, Side

#: The number of consecutive messages that proves a boundary in any case, and the number of messages without
#: a body that proves it if the last one ends with a segment. A single message with a body proves it if its
#: layout fits one channel only.
LONG, BODILESS = 16, 3
#: The most bytes that are held during the search for a boundary.
KEPT = 1 << 18
MAX_SIZE = 16 << 20
#: Larger bodies (bytes) are not dissected: only their size counts.
LARGEST_LAYOUT = 1 << 16
#: Where the connection may be no SPICE, the proof needs this many bytes of bodies with a right layout: other
#: protocols have a type and a size before a few bytes too.
STRANGE_BYTES = 8

if TYPE_CHECKING:
    from dissectors.channels.main import SpiceMsgMainInit
    from dissectors.wire.message import SpiceMessage


_ALL = tuple(ChannelType)
#: The types of a side's messages, whatever the channel.
_TYPES = {
    side: frozenset(kind for channel in _ALL for kind in MESSAGE_NAMES.get((channel, side), ()))
    for side in Side
}


class Found(NamedTuple):
    """A proven boundary: the channel (0: it is proven that this is SPICE, but not which channel), its
    header, and the bytes from the boundary on."""

    channel: int
    mini: bool
    data: bytes


class _Chain:
    """Messages that follow each other from a place where a segment begins. Offsets count from there on."""

    __slots__ = ("_serial", "at", "bodies", "bytes", "channels", "count", "known", "mini", "start", "strange")

    def __init__(self, start: int, mini: bool, channels: Sequence[int], strange: bool) -> None:
        self.start = start
        self.mini = mini
        self.channels = channels  # that have had every message so far
        self.at = start
        self.count = 0
        self.bodies = 0  # messages whose body had the right layout
        self.known = len(channels) == 1  # from the beginning
        self.strange = strange
        self.bytes = 0  # of these bodies
        self._serial: int | None = None

    def follow(self, data: bytes, sender: Side) -> bool:
        """Follows the chain as far as the bytes reach; False: it breaks."""
        header = head_size(self.mini)
        while self.at + header <= len(data) and self.count < LONG:
            kind, size, serial, sub_list = head(data, self.at, self.mini)
            if self._serial is not None and serial != self._serial + 1:
                return False
            named: Sequence[int] = [c for c in self.channels if kind in MESSAGE_NAMES.get((c, sender), ())]
            if not named or size > MAX_SIZE or sub_list > size:
                return False
            end = self.at + header + size
            if end > len(data) and size <= LARGEST_LAYOUT:
                return True  # not all there yet
            if size <= LARGEST_LAYOUT and not sub_list:
                fitting, strict = _fitting(named, sender, kind, data[self.at + header : end])
                if fitting:
                    named = fitting
                    self.bodies += strict and size > 0
                    self.bytes += strict and size
                elif self.strange or not (self.known or self._serial is not None):
                    return False
            self.channels, self._serial, self.at = named, serial, end
            self.count += 1
        return True

    def proves(self, end: int) -> bool:
        """Whether the chain is a proof so far."""
        known = self.bodies > 0 or self.count >= BODILESS
        enough = self.bytes >= STRANGE_BYTES if self.strange else known
        return self.count >= LONG or (enough and self.at == end)


class Resync:
    """Looks for a boundary in one direction. `channel` 0: any; `mini` None: either header.

    `trusting`: the other direction is known to be SPICE already, so that one message without a body will do.
    `strange`: the connection may be no SPICE at all.
    """

    __slots__ = ("_chains", "_channels", "_data", "_headers", "_sender", "_strange", "_trusting")

    def __init__(
        self, channel: int, sender: Side, mini: bool | None, *, trusting: bool = False, strange: bool = False
    ) -> None:
        self._channels: Sequence[int] = (channel,) if channel else _ALL
        self._headers: Sequence[bool] = [mini] if mini is not None else [True, False]
        self._sender = sender
        self._trusting = trusting
        self._strange = strange
        self._data = b""
        self._chains: list[_Chain] = []

    def feed(self, data: bytes, starts: Iterable[int]) -> Found | None:
        """More bytes; `starts`: offsets in them where segments begin, the likely boundaries."""
        base = len(self._data)
        self._data += data
        begun = [
            _Chain(base + start, mini, self._channels, self._strange)
            for start in starts
            for mini in self._headers
            if self._possible(base + start, mini)
        ]
        if not begun and not self._chains:
            self._data = b""
            return None
        self._chains = [c for c in (*self._chains, *begun) if c.follow(self._data, self._sender)]
        for chain in self._chains:
            if self._proven(chain) and not self._doubted(chain):
                return Found(chain.channels[0], chain.mini, self._data[chain.start :])
        needed = min((chain.start for chain in self._chains), default=len(self._data))
        self._forget(max(len(self._data) - KEPT, needed))
        return None

    def _possible(self, start: int, mini: bool) -> bool:
        """A header may begin there: asked first, since most bytes of other protocols are none."""
        if start + head_size(mini) > len(self._data):
            return True
        kind, size, *_ = head(self._data, start, mini)
        return kind in _TYPES[self._sender] and size <= MAX_SIZE

    def narrow(self, channel: int, *, mini: bool) -> Found | None:
        """The other direction has shown the channel and the header."""
        self._channels, self._headers, self._trusting = [channel], [mini], True
        fitting = [c for c in self._chains if c.mini is mini and channel in c.channels]
        for chain in fitting:
            chain.channels, chain.known = [channel], True
        self._chains = fitting
        return self.feed(b"", ())

    def likely(self) -> Found | None:
        """The longest chain that reaches the end, where the channel is not the only one that has its
        messages: it is SPICE, and what else it is must be found elsewhere (channel 0)."""
        whole = [c for c in self._chains if c.proves(len(self._data))]
        if not whole or len({chain.mini for chain in whole}) > 1:
            return None
        best = min(whole, key=lambda chain: chain.start)
        channel = best.channels[0] if len(best.channels) == 1 else 0
        return Found(channel, best.mini, self._data[best.start :])

    def _proven(self, chain: _Chain) -> bool:
        end = len(self._data)
        if chain.proves(end):
            return True
        return self._trusting and chain.known and chain.count > 0 and chain.at == end

    def _doubted(self, chain: _Chain) -> bool:
        """Whether another channel or header fits as well."""
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


def _fitting(channels: Sequence[int], sender: Side, kind: int, body: bytes) -> tuple[Sequence[int], bool]:
    """The channels whose message of this type has such a body, and whether that is strong evidence: a layout
    that fits any bytes counts only where no other fits."""
    from dissectors.channels.message_classes import message_class

    classes = {channel: message_class(channel, sender, kind) for channel in channels}
    strengths = {cls: _strength(cls, body) for cls in set(classes.values())}
    best = max(strengths.values())
    fitting = [channel for channel in channels if strengths[classes[channel]] == best]
    return (fitting, best >= CLOSED) if best > 0 else ([], False)


#: The strength of a fitting layout as evidence: nothing inside bounds it; it has some fields; one byte more
#: or less would not fit; a pointer inside leads to a text, or each field of INIT is valid.
ANY, SOME, CLOSED, POINTED = 1, 2, 3, 4
MOST_DISPLAYS = 64
LARGE_HEAD = 20  # bytes of fixed fields that say enough


def _strength(cls: type[SpiceMessage], body: bytes) -> int:
    """The strength of this body's layout (see above); 0: it does not fit."""
    from dissectors.channels.main import SpiceMsgMainInit
    from dissectors.wire.fields import PointedStringField

    packet = cls.parse(body)
    if packet.problems():
        return 0
    if any(isinstance(f, PointedStringField) and packet.fields.get(f.name) for f in cls.fields_desc):
        return POINTED
    if isinstance(packet, SpiceMsgMainInit) and _sensible_init(packet):
        return POINTED
    least = _least(cls)
    if least >= LARGE_HEAD or cls.parse(body + b"\0").problems():
        return CLOSED
    return SOME if least else ANY


def _sensible_init(packet: SpiceMsgMainInit) -> bool:
    """Whether each field of INIT with few valid values has one: eight valid words are strong evidence."""
    modes, mode = int(packet.supported_mouse_modes), int(packet.current_mouse_mode)
    few = int(packet.display_channels_hint) < MOST_DISPLAYS and int(packet.agent_connected) in (0, 1)
    return few and mode in (1, 2) and mode & modes == mode and not modes & ~3


def _least(cls: type[SpiceMessage]) -> int:
    """Bytes of the smallest message of this class."""
    if cls not in _sizes:
        _sizes[cls] = len(bytes(cls()))
    return _sizes[cls]


_sizes: dict[type[SpiceMessage], int] = {}
