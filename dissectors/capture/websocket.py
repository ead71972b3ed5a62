# SPDX-License-Identifier: GPL-2.0-only
"""WebSocket connections (RFC 6455) after their HTTP upgrade: from frames to plain bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dissectors.capture.capture_items import AnyItem, Begin, Chunk, ChunkBuilder, End, Gap, Note
from dissectors.capture.stream_context import StreamContext
from dissectors.wire.constants import Side

CONTINUATION, BINARY = 0, 2
CONTROL = 8  # opcodes from here on are control frames


class Frames:
    """One direction's frames, reported as their bytes come. `texts`: the number of text frames (no SPICE)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.texts = 0
        self._left = 0  # bytes of the present frame that are still to come
        self._mask = b""  # for the next bytes, rotated
        self._wanted = False  # the present frame holds data
        self._binary = False  # a continuation continues data

    def feed(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """(plain bytes, offset of their end in `data`); ValueError (one line) if it is no WebSocket."""
        buffer = self._buffer
        base = len(buffer)
        buffer += data
        position = 0
        while True:
            if self._left:
                part = bytes(buffer[position : position + self._left])
                if not part:
                    break
                position += len(part)
                self._left -= len(part)
                if self._wanted:
                    yield self._unmask(part), position - base
            elif (size := self._header(position)) > 0:
                position += size
            else:
                break
        if position > 0:
            del buffer[:position]

    def _header(self, position: int) -> int:
        """Reads a frame header; its size, 0 while it is not whole."""
        head = bytes(self._buffer[position : position + 14])
        if len(head) < 2:
            return 0
        opcode, masked, size = head[0] & 15, head[1] >> 7, head[1] & 0x7F
        if head[0] & 0x70 or (CONTINUATION < opcode < CONTROL and opcode > BINARY):
            raise ValueError("a frame has a reserved bit or opcode")
        extended = {126: 2, 127: 8}.get(size, 0)
        total = 2 + extended + 4 * masked
        if len(head) < total:
            return 0
        self._left = int.from_bytes(head[2 : 2 + extended]) if extended else size
        self._mask = head[total - 4 : total] if masked else b""
        if CONTINUATION < opcode < CONTROL:
            self._binary = opcode == BINARY
            self.texts += not self._binary
        self._wanted = opcode < CONTROL and self._binary
        return total

    def _unmask(self, part: bytes) -> bytes:
        if not self._mask:
            return part
        size = len(part)
        key = (self._mask * (size // 4 + 1))[:size]
        turn = size % 4
        self._mask = self._mask[turn:] + self._mask[:turn]
        return (int.from_bytes(part) ^ int.from_bytes(key)).to_bytes(size)


class WebSocketStream:
    """One WebSocket connection; its content goes to a stage of its own."""

    def __init__(self, begin: Begin, context: StreamContext) -> None:
        self._connection = begin.connection
        self._inner = context.opening(replace(begin, websocket=True), context)
        self._frames = {side: Frames() for side in Side}
        self._lost: set[Side] = set()
        self._text_noted = False

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `StreamStage`. After a hole nothing proves where a frame begins: the direction ends there."""
        if isinstance(item, End):
            yield from self._inner.feed(item)
        elif item.sender in self._lost:
            return
        elif isinstance(item, Gap):
            self._lost.add(item.sender)
            yield from self._inner.feed(replace(item, size=None))
            yield self._note("bytes are missing; the frames after them cannot be read", item)
        else:
            builder, reason = ChunkBuilder(item.connection, item.sender, item.file), ""
            try:
                for data, end in self._frames[item.sender].feed(item.data):
                    builder.add(data, *item.at(max(end - 1, 0)))
            except ValueError as error:
                reason = str(error)
                self._lost.add(item.sender)
            if builder.parts:
                yield from self._inner.feed(builder.chunk())
            if reason:
                yield self._note(reason, item)
            elif self._frames[item.sender].texts and not self._text_noted:
                self._text_noted = True
                yield self._note("the connection has text frames; SPICE uses binary frames", item)

    def _note(self, text: str, item: Chunk | Gap) -> Note:
        return Note(
            text=f"WebSocket: {text}",
            connection=self._connection,
            time=item.time,
            frame=item.frame,
            file=item.file,
        )
