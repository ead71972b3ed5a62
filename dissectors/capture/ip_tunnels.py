# SPDX-License-Identifier: GPL-2.0-only
"""Tunnels in IP and in UDP, each a layer of `encapsulations`. Numbers are those of IANA's registries."""

from __future__ import annotations

from collections.abc import Mapping

from dissectors.capture.encapsulations import (
    TCP,
    Layer,
    Walk,
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


def _authentication(walk: Walk) -> Layer | None:
    """AH before an IP protocol that is a tunnel; before TCP as well."""
    following, size = walk.byte(), (walk.byte(1) + 2) * 4
    walk.at += size
    if following == TCP:
        walk.unread["IPsec (AH over IPv4)"] += 1
        return None
    return IP_PROTOCOLS.get(following)


def _encrypted(name: str) -> Layer:
    def layer(walk: Walk) -> Layer | None:
        walk.unread[name] += 1
        return None

    return layer


def _gre(walk: Walk) -> Layer | None:
    """RFC 2784, RFC 2890 (key, sequence), RFC 2637 (version 1, PPP)."""
    flags, kind = walk.two(), walk.two(2)
    walk.at += 4
    if flags & 7 == 1:
        walk.at += 4 + 4 * bool(flags & 0x1000) + 4 * bool(flags & 0x80)
        return ppp
    if flags & 0x4007:
        return None
    walk.at += 4 * (bool(flags & 0x8000) + bool(flags & 0x2000) + bool(flags & 0x1000))
    if kind == 0x88BE:  # ERSPAN I has no header of its own, and GRE then no sequence number
        walk.at += 8 * bool(flags & 0x1000)
        return ethernet
    if kind == 0x883E and walk.byte() >> 4 != 4:  # WCCP's redirect header
        walk.at += 4
    return GRE_PROTOCOLS.get(kind) or ethertype(kind)


def _erspan3(walk: Walk) -> Layer | None:
    """draft-foschiano-erspan: 12 bytes, 8 more where the last bit says so."""
    word = walk.two(10)
    walk.at += 12 + 8 * (word & 1)
    return internet if word >> 10 & 31 == 2 else ethernet


def _etherip(walk: Walk) -> Layer | None:
    """RFC 3378."""
    walk.at += 2
    return ethernet


def _l2tp3(walk: Walk) -> Layer | None:
    """A session id and a cookie of unknown size (RFC 3931); control messages have session 0."""
    if not any(walk.data[walk.at : walk.at + 4]):
        return None
    for size in (4, 8, 12, 16):
        if plausible_ethernet(walk, size):
            walk.at += size
            return ethernet
    walk.unread["L2TPv3"] += 1
    return None


# ---- UDP


def _udp(walk: Walk) -> Layer | None:
    """A tunnel, as a port says; VXLAN at any port where its header has the right bits."""
    source, target = walk.two(), walk.two(2)
    walk.at += 8
    layer = UDP_PORTS.get(target) or UDP_PORTS.get(source)
    if layer is None and walk.data[walk.at : walk.at + 4] == b"\x08\0\0\0" and not walk.byte(7):
        if plausible_ethernet(walk, 8):
            return _vxlan
    return layer


def _vxlan(walk: Walk) -> Layer | None:
    """RFC 7348; where the P bit is set a next protocol (draft-ietf-nvo3-vxlan-gpe)."""
    if not walk.byte() & 8:
        return None
    following = walk.byte(3) if walk.byte() & 4 else 3
    walk.at += 8
    return NEXT_PROTOCOLS_GPE.get(following)


def _geneve(walk: Walk) -> Layer | None:
    """RFC 8926."""
    kind = walk.two(2)
    if walk.byte() >> 6:
        return None
    walk.at += 8 + (walk.byte() & 0x3F) * 4
    return ethertype(kind)


def _gtp_user(walk: Walk) -> Layer | None:
    """3GPP TS 29.281: a G-PDU, through its extension headers."""
    flags = walk.byte()
    if flags >> 5 != 1 or not flags & 0x10 or walk.byte(1) != 255:
        return None
    walk.at += 8
    if flags & 7:
        following = walk.byte(3) if flags & 4 else 0
        walk.at += 4
        while following:
            if not (size := walk.byte() * 4):
                return None
            walk.at += size
            following = walk.byte(-1)
    if walk.byte() >> 4 in (4, 6):
        return internet
    return ethernet if plausible_ethernet(walk, 0) else ppp


def _l2tp2(walk: Walk) -> Layer | None:
    """RFC 2661 (PPP), or version 3 over UDP (RFC 3931)."""
    flags = walk.two()
    if flags & 0x8000:
        return None
    if flags & 15 == 3:
        walk.at += 4
        return _l2tp3
    walk.at += 6 + 2 * bool(flags & 0x4000) + 4 * bool(flags & 0x0800)
    if flags & 0x0200:
        walk.at += 2 + walk.two()
    return ppp


def _teredo(walk: Walk) -> Layer | None:
    """RFC 4380: IPv6, maybe behind authentication and origin."""
    if walk.two() == 1:
        walk.at += 13 + walk.byte(2) + walk.byte(3)
    if walk.two() == 0:
        walk.at += 8
    return internet


def _gue(walk: Walk) -> Layer | None:
    """draft-ietf-intarea-gue."""
    if walk.byte() >> 6:
        return internet
    if walk.byte() & 0x20:
        return None
    following = walk.byte(1)
    walk.at += 4 + (walk.byte() & 31) * 4
    return IP_PROTOCOLS.get(following)


def _tzsp(walk: Walk) -> Layer | None:
    """TaZmen Sniffer Protocol: tags to the end tag, then Ethernet."""
    kind = walk.two(2)
    walk.at += 4
    while (tag := walk.byte()) != 1:
        walk.at += 1 if tag == 0 else 2 + walk.byte(1)
    walk.at += 1
    return ethernet if kind == 1 else None


def _esp_in_udp(walk: Walk) -> Layer | None:
    """RFC 3948: four zeros are key exchange, everything else is encrypted."""
    if any(walk.data[walk.at : walk.at + 4]) and len(walk.data) > walk.at + 8:
        walk.unread["IPsec (ESP)"] += 1
    return None


def _wireguard(walk: Walk) -> Layer | None:
    if walk.data[walk.at : walk.at + 4] == b"\4\0\0\0":
        walk.unread["WireGuard"] += 1
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
