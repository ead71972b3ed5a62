# SPDX-License-Identifier: GPL-2.0-only
"""Turns one connection's bytes into events: the packets of the link stage, then messages.

Sans-I/O. Both directions go through one `Framer`, since the meaning of bytes depends on the other side:
capabilities decide the authentication and the header. The same framer serves the client peer, the relay and
captures. It never raises: invalid bytes become `Garbage`, missing ones `Gap`.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from operator import itemgetter

from dissectors.framing.direction import Direction, Stage
from dissectors.framing.events import ConnectionEvent, Gap, Garbage, LinkBytes, Message, Quiet
from dissectors.framing.link_stage import KINDS, LinkStage
from dissectors.framing.message_heads import (
    FULL,
    MINI,
    WITH_DESCRIPTORS,
    carrier_bytes,
    head,
    head_size,
    skim,
)
from dissectors.wire.constants import ChannelType, Side

__all__ = ["FULL", "MAX_BODY_BYTES", "MINI", "NO_QUIET", "Framer", "Mark", "Stage"]

MAX_WAITING_BYTES = 1 << 20  # of one side, while only the other side can show their kind
MAX_BODY_BYTES = 64 << 20  # no SPICE peer sends larger messages; bounds memory
NO_QUIET: frozenset[int] = frozenset()
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
        self._quiet = quiet or (lambda _: NO_QUIET)
        self._link = LinkStage()
        self._at: tuple[float, int | None] = (0.0, None)
        self._over = False

    def copy(self) -> Framer:
        """An independent framer in the same state."""
        made = copy.copy(self)
        made._link = self._link.copy()
        return made

    @property
    def channel(self) -> int:
        """The channel's type; 0 until the link message names it."""
        return self._link.channel

    @property
    def mini(self) -> bool:
        """Whether both sides use mini headers."""
        return self._link.mini

    @property
    def linked(self) -> bool:
        """Whether the server has accepted the link."""
        return self._link.linked

    def feed(self, sender: Side, data: bytes, time: float, frame: int | None = None) -> list[ConnectionEvent]:
        """The events that `data` completes."""
        return list(self.stream(sender, data, [(0, time, frame)]))

    def counts(self, sender: Side) -> tuple[Counter[int], int]:
        """Messages by type, and bytes, of the data stage so far."""
        direction = self._link.direction(sender)
        return direction.counts, direction.size

    def stage(self, sender: Side) -> Stage:
        """The kind of the next bytes from `sender`."""
        return self._link.direction(sender).stage

    def lost(self, sender: Side) -> bool:
        """Whether no boundary is known in this direction."""
        return self._link.direction(sender).stage is Stage.LOST

    @property
    def known_header(self) -> bool | None:
        """Whether mini headers are used; None until the link stage shows it."""
        return self._link.mini if self._link.header_known else None

    def spilled(self, sender: Side) -> bytes:
        """The unframed bytes from when the direction lost its boundary; returned once."""
        direction = self._link.direction(sender)
        spilled, direction.spilled = direction.spilled, b""
        return spilled

    def stream(self, sender: Side, data: bytes, marks: Sequence[Mark]) -> Iterator[ConnectionEvent]:
        """As `feed`, one event at a time, each at the mark that holds its last byte."""
        direction = self._link.direction(sender)
        held = len(direction.buffer)
        direction.buffer += data
        self._at = marks[0][1:]

        def locate(end: int) -> None:
            if len(marks) > 1:
                self._at = marks[max(0, bisect_right(marks, end - held - 1, key=_offset) - 1)][1:]

        yield from self._drain(sender, locate)
        other_side = Side.SERVER if sender is Side.CLIENT else Side.CLIENT
        other = self._link.direction(other_side)
        if other.buffer and other.stage not in (Stage.WAIT, Stage.LOST, Stage.OVER):
            yield from self._drain(other_side, lambda _: None)

    def gap(
        self, sender: Side, size: int | None, time: float, frame: int | None = None, *, cut: bool = False
    ) -> list[ConnectionEvent]:
        """`size` bytes of `sender` are missing (None: unknown how many; `cut`: by the capture's snap length).

        Inside a packet whose size is known the framer keeps its place; else the direction is lost until
        `resume` finds a boundary.
        """
        direction = self._link.direction(sender)
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
        if size is not None and direction is self._link.client and self._link.names_channel(size):
            return [event, self._link_bytes(sender, "mess", self._link.take_cut_mess(size), whole=False)]
        if size is not None and self._link.passes_over(direction, size):
            return [event]
        if direction.stage is not Stage.OVER:
            if direction.stage is not Stage.DATA and sender is Side.SERVER:
                self._link.lose_client()
            direction.lose()
            direction.spilled = b""  # it ends with the hole
        direction.buffer.clear()
        return [event]

    def resume(self, channel: int, *, mini: bool, sender: Side) -> None:
        """Resumes a direction at a proven message boundary (`dissectors.framing.resync` proves it)."""
        link, direction = self._link, self._link.direction(sender)
        link.channel, link.mini, link.linked, link.header_known = channel, mini, True, True
        direction.stage = Stage.DATA
        direction.buffer.clear()

    def end(self, time: float, frame: int | None = None) -> list[ConnectionEvent]:
        """The connection is over: a last message whose descriptors were still awaited, and the bytes of an
        incomplete last packet."""
        self._at, self._over = (time, frame), True
        left: list[ConnectionEvent] = []
        for sender in Side:
            direction = self._link.direction(sender)
            if direction.stage is Stage.DATA and direction.buffer and not direction.skipping:
                left += self._drain(sender, lambda _: None)
            there = len(direction.buffer)
            if direction.skipping:
                there = direction.skipped[1] - direction.skipping
            if there and direction.stage not in (Stage.OVER, Stage.LOST):
                what = "message" if direction.stage is Stage.DATA else "link packet"
                left.append(self._garbage(sender, f"the last {what} is cut after {there} bytes"))
        return left

    def _drain(self, sender: Side, locate: Callable[[int], None]) -> Iterator[ConnectionEvent]:
        """The events of the held bytes; `locate(end)` is called with the offset behind each."""
        direction = self._link.direction(sender)
        used = min(direction.passing, len(direction.buffer))
        direction.passing -= used
        del direction.buffer[:used]
        while direction.buffer:
            if direction.stage is Stage.DATA:
                yield from self._messages(sender, direction, lambda end, base=used: locate(base + end))  # type: ignore[misc]
                return
            if direction.stage not in KINDS:
                yield from self._unframed(sender, direction)
                return
            size = self._link.size(direction)
            if size is None:
                return
            raw = bytes(direction.buffer[:size])
            if self._link.is_second_reply(direction, raw):
                direction.stage = Stage.REPLY
                continue
            del direction.buffer[:size]
            used += size
            locate(used)
            yield from self._link_packet(sender, KINDS[direction.stage], raw)

    def _unframed(self, sender: Side, direction: Direction) -> Iterator[ConnectionEvent]:
        """Handles bytes of which no packet can be made, or none yet."""
        if direction.stage is Stage.OVER and sender is Side.SERVER:
            yield self._garbage(sender, "bytes on a link that was refused")
        if direction.stage is Stage.WAIT and len(direction.buffer) > MAX_WAITING_BYTES:
            yield self._garbage(sender, "the other side does not say what this is")
            direction.lose()
        if direction.stage is not Stage.WAIT:
            direction.buffer.clear()

    def _link_packet(self, sender: Side, kind: str, raw: bytes) -> Iterator[ConnectionEvent]:
        time, frame = self._at
        self._link.take(sender, kind, raw)
        yield self._link_bytes(sender, kind, raw)
        if kind == "reply" and self._link.client.stage is Stage.MESS:  # its link message is missing
            self._link.client.lose()
            yield Gap(time=time, frame=frame, connection=self.connection, sender=Side.CLIENT, bytes=None)

    def _link_bytes(self, sender: Side, kind: str, raw: bytes, *, whole: bool = True) -> LinkBytes:
        time, frame = self._at
        return LinkBytes(
            time=time,
            frame=frame,
            connection=self.connection,
            sender=sender,
            kind=kind,
            raw=raw,
            channel=self.channel,
            whole=whole,
        )

    # ---- the data stage

    def _messages(
        self, sender: Side, direction: Direction, locate: Callable[[int], None]
    ) -> Iterator[ConnectionEvent]:
        base = 0
        if direction.skipping:
            base = direction.skip()
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
                at, kinds, serial = skim(buffer, at, self._counted(sender), mini, direction.serial)
                if kinds:
                    direction.serial = serial
                    locate(base + at)
                    yield self._count(sender, direction, kinds, at - begun)
            if at + header > end:
                break
            kind, size, serial, sub_list = head(buffer, at, mini)
            body_end = at + header + size - direction.missing
            carrier = self._carrier(sender, buffer, body_end, serial) if kind in WITH_DESCRIPTORS else 0
            after = body_end + carrier
            if after > end:
                break
            locate(base + after)
            direction.counts[kind] += 1
            direction.size += after - at
            direction.serial = serial
            if direction.missing:
                body_end = at + direction.held
            whole, direction.missing = not direction.missing, 0
            body = buffer[at + header : body_end]
            yield self._message(sender, kind, body, size, serial, sub_list, whole, carrier)
            at = after
        direction.buffer += buffer[at:]
        yield from self._unfinished(sender, direction)

    def _message(
        self,
        sender: Side,
        kind: int,
        body: bytes,
        size: int,
        serial: int | None,
        sub_list: int,
        whole: bool,
        carrier: int,
    ) -> Message:
        return Message(
            time=self._at[0],
            frame=self._at[1],
            connection=self.connection,
            sender=sender,
            channel=self.channel,
            type=kind,
            body=body,
            size=size,
            serial=serial,
            sub_list=sub_list,
            whole=whole,
            carrier=carrier,
        )

    def _carrier(self, sender: Side, buffer: bytes, at: int, serial: int | None) -> int:
        """The bytes behind a message that carry its descriptors; 1 too while nothing has come behind it."""
        if sender is Side.CLIENT or self.channel != ChannelType.SPICE_CHANNEL_DISPLAY:
            return 0
        known = carrier_bytes(buffer, at, self.mini, serial)
        return int(not self._over) if known is None else known

    def _ready(self, direction: Direction) -> bool:
        """Whether the first message is complete (checked before any copy: messages may be large)."""
        header, there = head_size(self.mini), len(direction.buffer)
        return (
            there >= header and header + head(direction.buffer, 0, self.mini)[1] - direction.missing <= there
        )

    def _counted(self, sender: Side) -> frozenset[int]:
        """The message types that are only counted; never one whose size its header does not tell."""
        quiet = self._quiet(sender)
        return quiet - WITH_DESCRIPTORS if self.channel == ChannelType.SPICE_CHANNEL_DISPLAY else quiet

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
        elif not direction.missing and not sub_list and kind in self._counted(sender):
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
            serial=self._link.direction(sender).serial,
        )

    def _garbage(self, sender: Side, reason: str) -> Garbage:
        time, frame = self._at
        raw = bytes(self._link.direction(sender).buffer[:64])
        return Garbage(
            time=time, frame=frame, connection=self.connection, sender=sender, raw=raw, reason=reason
        )
