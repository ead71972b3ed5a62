# SPDX-License-Identifier: GPL-2.0-only
"""Recognises a connection's protocol: SPICE, TLS, HTTP (a tunnel, WebSocket), SOCKS, a PROXY protocol
header, or none of these.

Ports do not matter. SPICE begins with REDQ in both directions (SpiceLinkHeader, SpiceLinkReply); the
client speaks first. The content of a proxy's tunnel, TLS or WebSocket frames is recognised in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.capture.capture_items import AnyItem, Begin, Chunk, End, Gap
from dissectors.capture.http_connect import HEADERS_END, HttpStream, asks_for_websocket
from dissectors.capture.protocol_heads import (
    HTTP_METHODS,
    PROXY1,
    PROXY2,
    REDQ,
    may_become,
    protocol_name,
)
from dissectors.capture.proxy_header import ProxyHeaderStream
from dissectors.capture.socks_proxy import SocksStream, is_socks
from dissectors.capture.spice_stream import SpiceStream
from dissectors.capture.stream_context import DEEPEST, OTHER, Plain, StreamContext, StreamStage, announced
from dissectors.capture.tls_head import is_client_hello, is_record, is_server_hello
from dissectors.capture.websocket import WebSocketStream
from dissectors.framing.events import AttemptFailure, ConnectFailed, Ending
from dissectors.wire.constants import Side

#: The least bytes of a link reply (its public key alone has 162); a link message is hardly ever so long.
LINK_REPLY = 178
#: The most bytes of a connection that are held until its protocol is clear.
HELD = 1 << 14
RECORD_HEADER = 5
#: The first bytes of the client protocols that are recognised.
CLIENT_BEGINNINGS = (REDQ, PROXY1, PROXY2, *HTTP_METHODS)


class Opening:
    """Holds the first bytes of both directions until they show the protocol."""

    def __init__(self, begin: Begin, context: StreamContext) -> None:
        self._begin = begin
        self._context = context
        self._heads: dict[Side, bytes] = {}  # in the order in which they spoke
        self._holes: set[Side] = set()  # whose first bytes are missing
        self._held: list[Chunk | Gap | End] = []
        self._size = 0
        self._flip = False
        self._stage: StreamStage | None = None

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `StreamStage`."""
        if self._stage is None:
            self._held.append(item)
            if isinstance(item, End) and self._begin.recorded is None:
                yield from self._wordless(item)
            self._stage = self._found(item)
            if self._stage is None:
                return
            held, self._held = self._held, []
            self._heads.clear()
            if isinstance(self._stage, Plain | SpiceStream):
                yield from announced(self._begin)
        else:
            held = [item]
        for one in held:
            if self._flip:
                _turn(one)
            yield from self._stage.feed(one)

    def _found(self, item: Chunk | Gap | End) -> StreamStage | None:
        """Takes the next item; passes all on once the protocol is clear."""
        if self._begin.recorded is not None and not self._may_ask_for_websocket(item):
            return Plain()
        if isinstance(item, Chunk):
            self._size += len(item.data)
            if item.sender not in self._holes:
                head = self._heads.get(item.sender, b"")
                self._heads[item.sender] = head + item.data[: HELD - len(head)]
            return self._decide(final=self._size > HELD)
        if isinstance(item, Gap):
            if item.sender not in self._heads:
                self._holes.add(item.sender)
                return self._decide(final=False)
        return self._decide(final=True)

    def _decide(self, final: bool) -> StreamStage | None:
        """The stage, None while it is not clear; `final`: decide with what there is."""
        begin = self._begin
        if begin.depth > DEEPEST:
            return self._context.foreign(begin)
        for side, head in self._heads.items():
            if head.startswith(REDQ):
                if not begin.directed and len(head) < 16 and not final:
                    return None
                is_reply = len(head) >= 16 and int.from_bytes(head[12:16], "little") >= LINK_REPLY
                return self._spice(OTHER[side] if is_reply else side)
            if (stage := self._layer(side, head)) is not None:
                return stage
        if not final and self._unclear():
            return None
        if self._context.own(begin.file):
            return Plain()
        if self._holes and (self._heads or len(self._holes) == len(Side)):
            begin.midstream = True  # only later bytes can show the protocol
            return Plain()
        return Plain() if begin.midstream and self._heads else self._context.foreign(begin)

    def _layer(self, side: Side, head: bytes) -> StreamStage | None:
        """What an end begins with where that is no SPICE: something that may have SPICE inside."""
        begin, context = self._begin, self._context
        if is_client_hello(head):
            self._direct(side)
            return _tls(begin, context)
        if (begin.midstream and is_record(head)) or (self._holes and is_server_hello(head)):
            if self._holes:
                self._direct(OTHER[side])
            return _tls(begin, context)
        if begin.directed and side is Side.SERVER:
            return None
        if context.own(begin.file) and not asks_for_websocket(head):
            return None  # a test may have sent anything to a server
        if head.startswith(HTTP_METHODS) and not begin.midstream:
            self._direct(side)
            return HttpStream(begin, context, WebSocketStream)
        if head.startswith((PROXY1, PROXY2)):
            self._direct(side)
            return ProxyHeaderStream(begin, context)
        if is_socks(head) and len(self._heads) == 2 and not begin.midstream:
            if self._heads[OTHER[side]][:1] in (b"\0", b"\5"):
                self._direct(side)
                return SocksStream(begin, context)
        return None

    def _may_ask_for_websocket(self, item: Chunk | Gap | End) -> bool:
        """On a recorded connection: the recorder takes TLS off, and a test's own WebSocket stays."""
        asks = isinstance(item, Chunk) and item.sender is Side.CLIENT and item.data.startswith(b"GET /")
        return asks or bool(self._heads)

    def _unclear(self) -> bool:
        """Whether more bytes may still decide."""
        begin = self._begin
        for side, head in self._heads.items():
            if head[:1] == b"\x16" or begin.midstream:
                if len(head) <= RECORD_HEADER:
                    return True
            elif (
                self._asks_slowly(head)
                or may_become(head, CLIENT_BEGINNINGS)
                or (len(self._heads) < 2 and is_socks(head))
            ):
                return True
            elif side is Side.SERVER and len(self._heads) < 2 and protocol_name(head):
                return True  # the server speaks first: a client may take it for a SPICE server
        if begin.midstream:
            return False
        if self._holes:
            return self._size < HELD // 4 and len(self._heads) + len(self._holes) < len(Side)
        return len(self._heads) < 2 and self._size < HELD // 4  # a bad link message; the reply decides

    def _asks_slowly(self, head: bytes) -> bool:
        """In our own recordings only a whole request tells whether it asks for WebSocket."""
        return self._context.own(self._begin.file) and head.startswith(b"GET ") and HEADERS_END not in head

    def _spice(self, client: Side) -> StreamStage:
        """The stage of a connection in which `client` speaks SPICE."""
        self._direct(client)
        self._begin.midstream = False
        return Plain() if self._context.own(self._begin.file) else SpiceStream(self._begin)

    def _wordless(self, end: End) -> Iterator[AnyItem]:
        """The server accepted the connection, and the client has said nothing: the server closed it, or spoke
        first in another protocol, so that a SPICE client left."""
        begin = self._begin
        if self._holes or begin.midstream or begin.depth or not begin.directed or Side.CLIENT in self._heads:
            return
        name = protocol_name(self._heads.get(Side.SERVER, b""))
        if name in ("SPICE", "TLS") or self._context.own(begin.file):
            return
        if name is not None:
            how, why = (
                AttemptFailure.OTHER,
                f"the server speaks {name}; the client left without sending a byte",
            )
        elif not self._heads and end.by is Side.SERVER and end.how in (Ending.CLOSED, Ending.RESET):
            closed = "closed it (FIN)" if end.how is Ending.CLOSED else "reset it (RST)"
            how, why = (
                AttemptFailure.WORDLESS,
                f"the server accepted the connection and {closed}; nobody sent a byte",
            )
        else:
            return
        yield ConnectFailed(
            time=end.time,
            frame=end.frame,
            connection=begin.connection,
            client=begin.client,
            server=begin.server,
            how=how,
            why=why,
            attempts=1,
            first=begin.time,
            last=begin.time,
            until=end.time,
            first_frame=begin.frame,
        )

    def _direct(self, client: Side) -> None:
        """Notes which end is the client."""
        begin = self._begin
        if not begin.directed:
            begin.directed = True
            if client is Side.SERVER:
                self._flip = True
                begin.client, begin.server = begin.server, begin.client


def _tls(begin: Begin, context: StreamContext) -> StreamStage:
    """Ciphers are loaded only where there is something to decrypt."""
    from dissectors.capture.tls import TlsStream

    return TlsStream(begin, context)


def _turn(item: Chunk | Gap | End) -> None:
    if isinstance(item, End):
        item.by = OTHER[item.by] if item.by else None
    else:
        item.sender = OTHER[item.sender]
