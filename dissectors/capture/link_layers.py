# SPDX-License-Identifier: GPL-2.0-only
"""From a captured packet to its TCP segment.

Plain IPv4 in Ethernet or behind a header of fixed size takes a short path here, for speed; everything else
goes through `encapsulations`. Checksums are ignored: captures on the sending host do not have them yet.
"""

from __future__ import annotations

import struct
from collections import Counter
from contextlib import suppress
from ipaddress import ip_address

from dissectors.capture.encapsulations import ICMP_ERROR, TCP, PacketCursor, Segment
from dissectors.capture.ip_fragments import Fragments
from dissectors.capture.ip_tunnels import IP_PROTOCOLS
from dissectors.capture.link_headers import LINK_TYPES
from dissectors.framing.events import Endpoint

__all__ = [
    "ACK",
    "FIN",
    "ICMP_ERROR",
    "PSH",
    "RST",
    "SYN",
    "Segment",
    "SegmentFinder",
    "endpoints",
    "reverse",
]

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

#: link type: (offset of the EtherType, offset of what it announces); -1: there is no EtherType
SHORT = {1: (12, 14), 113: (14, 16), 276: (0, 20), 0: (-1, 4), 101: (-1, 0), 228: (-1, 0)}
IPV4 = 0x0800

_PLAIN_IPV4 = struct.Struct("!BxHxxHxB2x12sIIBB")  # an IPv4 header of 20 bytes and TCP up to the flags
_HEADERS = 40  # of both, without options


def endpoints(key: bytes) -> tuple[Endpoint, Endpoint]:
    """Source and destination of a segment's key."""
    size = (len(key) - 4) // 2
    source, target = struct.unpack("!HH", key[-4:])
    return (
        Endpoint(str(ip_address(key[:size])), source),
        Endpoint(str(ip_address(key[size : 2 * size])), target),
    )


def reverse(key: bytes) -> bytes:
    """The key of the connection's other direction."""
    size = (len(key) - 4) // 2
    return key[size : 2 * size] + key[:size] + key[-2:] + key[-4:-2]


class SegmentFinder:
    """Finds TCP segments; keeps the IP fragments that are not whole yet.

    `unread`: packets of an encapsulation that cannot be read, by its name. `links`: packets by link type,
    of those that took the long way (`unsupported`: of those that nothing here reads).
    """

    def __init__(self) -> None:
        self._fragments = Fragments()
        self.links: Counter[int] = Counter()
        self.unsupported: Counter[int] = Counter()
        self.unread: Counter[str] = Counter()
        self.cut = self.cut_at = 0  # packets that the capture cut, and the size to which it cut them

    def segment(self, link: int, buffer: bytes, start: int, end: int, wire: int) -> Segment | None:
        """The TCP segment of a packet; None for anything else, cut headers included. The packet is
        `buffer[start:end]`, and had `wire` bytes on the wire; `link`: its link type."""
        if place := SHORT.get(link):
            ether, offset = place
            position = start + offset
            if (
                position + _HEADERS <= end
                and buffer[position] == 0x45
                and (ether < 0 or buffer[start + ether] << 8 | buffer[start + ether + 1] == IPV4)
            ):
                _, total, fragment, protocol, key, seq, ack, offset, flags = _PLAIN_IPV4.unpack_from(
                    buffer, position
                )
                if protocol == TCP and not fragment & 0x3FFF and offset >= 0x50:
                    header = 20 + (offset >> 4) * 4
                    if not total:  # the sender's own capture of a segment that its hardware will cut
                        total = wire - (position - start)
                    if total >= header:
                        stop = min(position + total, end)
                        return key, seq, ack, flags, buffer[position + header : stop], total - header
        return self._long_way(link, buffer[start:end], wire)

    def _long_way(self, link: int, packet: bytes, wire: int) -> Segment | None:
        """The segment of a packet that needs the long path."""
        layer = LINK_TYPES.get(link)
        self.links[link] += 1
        if layer is None:
            self.unsupported[link] += 1
            return None
        cursor = PacketCursor(
            packet, wire, fragments=self._fragments, unread=self.unread, tunnels=IP_PROTOCOLS
        )
        with suppress(IndexError, struct.error):
            cursor.go(layer)
        if cursor.segment is None and len(packet) < wire:
            self.note_cut(len(packet))
        return cursor.segment

    def note_cut(self, captured: int) -> None:
        """Counts a packet whose needed end was cut."""
        self.cut += 1
        self.cut_at = max(self.cut_at, captured)
