# SPDX-License-Identifier: GPL-2.0-only
"""One connection's bytes to events: the link stage in its packets, then messages.

Sans-I/O. Both directions go through one `Framer`, since what a byte means depends on what the other side
said: capabilities decide the authentication and the header. The same framer serves the client peer, the
relay and captures. Nothing raises: bytes that make no sense become `Garbage`, missing ones `Gap`.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from dissectors.constants import (
    DATA_HEADER_BYTES,
    LINK_HEADER_BYTES,
    MINI_HEADER_BYTES,
    SPICE_MAGIC,
    SPICE_VERSION_MAJOR,
    TICKET_BYTES,
    CommonCap,
    Side,
)
from dissectors.events import ConnectionEvent, Gap, Garbage, LinkBytes, Message, Quiet

MINI = struct.Struct("<HI")
FULL = struct.Struct("<QHII")
FULL_KIND_SIZE = struct.Struct("<8xHI")
MAX_LINK_BYTES = 4096
MAX_SASL_BYTES = 1 << 20  # of one step, as servers have it
MAX_WAITING_BYTES = 1 << 20  # of one side while the other has not said what they are
MAX_BODY_BYTES = 64 << 20  # larger messages are no SPICE that anybody sends; keeps memory bounded
NO_QUIET: frozenset[int] = frozenset()

#: (offset in a chunk, time, frame): from this offset on, bytes came in that frame.
Mark = tuple[int, float, int | None]


class Stage(Enum):
    """What the next bytes of one direction are."""

    MESS = auto()
    REPLY = auto()
    MECHANISM = auto()
    TICKET = auto()
    SASL = auto()
    RESULT = auto()
    DATA = auto()
    WAIT = auto()  # undecided until the other side has spoken
    OVER = auto()  # the link failed: nothing more is due
    LOST = auto()  # no boundary is known


@dataclass
class _Direction:
    stage: Stage
    buffer: bytearray = field(default_factory=bytearray)
    missing: int = 0  # bytes of the present message that a gap has swallowed
    serial: int = 0
    sasl_steps: int = 0
    counts: Counter[int] = field(default_factory=Counter)
    bytes: int = 0


class Framer:
    """Frames one connection.

    `quiet(sender)` gives the message types that are only counted at present; it is asked again after each
    event, so that whoever reads the events may change its mind (the oracle does).
    """

    def __init__(self, connection: int, quiet: Callable[[Side], frozenset[int]] | None = None) -> None:
        self.connection = connection
        self.channel = 0
        self.channel_id = 0
        self.mini = False
        self.linked = False
        self._quiet = quiet or (lambda _: NO_QUIET)
        self._client_caps: frozenset[int] = frozenset()
        self._server_caps: frozenset[int] = frozenset()
        self._mechanism: int | None = None
        self._dir = {Side.CLIENT: _Direction(Stage.MESS), Side.SERVER: _Direction(Stage.REPLY)}
        self._at: tuple[float, int | None] = (0.0, None)

    def feed(self, sender: Side, data: bytes, time: float, frame: int | None = None) -> list[ConnectionEvent]:
        """Everything that `data` completes."""
        return list(self.stream(sender, data, [(0, time, frame)]))

    def counts(self, sender: Side) -> tuple[Counter[int], int]:
        """Messages by type, and bytes, of the data stage so far."""
        direction = self._dir[sender]
        return direction.counts, direction.bytes

    def stage(self, sender: Side) -> Stage:
        """What is due from `sender`."""
        return self._dir[sender].stage

    def lost(self, sender: Side) -> bool:
        """No boundary is known in this direction."""
        return self._dir[sender].stage is Stage.LOST

    @property
    def known_header(self) -> bool | None:
        """Whether mini headers are used; None while the link stage has not told."""
        return self.mini if self.linked else None

    def stream(self, sender: Side, data: bytes, marks: Sequence[Mark]) -> Iterator[ConnectionEvent]:
        """As `feed`, one event at a time, each at the mark that holds its last byte."""
        direction = self._dir[sender]
        held = len(direction.buffer)
        direction.buffer += data
        self._at = marks[0][1:]
        starts = [m[0] for m in marks] if len(marks) > 1 else None

        def locate(end: int) -> None:
            if starts:
                self._at = marks[max(0, bisect_right(starts, end - held - 1) - 1)][1:]

        yield from self._drain(sender, locate)
        other = Side.SERVER if sender is Side.CLIENT else Side.CLIENT
        if self._dir[other].buffer and self._dir[other].stage not in (Stage.WAIT, Stage.LOST, Stage.OVER):
            yield from self._drain(other, lambda _: None)

    def gap(
        self, sender: Side, size: int | None, time: float, frame: int | None = None
    ) -> list[ConnectionEvent]:
        """`size` bytes of `sender` are missing (None: unknown how many).

        Inside a message whose size is known the framer keeps its place; else the direction is lost until
        `resume` finds a boundary.
        """
        direction = self._dir[sender]
        self._at = (time, frame)
        event = Gap(time=time, frame=frame, connection=self.connection, sender=sender, bytes=size)
        if direction.stage is Stage.DATA and size is not None:
            header = MINI_HEADER_BYTES if self.mini else DATA_HEADER_BYTES
            if len(direction.buffer) >= header:
                due = header + self._head(direction.buffer)[1] - len(direction.buffer) - direction.missing
                if size <= due:
                    direction.missing += size
                    return [event, *self._drain(sender, lambda _: None)]
        direction.buffer.clear()
        direction.missing = 0
        direction.stage = Stage.LOST if direction.stage is not Stage.OVER else Stage.OVER
        return [event]

    def resume(self, channel: int, *, mini: bool, sender: Side) -> None:
        """Takes up a direction at a proven message boundary (`dissectors.resync` proves it)."""
        self.channel, self.mini, self.linked = channel, mini, True
        self._dir[sender].stage = Stage.DATA
        self._dir[sender].buffer.clear()

    def end(self, time: float, frame: int | None = None) -> list[ConnectionEvent]:
        """The connection is over: what is left in a direction never became a packet."""
        self._at = (time, frame)
        left: list[ConnectionEvent] = []
        for sender, direction in self._dir.items():
            if direction.buffer and direction.stage not in (Stage.OVER, Stage.LOST):
                what = "message" if direction.stage is Stage.DATA else "link packet"
                left.append(
                    self._garbage(sender, f"the last {what} is cut after {len(direction.buffer)} bytes")
                )
        return left

    def _drain(self, sender: Side, locate: Callable[[int], None]) -> Iterator[ConnectionEvent]:
        direction = self._dir[sender]
        used = 0
        while direction.buffer:
            if direction.stage is Stage.DATA:
                yield from self._messages(sender, direction, lambda end, base=used: locate(base + end))  # type: ignore[misc]
                return
            step = _STEPS.get(direction.stage)
            if step is None:
                if direction.stage is Stage.OVER and sender is Side.SERVER:
                    yield self._garbage(sender, "bytes on a link that was refused")
                if direction.stage is Stage.WAIT and len(direction.buffer) > MAX_WAITING_BYTES:
                    direction.stage = Stage.LOST
                    yield self._garbage(sender, "the other side does not say what this is")
                if direction.stage is not Stage.WAIT:
                    direction.buffer.clear()
                return
            size = step(self, direction)
            if size is None:
                return
            raw = bytes(direction.buffer[:size])
            del direction.buffer[:size]
            used += size
            locate(used)
            kind = _KINDS[direction.stage]
            if kind == "result" and raw == SPICE_MAGIC:  # a second link reply where the result belongs
                direction.buffer[:0] = raw
                direction.stage, used = Stage.REPLY, used - size
                continue
            time, frame = self._at
            if kind != "sasl" or sender is Side.SERVER:  # only the server's steps decide
                _AFTER[kind](self, raw)
            yield LinkBytes(
                time=time,
                frame=frame,
                connection=self.connection,
                sender=sender,
                kind=kind,
                raw=raw,
                channel=self.channel,
            )

    # ---- the link stage: how many bytes the present packet has (None: not all there yet)

    def _mess_size(self, direction: _Direction) -> int | None:
        head = direction.buffer
        if len(head) < LINK_HEADER_BYTES:
            return None
        magic, major, _, size = struct.unpack_from("<4sIII", head)
        if magic != SPICE_MAGIC or major != SPICE_VERSION_MAJOR or size > MAX_LINK_BYTES:
            return min(len(head), LINK_HEADER_BYTES + min(int(size), MAX_LINK_BYTES))
        return LINK_HEADER_BYTES + int(size) if len(head) >= LINK_HEADER_BYTES + size else None

    def _reply_size(self, direction: _Direction) -> int | None:
        head = direction.buffer
        if len(head) < LINK_HEADER_BYTES:
            return None
        magic, _, _, size = struct.unpack_from("<4sIII", head)
        if magic != SPICE_MAGIC or size > MAX_LINK_BYTES:
            return len(head)
        return LINK_HEADER_BYTES + size if len(head) >= LINK_HEADER_BYTES + size else None

    def _fixed(self, direction: _Direction) -> int | None:
        size = TICKET_BYTES if direction.stage is Stage.TICKET else 4
        return size if len(direction.buffer) >= size else None

    def _sasl_size(self, direction: _Direction) -> int | None:
        if len(direction.buffer) < 4:
            return None
        (size,) = struct.unpack_from("<I", direction.buffer)
        if size > MAX_SASL_BYTES:
            return len(direction.buffer)
        # Every server step but the list of mechanisms ends with one byte: complete or not.
        flag = 1 if direction is self._dir[Side.SERVER] and direction.sasl_steps else 0
        total = 4 + int(size) + flag
        return total if len(direction.buffer) >= total else None

    # ---- the link stage: what a packet decides

    def _after_mess(self, raw: bytes) -> None:
        self._dir[Side.CLIENT].stage = Stage.WAIT
        if len(raw) >= LINK_HEADER_BYTES + 18:
            _, self.channel, self.channel_id = struct.unpack_from("<IBB", raw, LINK_HEADER_BYTES)
            self._client_caps = _common_caps(raw, LINK_HEADER_BYTES + 6, LINK_HEADER_BYTES)

    def _after_reply(self, raw: bytes) -> None:
        client, server = self._dir[Side.CLIENT], self._dir[Side.SERVER]
        refused = (
            len(raw) < LINK_HEADER_BYTES + 178
            or raw[LINK_HEADER_BYTES : LINK_HEADER_BYTES + 4] != b"\0\0\0\0"
        )
        if refused:
            client.stage = server.stage = Stage.OVER
            return
        self._server_caps = _common_caps(raw, LINK_HEADER_BYTES + 166, LINK_HEADER_BYTES)
        both = self._client_caps & self._server_caps
        self.mini = CommonCap.SPICE_COMMON_CAP_MINI_HEADER in both
        server.stage = Stage.RESULT
        selects = CommonCap.SPICE_COMMON_CAP_PROTOCOL_AUTH_SELECTION in both
        client.stage = Stage.MECHANISM if selects else Stage.TICKET

    def _after_mechanism(self, raw: bytes) -> None:
        (self._mechanism,) = struct.unpack("<I", raw)
        sasl = self._mechanism == CommonCap.SPICE_COMMON_CAP_AUTH_SASL
        self._dir[Side.CLIENT].stage = Stage.SASL if sasl else Stage.TICKET
        if sasl:
            self._dir[Side.SERVER].stage = Stage.SASL

    def _after_ticket(self, raw: bytes) -> None:
        self._dir[Side.CLIENT].stage = Stage.DATA if self.linked else Stage.WAIT

    def _after_sasl(self, raw: bytes) -> None:
        server = self._dir[Side.SERVER]
        if server.stage is Stage.SASL:
            server.sasl_steps += 1
            if server.sasl_steps > 1 and raw[-1]:
                server.stage = Stage.RESULT

    def _after_result(self, raw: bytes) -> None:
        self.linked = raw == b"\0\0\0\0"
        for direction in self._dir.values():
            direction.stage = Stage.DATA if self.linked else Stage.OVER

    # ---- the data stage

    def _head(self, buffer: bytes | bytearray, at: int = 0) -> tuple[int, int, int | None, int]:
        """(type, size, serial, sub_list) of the header at `at`."""
        if self.mini:
            kind, size = MINI.unpack_from(buffer, at)
            return kind, size, None, 0
        serial, kind, size, sub_list = FULL.unpack_from(buffer, at)
        return kind, size, serial, sub_list

    def _messages(
        self, sender: Side, direction: _Direction, locate: Callable[[int], None]
    ) -> Iterator[ConnectionEvent]:
        if not self._ready(direction):
            yield from self._absurd(sender, direction)
            return
        buffer = bytes(direction.buffer)
        direction.buffer.clear()
        header = MINI_HEADER_BYTES if self.mini else DATA_HEADER_BYTES
        at, end = 0, len(buffer)
        while True:
            if not direction.missing:
                begun, (at, kinds) = at, self._skim(buffer, at, self._quiet(sender))
                if kinds:
                    locate(at)
                    direction.counts.update(kinds)
                    direction.bytes += at - begun
                    yield self._skipped(sender, len(kinds), at - begun)
            if at + header > end:
                break
            kind, size, serial, sub_list = self._head(buffer, at)
            after = at + header + size - direction.missing
            if after > end:
                break
            locate(after)
            direction.counts[kind] += 1
            direction.bytes += after - at
            whole, direction.missing = not direction.missing, 0
            yield Message(
                time=self._at[0],
                frame=self._at[1],
                connection=self.connection,
                sender=sender,
                channel=self.channel,
                type=kind,
                body=buffer[at + header : after],
                size=size,
                serial=serial,
                sub_list=sub_list,
                whole=whole,
            )
            at = after
        direction.buffer += buffer[at:]
        yield from self._absurd(sender, direction)

    def _ready(self, direction: _Direction) -> bool:
        """The first message is all there (asked before anything is copied: messages may be large)."""
        header = MINI_HEADER_BYTES if self.mini else DATA_HEADER_BYTES
        there = len(direction.buffer)
        return there >= header and header + self._head(direction.buffer)[1] - direction.missing <= there

    def _skim(self, buffer: bytes, at: int, quiet: frozenset[int]) -> tuple[int, list[int]]:
        """Where the quiet messages from `at` on end, and their types. The hot loop of bulk channels."""
        kinds: list[int] = []
        if not quiet:
            return at, kinds
        end, add = len(buffer), kinds.append
        if self.mini:
            header, unpack = MINI_HEADER_BYTES, MINI.unpack_from
        else:
            header, unpack = DATA_HEADER_BYTES, FULL_KIND_SIZE.unpack_from
        last = end - header
        while at <= last:
            kind, size = unpack(buffer, at)
            after = at + header + size
            if after > end or kind not in quiet:
                break
            add(kind)
            at = after
        return at, kinds

    def _absurd(self, sender: Side, direction: _Direction) -> Iterator[ConnectionEvent]:
        """Gives up a direction whose present header claims more than anybody sends."""
        header = MINI_HEADER_BYTES if self.mini else DATA_HEADER_BYTES
        if len(direction.buffer) >= header:
            size = self._head(direction.buffer)[1]
            if size > MAX_BODY_BYTES:
                direction.stage = Stage.LOST
                yield self._garbage(sender, f"a message of {size} bytes: no SPICE, or encrypted by SASL")
                direction.buffer.clear()

    def _skipped(self, sender: Side, count: int, size: int) -> Quiet:
        time, frame = self._at
        return Quiet(
            time=time, frame=frame, connection=self.connection, sender=sender, count=count, bytes=size
        )

    def _garbage(self, sender: Side, reason: str) -> Garbage:
        time, frame = self._at
        raw = bytes(self._dir[sender].buffer[:64])
        return Garbage(
            time=time, frame=frame, connection=self.connection, sender=sender, raw=raw, reason=reason
        )


def _common_caps(raw: bytes, counts_at: int, base: int) -> frozenset[int]:
    """Bits of the common capability words of a link message or reply; empty where they make no sense."""
    count, _, offset = struct.unpack_from("<III", raw, counts_at)
    if count > 1024 or base + offset + 4 * count > len(raw):
        return frozenset()
    words = struct.unpack_from(f"<{count}I", raw, base + offset)
    return frozenset(32 * i + bit for i, word in enumerate(words) for bit in range(32) if word >> bit & 1)


_STEPS: dict[Stage, Callable[[Framer, _Direction], int | None]] = {
    Stage.MESS: Framer._mess_size,
    Stage.REPLY: Framer._reply_size,
    Stage.MECHANISM: Framer._fixed,
    Stage.TICKET: Framer._fixed,
    Stage.RESULT: Framer._fixed,
    Stage.SASL: Framer._sasl_size,
}
_KINDS = {
    Stage.MESS: "mess",
    Stage.REPLY: "reply",
    Stage.MECHANISM: "mechanism",
    Stage.TICKET: "ticket",
    Stage.RESULT: "result",
    Stage.SASL: "sasl",
}
_AFTER: dict[str, Callable[[Framer, bytes], None]] = {
    "mess": Framer._after_mess,
    "reply": Framer._after_reply,
    "mechanism": Framer._after_mechanism,
    "ticket": Framer._after_ticket,
    "sasl": Framer._after_sasl,
    "result": Framer._after_result,
}
