# SPDX-License-Identifier: GPL-2.0-only
"""Turns one connection's bytes into events: the packets of the link stage, then messages.

Sans-I/O. Both directions go through one `Framer`, since the meaning of bytes depends on the other side:
capabilities decide the authentication and the header. The same framer serves the client peer, the relay and
captures. It never raises: invalid bytes become `Garbage`, missing ones `Gap`.
"""

from __future__ import annotations

import copy
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from operator import itemgetter

from dissectors.framing import link_sizes
from dissectors.framing.direction import Direction, Stage
from dissectors.framing.events import ConnectionEvent, Gap, Garbage, LinkBytes, Message, Quiet
from dissectors.framing.message_heads import FULL, MINI, head, head_size, skim
from dissectors.wire.constants import LINK_HEADER_BYTES, SPICE_MAGIC, TICKET_BYTES, CommonCap, Side

__all__ = ["FULL", "MAX_BODY_BYTES", "MINI", "NO_QUIET", "Framer", "Mark", "Stage"]

MAX_WAITING_BYTES = 1 << 20  # of one side, while only the other side can show their kind
MAX_BODY_BYTES = 64 << 20  # no SPICE peer sends larger messages; bounds memory
NO_QUIET: frozenset[int] = frozenset()
_SELECTS = CommonCap.SPICE_COMMON_CAP_PROTOCOL_AUTH_SELECTION
_offset = itemgetter(0)

#: (offset in a chunk, time in s, frame): bytes from this offset on came in that frame.
Mark = tuple[int, float, int | None]


class Framer:
    """Frames one connection.

    `quiet(sender)` returns the message types that are only counted at present. The framer calls it again
    after each event, since the reader of the events may change the result (the oracle does).
    """

    def __init__(self, connection: int, quiet: Callable[[Side], frozenset[int]] | None = None) -> None:
        self.connection = connection
        self.channel = 0
        self.channel_id = 0
        self.mini = False
        self.linked = False
        self._header_known = False
        self._caps_cut = False  # bytes of a link message or reply are missing: its capabilities are not known
        self._quiet = quiet or (lambda _: NO_QUIET)
        self._client_caps: frozenset[int] = frozenset()
        self._server_caps: frozenset[int] = frozenset()
        self._mechanism: int | None = None
        self._dir = {Side.CLIENT: Direction(Stage.MESS), Side.SERVER: Direction(Stage.REPLY)}
        self._at: tuple[float, int | None] = (0.0, None)

    def copy(self) -> Framer:
        """An independent framer in the same state."""
        made = copy.copy(self)
        made._dir = {sender: direction.copy() for sender, direction in self._dir.items()}
        return made

    def feed(self, sender: Side, data: bytes, time: float, frame: int | None = None) -> list[ConnectionEvent]:
        """The events that `data` completes."""
        return list(self.stream(sender, data, [(0, time, frame)]))

    def counts(self, sender: Side) -> tuple[Counter[int], int]:
        """Messages by type, and bytes, of the data stage so far."""
        direction = self._dir[sender]
        return direction.counts, direction.size

    def stage(self, sender: Side) -> Stage:
        """The kind of the next bytes from `sender`."""
        return self._dir[sender].stage

    def lost(self, sender: Side) -> bool:
        """Whether no boundary is known in this direction."""
        return self._dir[sender].stage is Stage.LOST

    @property
    def known_header(self) -> bool | None:
        """Whether mini headers are used; None until the link stage shows it."""
        return self.mini if self._header_known else None

    def spilled(self, sender: Side) -> bytes:
        """The unframed bytes from when the direction lost its boundary; returned once."""
        direction = self._dir[sender]
        spilled, direction.spilled = direction.spilled, b""
        return spilled

    def stream(self, sender: Side, data: bytes, marks: Sequence[Mark]) -> Iterator[ConnectionEvent]:
        """As `feed`, one event at a time, each at the mark that holds its last byte."""
        direction = self._dir[sender]
        held = len(direction.buffer)
        direction.buffer += data
        self._at = marks[0][1:]

        def locate(end: int) -> None:
            if len(marks) > 1:
                self._at = marks[max(0, bisect_right(marks, end - held - 1, key=_offset) - 1)][1:]

        yield from self._drain(sender, locate)
        other = Side.SERVER if sender is Side.CLIENT else Side.CLIENT
        if self._dir[other].buffer and self._dir[other].stage not in (Stage.WAIT, Stage.LOST, Stage.OVER):
            yield from self._drain(other, lambda _: None)

    def gap(
        self, sender: Side, size: int | None, time: float, frame: int | None = None, *, cut: bool = False
    ) -> list[ConnectionEvent]:
        """`size` bytes of `sender` are missing (None: unknown how many; `cut`: by the capture's snap length).

        Inside a packet whose size is known the framer keeps its place; else the direction is lost until
        `resume` finds a boundary.
        """
        direction = self._dir[sender]
        self._at = (time, frame)
        event = Gap(time=time, frame=frame, connection=self.connection, sender=sender, bytes=size, cut=cut)
        if direction.stage is Stage.DATA and size is not None:
            inside = replace(event, inside=True)
            if size <= direction.skipping:
                direction.skipping -= size
                return [inside, *self._drain(sender, lambda _: None)]
            at = head_size(self.mini)
            if not direction.skipping and len(direction.buffer) >= at:
                there = len(direction.buffer) + direction.missing
                if size <= at + head(direction.buffer, 0, self.mini)[1] - there:
                    if not direction.missing:
                        direction.held = len(direction.buffer)
                    direction.missing += size
                    return [inside, *self._drain(sender, lambda _: None)]
        if size is not None and direction.stage is Stage.MESS and self._names_the_channel(size):
            return [event, self._cut_mess(size)]
        if size is not None and self._passes_over(sender, size):
            return [event]
        if direction.stage is not Stage.OVER:
            if direction.stage is not Stage.DATA and sender is Side.SERVER:
                self._lose_client()
            direction.lose()
            direction.spilled = b""  # it ends with the hole
        direction.buffer.clear()
        return [event]

    def _names_the_channel(self, size: int) -> bool:
        """Whether the missing bytes are capabilities of a link message, whose end is known."""
        head = self._dir[Side.CLIENT].buffer
        whole = link_sizes.mess_end(head) or 0
        return len(head) >= link_sizes.MESS_CAPS_AT and len(head) + size <= whole

    def _cut_mess(self, size: int) -> LinkBytes:
        """A link message without its capabilities."""
        client, (time, frame) = self._dir[Side.CLIENT], self._at
        raw = bytes(client.buffer)
        client.passing = (link_sizes.mess_end(raw) or 0) - len(raw) - size
        client.buffer.clear()
        self._caps_cut = True
        self._after_mess(raw)
        return LinkBytes(
            time=time,
            frame=frame,
            connection=self.connection,
            sender=Side.CLIENT,
            kind="mess",
            raw=raw,
            channel=self.channel,
            whole=False,
        )

    def _passes_over(self, sender: Side, size: int) -> bool:
        """Whether missing bytes belong to a link reply or a ticket whose end is known all the same, as where
        each packet is cut by a snap length. What is there of that packet is not shown."""
        direction, client = self._dir[sender], self._dir[Side.CLIENT]
        if size <= direction.passing:
            direction.passing -= size
            return True
        there = len(direction.buffer) + size
        selects = self._caps_cut or _SELECTS in self._client_caps
        if direction.stage is Stage.TICKET and there <= TICKET_BYTES:
            end = TICKET_BYTES
            self._after_ticket(b"")
        elif direction.stage is Stage.REPLY and client.stage is Stage.WAIT and selects:
            end = link_sizes.reply_end(direction.buffer) or 0
            if there > end:
                return False
            self._caps_cut = True
            client.stage, direction.stage = Stage.MECHANISM, Stage.RESULT
        else:
            return False
        direction.passing = end - there
        direction.buffer.clear()
        return True

    def _lose_client(self) -> None:
        """Without the server's part of the link stage the beginning of the client's messages is unknown."""
        client = self._dir[Side.CLIENT]
        if client.stage not in (Stage.MESS, Stage.DATA, Stage.OVER, Stage.LOST):
            client.lose()

    def resume(self, channel: int, *, mini: bool, sender: Side) -> None:
        """Resumes a direction at a proven message boundary (`dissectors.framing.resync` proves it)."""
        self.channel, self.mini, self.linked, self._header_known = channel, mini, True, True
        self._dir[sender].stage = Stage.DATA
        self._dir[sender].buffer.clear()

    def end(self, time: float, frame: int | None = None) -> list[ConnectionEvent]:
        """The connection is over: reports the bytes of an incomplete last packet."""
        self._at = (time, frame)
        left: list[ConnectionEvent] = []
        for sender, direction in self._dir.items():
            there = len(direction.buffer)
            if direction.skipping:
                there = direction.skipped[1] - direction.skipping
            if there and direction.stage not in (Stage.OVER, Stage.LOST):
                what = "message" if direction.stage is Stage.DATA else "link packet"
                left.append(self._garbage(sender, f"the last {what} is cut after {there} bytes"))
        return left

    def _drain(self, sender: Side, locate: Callable[[int], None]) -> Iterator[ConnectionEvent]:
        direction = self._dir[sender]
        used = min(direction.passing, len(direction.buffer))
        direction.passing -= used
        del direction.buffer[:used]
        while direction.buffer:
            if direction.stage is Stage.DATA:
                yield from self._messages(sender, direction, lambda end, base=used: locate(base + end))  # type: ignore[misc]
                return
            step = _STEPS.get(direction.stage)
            if step is None:
                if direction.stage is Stage.OVER and sender is Side.SERVER:
                    yield self._garbage(sender, "bytes on a link that was refused")
                if direction.stage is Stage.WAIT and len(direction.buffer) > MAX_WAITING_BYTES:
                    yield self._garbage(sender, "the other side does not say what this is")
                    direction.lose()
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
            if sender is Side.SERVER and kind in ("result", "sasl") and raw[:4] == SPICE_MAGIC:
                # a second link reply where the result, or a step of SASL, belongs
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
            if kind == "reply" and self._dir[Side.CLIENT].stage is Stage.MESS:  # its link message is missing
                self._dir[Side.CLIENT].lose()
                yield Gap(time=time, frame=frame, connection=self.connection, sender=Side.CLIENT, bytes=None)

    # ---- the link stage: the size of the present packet (None: incomplete)

    def _mess_size(self, direction: Direction) -> int | None:
        return link_sizes.mess_size(direction.buffer)

    def _reply_size(self, direction: Direction) -> int | None:
        return link_sizes.reply_size(direction.buffer)

    def _fixed(self, direction: Direction) -> int | None:
        if direction.stage is Stage.RESULT and self._caps_cut and self._mechanism is None:
            direction.lose()  # it may be SASL
            return None
        size = TICKET_BYTES if direction.stage is Stage.TICKET else 4
        return size if len(direction.buffer) >= size else None

    def _sasl_size(self, direction: Direction) -> int | None:
        is_answer = direction is self._dir[Side.SERVER] and direction.sasl_steps > 0
        return link_sizes.sasl_size(direction.buffer, is_answer=is_answer)

    # ---- the link stage: the effect of a packet

    def _after_mess(self, raw: bytes) -> None:
        self._dir[Side.CLIENT].stage = Stage.WAIT
        if len(raw) >= link_sizes.MESS_CAPS_AT:
            _, self.channel, self.channel_id = struct.unpack_from("<IBB", raw, LINK_HEADER_BYTES)
        if len(raw) >= LINK_HEADER_BYTES + link_sizes.MESS_FIXED_BYTES:
            self._client_caps = link_sizes.common_caps(raw, link_sizes.MESS_CAPS_AT)

    def _after_reply(self, raw: bytes) -> None:
        client, server = self._dir[Side.CLIENT], self._dir[Side.SERVER]
        if link_sizes.refuses(raw):
            client.stage = server.stage = Stage.OVER
            return
        self._server_caps = link_sizes.common_caps(raw, link_sizes.REPLY_CAPS_AT)
        both = self._client_caps & self._server_caps
        server.stage = Stage.RESULT
        if client.stage is Stage.WAIT:
            self._header_known = not self._caps_cut
            self.mini = CommonCap.SPICE_COMMON_CAP_MINI_HEADER in both
            selects = _SELECTS in (self._server_caps if self._caps_cut else both)
            client.stage = Stage.MECHANISM if selects else Stage.TICKET

    def _after_mechanism(self, raw: bytes) -> None:
        (self._mechanism,) = struct.unpack("<I", raw)
        sasl = self._mechanism == CommonCap.SPICE_COMMON_CAP_AUTH_SASL
        self._dir[Side.CLIENT].stage = Stage.SASL if sasl else Stage.TICKET
        if self._caps_cut and not sasl and self._mechanism != CommonCap.SPICE_COMMON_CAP_AUTH_SPICE:
            for direction in self._dir.values():  # it was no mechanism
                direction.lose()
        if sasl:
            self._dir[Side.SERVER].stage = Stage.SASL

    def _after_ticket(self, raw: bytes) -> None:
        client = self._dir[Side.CLIENT]
        client.stage = Stage.DATA if self.linked else Stage.WAIT
        if self.linked and self._caps_cut:
            client.lose()

    def _after_sasl(self, raw: bytes) -> None:
        server = self._dir[Side.SERVER]
        if server.stage is Stage.SASL:
            server.sasl_steps += 1
            accepted = link_sizes.sasl_accepted(raw) if server.sasl_steps > 1 else None
            if accepted is not None:
                server.stage = Stage.RESULT if accepted else Stage.OVER

    def _after_result(self, raw: bytes) -> None:
        self.linked = raw == bytes(4)
        for direction in self._dir.values():
            if not self.linked:
                direction.stage = Stage.OVER
            elif direction.stage not in (Stage.LOST, Stage.MECHANISM, Stage.TICKET):
                direction.stage = Stage.DATA  # read a ticket first that the capture shows late
        if self.linked and not self._header_known:
            self._dir[Side.SERVER].lose()
            if self._dir[Side.CLIENT].stage is Stage.DATA:
                self._dir[Side.CLIENT].lose()

    # ---- the data stage

    def _messages(
        self, sender: Side, direction: Direction, locate: Callable[[int], None]
    ) -> Iterator[ConnectionEvent]:
        base = 0
        if direction.skipping:
            base = min(direction.skipping, len(direction.buffer))
            del direction.buffer[:base]
            direction.skipping -= base
            if direction.skipping:
                return
            locate(base)
            kind, size = direction.skipped
            yield self._count(sender, direction, [kind], size)
        if not self._ready(direction):
            yield from self._unfinished(sender, direction)
            return
        mini, header = self.mini, head_size(self.mini)
        buffer = bytes(direction.buffer)
        direction.buffer.clear()
        at, end = 0, len(buffer)
        while True:
            if not direction.missing:
                begun = at
                at, kinds, serial = skim(buffer, at, self._quiet(sender), mini, direction.serial)
                if kinds:
                    direction.serial = serial
                    locate(base + at)
                    yield self._count(sender, direction, kinds, at - begun)
            if at + header > end:
                break
            kind, size, serial, sub_list = head(buffer, at, mini)
            after = at + header + size - direction.missing
            if after > end:
                break
            locate(base + after)
            direction.counts[kind] += 1
            direction.size += after - at
            direction.serial = serial
            whole, direction.missing = not direction.missing, 0
            body_end = after if whole else at + direction.held
            yield Message(
                time=self._at[0],
                frame=self._at[1],
                connection=self.connection,
                sender=sender,
                channel=self.channel,
                type=kind,
                body=buffer[at + header : body_end],
                size=size,
                serial=serial,
                sub_list=sub_list,
                whole=whole,
            )
            at = after
        direction.buffer += buffer[at:]
        yield from self._unfinished(sender, direction)

    def _ready(self, direction: Direction) -> bool:
        """Whether the first message is complete (checked before any copy: messages may be large)."""
        header, there = head_size(self.mini), len(direction.buffer)
        return (
            there >= header and header + head(direction.buffer, 0, self.mini)[1] - direction.missing <= there
        )

    def _unfinished(self, sender: Side, direction: Direction) -> Iterator[ConnectionEvent]:
        """Handles an incomplete message: drops the bytes of a counted one, and gives up a direction whose
        header claims more than any peer sends."""
        header, there = head_size(self.mini), len(direction.buffer)
        if there < header:
            return
        kind, size, serial, sub_list = head(direction.buffer, 0, self.mini)
        if size > MAX_BODY_BYTES:
            yield self._garbage(sender, f"a message of {size} bytes: no SPICE, or encrypted by SASL")
            direction.lose()
        elif not direction.missing and not sub_list and kind in self._quiet(sender):
            if None not in (serial, direction.serial) and serial != direction.serial + 1:  # type: ignore[operator]
                return  # shown for its serial
            direction.serial = serial
            direction.skipped, direction.skipping = (kind, header + size), header + size - there
            direction.buffer.clear()

    def _count(self, sender: Side, direction: Direction, kinds: list[int], size: int) -> Quiet:
        direction.counts.update(kinds)
        direction.size += size
        return self._skipped(sender, len(kinds), size)

    def _skipped(self, sender: Side, count: int, size: int) -> Quiet:
        time, frame = self._at
        return Quiet(
            time=time,
            frame=frame,
            connection=self.connection,
            sender=sender,
            count=count,
            bytes=size,
            serial=self._dir[sender].serial,
        )

    def _garbage(self, sender: Side, reason: str) -> Garbage:
        time, frame = self._at
        raw = bytes(self._dir[sender].buffer[:64])
        return Garbage(
            time=time, frame=frame, connection=self.connection, sender=sender, raw=raw, reason=reason
        )


_STEPS: dict[Stage, Callable[[Framer, Direction], int | None]] = {
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
