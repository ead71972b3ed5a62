# SPDX-License-Identifier: GPL-2.0-only
"""SOCKS 4, 4a and 5 (RFC 1928, RFC 1929) at the beginning of a connection: the target, and the answer."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from dissectors.capture.capture_items import AnyItem, Begin, Chunk, End, Gap
from dissectors.capture.proxy_targets import shown_target
from dissectors.capture.stream_context import OnlyTheEnd, StreamContext, StreamStage, UnreadBytes, announced
from dissectors.framing.events import ProxyTunnel
from dissectors.wire.constants import Side

CONNECT = 1
NO_METHOD, PASSWORD, GSSAPI, NO_AUTHENTICATION = 0xFF, 2, 1, 0
GRANTED4 = 0x5A
REPLIES4 = {
    GRANTED4: "granted",
    0x5B: "rejected or failed",
    0x5C: "rejected: no identd on the client",
    0x5D: "rejected: identd and user differ",
}
REPLIES5 = {
    0: "succeeded",
    1: "general failure",
    2: "connection not allowed by ruleset",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}
LONGEST = 600  # bytes of one end's part: a user name and a host name


class Unfinished(Exception):
    """Raised where more bytes are needed."""


class Unfit(Exception):
    """Raised where the bytes are no SOCKS."""


def is_socks(head: bytes) -> bool:
    """Whether a client may begin SOCKS like this; the proxy's answer decides."""
    if head[:1] == b"\4":
        return head[1:2] in (b"", b"\1") and len(head) <= LONGEST
    return head[:1] == b"\5" and (len(head) < 2 or (len(head) <= LONGEST and 0 < head[1] < 10))


class _Reader:
    """Reads fields from the beginning of `data`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def some(self, size: int) -> bytes:
        if self.place + size > len(self.data):
            raise Unfinished
        self.place += size
        return self.data[self.place - size : self.place]

    def byte(self) -> int:
        return self.some(1)[0]

    def text(self) -> bytes:
        """The bytes up to a zero byte, which is left out. Raises Unfinished."""
        end = self.data.find(b"\0", self.place)
        if end < 0:
            raise Unfinished
        text, self.place = self.data[self.place : end], end + 1
        return text

    def expect(self, *values: int) -> int:
        """A byte that must have one of these values. Raises Unfit, Unfinished."""
        if (value := self.byte()) not in values:
            raise Unfit
        return value


class _Request:
    """The client's request: protocol, target, and its size in bytes."""

    def __init__(self) -> None:
        self.protocol = "SOCKS5"
        self.target: str | None = None
        self.size = 0


def _address5(reader: _Reader) -> str:
    kind = reader.expect(1, 3, 4)
    host = reader.some({1: 4, 4: 16}.get(kind) or reader.byte())
    (port,) = struct.unpack("!H", reader.some(2))
    return shown_target(host if kind == 3 else str(ip_address(host)).encode(), port)


def _request4(reader: _Reader, request: _Request) -> None:
    reader.expect(4)
    reader.expect(CONNECT)
    request.protocol = "SOCKS4"
    (port,) = struct.unpack("!H", reader.some(2))
    address = reader.some(4)
    reader.text()  # the user
    host = str(ip_address(address)).encode()
    if address[:3] == b"\0\0\0" and address[3]:
        request.protocol, host = "SOCKS4a", reader.text()
    request.target, request.size = shown_target(host, port), reader.place


def _answer4(reader: _Reader) -> tuple[str, bool]:
    reader.expect(0)
    code = reader.byte()
    reader.some(6)
    if code not in REPLIES4:
        raise Unfit
    return REPLIES4[code], code != GRANTED4


def _greeting5(reader: _Reader) -> None:
    reader.expect(5)
    reader.some(reader.byte())


def _request5(reader: _Reader, request: _Request, method: int) -> None:
    """The client's part behind its greeting."""
    if method == PASSWORD:
        reader.expect(1)
        reader.some(reader.byte())
        reader.some(reader.byte())
    reader.expect(5)
    reader.expect(CONNECT)
    reader.byte()
    request.target, request.size = _address5(reader), reader.place


def _method5(reader: _Reader) -> int:
    reader.expect(5)
    return reader.expect(NO_AUTHENTICATION, GSSAPI, PASSWORD, NO_METHOD)


def _answer5(reader: _Reader, method: int) -> tuple[str, bool]:
    """The proxy's part behind its choice of a method."""
    if method == PASSWORD:
        reader.byte()
        if reader.byte():
            return "user and password refused", True
    reader.expect(5)
    code = reader.byte()
    words = REPLIES5.get(code, f"failure {code:#04x}")
    if code:
        return words, True  # some proxies leave the address out then
    reader.byte()
    _address5(reader)
    return words, False


class SocksStream:
    """One connection that begins as SOCKS."""

    def __init__(self, begin: Begin, context: StreamContext) -> None:
        self._begin = begin
        self._context = context
        self._spoken = {side: UnreadBytes() for side in Side}
        self._inner: StreamStage | None = None

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `StreamStage`."""
        if self._inner is not None:
            yield from self._inner.feed(item)
            return
        if not isinstance(item, Chunk):
            yield from self._over(item)
            return
        self._spoken[item.sender].add(item)
        try:
            yield from self._read()
        except Unfinished:
            if any(len(spoken.data) > LONGEST for spoken in self._spoken.values()):
                self._inner = self._context.foreign(self._begin)
        except Unfit:
            self._inner = self._context.foreign(self._begin)

    def _read(self) -> Iterator[AnyItem]:
        """Once the proxy's answer is there: the event, and what follows."""
        client = _Reader(bytes(self._spoken[Side.CLIENT].data))
        server = _Reader(bytes(self._spoken[Side.SERVER].data))
        request = _Request()
        if client.data[:1] == b"\4":
            _request4(client, request)
            answer, refused = _answer4(server)
        else:
            _greeting5(client)
            method = _method5(server)
            if method == NO_METHOD:
                answer, refused = "no acceptable authentication method", True
            elif method == GSSAPI:
                raise Unfit  # what follows is wrapped
            else:
                try:
                    _request5(client, request, method)
                except Unfinished:
                    if method != PASSWORD:
                        raise
                answer, refused = _answer5(server, method)
                if not refused and request.target is None:
                    raise Unfinished
        yield from self._answered(request, client, server, answer, refused)

    def _answered(
        self, request: _Request, client: _Reader, server: _Reader, answer: str, refused: bool
    ) -> Iterator[AnyItem]:
        frame, time = self._spoken[Side.SERVER].at(server.place - 1)
        begin = self._begin
        yield from begin.facts.report(self._event(request, answer, refused, frame, time))
        if refused:
            yield from announced(begin)
            self._inner = OnlyTheEnd()
            return
        self._spoken[Side.CLIENT].take(client.place)
        self._spoken[Side.SERVER].take(server.place)
        begin = replace(begin, via=request.target, depth=begin.depth + 1)
        self._inner = inner = self._context.opening(begin, self._context)
        left = [chunk for spoken in self._spoken.values() for chunk in spoken.rest()]
        for chunk in sorted(left, key=lambda chunk: chunk.frame):
            yield from inner.feed(chunk)

    def _event(
        self, request: _Request, answer: str | None, refused: bool, frame: int, time: float
    ) -> ProxyTunnel:
        return ProxyTunnel(
            time=time,
            frame=frame,
            connection=self._begin.connection,
            protocol=request.protocol,
            target=request.target,
            answer=answer,
            refused=refused,
        )

    def _over(self, item: Gap | End) -> Iterator[AnyItem]:
        """The connection ends, or bytes are missing, before the proxy has answered."""
        request = _Request()
        client = _Reader(bytes(self._spoken[Side.CLIENT].data))
        try:
            if client.data[:1] == b"\4":
                _request4(client, request)
            else:
                _greeting5(client)
                method = _method5(_Reader(bytes(self._spoken[Side.SERVER].data)))
                _request5(client, request, method)
        except (Unfinished, Unfit):
            self._inner = self._context.foreign(self._begin)
            return
        yield from self._begin.facts.report(self._event(request, None, False, item.frame, item.time))
        yield from announced(self._begin)
        self._inner = OnlyTheEnd()
        yield from self._inner.feed(item)
