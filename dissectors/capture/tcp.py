# SPDX-License-Identifier: GPL-2.0-only
"""TCP reassembly: records to chunks, gaps, beginnings and ends of connections.

A segment that continues a known direction takes the short way in `Reassembler.items`; everything else
(handshakes, segments out of order, retransmissions, holes, ends) goes through `_segment`. The first copy of
a byte wins. Bytes are declared missing only on evidence: the other end acknowledged them and a short while
later they are still not there (a capture may hold packets in a slightly wrong order), or nothing filled the
hole for long, or the buffer or the capture ends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

from dissectors.capture.files import Record
from dissectors.capture.items import AnyItem, Begin, End, Gap, Run
from dissectors.capture.links import ACK, FIN, RST, SYN, Network, Segment, endpoints, reverse
from dissectors.constants import Side
from dissectors.events import Ending

MASK = 0xFFFFFFFF
FORWARD = 1 << 31  # a distance below this is ahead, else behind
ODD = FIN | SYN | RST | ACK
RUN = 1 << 17  # bytes after which a run becomes a chunk

#: Out-of-order bytes and pieces that are kept for one direction, and bytes for all.
HELD, PIECES, HELD_IN_ALL = 1 << 22, 4096, 1 << 25
#: Connections that are remembered: open ones, and ended ones whose late packets must be known.
OPEN, ENDED = 1 << 16, 1 << 12
#: How far before a SYN's sequence number data may lie that belongs to the same connection.
NEAR = 1 << 16


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a doubt may last: `hard` packets, or `soft` packets and `seconds`."""

    soft: float
    seconds: float
    hard: float


START = Patience(0, inf, 8)  # where does a direction begin whose SYN was not seen (yet)?
ACKNOWLEDGED = Patience(8, 0.2, 64)  # the receiver has it; will the capture show it late?
UNPROVEN = Patience(16, 30.0, inf)  # will it be sent again?

Piece = tuple[int, int, bytes, int, float]  # sequence number, size on the wire, data, frame, time


class Half:
    """One direction of a connection. `next` is the sequence number that is due, -1 if unknown."""

    __slots__ = (
        "acknowledged", "deadline", "finish", "first", "flow", "held", "next", "patience", "peer", "pending",
        "quick", "sender", "unplaced",
    )  # fmt: skip
    peer: Half

    def __init__(self, flow: Flow, sender: Side) -> None:
        self.flow = flow
        self.sender = sender
        self.next = -1
        self.first = -1  # the first sequence number after the SYN; -1: not seen
        self.quick = False  # nothing is pending or in doubt: in-order segments need no thought
        self.unplaced = False  # data is held until it is known where this direction begins
        self.pending: list[Piece] = []  # ahead of `next`, in order, disjoint
        self.held = 0
        self.finish: tuple[int, Ending, int, float] | None = None  # FIN or RST: number, how, frame, time
        self.acknowledged = -1  # by the peer, where it is ahead of `next`
        self.patience: Patience | None = None
        self.deadline: tuple[float, float, float] = (inf, inf, inf)


class Flow:
    """One connection."""

    __slots__ = ("announced", "begin", "ended", "ignored", "key", "number")

    def __init__(self, number: int, key: bytes, begin: Begin) -> None:
        self.number = number
        self.key = key
        self.begin = begin
        self.announced = False
        self.ignored = False
        self.ended = False


class Reassembler:
    """All connections of a reading. `packets`, `bytes`, `first` and `last` (times) count what was read."""

    def __init__(self) -> None:
        self.packets = 0
        self.bytes = 0
        self.first = self.last = 0.0
        self.streams = 0
        self.unknown_links: dict[int, int] = {}
        self._network = Network()
        self._halves: dict[bytes, Half] = {}
        self._open: dict[int, Flow] = {}
        self._ended: deque[Flow] = deque()
        self._doubtful: dict[Half, None] = {}
        self._held = 0

    def ignore(self, connection: int) -> None:
        """Nothing of this connection is wanted any more."""
        if flow := self._open.get(connection):
            flow.ignored = True
            for key in (flow.key, reverse(flow.key)):
                if half := self._halves.get(key):
                    self._forget(half)

    def items(self, records: Iterable[Record], file: int = 0) -> Iterator[AnyItem | Record]:
        """Items in the order in which they became known; records that hold no packet pass as they are.

        A run of in-order segments of one direction becomes one chunk, cut by anything else that is told.
        """
        decode, halves, doubtful = self._network.segment, self._halves, self._doubtful
        run, current = Run(), None
        for record in records:
            time, frame, link, buffer, start, end, wire = record
            if link < 0:
                if current is not None:
                    yield run.chunk(current.flow.number, current.sender, file)
                    current = None
                yield record
                continue
            self.packets += 1
            self.bytes += wire
            segment = decode(link, buffer, start, end, wire)
            if segment is None:
                continue
            key, seq, ack, flags, payload, size = segment
            half = halves.get(key)
            if (
                half is not None
                and half.quick
                and seq == half.next
                and flags & ODD == ACK
                and size == len(payload)
                and (half.peer.next - ack) & MASK < FORWARD
            ):
                if size:
                    if half is not current or run.size > RUN:
                        if current is not None:
                            yield run.chunk(current.flow.number, current.sender, file)
                        run, current = Run(), half
                    run.add(payload, frame, time)
                    half.next = (seq + size) & MASK
                if not doubtful:
                    continue
            if current is not None: 
                yield run.chunk(current.flow.number, current.sender, file)
                current = None
        if current is not None:
            yield run.chunk(current.flow.number, current.sender, file)
