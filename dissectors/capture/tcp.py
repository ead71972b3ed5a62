# SPDX-License-Identifier: GPL-2.0-only
"""TCP reassembly: makes chunks, gaps, beginnings and ends of connections from records.

A segment that continues a known direction takes the short path in `Reassembler.items`; everything else
(handshakes, segments out of order, retransmissions, holes, ends) goes through `_segment`. The first copy of
a byte wins. Bytes are declared missing only on evidence: the other end acknowledged them and a short while
later they are still not there (a capture may hold packets in a slightly wrong order), or nothing filled the
hole for long, or the buffer or the capture ends.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Set
from math import inf

from dissectors.capture.capture_items import AnyItem, Begin, Run
from dissectors.capture.connection_attempts import Attempt
from dissectors.capture.link_layers import (
    ACK,
    FIN,
    ICMP_ERROR,
    RST,
    SYN,
    Network,
    Segment,
    endpoints,
    reverse,
)
from dissectors.capture.record import IDLE, Record
from dissectors.capture.tcp_half import (
    FAR,
    FORWARD,
    MASK,
    UNPROVEN,
    Finish,
    Flow,
    Output,
    Piece,
    Table,
    TcpHalf,
)
from dissectors.framing.events import Ending
from dissectors.wire.constants import Side

ODD = FIN | SYN | RST | ACK
RUN = 1 << 19  # bytes after which a run becomes a chunk

#: The most out-of-order bytes and pieces that are held for one direction.
HELD, PIECES = 1 << 22, 4096
HELD_IN_ALL = 1 << 25  # bytes, for all directions together
FRESH = 1 << 22  # bytes after which that limit is looked at
#: Connections that are remembered: open ones, and ended ones whose late packets must be known.
OPEN, ENDED = 1 << 14, 1 << 12
#: A SYN belongs to a connection whose data begins at most this many bytes after it.
NEAR = 1 << 16
_LOOPBACK6 = bytes(15) + b"\1"

Where = tuple[int, float, int]  # frame, time, file


class Reassembler:
    """All connections of one reading. `packets` and `bytes` (on the wire) count what was read."""

    def __init__(self) -> None:
        self.packets = 0
        self.bytes = 0
        self.streams = 0
        self.failed = 0  # failed connection attempts
        self.network = Network()
        self._shared: Table = {}
        self._loopback: defaultdict[int, Table] = defaultdict(dict)  # of each file but the first
        self._open: OrderedDict[int, Flow] = OrderedDict()  # the oldest one is found at once
        self._ended: deque[Flow] = deque()
        self._doubtful: dict[TcpHalf, None] = {}
        self._check_at = inf  # number of packets at which the doubts are looked at again
        self._settle_at = 0  # the earliest such number: many doubts are not looked at for each packet
        self._fresh = 0  # bytes taken since then
        self._out = Output()

    @property
    def mixed(self) -> Set[int]:
        """Files that show a connection's two directions in another order than on the wire."""
        return self._out.mixed

    def items(self, batches: Iterable[list[Record]]) -> Iterator[AnyItem | Record]:
        """Items in the order in which they became known; records without a packet pass unchanged."""
        decode, shared = self.network.segment, self._shared
        run, current, run_file, room = Run(), None, 0, 0
        slow: Iterator[AnyItem | Record]
        for batch in batches:
            packets, size_of_all = self.packets, self.bytes
            for record in batch:
                time, frame, link, buffer, start, end, wire, file = record
                if link >= 0:
                    packets += 1
                    size_of_all += wire
                    segment = decode(link, buffer, start, end, wire)
                    if segment is None:
                        continue
                    key, seq, ack, flags, payload, size = segment
                    table = self._table(key, file) if file else shared
                    half = table.get(key)
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
                            if half is not current or room < 0 or file != run_file:
                                if current is not None:
                                    yield run.chunk(current.flow.number, current.sender, run_file)
                                run, current, run_file, room = Run(), half, file, RUN
                            run.parts.append(payload)
                            run.frames.append(frame)
                            run.times.append(time)
                            room -= size
                            half.next = (seq + size) & MASK
                        continue
                    if size > len(payload):
                        self.network.note_cut(end - start)
                    slow = self._packet(table, segment, (frame, time, file))
                else:
                    slow = self._marker(record)
                self.packets, self.bytes = packets, size_of_all
                if current is not None:
                    yield run.chunk(current.flow.number, current.sender, run_file)
                    current = None
                yield from slow
            self.packets, self.bytes = packets, size_of_all
        if current is not None:
            yield run.chunk(current.flow.number, current.sender, run_file)

    def _marker(self, record: Record) -> Iterator[AnyItem | Record]:
        """A record that holds no packet."""
        if record[2] == IDLE:
            self._settle((record[1], record[0], record[7]), idle=True)
            yield from self._out.take()
        yield record

    def _packet(self, table: Table, segment: Segment, where: Where) -> Iterator[AnyItem]:
        if segment[3] & ICMP_ERROR:
            self._icmp_error(table.get(segment[0]), segment, where)
        else:
            self._segment(table, segment, where)
        yield from self._out.take()

    def finish(self, time: float) -> list[AnyItem]:
        """At the end of the capture: the held items, the gaps, and the ends of the open connections."""
        where = (0, time, 0)
        for half in sorted(self._doubtful, key=lambda half: half.held_back):
            while half.doubt():
                self._give_up(half, where)
        for flow in self._open.values():
            self._end(flow, where)
        self._open.clear()
        return self._out.take()

    def ignore(self, connection: int) -> None:
        """Ignores the rest of this connection."""
        if flow := self._open.get(connection):
            flow.ignored = True
            for half in flow.halves:
                half.forget()
                self._doubtful.pop(half, None)

    def _table(self, key: bytes, file: int) -> Table:
        """Loopback addresses mean another host in each file, all others the same in all files."""
        loopback = key[0] == 127 if len(key) == 12 else key[:16] == _LOOPBACK6
        return self._loopback[file] if loopback else self._shared

    def _segment(self, table: Table, segment: Segment, where: Where) -> None:
        """Takes a segment other than the next one in order."""
        key, seq, ack, flags, payload, size = segment
        frame, time, file = where
        half = table.get(key)
        if flags & SYN:
            half = self._syn(table, half, segment, where)
            seq = (seq + 1) & MASK
        elif half is None and not flags & RST:
            half = self._elsewhere(table, key, seq)
            if half is None and size:
                half = self._open_flow(table, key, None, where)
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
        if flow.ended and flow.number in self._open:
            self._retire(flow)

    def _syn(self, table: Table, half: TcpHalf | None, segment: Segment, where: Where) -> TcpHalf:
        """The beginning of a connection, or again that of a connection that is known already."""
        key, seq, ack, flags, _, _ = segment
        first = (seq + 1) & MASK
        if half is not None and not _fits(half, first):
            for old in (half, half.peer):
                while old.doubt() and not old.flow.ignored:
                    self._give_up(old, where)
            self._end(half.flow, where)
            self._retire(half.flow)
            half = None
        if half is None:
            half = self._open_flow(table, key, Side.SERVER if flags & ACK else Side.CLIENT, where)
        begin = half.flow.begin
        if not half.flow.announced:
            ends = endpoints(key)
            begin.client, begin.server = ends[::-1] if flags & ACK else ends
            half.sender = Side.SERVER if flags & ACK else Side.CLIENT
            half.peer.sender = Side.CLIENT if flags & ACK else Side.SERVER
            begin.directed, begin.midstream = True, False
            self._announce(half.flow)
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
        if (
            flags & ACK and peer.next < 0
        ):  # the capture lost a SYN: its acknowledgement shows its sequence number
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
            self._retire(flow)
        return not flow.ignored

    def _refused(self, half: TcpHalf, ack: int, where: Where) -> None:
        """A RST as the answer to a SYN; one that does not fit the SYN belongs to an older connection."""
        flow, (frame, time, _) = half.flow, where
        if flow.attempt is None or flow.ended or ack not in (-1, half.peer.first):
            return
        if not flow.attempt.reported:
            self.failed += 1
            self._out.item(flow.attempt.refused(flow.begin, time, frame))
        flow.attempt.reported = True
        self._retire(flow)

    def _icmp_error(self, half: TcpHalf | None, segment: Segment, where: Where) -> None:
        """An ICMP error about a packet of the other end of `half`: it matters while that end connects."""
        if half is None or half.sender is Side.CLIENT:
            return
        if half.flow.attempt is None or half.flow.attempt.reported:
            return
        frame, time, _ = where
        failed = half.flow.attempt.turned_away(half.flow.begin, segment[4], time, frame)
        if failed is not None:
            half.flow.attempt.reported = True
            self.failed += 1
            self._out.item(failed)

    def _open_flow(self, table: Table, key: bytes, sender: Side | None, where: Where) -> TcpHalf:
        """A new connection; `sender`: the side that sent this packet, if that is clear."""
        if len(self._open) >= OPEN:
            oldest = self._least_wanted()
            self._end(oldest, where)
            self._retire(oldest)
        source, target = endpoints(key)
        client, server = (target, source) if sender is Side.SERVER else (source, target)
        frame, time, file = where
        self.streams += 1
        begin = Begin(
            connection=self.streams,
            client=client,
            server=server,
            directed=sender is not None,
            midstream=sender is None,
            time=time,
            frame=frame,
            file=file,
        )
        flow = Flow(begin, table, key, sender or Side.CLIENT)
        back = reverse(key)
        table[key], table[back] = flow.halves
        self._open[flow.number] = flow
        return flow.halves[0]

    def _elsewhere(self, table: Table, key: bytes, seq: int) -> TcpHalf | None:
        """A loopback connection that continues in another file: the next capture of the same host."""
        for other in (self._shared, *self._loopback.values()):
            half = other.get(key)
            if half is not None and half.next >= 0 and (seq - half.next) & MASK < NEAR:
                table[key], table[half.peer.key] = half, half.peer
                return half
        return None

    def _least_wanted(self) -> Flow:
        """The connection to forget: an old one without bytes or ignored, else the oldest one checked."""
        for _ in range(16):
            flow = next(iter(self._open.values()))
            if flow.ignored or all(half.next == half.first for half in flow.halves):
                break
            self._open.move_to_end(flow.number)
        return flow

    def _announce(self, flow: Flow) -> None:
        flow.announced = True
        self._out.item(flow.begin)

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
                self._doubtful.pop(half, None)
            else:
                self._doubtful[half] = None
                half.sure = half.acknowledged
                half.deadline = (
                    self.packets + patience.soft,
                    time + patience.seconds,
                    self.packets + patience.hard,
                )
        placed = (
            half.peer.next >= 0 or half.first < 0
        )  # else its next acknowledgement shows where the peer begins
        half.quick = patience is None and half.next >= 0 and half.heard and placed and not half.flow.ignored

    def _settle(self, where: Where, idle: bool = False) -> None:
        """Ends waits that lasted long enough; `idle`: the capture has no more for now. Thousands of waits are
        looked at once in so many packets that each packet costs the same."""
        if self.packets < self._settle_at and self._fresh < FRESH and not idle:
            return
        if sum(half.held for half in self._doubtful) > HELD_IN_ALL:
            self._give_up(max(self._doubtful, key=lambda half: half.held), where)
        for half in list(self._doubtful):
            soft, seconds, hard = half.deadline
            over = self.packets >= hard or (self.packets >= soft and where[1] >= seconds)
            if over or (idle and half.patience is not UNPROVEN):
                self._give_up(half, where)
        rest = len(self._doubtful) // 16
        self._settle_at, self._fresh = self.packets + rest, 0
        self._check_at = self.packets + max(4, rest) if self._doubtful else inf

    def _give_up(self, half: TcpHalf, where: Where) -> None:
        if not half.flow.announced:
            self._announce(half.flow)
        while half.doubt():
            half.give_up(*where, self._out)
            if half.acknowledged < 0 or not 0 < (half.sure - half.next) & MASK < FORWARD:
                break
        half.patience = None
        self._doubtful.pop(half, None)
        self._review(half, where[1])
        if half.flow.ended and half.flow.number in self._open:
            self._retire(half.flow)

    def _end(self, flow: Flow, where: Where) -> None:
        """The end of a connection in the capture."""
        if flow.attempt is None or flow.ended:
            flow.halves[0].end(None, *where, self._out)
            return
        if not flow.attempt.reported:
            self.failed += 1
            self._out.item(flow.attempt.unanswered(flow.begin, where[1]))
        flow.ended = True

    def _retire(self, flow: Flow) -> None:
        """Remember an ended connection for a while, for its late packets."""
        flow.ended = True
        self._open.pop(flow.number, None)
        self._ended.append(flow)
        if len(self._ended) > ENDED:
            old = self._ended.popleft()
            for half in old.halves:
                self._doubtful.pop(half, None)
                if old.table.get(half.key) is half:
                    del old.table[half.key]
                del half.peer, half.flow  # free them now, without the garbage collector


def _fits(half: TcpHalf, first: int) -> bool:
    """A SYN whose data begins at `first` belongs to the connection that is known."""
    if half.first >= 0:
        return half.first == first
    if half.flow.ended:
        return False
    start = half.pending[0][0] if half.unplaced and half.pending else half.next
    return half.next < 0 or (start - first) & MASK < NEAR
