# SPDX-License-Identifier: GPL-2.0-only
"""The TCP connections of one reading: which one a packet belongs to, and how it begins, ends and is
forgotten."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque

from dissectors.capture.capture_items import Begin
from dissectors.capture.connection_attempts import Attempt
from dissectors.capture.link_layers import endpoints, reverse
from dissectors.capture.tcp_half import MASK, Output, Table, TcpFlow, TcpHalf, Where
from dissectors.framing.events import ConnectFailed
from dissectors.wire.constants import Side

#: Connections that are remembered: open ones, and ended ones whose late packets must be known.
OPEN, ENDED = 1 << 14, 1 << 12
#: A SYN belongs to a connection whose data begins at most this many bytes after it.
NEAR = 1 << 16
_LOOPBACK6 = bytes(15) + b"\1"


class TcpConnections:
    """`out` takes the beginnings and ends. `shared`: the directions that are known, of all files.

    `count`: connections so far, `failed`: failed attempts among them. `doubtful`: the directions of which
    bytes may be missing, in the order in which the doubts began.
    """

    def __init__(self, out: Output) -> None:
        self.count = 0
        self.failed = 0
        self.shared: Table = {}
        self.doubtful: dict[TcpHalf, None] = {}
        self._out = out
        self._loopback: defaultdict[int, Table] = defaultdict(dict)  # of each file but the first
        self._open: OrderedDict[int, TcpFlow] = OrderedDict()  # the oldest one is found at once
        self._ended: deque[TcpFlow] = deque()

    def table(self, key: bytes, file: int) -> Table:
        """Loopback addresses mean another host in each file, all others the same in all files."""
        if not file:
            return self.shared
        loopback = key[0] == 127 if len(key) == 12 else key[:16] == _LOOPBACK6
        return self._loopback[file] if loopback else self.shared

    def open(self, table: Table, key: bytes, sender: Side | None, where: Where) -> TcpHalf:
        """A new connection; `sender`: the side that sent this packet, if that is clear."""
        if len(self._open) >= OPEN:
            oldest = self._least_wanted()
            self.end(oldest, where)
            self.retire(oldest)
        source, target = endpoints(key)
        client, server = (target, source) if sender is Side.SERVER else (source, target)
        frame, time, file = where
        self.count += 1
        begin = Begin(
            connection=self.count,
            client=client,
            server=server,
            directed=sender is not None,
            midstream=sender is None,
            time=time,
            frame=frame,
            file=file,
        )
        flow = TcpFlow(begin, table, key, sender or Side.CLIENT)
        back = reverse(key)
        table[key], table[back] = flow.halves
        self._open[flow.number] = flow
        return flow.halves[0]

    def elsewhere(self, table: Table, key: bytes, seq: int) -> TcpHalf | None:
        """A loopback connection that continues in another file: the next capture of the same host."""
        for other in (self.shared, *self._loopback.values()):
            half = other.get(key)
            if half is not None and half.next >= 0 and (seq - half.next) & MASK < NEAR:
                table[key], table[half.peer.key] = half, half.peer
                return half
        return None

    def _least_wanted(self) -> TcpFlow:
        """The connection to forget: an old one without bytes or ignored, else the oldest one checked."""
        for _ in range(16):
            flow = next(iter(self._open.values()))
            if flow.ignored or all(half.next == half.first for half in flow.halves):
                break
            self._open.move_to_end(flow.number)
        return flow

    def announce(self, flow: TcpFlow) -> None:
        """Reports the beginning of a connection, once."""
        if not flow.announced:
            flow.announced = True
            self._out.item(flow.begin)

    def fail(self, attempt: Attempt, failure: ConnectFailed) -> None:
        """Reports the failure of an attempt."""
        attempt.reported = True
        self.failed += 1
        self._out.item(failure)

    def ignore(self, number: int) -> None:
        """Ignores the rest of an open connection."""
        if flow := self._open.get(number):
            flow.ignored = True
            for half in flow.halves:
                half.forget()
                self.doubtful.pop(half, None)

    def end(self, flow: TcpFlow, where: Where) -> None:
        """The end of a connection in the capture."""
        if flow.attempt is None or flow.ended:
            flow.halves[0].end(None, *where, self._out)
            return
        if not flow.attempt.reported:
            self.fail(flow.attempt, flow.attempt.unanswered(flow.begin, where[1]))
        flow.ended = True

    def end_all(self, where: Where) -> None:
        """The ends of all open connections."""
        for flow in self._open.values():
            self.end(flow, where)
        self._open.clear()

    def retire_ended(self, flow: TcpFlow) -> None:
        """Retires a connection that has just ended."""
        if flow.ended and flow.number in self._open:
            self.retire(flow)

    def retire(self, flow: TcpFlow) -> None:
        """Remembers an ended connection for a while, for its late packets."""
        flow.ended = True
        self._open.pop(flow.number, None)
        self._ended.append(flow)
        if len(self._ended) > ENDED:
            old = self._ended.popleft()
            for half in old.halves:
                self.doubtful.pop(half, None)
                if old.table.get(half.key) is half:
                    del old.table[half.key]
                del half.peer, half.flow  # free them now, without the garbage collector


def fits(half: TcpHalf, first: int) -> bool:
    """Whether a SYN whose data begins at `first` belongs to the connection that is known."""
    if half.first >= 0:
        return half.first == first
    if half.flow.ended:
        return False
    start = half.pending[0][0] if half.unplaced and half.pending else half.next
    return half.next < 0 or (start - first) & MASK < NEAR
