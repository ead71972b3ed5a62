# SPDX-License-Identifier: GPL-2.0-only
"""The PROXY protocol (HAProxy's proxy-protocol.txt): a header before everything else, version 1 or 2."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from dissectors.capture.capture_items import AnyItem, Begin, Chunk, End, Gap
from dissectors.capture.protocol_heads import PROXY1, PROXY2
from dissectors.capture.stream_context import StreamContext, StreamStage, UnreadBytes
from dissectors.framing.events import Endpoint, ProxyHeader
from dissectors.wire.constants import Side

LONGEST1 = 107
HEAD2 = 16  # signature, version and command, family, length
#: Family of version 2: bytes of an address.
FAMILIES = {0x11: 4, 0x21: 16}

Ends = tuple[Endpoint | None, Endpoint | None]


def header_size(data: bytes) -> int:
    """The size of the header at the beginning, bytes; 0: more bytes are needed; -1: there is none."""
    if data.startswith(PROXY2):
        if len(data) < HEAD2:
            return 0
        if data[12] >> 4 != 2:
            return -1
        size = HEAD2 + int.from_bytes(data[14:16])
        return size if len(data) >= size else 0
    if data.startswith(PROXY1):
        end = data.find(b"\r\n", 0, LONGEST1)
        return end + 2 if end >= 0 else -1 if len(data) >= LONGEST1 else 0
    return 0 if any(beginning.startswith(data) for beginning in (PROXY1, PROXY2)) else -1


def header_ends(header: bytes) -> Ends:
    """Source and destination; None where the header does not name them."""
    try:
        return _ends2(header) if header.startswith(PROXY2) else _ends1(header)
    except (ValueError, struct.error):
        return None, None


def _ends1(header: bytes) -> Ends:
    words = header.decode("ascii", "replace").split()
    if len(words) < 6 or words[1] not in ("TCP4", "TCP6"):
        return None, None
    source, target = (str(ip_address(word)) for word in words[2:4])
    ports = [int(word) for word in words[4:6]]
    if not all(0 <= port <= 0xFFFF for port in ports):
        return None, None
    return Endpoint(source, ports[0]), Endpoint(target, ports[1])


def _ends2(header: bytes) -> Ends:
    size = FAMILIES.get(header[13])
    if header[12] & 15 != 1 or size is None:
        return None, None
    ports = struct.unpack_from("!HH", header, HEAD2 + 2 * size)
    source, target = (str(ip_address(header[HEAD2 + n * size : HEAD2 + (n + 1) * size])) for n in (0, 1))
    return Endpoint(source, ports[0]), Endpoint(target, ports[1])


class ProxyHeaderStream:
    """One connection whose client says a PROXY protocol header first; what follows is looked at anew."""

    def __init__(self, begin: Begin, context: StreamContext) -> None:
        self._begin = begin
        self._context = context
        self._client = UnreadBytes()
        self._early: list[Chunk | Gap] = []  # of the server, before the header was whole
        self._inner: StreamStage | None = None

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `StreamStage`."""
        if self._inner is not None:
            yield from self._inner.feed(item)
        elif isinstance(item, End) or (isinstance(item, Gap) and item.sender is Side.CLIENT):
            self._inner = self._context.foreign(self._begin)
        elif isinstance(item, Gap) or item.sender is Side.SERVER:
            if len(self._early) < 64:
                self._early.append(item)
        else:
            self._client.add(item)
            yield from self._header(bytes(self._client.data))

    def _header(self, data: bytes) -> Iterator[AnyItem]:
        size = header_size(data)
        if size < 0:
            self._inner = self._context.foreign(self._begin)
        if size <= 0:
            return
        frame, time = self._client.at(size - 1)
        source, destination = header_ends(self._client.take(size))
        header = ProxyHeader(
            time=time,
            frame=frame,
            connection=self._begin.connection,
            version=2 if data.startswith(PROXY2) else 1,
            source=source,
            destination=destination,
        )
        yield from self._begin.facts.report(header)
        begin = replace(self._begin, origin=source, depth=self._begin.depth + 1)
        self._inner = inner = self._context.opening(begin, self._context)
        for item in sorted([*self._client.rest(), *self._early], key=lambda item: item.frame):
            yield from inner.feed(item)
