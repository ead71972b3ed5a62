# SPDX-License-Identifier: GPL-2.0-only
"""One direction of a TCP connection: the next sequence number, and the pieces held behind missing bytes."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import inf

from dissectors.capture.capture_items import AnyItem, Begin, ChunkBuilder, End, Gap
from dissectors.capture.connection_attempts import Attempt
from dissectors.capture.link_layers import reverse
from dissectors.framing.events import Ending
from dissectors.wire.constants import Side

MASK = 0xFFFFFFFF
FORWARD = 1 << 31  # a distance below this is ahead, else behind

#: An acknowledgement or end announced farther ahead than this is not believed.
FAR = 1 << 24

#: (sequence number, size on the wire, captured data, frame, time, file, acknowledgement number; -1: none)
Piece = tuple[int, int, bytes, int, float, int, int]
#: A FIN or RST: (number of the byte that it stands behind, how, frame, time, file, acknowledgement number)
Finish = tuple[int, Ending, int, float, int, int]
#: Frame, time (s), file.
Where = tuple[int, float, int]
#: The directions that are known, by the key of `links.Segment`.
Table = dict[bytes, "TcpHalf"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a doubt may last: `hard` packets, or `soft` packets and `seconds`."""

    soft: float
    seconds: float
    hard: float


START = Patience(0, inf, 8)  # no SYN was seen (yet): where does the direction begin?
ACKNOWLEDGED = Patience(8, 0.2, 64)  # the receiver has it; will the capture show it late?
UNPROVEN = Patience(16, 30.0, inf)  # will it be sent again?
UNHEARD = Patience(8, 0.01, 64)  # as ACKNOWLEDGED, of an end of which the capture has nothing so far
MISSING = Patience(0, 0.0, 0)  # it has already turned out that the capture lacks that end


class TcpFlow:
    """One connection; `begin` is reported with its first item.

    `key` (of `links.Segment`) is that of the first segment, `sender` who sent it as far as is known.
    """

    __slots__ = ("announced", "attempt", "begin", "ended", "halves", "ignored", "number", "table")

    def __init__(self, begin: Begin, table: Table, key: bytes, sender: Side) -> None:
        self.number = begin.connection
        self.begin = begin
        self.table = table
        self.announced = False
        self.ignored = False
        self.ended = False
        self.attempt: Attempt | None = None  # its unanswered SYNs
        other = Side.CLIENT if sender is Side.SERVER else Side.SERVER
        self.halves = (TcpHalf(self, key, sender), TcpHalf(self, reverse(key), other))
        self.halves[0].peer, self.halves[1].peer = self.halves[1], self.halves[0]


class Output:
    """Items in order; neighbouring pieces of one direction become one chunk."""

    def __init__(self) -> None:
        self._items: list[AnyItem] = []
        self._builder: ChunkBuilder | None = None
        self._half: TcpHalf | None = None
        self.mixed: set[int] = set()  # files in which what an answer acknowledges came after the answer

    def data(self, half: TcpHalf, data: bytes, frame: int, time: float, file: int) -> None:
        """A piece. One that waited for the piece before it became available with that one."""
        builder = self._builder
        if builder is None or half is not self._half or file != builder.file:
            self._flush()
            builder = self._builder = ChunkBuilder(half.flow.number, half.sender, file)
            self._half = half
        elif frame < builder.frames[-1]:
            frame, time = builder.frames[-1], builder.times[-1]
        builder.add(data, frame, time)

    def item(self, item: AnyItem) -> None:
        """Anything but data."""
        self._flush()
        self._items.append(item)

    def _flush(self) -> None:
        if self._builder is not None:
            self._items.append(self._builder.chunk())
            self._builder = None

    def take(self) -> list[AnyItem]:
        """Everything since the last call."""
        self._flush()
        items, self._items = self._items, []
        return items


class TcpHalf:
    """`next` is the sequence number that is due, -1 if unknown; `pending` is ahead of it, in order, disjoint.

    `quick`: nothing is pending or in doubt, so that in-order segments take the short path.

    An end had all bytes that it acknowledged before it continued: a piece waits for those of the other end's
    bytes, however the capture has mixed the two directions.
    """

    __slots__ = (
        "acknowledged", "deadline", "finish", "first", "flow", "heard", "held", "key", "lowest", "missing",
        "next", "patience", "peer", "pending", "quick", "sender", "sure", "unplaced", "waived",
    )  # fmt: skip
    peer: TcpHalf

    def __init__(self, flow: TcpFlow, key: bytes, sender: Side) -> None:
        self.flow = flow
        self.key = key
        self.sender = sender
        self.next = -1
        self.first = -1  # the sequence number after the SYN; -1: no SYN was seen
        self.quick = False
        self.heard = False  # the capture has a packet of it
        self.missing = False  # the other end had bytes of it before the capture had anything
        self.lowest = -1  # the first byte that the other end waited for, while this is not placed
        self.unplaced = False  # pieces are held until it is known where this direction begins
        self.pending: list[Piece] = []
        self.held = 0  # bytes in `pending`
        self.finish: Finish | None = None
        self.acknowledged = -1  # what the peer acknowledged, where that is ahead of `next`
        self.sure = -1  # `acknowledged` when the present doubt began
        self.waived = -1  # an acknowledged number that nothing has to wait for any more
        self.patience: Patience | None = None  # of the present doubt
        self.deadline = (inf, inf, inf)

    def doubt(self) -> Patience | None:
        """The reason to wait; None: there is none."""
        if self.unplaced:
            return START
        if self.acknowledged >= 0:
            return ACKNOWLEDGED if self.heard else MISSING if self.missing else UNHEARD
        return UNPROVEN if self.pending or self.finish else None

    def hold(self, piece: Piece) -> None:
        """Holds the new bytes of `piece` (the first copy of a byte wins)."""
        seq, size, data, *rest = piece
        pending, start = self.pending, self._ahead(piece)
        index = bisect_left(pending, start, key=self._ahead)
        if index and (over := self._ahead(pending[index - 1]) + pending[index - 1][1] - start) > 0:
            seq, size, data = (seq + over) & MASK, size - over, data[over:]
        while size > 0:
            room = (pending[index][0] - seq) & MASK if index < len(pending) else size
            if room:
                part = min(room, size)
                pending.insert(index, (seq, part, data[:part], *rest))  # type: ignore[arg-type]
                self.held += len(data[:part])
                index += 1
            if room >= size:
                return
            skip = room + pending[index][1]
            seq, size, data = (seq + skip) & MASK, size - skip, data[skip:]
            index += 1

    def _ahead(self, piece: Piece) -> int:
        return (piece[0] - self.next) & MASK

    def take(self, piece: Piece, out: Output) -> None:
        """Reports a piece in order."""
        _, size, data, frame, time, file, _ = piece
        if data:
            out.data(self, data, frame, time, file)
        if len(data) < size:
            self.gap(size - len(data), frame, time, file, out, cut=True)
        self.next = (self.next + size) & MASK

    def gap(
        self, size: int | None, frame: int, time: float, file: int, out: Output, *, cut: bool = False
    ) -> None:
        """Reports missing bytes; `cut`: they belong to a packet that the capture cut."""
        sender, number = self.sender, self.flow.number
        gap = Gap(connection=number, sender=sender, size=size, frame=frame, time=time, file=file, cut=cut)
        out.item(gap)

    def awaited(self, ack: int) -> None:
        """The other end waits for this byte: the first such byte shows where this direction began."""
        if self.first < 0 and (self.next < 0 or self.unplaced):
            if self.lowest < 0 or (self.lowest - ack) & MASK < FORWARD:
                self.lowest = ack

    def waits(self, ack: int, frame: int) -> bool:
        """Something in `frame` that acknowledges `ack` waits for bytes of the other end.

        Two that wait for each other: the later one was sent again, with a newer acknowledgement.
        """
        peer = self.peer
        if ack < 0 or peer.next < 0 or peer.unplaced or ack == peer.waived:
            return False
        if not 0 < (ack - peer.next) & MASK < FAR:
            return False
        if not peer.pending or peer.pending[0][0] != peer.next:
            return True
        other_frame, other_ack = peer.pending[0][3], peer.pending[0][6]
        return frame < other_frame or other_ack < 0 or not 0 < (other_ack - self.next) & MASK < FAR

    def drain(self, out: Output) -> None:
        """Reports everything in order of both ends: the bytes of one may release the other's."""
        while self._advance(out) or self.peer._advance(out):
            pass

    def _advance(self, out: Output) -> bool:
        """Reports every held piece in order, and the end; returns whether there was any."""
        count = 0
        for piece in self.pending:
            if piece[0] != self.next or self.waits(piece[6], piece[3]):
                break
            self.held -= len(piece[2])
            self.take(piece, out)
            count += 1
        del self.pending[:count]
        if self.finish and self.finish[0] == self.next and not self.waits(self.finish[5], self.finish[2]):
            _, how, frame, time, file, _ = self.finish
            self.finish = None
            if how is Ending.CLOSED:
                self.next = (self.next + 1) & MASK
            self.end(how, frame, time, file, out)
            count += 1
        if self.acknowledged >= 0 and not 0 < (self.acknowledged - self.next) & MASK < FORWARD:
            self.acknowledged = -1
        return count > 0

    def end(self, how: Ending | None, frame: int, time: float, file: int, out: Output) -> None:
        """Reports the end of the connection, once."""
        if not self.flow.ended and self.flow.announced:
            by = self.sender if how else None
            out.item(End(connection=self.flow.number, how=how, by=by, frame=frame, time=time, file=file))
        self.flow.ended = True

    @property
    def held_back(self) -> bool:
        """Whether the next piece has arrived, but waits for the other end's bytes."""
        return not self.unplaced and (
            bool(self.pending and self.pending[0][0] == self.next)
            or bool(self.finish and self.finish[0] == self.next)
        )

    def give_up(self, frame: int, time: float, file: int, out: Output) -> None:
        """Nothing will fill the hole: reports it, and the pieces after it."""
        self.missing = not self.heard
        if self.unplaced:
            for half in (self, self.peer):  # both: the items of one may wait for the other
                if half.unplaced and half.pending:
                    half._place(out)
        elif self.held_back:
            if self.pending and self.pending[0][0] == self.next:
                self.pending[0] = (*self.pending[0][:6], -1)
            elif self.finish:
                self.finish = (*self.finish[:5], -1)
        else:
            marks = [(piece[0], piece[3], piece[4], piece[5]) for piece in self.pending[:1]]
            if self.finish:
                marks.append((self.finish[0], *self.finish[2:5]))
            if self.acknowledged >= 0:
                marks.append((self.acknowledged, frame, time, file))
            target, frame, time, file = min(marks, key=lambda mark: (mark[0] - self.next) & MASK)
            size = (target - self.next) & MASK
            if size == 1 and len(marks) == 1 and self.acknowledged >= 0:
                self.waived, self.acknowledged = self.acknowledged, -1  # a FIN that the capture lost
            else:
                self.gap(size, frame, time, file, out)
                self.next = target
        self.drain(out)

    def _place(self, out: Output) -> None:
        """Begins with the first piece in the capture; the other end's first acknowledgement shows whether
        bytes before it are missing."""
        self.unplaced = False
        self.next = self.pending[0][0]
        if not self.flow.begin.midstream:
            missing = (self.next - self.lowest) & MASK if self.lowest >= 0 else MASK
            if missing:
                self.gap(missing if missing < FAR else None, *self.pending[0][3:6], out)

    def forget(self) -> None:
        """Drops everything that is held."""
        self.pending.clear()
        self.held = 0
        self.finish, self.acknowledged, self.unplaced, self.quick = None, -1, False, False
