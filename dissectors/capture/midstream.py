# SPDX-License-Identifier: GPL-2.0-only
"""Connections that began before the capture: decides whether they carry SPICE, and which end is the server.

A connection carries SPICE if one end is a known SPICE server, or if its bytes prove to be messages that only
one of the two ends can send. The server's end is a known one, one that an announcement names, one whose
messages prove to be a server's, or one that several connections share. A connection without any such proof
counts as one without SPICE.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from dissectors.capture.capture_items import Begin, Chunk, End, Gap
from dissectors.framing.events import Endpoint
from dissectors.framing.message_heads import head, head_size
from dissectors.framing.resync import Found, Resync
from dissectors.wire.constants import ChannelType, MsgcMain, MsgMain, Side

OTHER = {Side.CLIENT: Side.SERVER, Side.SERVER: Side.CLIENT}
#: The most bytes of an unproven connection that are held; after them it counts as no SPICE.
HELD, PATIENCE = 1 << 17, 1 << 20
#: The most bytes that are held of all such connections together, and the least for each.
HELD_IN_ALL, LEAST_PATIENCE = 1 << 24, 1 << 12
#: Endpoints that are remembered.
REMEMBERED = 10_000


class Recognised(NamedTuple):
    """The result for a connection. `flip`: the end that was seen first is the server. `channel` 0 and `mini`
    None: not known yet."""

    flip: bool
    channel: int = 0
    mini: bool | None = None


@dataclass
class Directory:
    """The endpoints of servers, and of connections whose direction nobody knows."""

    servers: dict[Endpoint, None] = field(default_factory=dict)
    _hosts: set[str] = field(default_factory=set)
    _ports: set[int] = field(default_factory=set)
    _peers: dict[Endpoint, set[Endpoint]] = field(default_factory=dict)

    def is_server(self, endpoint: Endpoint) -> bool:
        """Whether a SPICE server is known at this endpoint."""
        return endpoint in self.servers

    def is_host(self, host: str) -> bool:
        """Whether a SPICE server is known at any port of this address."""
        return host in self._hosts

    def is_port(self, port: int) -> bool:
        """Whether a SPICE server is known, or was announced, at this port of any address."""
        return port in self._ports

    def add_server(self, endpoint: Endpoint) -> None:
        """Notes a server's endpoint from a connection or an announcement."""
        if len(self.servers) < REMEMBERED:
            self.servers[endpoint] = None
            self._hosts.add(endpoint.host)
            self._ports.add(endpoint.port)

    def add_pair(self, one: Endpoint, other: Endpoint) -> None:
        """Notes a connection whose direction is not known."""
        for end, peer in ((one, other), (other, one)):
            if end in self._peers or len(self._peers) < REMEMBERED:
                peers = self._peers.setdefault(end, set())
                if len(peers) < 3:
                    peers.add(peer)

    def shared(self, endpoint: Endpoint) -> bool:
        """Whether several connections have this end."""
        return len(self._peers.get(endpoint, ())) > 1


#: The client's answers to a source, and the message that ends the migration there: both without a body.
_LEAVES = frozenset(
    {MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS}
)
_ENDED = frozenset({MsgMain.SPICE_MSG_MAIN_MIGRATE_END})


class _Farewell:
    """The end of a migration at its source, where the capture has no more of a main channel: CONNECTED from
    one end and then MIGRATE_END from the other, each alone in its segment, prove each other."""

    __slots__ = ("_chunks", "_client", "alone")

    def __init__(self) -> None:
        self._client: tuple[Side, bool] | None = None  # the end that sent CONNECTED, and its header
        self._chunks = 0
        self.alone: Recognised | None = None  # MIGRATE_END is the only message

    def feed(self, item: Chunk) -> Recognised | None:
        """More of the connection."""
        for start, end in zip((0, *item.ends[:-1]), item.ends, strict=True):
            self._chunks += 1
            self.alone = None
            for mini in (True, False):
                if end - start != head_size(mini):
                    continue
                kind, size, _, sub_list = head(item.data, start, mini)
                if size or sub_list:
                    continue
                place = Recognised(item.sender is Side.CLIENT, int(ChannelType.SPICE_CHANNEL_MAIN), mini)
                if kind in _LEAVES:
                    self._client = item.sender, mini
                elif kind in _ENDED and self._client == (OTHER[item.sender], mini):
                    return place
                elif kind in _ENDED and self._chunks == 1:
                    self.alone = place
        return None


class LateStart:
    """One such connection while it is not known what it is. `items`: its latest bytes, to be read again.

    There may be thousands at once: what an end that says nothing would need is not made."""

    __slots__ = ("_directory", "_farewell", "_proofs", "_seek", "_seen", "_size", "begin", "items")

    def __init__(self, begin: Begin, directory: Directory) -> None:
        self.begin = begin
        self.items: list[Chunk | Gap] = []
        self._directory = directory
        self._size = self._seen = 0
        self._seek: dict[tuple[bool, Side], Resync] = {}
        self._proofs: dict[bool, Found] = {}
        self._farewell = _Farewell()
        directory.add_pair(begin.client, begin.server)

    def hopeless(self, waiting: int) -> bool:
        """Whether too many bytes came without proof: it is no SPICE. `waiting`: the number of unproven
        connections; the more there are, the less is held of each."""
        return self._seen > min(PATIENCE, max(HELD_IN_ALL // waiting, LEAST_PATIENCE))

    def feed(self, item: Chunk | Gap) -> Recognised | None:
        """Takes the next item; returns the result once it is known."""
        self.items.append(item)
        if isinstance(item, Chunk):
            self._size += len(item.data)
            self._seen += len(item.data)
            starts = (0, *item.ends[:-1])
            for flip in self._flips:
                if flip not in self._proofs:
                    found = self._resync(flip, item.sender).feed(item.data, starts)
                    if found is not None:
                        self._proofs[flip] = found
            left = self._farewell.feed(item) if not self._proofs else None
            if left is not None and not (self.begin.directed and left.flip):
                return left
        while self._size > HELD and len(self.items) > 1:
            old = self.items.pop(0)
            self._size -= len(old.data) if isinstance(old, Chunk) else 0
        return self.place()

    @property
    def _flips(self) -> tuple[bool, ...]:
        """Whether the end that was seen first may be the server."""
        return (False,) if self.begin.directed else (False, True)

    def _resync(self, flip: bool, end: Side) -> Resync:
        """The search for a boundary in this end's bytes."""
        key = flip, end
        if key not in self._seek:
            self._seek[key] = Resync(0, OTHER[end] if flip else end, None, strange=True)
        return self._seek[key]

    @property
    def farewell(self) -> Recognised | None:
        """Whether the only bytes may be a source's MIGRATE_END: it counts if its client then arrives at
        another host."""
        return self._farewell.alone

    def place(self, *, final: bool = False) -> Recognised | None:
        """The certain result; `final`: the likely one."""
        known = self._known()
        if known is not None:
            return self._with(known, self._proofs.get(known))
        proven = list(self._proofs)
        if len(proven) == 1:
            return self._with(proven[0], self._proofs[proven[0]])
        shared = self._shared()
        if proven:
            return self._with(shared if shared is not None else proven[0], None) if final else None
        return self._likely(shared) if final else None

    def _known(self) -> bool | None:
        """Whether the end that was seen first is the server, by endpoints that are known."""
        begin, directory = self.begin, self._directory
        if directory.is_server(begin.server):
            return False
        if directory.is_server(begin.client) and not begin.directed:
            return True
        return None

    def _shared(self) -> bool | None:
        begin, directory = self.begin, self._directory
        if begin.directed:
            return False
        first, second = directory.shared(begin.client), directory.shared(begin.server)
        return first if first is not second else None

    def _likely(self, shared: bool | None) -> Recognised | None:
        """The result from whole but unproven messages: it counts where the direction is known."""
        flips = (shared,) if shared is not None else self._flips
        found = {}
        for flip in flips:
            whole = [r.likely() for (other, _), r in self._seek.items() if other is flip]
            if best := next((one for one in whole if one is not None), None):
                found[flip] = best
        return self._with(*next(iter(found.items()))) if len(found) == 1 else None

    @staticmethod
    def _with(flip: bool, found: Found | None) -> Recognised:
        return Recognised(flip, found.channel, found.mini) if found is not None else Recognised(flip)


def turned(item: Begin | Chunk | Gap | End) -> None:
    """The same item with client and server exchanged."""
    if isinstance(item, Begin):
        item.client, item.server = item.server, item.client
    elif isinstance(item, End):
        item.by = OTHER[item.by] if item.by else None
    else:
        item.sender = OTHER[item.sender]
