# SPDX-License-Identifier: GPL-2.0-only
"""Link and network layers: from a captured packet to its TCP segment.

Link types: https://www.tcpdump.org/linktypes.html. Checksums are not looked at: captures of the sending host
have none yet.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address

from dissectors.framing.events import Endpoint

#: (key, sequence number, acknowledgement number, flags, captured payload, payload bytes on the wire);
#: `key` is source address + destination address + source port + destination port, as on the wire.
Segment = tuple[bytes, int, int, int, bytes, int]

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

#: link type: (offset of the EtherType, offset of what it announces)
ETHERTYPE_AT = {
    1: (12, 14),  # Ethernet
    113: (14, 16),  # Linux cooked
    276: (0, 20),  # Linux cooked, version 2
}
#: link type: offset of the IP header, whose first bits tell its version
IP_AT = {
    0: 4,  # BSD loopback (NULL)
    108: 4,  # OpenBSD loopback (LOOP)
    12: 0,  # raw IP, as some systems number it
    14: 0,
    101: 0,  # raw IP
    228: 0,  # IPv4
    229: 0,  # IPv6
}
PPP = frozenset({9, 50})

IPV4, IPV6, PPPOE = 0x0800, 0x86DD, 0x8864
#: EtherType of a tag: its bytes before the next EtherType.
TAGS = {0x8100: 4, 0x88A8: 4, 0x9100: 4}
#: IPv6 extension headers (RFC 8200) that may stand before TCP; 44 is the fragment header.
HOP, ROUTING, FRAGMENT, DESTINATION, AUTHENTICATION = 0, 43, 44, 60, 51
TCP = 6

_PLAIN_IPV4 = struct.Struct("!BxHxxHxB2x12sIIBB")  # an IPv4 header of 20 bytes and TCP up to the flags
_PORTS_ON = struct.Struct("!4sIIBB")
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
    """The key of the other direction."""
    size = (len(key) - 4) // 2
    return key[size : 2 * size] + key[:size] + key[-2:] + key[-4:-2]


class Network:
    """Finds TCP segments; keeps the IP fragments that are not whole yet."""

    def __init__(self) -> None:
        self._fragments = Fragments()
        self.unsupported: set[int] = set()  # link types that were met and are not understood

    def segment(self, link: int, buffer: bytes, start: int, end: int, wire: int) -> Segment | None:
        """The TCP segment of a packet; None for anything else, cut headers included."""
        if place := ETHERTYPE_AT.get(link):
            ether, position = start + place[0], start + place[1]
            if position > end:
                return None
            kind = buffer[ether] << 8 | buffer[ether + 1]
            if kind != IPV4 and kind != IPV6:
                position = _behind_tags(kind, buffer, position, end)
                if not position:
                    return None
        elif (offset := IP_AT.get(link)) is not None:
            position = start + offset
        elif link in PPP:
            position = _behind_ppp(buffer, start, end)
        else:
            self.unsupported.add(link)
            return None
        if position + _HEADERS <= end and buffer[position] == 0x45:
            _, total, fragment, protocol, key, seq, ack, offset, flags = _PLAIN_IPV4.unpack_from(
                buffer, position
            )
            if protocol == TCP and not fragment & 0x3FFF and offset >= 0x50:
                header = 20 + (offset >> 4) * 4
                if not total:  # the sender's own capture of a segment that its hardware will cut
                    total = wire - (position - start)
                stop = position + total
                if stop > end:
                    stop = end
                return key, seq, ack, flags, buffer[position + header : stop], total - header
        return self._internet(buffer[position:end], wire - (position - start))

    def _internet(self, packet: bytes, wire: int) -> Segment | None:
        """Every IP packet that is not of the plainest sort."""
        if len(packet) < 20:
            return None
        return self._ipv4(packet, wire) if packet[0] >> 4 == 4 else self._ipv6(packet, wire)

    def _ipv4(self, packet: bytes, wire: int) -> Segment | None:
        header = (packet[0] & 15) * 4
        total, _ident, fragment = struct.unpack_from("!HHH", packet, 2)
        total = total or wire
        if packet[9] != TCP or header < 20:
            return None
        addresses = packet[12:20]
        data = packet[header:total]
        if fragment & 0x3FFF:
            whole = self._fragments.add(
                addresses + packet[4:6],
                (fragment & 0x1FFF) * 8,
                data,
                total - header,
                bool(fragment & 0x2000),
            )
            return None if whole is None else _tcp(addresses, whole, len(whole))
        return _tcp(addresses, data, total - header)

    def _ipv6(self, packet: bytes, wire: int) -> Segment | None:
        if packet[0] >> 4 != 6 or len(packet) < 40:
            return None
        total = 40 + int.from_bytes(packet[4:6]) if packet[4:6] != b"\0\0" else wire
        following, position, addresses = packet[6], 40, packet[8:40]
        while following != TCP:
            if position + 8 > len(packet):
                return None
            if following == FRAGMENT:
                field = int.from_bytes(packet[position + 2 : position + 4])
                whole = self._fragments.add(
                    addresses + packet[position + 4 : position + 8],
                    field & 0xFFF8,
                    packet[position + 8 : total],
                    total - position - 8,
                    bool(field & 1),
                )
                ours = packet[position] == TCP
                return _tcp(addresses, whole, len(whole)) if ours and whole is not None else None
            if following == AUTHENTICATION:
                size = (packet[position + 1] + 2) * 4
            elif following in (HOP, ROUTING, DESTINATION):
                size = (packet[position + 1] + 1) * 8
            else:
                return None
            following = packet[position]
            position += size
        return _tcp(addresses, packet[position:total], total - position)


def _tcp(addresses: bytes, data: bytes, wire: int) -> Segment | None:
    if len(data) < 14:
        return None
    ports, seq, ack, offset, flags = _PORTS_ON.unpack_from(data)
    header = (offset >> 4) * 4
    if header < 20 or wire < header:
        return None
    return addresses + ports, seq, ack, flags, data[header:], wire - header


def _behind_tags(kind: int, buffer: bytes, position: int, end: int) -> int:
    """Where IP begins behind VLAN tags or PPPoE; 0 if it is not IP."""
    while (size := TAGS.get(kind)) and position + size <= end:
        kind = buffer[position + 2] << 8 | buffer[position + 3]
        position += size
    if kind == PPPOE:
        position += 6
        kind = {0x0021: IPV4, 0x0057: IPV6}.get(int.from_bytes(buffer[position : position + 2]), 0)
        position += 2
    return position if kind in (IPV4, IPV6) else 0


def _behind_ppp(buffer: bytes, position: int, end: int) -> int:
    """Where the payload begins: address and control bytes may be there, the protocol may be one byte."""
    if position < end and buffer[position] == 0xFF:
        position += 2
    return position + (1 if position < end and buffer[position] & 1 else 2)


class Fragments:
    """IP datagrams in pieces, the first `LIMIT` of them at a time."""

    LIMIT = 256

    def __init__(self) -> None:
        self._parts: dict[bytes, dict[int, bytes]] = {}
        self._sizes: dict[bytes, int] = {}

    def add(self, key: bytes, offset: int, data: bytes, size: int, more: bool) -> bytes | None:
        """The datagram if this piece makes it whole. Pieces that the capture cut are of no use."""
        if len(data) < size or size <= 0:
            return None
        parts = self._parts.setdefault(key, {})
        parts.setdefault(offset, data)
        if not more:
            self._sizes[key] = offset + size
        whole = bytearray()
        for start in sorted(parts):
            if start > len(whole):
                break
            whole += parts[start][len(whole) - start :]
        if len(whole) != self._sizes.get(key):
            if len(self._parts) > self.LIMIT:
                self._drop(next(iter(self._parts)))
            return None
        self._drop(key)
        return bytes(whole)

    def _drop(self, key: bytes) -> None:
        del self._parts[key]
        self._sizes.pop(key, None)
