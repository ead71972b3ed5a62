# SPDX-License-Identifier: GPL-2.0-only
"""TCP reassembly: makes chunks, gaps, beginnings and ends of connections from records.

A segment that continues a known direction takes the short path in `Reassembler.items`; everything else
(handshakes, segments out of order, retransmissions, holes, ends) goes through `_slow`. The first copy of a
byte wins. Bytes are declared missing only on evidence: the other end acknowledged them and a short while
later they are still not there (a capture may hold packets in a slightly wrong order), or nothing filled the
hole for long, or the buffer or the capture ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from math import inf

from dissectors.capture.capture_items import AnyItem, ChunkBuilder
from dissectors.capture.connection_attempts import Attempt
from dissectors.capture.link_layers import (
    ACK,
    FIN,
    ICMP_ERROR,
    RST,
    SYN,
    Segment,
    SegmentFinder,
    endpoints,
)
from dissectors.capture.record import IDLE, Record
from dissectors.capture.tcp_connections import NEAR, TcpConnections, fits
from dissectors.capture.tcp_half import (
    FAR,
    FORWARD,
    MASK,
    UNPROVEN,
    Finish,
    Output,
    Piece,
    Table,
    TcpHalf,
    Where,
)
from dissectors.framing.events import Ending
from dissectors.wire.constants import Side

ODD = FIN | SYN | RST | ACK
CHUNK_BYTES = 1 << 19  # after so many bytes a chunk ends

#: The most out-of-order bytes and pieces that are held for one direction.
HELD, PIECES = 1 << 22, 4096
HELD_IN_ALL = 1 << 25  # bytes, for all directions together
FRESH = 1 << 22  # bytes after which that limit is looked at


class Reassembler:
    """All connections of one reading. `packets` and `bytes` (on the wire) count what was read."""

    def __init__(self) -> None:
        self.packets = 0
        self.bytes = 0
        self.finder = SegmentFinder()
        self._out = Output()
        self.connections = TcpConnections(self._out)
        self._check_at = inf  # number of packets at which the doubts are looked at again
        self._settle_at = 0  # the earliest such number: many doubts are not looked at for each packet
        self._fresh = 0  # bytes taken since then

    @property
    def mixed(self) -> Set[int]:
        """Files that show a connection's two directions in another order than on the wire."""
        return self._out.mixed

    def items(self, batches: Iterable[list[Record]]) -> Iterator[AnyItem | Record]:
        """Items in the order in which they became known; records without a packet pass unchanged."""
        decode, shared, table = self.finder.segment, self.connections.shared, self.connections.table
        builder, current, room = None, None, 0
        for batch in batches:
            packets, size_of_all = self.packets, self.bytes
            for record in batch:
                time, frame, link, buffer, start, end, wire, file = record
                segment = None
                if link >= 0:
                    packets += 1
                    size_of_all += wire
                    segment = decode(link, buffer, start, end, wire)
                    if segment is None:
                        continue
                    key, seq, ack, flags, payload, size = segment
                    half = (table(key, file) if file else shared).get(key)
                    if (
                        half is not None
                        and half.quick
                        and seq == half.next
                        and flags & ODD == ACK
                        and size == len(payload)
                        and (half.peer.next - ack) & MASK < FORWARD
                        and packets < self._check_at
                    ):
                        if size:
                            if builder is None or half is not current or room < 0 or file != builder.file:
                                if builder is not None:
                                    yield builder.chunk()
                                builder = ChunkBuilder(half.flow.number, half.sender, file)
                                current, room = half, CHUNK_BYTES
                            builder.parts.append(payload)  # `builder.add` without the call
                            builder.frames.append(frame)
                            builder.times.append(time)
                            room -= size
                            half.next = (seq + size) & MASK
                        continue
                self.packets, self.bytes = packets, size_of_all
                if builder is not None:
                    yield builder.chunk()
                    builder = None
                yield from self._slow(record, segment)
            self.packets, self.bytes = packets, size_of_all
        if builder is not None:
            yield builder.chunk()

    def _slow(self, record: Record, segment: Segment | None) -> Iterator[AnyItem | Record]:
        """A record other than the next segment in order. `segment`: None if it holds no packet."""
        where = (record[1], record[0], record[7])
        if segment is None:
            if record[2] == IDLE:
                self._settle(where, idle=True)
                yield from self._out.take()
            yield record
            return
        if segment[5] > len(segment[4]):
            self.finder.note_cut(record[5] - record[4])
        table = self.connections.table(segment[0], record[7])
        if segment[3] & ICMP_ERROR:
            self._icmp_error(table.get(segment[0]), segment, where)
        else:
            self._segment(table, segment, where)
        yield from self._out.take()

    def finish(self, time: float) -> list[AnyItem]:
        """At the end of the capture: the held items, the gaps, and the ends of the open connections."""
        where = (0, time, 0)
        for half in sorted(self.connections.doubtful, key=lambda half: half.held_back):
            while half in self.connections.doubtful and half.doubt():
                self._give_up(half, where)
        self.connections.end_all(where)
        return self._out.take()

    def _segment(self, table: Table, segment: Segment, where: Where) -> None:
        """Takes a segment other than the next one in order."""
        key, seq, ack, flags, payload, size = segment
        frame, time, file = where
        half = table.get(key)
        if flags & SYN:
            half = self._syn(table, half, segment, where)
            seq = (seq + 1) & MASK
        elif half is None and not flags & RST:
            half = self.connections.elsewhere(table, key, seq)
            if half is None and size:
                half = self.connections.open(table, key, None, where)
        if half is None or size < 0 or not self._wanted(half, segment, where):
            return
        flow, half.heard = half.flow, True
        if half.next < 0 and not flags & RST and (size or flags & FIN):
            half.unplaced = bool(size)
            half.next = (seq - NEAR) & MASK if size else seq
        ack = ack if flags & ACK else -1
        if size:
            self._data(half, (seq, size, payload, frame, time, file, ack))
        if flags & (FIN | RST):
            how = Ending.RESET if flags & RST else Ending.CLOSED
            self._finish(half, ((seq + size) & MASK, how, frame, time, file, ack))
        if ack >= 0 and (size or flags & (FIN | RST) or not half.peer.missing):
            half.peer.awaited(ack)
            self._acknowledge(half.peer, ack)
        self._review(half, time)
        self._review(half.peer, time)
        self._settle(where)
        if flow.ended:
            self.connections.retire_ended(flow)

    def _syn(self, table: Table, half: TcpHalf | None, segment: Segment, where: Where) -> TcpHalf:
        """The beginning of a connection, or again that of a connection that is known already."""
        key, seq, ack, flags, _, _ = segment
        first = (seq + 1) & MASK
        if half is not None and not fits(half, first):
            for old in (half, half.peer):
                while old.doubt() and not old.flow.ignored:
                    self._give_up(old, where)
            self.connections.end(half.flow, where)
            self.connections.retire(half.flow)
            half = None
        if half is None:
            half = self.connections.open(table, key, Side.SERVER if flags & ACK else Side.CLIENT, where)
        begin = half.flow.begin
        if not half.flow.announced:
            ends = endpoints(key)
            begin.client, begin.server = ends[::-1] if flags & ACK else ends
            half.sender = Side.SERVER if flags & ACK else Side.CLIENT
            half.peer.sender = Side.CLIENT if flags & ACK else Side.SERVER
            begin.directed, begin.midstream = True, False
            self.connections.announce(half.flow)
        flow, (frame, time, _) = half.flow, where
        if flags & ACK:
            flow.attempt = None
        elif flow.attempt is not None:
            flow.attempt.again(time, frame)
        elif half.first < 0 and half.peer.first < 0 and half.peer.next < 0:
            flow.attempt = Attempt(1, time, frame, time, frame)
        if half.first < 0 and (half.next < 0 or half.unplaced):
            half.first = half.next = first
            half.unplaced = False
            half.drain(self._out)
        elif half.first < 0 and half.next == first:  # the capture has the answer to this SYN before it
            half.first = first
        peer = half.peer
        if flags & ACK and peer.next < 0:  # the capture lost the SYN, but this acknowledges its number
            peer.next = ack
        return half

    def _wanted(self, half: TcpHalf, segment: Segment, where: Where) -> bool:
        """Whether a segment's bytes matter. Also notes answers to SYNs and ends of ignored connections."""
        flow, ack, flags = half.flow, segment[2], segment[3]
        if flow.attempt is not None and not flags & SYN:
            if flags & RST and half.sender is Side.SERVER and half.next < 0:
                self._refused(half, ack if flags & ACK else -1, where)
                return False
            flow.attempt = None
        if flow.ignored and flags & (FIN | RST) and not flow.ended:
            self.connections.retire(flow)
        return not flow.ignored

    def _refused(self, half: TcpHalf, ack: int, where: Where) -> None:
        """A RST as the answer to a SYN; one that does not fit the SYN belongs to an older connection."""
        flow, (frame, time, _) = half.flow, where
        if flow.attempt is None or flow.ended or ack not in (-1, half.peer.first):
            return
        if not flow.attempt.reported:
            self.connections.fail(flow.attempt, flow.attempt.refused(flow.begin, time, frame))
        self.connections.retire(flow)

    def _icmp_error(self, half: TcpHalf | None, segment: Segment, where: Where) -> None:
        """An ICMP error about a packet of the other end of `half`: it matters while that end connects."""
        if half is None or half.sender is Side.CLIENT:
            return
        attempt = half.flow.attempt
        if attempt is None or attempt.reported:
            return
        frame, time, _ = where
        failure = attempt.turned_away(half.flow.begin, segment[4], time, frame)
        if failure is not None:
            self.connections.fail(attempt, failure)

    def _data(self, half: TcpHalf, piece: Piece) -> None:
        """Takes bytes: drops old ones, reports those in order, holds others."""
        seq, size, data, *rest = piece
        behind = (half.next - seq) & MASK
        if 0 < behind < FORWARD:
            if behind >= size:
                return  # sent again, or a keep-alive
            seq, size, data = half.next, size - behind, data[behind:]
            piece = (seq, size, data, *rest)  # type: ignore[assignment]
        self._fresh += len(data)
        if seq == half.next and not half.unplaced:
            answered = half.peer.held_back
            if half.pending or half.waits(piece[6], piece[3]):
                half.hold(piece)
            else:
                half.take(piece, self._out)
            half.drain(self._out)
            if answered and not half.peer.held_back:
                self._out.mixed.add(piece[5])
        else:
            half.hold(piece)
        if half.held > HELD or len(half.pending) > PIECES:
            self._give_up(half, (piece[3], piece[4], piece[5]))

    def _finish(self, half: TcpHalf, finish: Finish) -> None:
        """A FIN or RST."""
        seq, how, frame, time, file, _ = finish
        ahead = (seq - half.next) & MASK
        if how is Ending.RESET and half.peer.unplaced:
            self._give_up(half.peer, (frame, time, file))
        if half.unplaced or (half.next >= 0 and ahead < FAR):
            if half.finish is None:
                half.finish = finish
            half.drain(self._out)
        elif how is Ending.RESET:
            half.end(how, frame, time, file, self._out)

    def _acknowledge(self, half: TcpHalf, ack: int) -> None:
        """The other end has everything before `ack`. The first acknowledgement shows where a direction begins
        of which the capture has nothing (yet)."""
        if half.next < 0 <= half.peer.first:
            half.next = half.first = ack
        elif half.next >= 0 and not half.unplaced and 0 < (ack - half.next) & MASK < FAR:
            half.acknowledged = ack

    def _review(self, half: TcpHalf, time: float) -> None:
        """Starts or ends the wait that `half` needs."""
        patience = half.doubt()
        if patience is not half.patience:
            half.patience = patience
            if patience is None:
                self.connections.doubtful.pop(half, None)
            else:
                self.connections.doubtful[half] = None
                half.sure = half.acknowledged
                half.deadline = (
                    self.packets + patience.soft,
                    time + patience.seconds,
                    self.packets + patience.hard,
                )
        # where this is False, its next acknowledgement shows where the peer begins
        placed = half.peer.next >= 0 or half.first < 0
        half.quick = patience is None and half.next >= 0 and half.heard and placed and not half.flow.ignored

    def _settle(self, where: Where, idle: bool = False) -> None:
        """Ends waits that lasted long enough; `idle`: the capture has no more for now. Thousands of waits are
        looked at once in so many packets that each packet costs the same."""
        if self.packets < self._settle_at and self._fresh < FRESH and not idle:
            return
        doubtful = self.connections.doubtful
        if sum(half.held for half in doubtful) > HELD_IN_ALL:
            self._give_up(max(doubtful, key=lambda half: half.held), where)
        for half in list(doubtful):
            if half not in doubtful:
                continue  # its connection was forgotten, because so many others have just ended
            soft, seconds, hard = half.deadline
            over = self.packets >= hard or (self.packets >= soft and where[1] >= seconds)
            if over or (idle and half.patience is not UNPROVEN):
                self._give_up(half, where)
        rest = len(doubtful) // 16
        self._settle_at, self._fresh = self.packets + rest, 0
        self._check_at = self.packets + max(4, rest) if doubtful else inf

    def _give_up(self, half: TcpHalf, where: Where) -> None:
        self.connections.announce(half.flow)
        while half.doubt():
            half.give_up(*where, self._out)
            if half.acknowledged < 0 or not 0 < (half.sure - half.next) & MASK < FORWARD:
                break
        half.patience = None
        self.connections.doubtful.pop(half, None)
        self._review(half, where[1])
        self.connections.retire_ended(half.flow)
