# SPDX-License-Identifier: GPL-2.0-only
"""The headers of link types that have more than an EtherType, and the table of all link types that are read.

Source: https://www.tcpdump.org/linktypes.html.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from dissectors.capture.encapsulations import (
    Layer,
    PacketCursor,
    cisco_hdlc,
    ethernet,
    ethertype,
    frame_relay,
    internet,
    llc,
    ppp,
    pppoe,
    skip,
    typed,
)


def cooked(cursor: PacketCursor) -> Layer | None:
    """Linux cooked: protocol 4 is LLC, 1 an old frame without a type."""
    kind = cursor.two(14)
    cursor.at += 16
    return ethertype(kind)


def wireless(cursor: PacketCursor) -> Layer | None:
    """An IEEE 802.11 data frame that is not encrypted."""
    control, flags = cursor.byte(), cursor.byte(1)
    if control & 0x0C != 8 or control & 0x40:  # no data frame, or one without data
        return None
    if flags & 0x40:
        cursor.unread["802.11 (encrypted)"] += 1
        return None
    size = 30 if flags & 3 == 3 else 24
    if control & 0x80:
        aggregate = cursor.byte(size) & 0x80
        size += 2 + 4 * bool(flags & 0x80) + 14 * bool(aggregate)
    cursor.at += size
    return llc


def _radiotap(cursor: PacketCursor) -> Layer | None:
    """https://www.radiotap.org: of its fields only the padding flag matters."""
    (size,) = struct.unpack_from("<H", cursor.data, cursor.at + 2)
    at, words = 4, 0
    while True:
        (present,) = struct.unpack_from("<I", cursor.data, cursor.at + at)
        words = words or present
        at += 4
        if not present >> 31:
            break
    if words & 1:
        at = (at + 7 & ~7) + 8
    padded = words & 2 and cursor.byte(at) & 0x20
    cursor.at += size
    return _padded_wireless if padded else wireless


def _padded_wireless(cursor: PacketCursor) -> Layer | None:
    """The header is padded to four bytes before the LLC."""
    begun = cursor.at
    layer = wireless(cursor)
    cursor.at += -(cursor.at - begun) % 4
    return layer


def _prism(cursor: PacketCursor) -> Layer | None:
    """Prism or AVS, in either byte order."""
    word = cursor.data[cursor.at : cursor.at + 8]
    if word[:3] == b"\x80\x21\x10":
        cursor.at += int.from_bytes(word[4:])
    else:
        cursor.at += min(int.from_bytes(word[4:], "little"), int.from_bytes(word[4:]))
    return wireless


def _per_packet(cursor: PacketCursor) -> Layer | None:
    """PPI: a header of its own length and the link type."""
    size, link = struct.unpack_from("<2xHI", cursor.data, cursor.at)
    cursor.at += size
    return LINK_TYPES.get(link)


def _pktap(cursor: PacketCursor) -> Layer | None:
    """Apple's: length of the header, type of the record, link type."""
    size, _, link = struct.unpack_from("<III", cursor.data, cursor.at)
    cursor.at += size
    return LINK_TYPES.get(link)


def _netfilter_log(cursor: PacketCursor) -> Layer | None:
    """NFLOG: attributes (size, type, in the host's order) padded to four; number 9 is the packet."""
    cursor.at += 4
    while True:
        size, kind = struct.unpack_from("<HH", cursor.data, cursor.at)
        if kind & 0x7FFF > 255:
            size, kind = struct.unpack_from(">HH", cursor.data, cursor.at)
        if size < 4:
            return None
        if kind & 0x7FFF == 9:
            cursor.at += 4
            return internet
        cursor.at += size + 3 & ~3


def _firewall_log(cursor: PacketCursor) -> Layer | None:
    """PFLOG: the length of its header comes first."""
    cursor.at += cursor.byte() + 3 & ~3
    return internet


def _token_ring(cursor: PacketCursor) -> Layer | None:
    """Addresses, a route where the source has the bit for it, LLC."""
    routed = cursor.byte(8) & 0x80
    cursor.at += 14
    if routed:
        cursor.at += cursor.byte() & 31
    return llc


def _atm(cursor: PacketCursor) -> Layer | None:
    """RFC 2684: LLC, or nothing before the packet."""
    return llc if cursor.byte() in (0xAA, 0xFE) else internet


def _loopback(cursor: PacketCursor) -> Layer | None:
    """A family in the host's byte order, of which the systems have no common number: the packet tells."""
    cursor.at += 4
    return internet


def _erf(cursor: PacketCursor) -> Layer | None:
    """Endace's record header, its extension headers, and Ethernet behind two bytes, or IP."""
    kind = cursor.byte(8)
    cursor.at += 16
    more = kind & 0x80
    while more:
        more = cursor.byte() & 0x80
        cursor.at += 8
    if kind & 0x7F in (2, 11, 16, 20):
        cursor.at += 2
        return ethernet
    return {1: ppp, 22: internet, 23: internet}.get(kind & 0x7F)


LINK_TYPES: Mapping[int, Layer] = {
    0: _loopback,
    1: ethernet,
    6: _token_ring,
    8: skip(16, internet),
    9: ppp,
    10: skip(13, llc),
    12: internet,
    14: internet,
    50: ppp,
    51: pppoe,
    100: _atm,
    101: internet,
    104: cisco_hdlc,
    105: wireless,
    107: frame_relay,
    108: _loopback,
    109: skip(12, internet),
    113: cooked,
    117: _firewall_log,
    119: _prism,
    122: skip(16, llc),
    123: skip(4, _atm),
    127: _radiotap,
    138: typed(16, 18),
    163: _prism,
    166: ppp,
    192: _per_packet,
    197: _erf,
    204: skip(1, ppp),
    226: skip(24, internet),
    228: internet,
    229: internet,
    239: _netfilter_log,
    240: skip(4, ethernet),
    242: typed(40, 44),
    258: _pktap,
    274: skip(8, ethernet),
    276: typed(0, 20),
    281: typed(16, 18),  # a switch's tags (DSA) behind the addresses, or before them
    282: skip(4, ethernet),
    284: typed(16, 18),
    285: typed(20, 22),
}
#: Names of link types: those that are read, and others that captures have.
LINK_NAMES: Mapping[int, str] = {
    1: "Ethernet",
    113: "Linux cooked",
    129: "ARCNET",
    130: "Juniper",
    131: "Juniper",
    132: "Juniper",
    137: "Juniper",
    147: "user-defined",
    149: "PFSYNC",
    177: "Linux LAPD",
    178: "Juniper",
    182: "Juniper",
    187: "Bluetooth HCI",
    189: "USB",
    195: "IEEE 802.15.4",
    201: "Bluetooth HCI",
    220: "USB",
    227: "CAN",
    231: "D-Bus",
    239: "NFLOG",
    247: "InfiniBand",
    249: "USBPcap",
    251: "Bluetooth LE",
    252: "Wireshark upper PDU",
    253: "Netlink",
    266: "USB",
    271: "virtual sockets",
}
