# SPDX-License-Identifier: GPL-2.0-only
"""Finds out what a connection carries: SPICE, TLS, WebSocket, or nothing that is asked for.

Ports are not looked at. SPICE begins with REDQ in both directions (SpiceLinkHeader, SpiceLinkReply); the
client speaks first.
"""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.capture.items import AnyItem, Begin, Chunk, End, Gap
from dissectors.capture.stream_context import OTHER, Nothing, Plain, Shop, Stage
from dissectors.capture.tls_head import is_client_hello, is_record
from dissectors.capture.websocket import WebSocketStream, is_upgrade
from dissectors.wire.constants import Side

REDQ = b"REDQ"
GET = b"GET "
#: A link reply is at least so long (its public key alone has 162 bytes), a link message hardly ever.
LINK_REPLY = 178
#: Bytes of a connection that are held until it is clear what it carries.
HELD = 1 << 14
RECORD_HEADER = 5


class Opening:
    """Holds the first bytes of both directions until they tell what the connection carries."""

    def __init__(self, begin: Begin, shop: Shop) -> None:
        self._begin = begin
        self._shop = shop
        self._heads: dict[Side, bytes] = {}  # in the order in which they spoke
        self._held: list[Chunk] = []
        self._size = 0
        self._flip = False
        self._stage: Stage | None = None

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `Stage`."""
        if self._stage is None:
            if isinstance(item, Chunk):
                self._held.append(item)
                self._size += len(item.data)
                head = self._heads.get(item.sender, b"")
                self._heads[item.sender] = head + item.data[: HELD - len(head)]
                self._stage = self._decide(final=self._size > HELD)
                held, self._held = (self._held, []) if self._stage else ([], self._held)
            else:
                self._stage = self._decide(final=True)
                held, self._held = [*self._held, item], []  # type: ignore[list-item]
            if self._stage is None:
                return
            if isinstance(self._stage, Plain):
                yield self._begin
        else:
            held = [item]  # type: ignore[list-item]
        for one in held:
            if self._flip:
                _turn(one)
            yield from self._stage.feed(one)

    def _decide(self, final: bool) -> Stage | None:
        """The stage, None while it is not clear; `final`: decide with what there is."""
        begin = self._begin
        waiting = False
        for side, head in self._heads.items():
            if head.startswith(REDQ):
                if not begin.directed and len(head) < 16 and not final:
                    return None
                is_reply = len(head) >= 16 and int.from_bytes(head[12:16], "little") >= LINK_REPLY
                return self._spice(OTHER[side] if is_reply else side)
            if is_client_hello(head):
                self._direct(side)
                return _tls(begin, self._shop)
            if begin.midstream and is_record(head):
                return _tls(begin, self._shop)
            if head.startswith(GET) and is_upgrade(head):
                self._direct(side)
                return WebSocketStream(begin, self._shop)
            waiting = waiting or _may_become(head, begin.midstream)
        if waiting and not final:
            return None
        if self._shop.own(begin.file) or (begin.midstream and self._heads):
            return Plain()
        if not final and len(self._heads) < 2 and self._size < HELD // 4:
            return None  # a bad link message; the other end's reply will tell
        self._shop.other_streams += 1
        self._shop.drop(begin.connection)
        return Nothing()

    def _spice(self, client: Side) -> Stage:
        self._direct(client)
        self._begin.midstream = False
        return Plain()

    def _direct(self, client: Side) -> None:
        """It is known now who the client is."""
        begin = self._begin
        if not begin.directed:
            begin.directed = True
            if client is Side.SERVER:
                self._flip = True
                begin.client, begin.server = begin.server, begin.client


def _tls(begin: Begin, shop: Shop) -> Stage:
    """Ciphers are loaded only where there is something to decrypt."""
    from dissectors.capture.tls import TlsStream

    return TlsStream(begin, shop)


def _may_become(head: bytes, midstream: bool) -> bool:
    """With more bytes it may still turn out to be something that is asked for."""
    if head.startswith(GET):
        return b"\r\n\r\n" not in head
    if head[:1] == b"\x16" or midstream:
        return len(head) <= RECORD_HEADER
    return any(magic.startswith(head) for magic in (REDQ, GET))


def _turn(item: Chunk | Gap | End) -> None:
    if isinstance(item, End):
        item.by = OTHER[item.by] if item.by else None
    else:
        item.sender = OTHER[item.sender]
