# SPDX-License-Identifier: GPL-2.0-only
"""Tunnels in IP and in UDP, each a layer of `encapsulations`. Numbers are those of IANA's registries."""

from __future__ import annotations

from collections.abc import Mapping

from dissectors.capture.encapsulations import (
    TCP,
    Layer,
    PacketCursor,
    ethernet,
    ethertype,
    frame_relay,
    internet,
    mpls,
    plausible_ethernet,
    ppp,
    service_header,
    skip,
)


def _authentication(cursor: PacketCursor) -> Layer | None:
    """AH before an IP protocol that is a tunnel; before TCP as well."""
    following, size = cursor.byte(), (cursor.byte(1) + 2) * 4
    cursor.at += size
    if following == TCP:
        cursor.unread["IPsec (AH over IPv4)"] += 1
        return None
    return IP_PROTOCOLS.get(following)


def _encrypted(name: str) -> Layer:
    def layer(cursor: PacketCursor) -> Layer | None:
        cursor.unread[name] += 1
        return None

    return layer


def _gre(cursor: PacketCursor) -> Layer | None:
    """RFC 2784, RFC 2890 (key, sequence), RFC 2637 (version 1, PPP)."""
    flags, kind = cursor.two(), cursor.two(2)
    cursor.at += 4
    if flags & 7 == 1:
        cursor.at += 4 + 4 * bool(flags & 0x1000) + 4 * bool(flags & 0x80)
        return ppp
    if flags & 0x4007:
        return None
    cursor.at += 4 * (bool(flags & 0x8000) + bool(flags & 0x2000) + bool(flags & 0x1000))
    if kind == 0x88BE:  # ERSPAN I has no header of its own, and GRE then no sequence number
        cursor.at += 8 * bool(flags & 0x1000)
        return ethernet
    if kind == 0x883E and cursor.byte() >> 4 != 4:  # WCCP's redirect header
        cursor.at += 4
    return GRE_PROTOCOLS.get(kind) or ethertype(kind)


def _erspan3(cursor: PacketCursor) -> Layer | None:
    """draft-foschiano-erspan: 12 bytes, 8 more where the last bit says so."""
    word = cursor.two(10)
    cursor.at += 12 + 8 * (word & 1)
    return internet if word >> 10 & 31 == 2 else ethernet


def _etherip(cursor: PacketCursor) -> Layer | None:
    """RFC 3378."""
    cursor.at += 2
    return ethernet


def _l2tp3(cursor: PacketCursor) -> Layer | None:
    """A session id and a cookie of unknown size (RFC 3931); control messages have session 0."""
    if not any(cursor.data[cursor.at : cursor.at + 4]):
        return None
    for size in (4, 8, 12, 16):
        if plausible_ethernet(cursor, size):
            cursor.at += size
            return ethernet
    cursor.unread["L2TPv3"] += 1
    return None


# ---- UDP


def _udp(cursor: PacketCursor) -> Layer | None:
    """A tunnel, as a port says; VXLAN at any port where its header has the right bits."""
    source, target = cursor.two(), cursor.two(2)
    cursor.at += 8
    layer = UDP_PORTS.get(target) or UDP_PORTS.get(source)
    if layer is None and cursor.data[cursor.at : cursor.at + 4] == b"\x08\0\0\0" and not cursor.byte(7):
        if plausible_ethernet(cursor, 8):
            return _vxlan
    return layer


def _vxlan(cursor: PacketCursor) -> Layer | None:
    """RFC 7348; where the P bit is set a next protocol (draft-ietf-nvo3-vxlan-gpe)."""
    if not cursor.byte() & 8:
        return None
    following = cursor.byte(3) if cursor.byte() & 4 else 3
    cursor.at += 8
    return NEXT_PROTOCOLS_GPE.get(following)


def _geneve(cursor: PacketCursor) -> Layer | None:
    """RFC 8926."""
    kind = cursor.two(2)
    if cursor.byte() >> 6:
        return None
    cursor.at += 8 + (cursor.byte() & 0x3F) * 4
    return ethertype(kind)


def _gtp_user(cursor: PacketCursor) -> Layer | None:
    """3GPP TS 29.281: a G-PDU, through its extension headers."""
    flags = cursor.byte()
    if flags >> 5 != 1 or not flags & 0x10 or cursor.byte(1) != 255:
        return None
    cursor.at += 8
    if flags & 7:
        following = cursor.byte(3) if flags & 4 else 0
        cursor.at += 4
        while following:
            if not (size := cursor.byte() * 4):
                return None
            cursor.at += size
            following = cursor.byte(-1)
    if cursor.byte() >> 4 in (4, 6):
        return internet
    return ethernet if plausible_ethernet(cursor, 0) else ppp


def _l2tp2(cursor: PacketCursor) -> Layer | None:
    """RFC 2661 (PPP), or version 3 over UDP (RFC 3931)."""
    flags = cursor.two()
    if flags & 0x8000:
        return None
    if flags & 15 == 3:
        cursor.at += 4
        return _l2tp3
    cursor.at += 6 + 2 * bool(flags & 0x4000) + 4 * bool(flags & 0x0800)
    if flags & 0x0200:
        cursor.at += 2 + cursor.two()
    return ppp


def _teredo(cursor: PacketCursor) -> Layer | None:
    """RFC 4380: IPv6, maybe behind authentication and origin."""
    if cursor.two() == 1:
        cursor.at += 13 + cursor.byte(2) + cursor.byte(3)
    if cursor.two() == 0:
        cursor.at += 8
    return internet


def _gue(cursor: PacketCursor) -> Layer | None:
    """draft-ietf-intarea-gue."""
    if cursor.byte() >> 6:
        return internet
    if cursor.byte() & 0x20:
        return None
    following = cursor.byte(1)
    cursor.at += 4 + (cursor.byte() & 31) * 4
    return IP_PROTOCOLS.get(following)


def _tzsp(cursor: PacketCursor) -> Layer | None:
    """TaZmen Sniffer Protocol: tags to the end tag, then Ethernet."""
    kind = cursor.two(2)
    cursor.at += 4
    while (tag := cursor.byte()) != 1:
        cursor.at += 1 if tag == 0 else 2 + cursor.byte(1)
    cursor.at += 1
    return ethernet if kind == 1 else None


def _esp_in_udp(cursor: PacketCursor) -> Layer | None:
    """RFC 3948: four zeros are key exchange, everything else is encrypted."""
    if any(cursor.data[cursor.at : cursor.at + 4]) and len(cursor.data) > cursor.at + 8:
        cursor.unread["IPsec (ESP)"] += 1
    return None


def _wireguard(cursor: PacketCursor) -> Layer | None:
    if cursor.data[cursor.at : cursor.at + 4] == b"\4\0\0\0":
        cursor.unread["WireGuard"] += 1
    return None


# ---- numbers -> tunnels

GRE_PROTOCOLS: Mapping[int, Layer] = {0x22EB: _erspan3, 0x883E: internet, 0x6559: frame_relay}
IP_PROTOCOLS: Mapping[int, Layer] = {
    4: internet,
    17: _udp,
    41: internet,
    47: _gre,
    50: _encrypted("IPsec (ESP)"),
    51: _authentication,
    94: internet,
    97: _etherip,
    115: _l2tp3,
    137: mpls,
    143: ethernet,
}
NEXT_PROTOCOLS_GPE: Mapping[int, Layer] = {
    1: internet,
    2: internet,
    3: ethernet,
    4: service_header,
    5: mpls,
}
UDP_PORTS: Mapping[int, Layer] = {
    4789: _vxlan,
    8472: _vxlan,  # Linux, before the port had been given out
    4790: _vxlan,
    6081: _geneve,
    2152: _gtp_user,
    1701: _l2tp2,
    4754: _gre,
    6635: mpls,
    3544: _teredo,
    4341: skip(8, internet),  # LISP
    6080: _gue,
    37008: _tzsp,
    4500: _esp_in_udp,
    51820: _wireguard,
}
