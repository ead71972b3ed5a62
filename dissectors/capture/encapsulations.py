# SPDX-License-Identifier: GPL-2.0-only
"""The layers between a link header and a TCP segment: tags, labels, PPP, IP (`ip_tunnels`: tunnels in IP).

Each layer is a function: it moves `PacketCursor.at` behind its header and returns the next layer; None: the
end. A header that is cut raises IndexError or struct.error, which `link_layers` treats as "no segment".
Numbers are those of IANA's registries."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Optional

from dissectors.capture.ip_fragments import Fragments

#: (key, sequence number, acknowledgement number, flags, captured payload, payload bytes on the wire);
#: `key` is source address + destination address + source port + destination port, as on the wire.
Segment = tuple[bytes, int, int, int, bytes, int]

#: Not a TCP flag: an ICMP error about a segment with this key (its own direction reversed, so that it comes
#: from where the answer was due). The payload is type, code and the address of the sender.
ICMP_ERROR = 1 << 8

NESTED = "nested tunnels"
DEEPEST = 32  # layers of one packet: real ones have up to a dozen

_TCP = struct.Struct("!4sIIBB")
_TWO, _FOUR = struct.Struct("!H"), struct.Struct("!I")


class PacketCursor:
    """One packet on its way inward. `wire`: bytes of `data` as they were on the wire, `at` a place in it.

    `tunnels`: what an IP protocol leads to, by its number.
    """

    __slots__ = ("at", "data", "fragments", "segment", "tunnels", "unread", "wire")

    def __init__(
        self,
        data: bytes,
        wire: int,
        *,
        fragments: Fragments,
        unread: Counter[str],
        tunnels: Mapping[int, Layer],
    ) -> None:
        self.data = data
        self.wire = wire
        self.at = 0
        self.fragments = fragments
        self.tunnels = tunnels
        self.unread = unread
        self.segment: Segment | None = None

    def two(self, offset: int = 0) -> int:
        """The two bytes at `offset` behind the present place."""
        return int(_TWO.unpack_from(self.data, self.at + offset)[0])

    def byte(self, offset: int = 0) -> int:
        """The byte at `offset` behind the present place."""
        return self.data[self.at + offset]

    def go(self, layer: Layer) -> None:
        """Walks inward from `layer` on; `segment` holds the TCP segment that it found."""
        for _ in range(DEEPEST):
            following = layer(self)
            if following is None:
                return
            layer = following
        self.unread[NESTED] += 1


Layer = Callable[[PacketCursor], Optional["Layer"]]


def skip(size: int, then: Layer) -> Layer:
    """A header of a fixed size without a field for the next layer."""

    def layer(cursor: PacketCursor) -> Layer | None:
        cursor.at += size
        return then

    return layer


def typed(type_at: int, payload_at: int) -> Layer:
    """A header with an EtherType at `type_at`."""

    def layer(cursor: PacketCursor) -> Layer | None:
        kind = cursor.two(type_at)
        cursor.at += payload_at
        return ethertype(kind)

    return layer


# ---- EtherTypes


def ethertype(kind: int) -> Layer | None:
    """The layer that an EtherType announces; up to 1500 it is a length, and LLC follows (IEEE 802.3)."""
    return llc if kind <= 1500 else ETHERTYPES.get(kind)


ethernet = typed(12, 14)


def plausible_ethernet(cursor: PacketCursor, at: int) -> bool:
    """Whether an Ethernet header with a known EtherType begins `at` bytes behind the present place."""
    where = cursor.at + at + 12
    return len(cursor.data) >= where + 2 and _TWO.unpack_from(cursor.data, where)[0] in ETHERTYPES


def llc(cursor: PacketCursor) -> Layer | None:
    """IEEE 802.2, with SNAP (RFC 1042) or a network layer number (RFC 2684)."""
    head = cursor.data[cursor.at : cursor.at + 3]
    cursor.at += 3
    if head == b"\xaa\xaa\x03":
        oui, kind = cursor.data[cursor.at : cursor.at + 3], cursor.two(3)
        cursor.at += 5
        if oui == b"\0\x80\xc2" and kind in (1, 7):  # a bridged Ethernet frame (RFC 2684, 5.2)
            cursor.at += 2
            return ethernet
        return ethertype(kind) if kind > 1500 else None
    if head == b"\x06\x06\x03":
        return internet
    if head == b"\xfe\xfe\x03":
        return _nlpid(cursor)
    return None


def _nlpid(cursor: PacketCursor) -> Layer | None:
    """A network layer protocol number (ISO/IEC TR 9577)."""
    number = cursor.byte()
    cursor.at += 1
    if number == 0x80:
        oui, kind = cursor.data[cursor.at : cursor.at + 3], cursor.two(3)
        cursor.at += 5
        if oui == b"\0\x80\xc2":
            cursor.at += 0 if kind == 7 else 2
            return ethernet
        return ethertype(kind)
    return internet if number in (0xCC, 0x8E) else None


def _mac_in_mac(cursor: PacketCursor) -> Layer | None:
    """IEEE 802.1ah: an I-TAG, then the customer's frame."""
    cursor.at += 4
    return ethernet


def _macsec(cursor: PacketCursor) -> Layer | None:
    """IEEE 802.1AE: readable where it only protects against changes."""
    control = cursor.byte()
    if control & 0x0C:
        cursor.unread["MACsec (encrypted)"] += 1
        return None
    cursor.at += 14 if control & 0x20 else 6
    kind = cursor.two()
    cursor.at += 2
    return ethertype(kind)


def mpls(cursor: PacketCursor) -> Layer | None:
    """Labels to the last one, then IP, or Ethernet with or without a control word (RFC 3032, RFC 4448)."""
    while not cursor.byte(2) & 1:
        cursor.at += 4
    cursor.at += 4
    first = cursor.byte()
    if first >> 4 in (4, 6) and not plausible_ethernet(cursor, 0):
        return internet
    if first >> 4 == 0 and not cursor.byte(1) and plausible_ethernet(cursor, 4):
        cursor.at += 4
        return ethernet
    if plausible_ethernet(cursor, 0):
        return ethernet
    return internet if first >> 4 in (4, 6) else None


def pppoe(cursor: PacketCursor) -> Layer | None:
    """A PPPoE session packet (RFC 2516); the PPP protocol follows."""
    cursor.at += 6
    return _ppp_protocol


#: All stations; pppd's captures have the direction there.
PPP_ADDRESSES = (0xFF, 0, 1)


def ppp(cursor: PacketCursor) -> Layer | None:
    """PPP in HDLC-like framing (RFC 1662): address and control may be compressed away."""
    if cursor.byte(1) == 3 and cursor.byte() in PPP_ADDRESSES:
        cursor.at += 2
    elif cursor.byte() in (0x0F, 0x8F) and cursor.byte(1) == 0:
        return cisco_hdlc
    return _ppp_protocol


def _ppp_protocol(cursor: PacketCursor) -> Layer | None:
    """The protocol field, one byte where it is compressed (RFC 1661, 6.5)."""
    kind = cursor.byte() if cursor.byte() & 1 else cursor.two()
    cursor.at += 1 if cursor.byte() & 1 else 2
    if kind in (0x2D, 0x2F, 0xFB, 0xFD):
        cursor.unread["PPP (compressed)"] += 1
    elif kind == 0x53:
        cursor.unread["PPP (encrypted)"] += 1
    return PPP_PROTOCOLS.get(kind)


def _multilink(cursor: PacketCursor) -> Layer | None:
    """A multilink packet in one piece (RFC 1990, long sequence numbers)."""
    if cursor.byte() & 0xC0 != 0xC0:
        cursor.unread["PPP multilink fragments"] += 1
        return None
    cursor.at += 4
    return _ppp_protocol


def cisco_hdlc(cursor: PacketCursor) -> Layer | None:
    """Address, control, EtherType."""
    kind = cursor.two(2)
    cursor.at += 4
    return ethertype(kind)


def frame_relay(cursor: PacketCursor) -> Layer | None:
    """Q.922 address, control, protocol number (RFC 2427); Cisco's has an EtherType instead."""
    while not cursor.byte() & 1:
        cursor.at += 1
    cursor.at += 1
    if cursor.byte() != 3:
        kind = cursor.two()
        cursor.at += 2
        return ethertype(kind)
    cursor.at += 1
    if not cursor.byte():  # padding
        cursor.at += 1
    return _nlpid(cursor)


def service_header(cursor: PacketCursor) -> Layer | None:
    """NSH (RFC 8300)."""
    following = cursor.byte(3)
    cursor.at += (cursor.byte(1) & 0x3F) * 4
    return NEXT_PROTOCOLS_NSH.get(following)


# ---- IP


def internet(cursor: PacketCursor) -> Layer | None:
    """IPv4 or IPv6, as the first four bits say."""
    version = cursor.byte() >> 4
    return ipv4(cursor) if version == 4 else ipv6(cursor) if version == 6 else None


def ipv4(cursor: PacketCursor) -> Layer | None:
    """RFC 791. A length of 0 is left to the sender's hardware."""
    at = cursor.at
    head = cursor.data[at : at + 20]
    header = (head[0] & 15) * 4
    total, _ident, fragment = struct.unpack_from("!HHH", head, 2)
    protocol, addresses = head[9], head[12:20]
    total = total or cursor.wire - at
    if header < 20 or total < header or head[0] >> 4 != 4:
        return None
    size = total - header
    data = cursor.data[at + header : at + total]
    if fragment & 0x3FFF:
        key = addresses + head[4:6] + head[9:10]
        offset, more = (fragment & 0x1FFF) * 8, bool(fragment & 0x2000)
        whole = cursor.fragments.add(key, offset, data, size, more)
        if whole is None:
            return None
        data, size = whole, len(whole)
    return _protocol(cursor, protocol, addresses, data, size)


def ipv6(cursor: PacketCursor) -> Layer | None:
    """RFC 8200, through its extension headers."""
    at = cursor.at
    head = cursor.data[at : at + 40]
    length, following, addresses = struct.unpack_from("!H", head, 4)[0], head[6], head[8:40]
    total = 40 + length if length else cursor.wire - at
    packet, position = cursor.data[at : at + total], 40
    while following in EXTENSION_UNITS or following == FRAGMENT:
        if following == FRAGMENT:
            field = int(_TWO.unpack_from(packet, position + 2)[0])
            key = addresses + packet[position + 4 : position + 8]
            data, following = packet[position + 8 :], packet[position]
            size = total - position - 8
            whole = cursor.fragments.add(key, field & 0xFFF8, data, size, bool(field & 1))
            if whole is None:
                return None
            packet, total, position = whole, len(whole), 0
        else:
            unit, more = EXTENSION_UNITS[following]
            following, size = packet[position], (packet[position + 1] + more) * unit
            position += size
    return _protocol(cursor, following, addresses, packet[position:], total - position)


#: IPv6 extension headers: (bytes a unit, units that their length field leaves out).
EXTENSION_UNITS = {0: (8, 1), 43: (8, 1), 60: (8, 1), 51: (4, 2), 135: (8, 1), 139: (8, 1), 140: (8, 1)}
FRAGMENT, TCP = 44, 6


def _protocol(cursor: PacketCursor, number: int, addresses: bytes, data: bytes, size: int) -> Layer | None:
    """The layer in an IP packet."""
    if number == TCP:
        cursor.segment = tcp(addresses, data, size)
        return None
    cursor.data, cursor.wire, cursor.at = data, size, 0
    if number in (1, 58):
        cursor.segment = icmp_error(cursor, number == 58, addresses[: len(addresses) // 2])
        return None
    return cursor.tunnels.get(number)


def tcp(addresses: bytes, data: bytes, wire: int) -> Segment | None:
    """The segment; `wire`: bytes of it with its header."""
    if len(data) < 14:
        return None
    ports, seq, ack, offset, flags = _TCP.unpack_from(data)
    header = (offset >> 4) * 4
    if header < 20 or wire < header:
        return None
    return addresses + ports, seq, ack, flags, data[header:], wire - header


def icmp_error(cursor: PacketCursor, six: bool, speaker: bytes) -> Segment | None:
    """An error (RFC 792, RFC 4443) that quotes a TCP segment, as a segment with the flag ICMP_ERROR."""
    kind = cursor.byte()
    if (kind not in (1, 3)) if six else (kind not in (3, 11)):
        return None
    quoted = cursor.data[8:]
    if quoted[0] >> 4 == 6:
        if quoted[6] != TCP:
            return None
        source, target, ports = quoted[8:24], quoted[24:40], quoted[40:48]
    else:
        if quoted[9] != TCP or _TWO.unpack_from(quoted, 6)[0] & 0x1FFF:
            return None
        at = (quoted[0] & 15) * 4
        source, target, ports = quoted[12:16], quoted[16:20], quoted[at : at + 8]
    if len(ports) < 8:
        return None
    key = target + source + ports[2:4] + ports[:2]
    return key, 0, int.from_bytes(ports[4:8]), ICMP_ERROR, cursor.data[:2] + speaker, 0


# ---- numbers -> layers

ETHERTYPES: Mapping[int, Layer] = {
    0x0800: internet,
    0x86DD: internet,
    0x8100: typed(2, 4),
    0x88A8: typed(2, 4),
    0x9100: typed(2, 4),
    0x9200: typed(2, 4),
    0x9300: typed(2, 4),
    0x892F: typed(4, 6),  # HSR
    0x8926: typed(4, 6),  # VN-Tag
    0x8909: typed(6, 8),  # Cisco metadata
    0x88E5: _macsec,
    0x88E7: _mac_in_mac,
    0x8847: mpls,
    0x8848: mpls,
    0x8864: pppoe,
    0x880B: ppp,
    0x6558: ethernet,
    0x894F: service_header,
}
PPP_PROTOCOLS: Mapping[int, Layer] = {
    0x21: internet,
    0x57: internet,
    0x3D: _multilink,
    0x281: mpls,
    0x283: mpls,
}
NEXT_PROTOCOLS_NSH: Mapping[int, Layer] = {1: internet, 2: internet, 3: ethernet, 5: mpls}
