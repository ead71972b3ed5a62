# SPDX-License-Identifier: GPL-2.0-only
"""HTTP/1 on a connection (RFC 9112) until it becomes something else: a tunnel (CONNECT) or a WebSocket.

It pairs requests and answers and skips bodies. After anything unreadable it ignores the connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from dissectors.capture.capture_items import AnyItem, Begin, Chunk, End, Gap, Note
from dissectors.capture.protocol_heads import HTTP_METHODS, REDQ, protocol_name, shown
from dissectors.capture.proxy_targets import shown_authority
from dissectors.capture.stream_context import (
    OTHER,
    OnlyTheEnd,
    StreamContext,
    StreamStage,
    UnreadBytes,
    announced,
)
from dissectors.framing.events import ProxyTunnel, WrongProtocol
from dissectors.wire.constants import Side

HEADERS_END = b"\r\n\r\n"
LONGEST_HEAD = 1 << 16
LONGEST_LINE = 1 << 12
#: Messages and bytes after which a connection that is still HTTP will not become anything else.
MOST_MESSAGES, MOST_BYTES = 2000, 1 << 26


def asks_for_websocket(head: bytes) -> bool:
    """A whole HTTP request that asks for WebSocket."""
    request, end, _ = head.partition(HEADERS_END)
    lines = [line.lower().partition(b":") for line in request.split(b"\r\n")[1:]]
    return bool(end) and any(name.strip() == b"upgrade" and b"websocket" in value for name, _, value in lines)


class NoHttp(ValueError):
    """An end does not speak HTTP/1; the text is one line."""


@dataclass
class Head:
    """A request or an answer without its body. `first`: the words of its first line."""

    first: list[bytes]
    fields: Mapping[bytes, bytes]
    frame: int
    time: float

    @property
    def method(self) -> bytes:
        """The method of a request, in capitals."""
        return self.first[0].upper()

    @property
    def status(self) -> int:
        """The status of an answer. Raises NoHttp if it has none."""
        code = self.first[1] if len(self.first) > 1 else b""
        if not code.isdigit():
            raise NoHttp("an answer without a status")
        return int(code)

    @property
    def upgrades(self) -> bool:
        """Whether the request asks for WebSocket."""
        return b"websocket" in self.fields.get(b"upgrade", b"").lower()


@dataclass
class HttpHalf:
    """One end: its unread bytes, and the state of its present body."""

    spoken: UnreadBytes = field(default_factory=UnreadBytes)
    left: int = 0  # bytes of the body that are still to come
    chunked: bool = False
    endless: bool = False  # the body lasts as long as the connection

    def skip_body(self) -> bool:
        """Skips the arrived part of the body; returns whether the body is over."""
        while True:
            data = self.spoken.data
            if self.endless:
                self.spoken.take(len(data))
                return False
            if self.left:
                self.left -= len(self.spoken.take(self.left))
                if self.left:
                    return False
                continue
            if not self.chunked:
                return True
            end = data.find(b"\r\n")
            if end < 0:
                if len(data) > LONGEST_LINE:
                    raise NoHttp("a chunk without a size")
                return False
            line = self.spoken.take(end + 2).split(b";")[0].strip()
            try:
                size = int(line, 16) if line else -1
            except ValueError:
                raise NoHttp("a chunk without a size") from None
            if size < 0:
                raise NoHttp("a chunk without a size")
            self.left = size + 2 if size else 0
            if not size:
                self.chunked = False
                self.left = self._trailer()
                continue

    def _trailer(self) -> int:
        """Bytes of the empty line behind the last chunk (trailers are not used by anybody here)."""
        return 2

    def head(self, *, answer: bool) -> Head | None:
        """The next head, once it is whole; ValueError if there is none."""
        data = self.spoken.data
        while data[:2] == b"\r\n":
            self.spoken.take(2)
        beginnings = (b"HTTP/",) if answer else HTTP_METHODS
        if data and not any(data.startswith(b[: len(data)]) for b in beginnings):
            raise NoHttp("what follows is no HTTP")
        end = data.find(HEADERS_END)
        if end < 0:
            if len(data) > LONGEST_HEAD:
                raise NoHttp("a head that does not end")
            return None
        frame, time = self.spoken.at(end + len(HEADERS_END) - 1)
        lines = self.spoken.take(end + len(HEADERS_END)).rstrip(b"\r\n").split(b"\r\n")
        fields = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            fields[name.strip().lower()] = value.strip()
        return Head(lines[0].split(b" ", 2), fields, frame, time)

    def body_of(self, head: Head, *, none: bool, to_the_end: bool) -> None:
        """What follows `head`. `to_the_end`: without a size it lasts as long as the connection."""
        size = head.fields.get(b"content-length", b"")
        self.chunked = not none and b"chunked" in head.fields.get(b"transfer-encoding", b"").lower()
        self.left = int(size) if size.isdigit() and len(size) < 18 and not self.chunked and not none else 0
        self.endless = to_the_end and not none and not self.chunked and not size.isdigit()


class HttpStream:
    """One connection that began as HTTP."""

    def __init__(
        self, begin: Begin, context: StreamContext, websocket: Callable[[Begin, StreamContext], StreamStage]
    ) -> None:
        self._begin = begin
        self._context = context
        self._websocket = websocket
        self._halves = {side: HttpHalf() for side in Side}
        self._asked: deque[Head] = deque()  # requests without an answer
        self._inner: StreamStage | None = None
        self._messages = self._bytes = 0

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `StreamStage`."""
        if self._inner is not None:
            yield from self._inner.feed(item)
        elif isinstance(item, End):
            yield from self._end(item)
        elif isinstance(item, Gap):
            half = self._halves[item.sender]
            if item.size is None or not (half.endless or item.size <= half.left):
                yield from self._leave()
            elif not half.endless:
                half.left -= item.size
        else:
            self._halves[item.sender].spoken.add(item)
            self._bytes += len(item.data)
            try:
                yield from self._read()
            except NoHttp:
                yield from self._no_http()

    def _read(self) -> Iterator[AnyItem]:
        """Reads what has arrived, until no more can be read or the connection changes its protocol."""
        moved = True
        while moved and self._inner is None:
            moved = self._request()
            if (answer := self._answer()) is not None:
                moved = True
                yield from self._answered(answer)
        if self._inner is None and (self._messages > MOST_MESSAGES or self._bytes > MOST_BYTES):
            yield from self._leave()

    def _request(self) -> bool:
        """Reads a request; returns whether there was one. Stops after one that requests another protocol."""
        half = self._halves[Side.CLIENT]
        if self._asked and (self._asked[-1].method == b"CONNECT" or self._asked[-1].upgrades):
            half.skip_body()
            return False
        if not half.skip_body() or (head := half.head(answer=False)) is None:
            return False
        self._messages += 1
        if len(self._asked) > MOST_MESSAGES:
            raise NoHttp("nothing is answered")
        self._asked.append(head)
        half.body_of(head, none=False, to_the_end=False)
        return True

    def _answer(self) -> Head | None:
        half = self._halves[Side.SERVER]
        if not half.skip_body():
            return None
        return half.head(answer=True)

    def _answered(self, head: Head) -> Iterator[AnyItem]:
        """Reads an answer: pairs it with its request, and continues or changes the connection."""
        half, status = self._halves[Side.SERVER], head.status
        if 100 <= status < 200 and status != 101:
            return
        request = self._asked.popleft() if self._asked else None
        method = request.method if request else b""
        if request is not None and method == b"CONNECT":
            tunnel = self._tunnel(request, head)
            yield from self._begin.facts.report(tunnel)
            if not tunnel.refused:
                yield from self._become(
                    self._context.opening(
                        replace(self._begin, via=tunnel.target, depth=self._begin.depth + 1), self._context
                    )
                )
                return
        elif request is not None and request.upgrades:
            if status == 101:
                deflate = b"permessage-deflate" in head.fields.get(b"sec-websocket-extensions", b"").lower()
                yield from self._upgraded(request, head, compressed=deflate)
                return
            yield from self._refused_upgrade(head)
        half.body_of(head, none=method == b"HEAD" or status in (101, 204, 304), to_the_end=True)

    def _upgraded(self, request: Head, head: Head, *, compressed: bool) -> Iterator[AnyItem]:
        yield from self._become(
            self._websocket(replace(self._begin, depth=self._begin.depth + 1), self._context)
        )
        if compressed:
            text = "WebSocket: its frames may be compressed (permessage-deflate); such ones are not read"
            yield self._note(text, head)

    def _refused_upgrade(self, head: Head) -> Iterator[AnyItem]:
        reason = shown(b" ".join(head.first[1:])[:80])
        yield self._note(f"WebSocket: the server refused the upgrade: {reason}", head)

    def _note(self, text: str, head: Head) -> Note:
        begin = self._begin
        return Note(text=text, connection=begin.connection, time=head.time, frame=head.frame, file=begin.file)

    def _tunnel(self, request: Head, head: Head | None) -> ProxyTunnel:
        target = request.first[1] if len(request.first) > 1 else b""
        where = head or request
        return ProxyTunnel(
            time=where.time,
            frame=where.frame,
            connection=self._begin.connection,
            protocol="HTTP CONNECT",
            target=shown_authority(target),
            answer=shown(b" ".join(head.first[1:])[:80]) if head else None,
            refused=head is not None and not 200 <= head.status < 300,
        )

    def _become(self, stage: StreamStage) -> Iterator[AnyItem]:
        """Gives the rest of both ends' bytes to the new stage, in the order of the frames."""
        self._inner = stage
        left = [chunk for half in self._halves.values() for chunk in half.spoken.rest()]
        for chunk in sorted(left, key=lambda chunk: chunk.frame):
            yield from stage.feed(chunk)

    def _end(self, item: End) -> Iterator[AnyItem]:
        """The connection ends as HTTP: of interest where a tunnel was asked for."""
        if self._asked and self._asked[0].method == b"CONNECT":
            yield from self._begin.facts.report(self._tunnel(self._asked[0], None))
        yield from self._leave()
        if self._inner is not None:
            yield from self._inner.feed(item)

    def _leave(self) -> Iterator[AnyItem]:
        """Ignores the rest; reports a proxy's answer."""
        tunnels = any(isinstance(fact, ProxyTunnel) for fact in self._begin.facts.waiting)
        if tunnels or self._begin.facts.reported:
            yield from announced(self._begin)
            self._inner = OnlyTheEnd()
        else:
            self._inner = self._context.foreign(self._begin)

    def _no_http(self) -> Iterator[AnyItem]:
        """One end speaks another protocol; reports it if that is SPICE."""
        heads = {side: bytes(half.spoken.data[:16]) for side, half in self._halves.items()}
        for side, head in heads.items():
            if head.startswith(REDQ):
                frame, time = self._halves[side].spoken.at(0)
                other = protocol_name(heads[OTHER[side]]) or "HTTP"
                names = {side: "SPICE", OTHER[side]: other}
                wrong = WrongProtocol(
                    time=time,
                    frame=frame,
                    connection=self._begin.connection,
                    client_speaks=names[Side.CLIENT],
                    server_speaks=names[Side.SERVER],
                )
                yield from self._begin.facts.report(wrong)
                yield from announced(self._begin)
        yield from self._leave()
