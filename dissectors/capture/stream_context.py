# SPDX-License-Identifier: GPL-2.0-only
"""The common parts of a connection's stages (plain, TLS, WebSocket, proxies)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from dissectors.capture.capture_items import AnyItem, Begin, Chunk, End, Gap
from dissectors.capture.tls_keylog import KeyLog
from dissectors.wire.constants import Side

OTHER = {Side.CLIENT: Side.SERVER, Side.SERVER: Side.CLIENT}
#: Layers that are taken off one connection: a proxy behind a proxy, TLS in it, WebSocket in that.
DEEPEST = 8


class StreamStage(Protocol):
    """One connection's handling; items of that connection come in, items for the reader come out."""

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """Takes the next item of the connection."""


@dataclass
class StreamContext:
    """The shared state of all connections of a reading. `drop` ends the reassembly of a connection."""

    keys: KeyLog
    drop: Callable[[int], None]
    own: Callable[[int], bool]  # file index -> this project recorded it
    other_streams: int = 0  # connections that carry no SPICE
    tls_unread: dict[str, tuple[str, int]] = field(default_factory=dict)  # see `tls_refused`
    tls_opened: int = 0  # TLS connections that could be decrypted
    tls_unfit: int = 0  # those for which the key log has no secret, or a wrong one

    #: Makes the stage that recognises a connection's protocol (set by `streams`: avoids a cycle).
    opening: Callable[[Begin, StreamContext], StreamStage] = field(kw_only=True)

    def tls_refused(self, reason: str) -> None:
        """A TLS connection that is not decrypted, counted by the general part of the reason."""
        general = reason.partition(" for client random")[0]
        first, count = self.tls_unread.get(general, (reason, 0))
        self.tls_unread[general] = first, count + 1

    def foreign(self, begin: Begin) -> StreamStage:
        """Counts a connection without SPICE, and ignores the rest of it."""
        self.other_streams += 1
        self.drop(begin.connection)
        return Nothing()


def announced(begin: Begin) -> Iterator[AnyItem]:
    """Reports the connection and its held events, once."""
    if not begin.facts.reported:
        begin.facts.reported = True
        yield begin
        yield from begin.facts.waiting
        begin.facts.waiting.clear()


class Plain:
    """The stage of a connection without layers between TCP and SPICE: items pass unchanged."""

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `StreamStage`."""
        yield item


class Nothing:
    """The stage of a connection that is ignored."""

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `StreamStage`."""
        yield from ()


class OnlyTheEnd:
    """A connection that is reported, but whose bytes are no SPICE."""

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `StreamStage`."""
        if isinstance(item, End):
            yield item


class UnreadBytes:
    """The bytes that one end has sent and no stage has read, with their frames."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._chunks: list[tuple[int, Chunk]] = []  # (where it begins in all that was said, chunk)
        self._read = self._said = 0

    def add(self, chunk: Chunk) -> None:
        """Adds the next chunk."""
        self._chunks.append((self._said, chunk))
        self._said += len(chunk.data)
        self.data += chunk.data

    def at(self, offset: int) -> tuple[int, float]:
        """(frame, time) of the unread byte at `offset`."""
        where = self._read + offset
        start, chunk = next((s, c) for s, c in reversed(self._chunks) if s <= where)
        return chunk.at(min(where - start, len(chunk.data) - 1))

    def take(self, size: int) -> bytes:
        """Removes the first `size` bytes and returns them."""
        taken = bytes(self.data[:size])
        del self.data[:size]
        self._read += len(taken)
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][1].data) <= self._read:
            self._chunks.pop(0)
        return taken

    def rest(self) -> list[Chunk]:
        """Returns all unread bytes as chunks, and marks them as read."""
        left = [chunk.tail(max(0, self._read - start)) for start, chunk in self._chunks]
        self._chunks.clear()
        self.data.clear()
        self._read = self._said
        return left
