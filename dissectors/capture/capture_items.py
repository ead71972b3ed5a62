# SPDX-License-Identifier: GPL-2.0-only
"""The items of a capture: ordered chunks of each direction of each connection, gaps, beginnings and ends.

`time` is in seconds since the epoch, `frame` the number of the record in its file as Wireshark counts (from
1), `file` the index of the file in the list that was read. `connection` is a number that is unique in one
reading.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from dissectors.framing.events import ConnectionEvent, Ending, Endpoint
from dissectors.wire.constants import Side

#: Waits until a growing file may have more; False: do not wait any longer.
Wait = Callable[[], bool]


MOST_FACTS = 32  # of one connection that wait


class CaptureError(ValueError):
    """A capture or key log that cannot be read (any further); the text is one line: what and where."""


@dataclass(slots=True, kw_only=True)
class CaptureItem:
    """The common fields of all items."""

    time: float
    frame: int
    file: int = 0


@dataclass(slots=True)
class Facts:
    """Events of a connection that wait until its `Begin` is reported."""

    waiting: list[ConnectionEvent] = field(default_factory=list)
    reported: bool = False

    def report(self, event: ConnectionEvent) -> Iterator[ConnectionEvent]:
        """Reports the event, now or with the connection's `Begin`."""
        if self.reported:
            yield event
        elif len(self.waiting) < MOST_FACTS:
            self.waiting.append(event)


@dataclass(slots=True, kw_only=True)
class Begin(CaptureItem):
    """A connection that carries SPICE, or TLS that cannot be decrypted (a `Note` then says why).

    `directed`: it is known which end is the client; else `client` is only the end that was seen first, and
    `Side.CLIENT` in the chunks means that end. `midstream`: the beginning is not in the capture. `readable`,
    `via` and `origin` as in `events.Opened`. `depth`: layers (proxies, TLS, WebSocket) that were taken off.
    `recorded`: this project's recorder's own description of the connection (`SPICE_OPENED`): its bytes are
    those inside TLS, and it is reported at once.
    """

    connection: int
    client: Endpoint
    server: Endpoint
    directed: bool = True
    midstream: bool = False
    tls: bool = False
    websocket: bool = False
    readable: bool = True
    via: str | None = None
    origin: Endpoint | None = None
    depth: int = 0
    facts: Facts = field(default_factory=lambda: Facts())
    recorded: Mapping[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class Chunk(CaptureItem):
    """Bytes of one direction, in order. `time` and `frame` are those of the first piece.

    A chunk is a run of segments: the piece that ends at `ends[i]` became available with `frames[i]` at
    `times[i]` (the last packet that was needed, not always the one that carried it).
    """

    connection: int
    sender: Side
    data: bytes
    ends: Sequence[int]
    frames: Sequence[int]
    times: Sequence[float]

    def at(self, offset: int) -> tuple[int, float]:
        """(frame, time) in which the byte at `offset` became available."""
        index = bisect_right(self.ends, offset) if len(self.ends) > 1 else 0
        return self.frames[index], self.times[index]

    def tail(self, offset: int) -> Chunk:
        """The bytes from `offset` on, of which there must be one at least."""
        if not offset:
            return self
        index = bisect_right(self.ends, offset)
        return Chunk(
            connection=self.connection,
            sender=self.sender,
            data=self.data[offset:],
            ends=[end - offset for end in self.ends[index:]],
            frames=self.frames[index:],
            times=self.times[index:],
            time=self.times[index],
            frame=self.frames[index],
            file=self.file,
        )

    def pieces(self) -> Iterator[tuple[bytes, float, int]]:
        """(data, time, frame) of each piece."""
        start = 0
        for end, frame, time in zip(self.ends, self.frames, self.times, strict=True):
            yield self.data[start:end], time, frame
            start = end


@dataclass(slots=True, kw_only=True)
class Gap(CaptureItem):
    """`size` bytes of one direction are missing here (None: unknown how many).

    `cut`: they were in a packet of which the capture kept only the beginning (snap length). `time` and
    `frame`: of the packet that follows the hole or that proves it.
    """

    connection: int
    sender: Side
    size: int | None
    cut: bool = False


@dataclass(slots=True, kw_only=True)
class End(CaptureItem):
    """The first FIN or RST of a connection, or the end of its packets in the capture (`how` is None).

    After a FIN of one side the other side's last chunks may still follow.
    """

    connection: int
    how: Ending | None = None
    by: Side | None = None


@dataclass(slots=True, kw_only=True)
class HostRecord(CaptureItem):
    """A systemd journal entry (`fields` by name); our own recorder keeps host events in such."""

    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Note(CaptureItem):
    """One line for the reader of the capture; `connection` is None where it concerns a file."""

    text: str
    connection: int | None = None


#: Events pass unchanged: facts about a connection that only the capture layer sees.
AnyItem = Begin | Chunk | Gap | End | HostRecord | Note | ConnectionEvent


class ChunkBuilder:
    """Collects the pieces of one chunk; `connection`, `sender` and `file` as there."""

    __slots__ = ("connection", "file", "frames", "parts", "sender", "times")

    def __init__(self, connection: int, sender: Side, file: int) -> None:
        self.connection = connection
        self.sender = sender
        self.file = file
        self.parts: list[bytes] = []
        self.frames: list[int] = []
        self.times: list[float] = []

    def add(self, data: bytes, frame: int, time: float) -> None:
        """Appends a piece; `time` in seconds."""
        self.parts.append(data)
        self.frames.append(frame)
        self.times.append(time)

    def chunk(self) -> Chunk:
        """The chunk of all pieces; there must be one at least."""
        frames = self.frames
        if frames != sorted(frames):  # a piece cannot be used before the piece that it continues
            frames = list(accumulate(frames, max))
        return Chunk(
            connection=self.connection,
            sender=self.sender,
            data=self.parts[0] if len(self.parts) == 1 else b"".join(self.parts),
            ends=list(accumulate(map(len, self.parts))),
            frames=frames,
            times=self.times,
            time=self.times[0],
            frame=frames[0],
            file=self.file,
        )
