# SPDX-License-Identifier: GPL-2.0-only
"""Tunnels and link headers around an IP packet, made with Scapy, for the self-tests of the capture reader."""

from __future__ import annotations

import struct
from collections.abc import Callable

from scapy.contrib.erspan import ERSPAN_II, ERSPAN_III, ERSPAN_PlatformSpecific
from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer
from scapy.contrib.mpls import MPLS, EoMCW
from scapy.contrib.nsh import NSH
from scapy.layers.dot11 import Dot11, Dot11QoS, RadioTap
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import GRE, GRE_PPTP, LLC, SNAP, Dot1AD, Dot1AH, Dot1Q, Dot3, Ether, Loopback
from scapy.layers.l2tp import L2TP
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from dissectors.framing.events import Endpoint
from suites.selftest.dissectors.capture.capture_mutations import dialogue

TURNS = dialogue(5, turns=4, longest=2500)
ENDS6 = (Endpoint("2001:db8::1", 4), Endpoint("2001:db8::2", 6))
OUTER4, OUTER6 = IP(src="198.51.100.1", dst="198.51.100.2"), IPv6(src="2001:db8:1::1", dst="2001:db8:1::2")
SNAP_IP = LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=0, code=0x0800)

Wrap = Callable[[bytes], "ScapyPacket | bytes"]


def frame(kind: int | None = None) -> ScapyPacket:
    """An Ethernet header with addresses: Scapy would ask the network for missing ones."""
    result = {} if kind is None else {"type": kind}
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", **result)


def inner(ip: bytes) -> ScapyPacket:
    """The packet in a tenant's own Ethernet frame."""
    return frame(kind(ip)) / Raw(ip)


def kind(ip: bytes) -> int:
    return 0x86DD if ip[0] >> 4 == 6 else 0x0800


def udp(port: int) -> ScapyPacket:
    return frame() / OUTER4 / UDP(sport=55_555, dport=port)


def attribute(number: int, value: bytes, order: str = "<") -> bytes:
    """Of an NFLOG record."""
    return struct.pack(order + "HH", len(value) + 4, number) + value + bytes(-len(value) % 4)


WRAPS: dict[str, tuple[int, Wrap]] = {
    "vxlan": (1, lambda ip: udp(4789) / VXLAN(flags=8, vni=5001) / inner(ip)),
    "vxlan, Linux's old port": (1, lambda ip: udp(8472) / VXLAN(flags=8, vni=1) / inner(ip)),
    "vxlan, any port": (1, lambda ip: udp(14_789) / VXLAN(flags=8, vni=77) / inner(ip)),
    "vxlan, group policy": (1, lambda ip: udp(4789) / VXLAN(flags=0x88, gpid=5, vni=77) / inner(ip)),
    "vxlan-gpe, IPv4": (1, lambda ip: udp(4790) / VXLAN(flags=12, NextProtocol=1, vni=7) / Raw(ip)),
    "vxlan-gpe, Ethernet": (
        1,
        lambda ip: udp(4790) / VXLAN(flags=12, NextProtocol=3, vni=7) / inner(ip),
    ),
    "vxlan-gpe, NSH": (
        1,
        lambda ip: (
            udp(4790) / VXLAN(flags=12, NextProtocol=4) / NSH(mdtype=2, length=2, nextproto=3) / inner(ip)
        ),
    ),
    "vxlan over IPv6, in a VLAN": (
        1,
        lambda ip: frame() / Dot1Q(vlan=5) / OUTER6 / UDP(sport=9, dport=4789) / VXLAN(flags=8) / inner(ip),
    ),
    "geneve": (1, lambda ip: udp(6081) / GENEVE(vni=9, proto=0x6558) / inner(ip)),
    "geneve with options": (
        1,
        lambda ip: (
            udp(6081)
            / GENEVE(
                vni=9, proto=0x6558, options=[GeneveOptions(data=b"12345678"), GeneveOptions(data=b"1234")]
            )
            / inner(ip)
        ),
    ),
    "geneve, IP": (1, lambda ip: udp(6081) / GENEVE(vni=9, proto=0x0800) / Raw(ip)),
    "gre": (1, lambda ip: frame() / OUTER4 / GRE(proto=0x0800) / Raw(ip)),
    "gre with everything": (
        1,
        lambda ip: (
            frame()
            / OUTER4
            / GRE(proto=0x0800, chksum_present=1, key_present=1, seqnum_present=1, key=5, sequence_number=3)
            / Raw(ip)
        ),
    ),
    "gre in IPv6": (1, lambda ip: frame() / OUTER6 / GRE(proto=0x0800) / Raw(ip)),
    "gre bridge (gretap)": (1, lambda ip: frame() / OUTER4 / GRE(proto=0x6558) / inner(ip)),
    "gre in UDP": (1, lambda ip: udp(4754) / GRE(proto=0x6558) / inner(ip)),
    "nvgre": (1, lambda ip: frame() / OUTER4 / GRE(proto=0x6558, key_present=1, key=0x123401) / inner(ip)),
    "pptp": (
        1,
        lambda ip: (
            frame()
            / OUTER4
            / GRE_PPTP(seqnum_present=1, acknum_present=1, payload_len=1)
            / PPP(proto=0x21)
            / Raw(ip)
        ),
    ),
    "erspan I": (1, lambda ip: frame() / OUTER4 / GRE(proto=0x88BE) / inner(ip)),
    "erspan II": (
        1,
        lambda ip: frame() / OUTER4 / GRE(proto=0x88BE, seqnum_present=1) / ERSPAN_II(vlan=5) / inner(ip),
    ),
    "erspan III": (
        1,
        lambda ip: frame() / OUTER4 / GRE(proto=0x22EB, seqnum_present=1) / ERSPAN_III(o=0) / inner(ip),
    ),
    "erspan III, platform": (
        1,
        lambda ip: (
            frame()
            / OUTER4
            / GRE(proto=0x22EB, seqnum_present=1)
            / ERSPAN_III(o=1)
            / ERSPAN_PlatformSpecific()
            / inner(ip)
        ),
    ),
    "mpls": (1, lambda ip: frame(0x8847) / MPLS(label=16, s=1) / Raw(ip)),
    "mpls, eight labels": (
        1,
        lambda ip: frame(0x8847) / Raw(b"\x00\x01\x00\x40" * 7) / MPLS(label=17, s=1) / Raw(ip),
    ),
    "pseudowire with control word": (
        1,
        lambda ip: frame(0x8847) / MPLS(label=16, s=1) / EoMCW() / inner(ip),
    ),
    "pseudowire": (1, lambda ip: frame(0x8847) / MPLS(label=16, s=1) / Raw(bytes(inner(ip)))),
    "pseudowire, address that looks like IPv4": (
        1,
        lambda ip: frame(0x8847) / MPLS(label=16, s=1) / Raw(b"\x45\x10" + bytes(inner(ip))[2:]),
    ),
    "mpls in gre": (1, lambda ip: frame() / OUTER4 / GRE(proto=0x8847) / MPLS(label=16, s=1) / Raw(ip)),
    "mpls in IP": (1, lambda ip: frame() / IP(src="1.2.3.4", proto=137) / MPLS(label=16, s=1) / Raw(ip)),
    "mpls in UDP": (1, lambda ip: udp(6635) / MPLS(label=16, s=1) / Raw(ip)),
    "IP in IP": (1, lambda ip: frame() / IP(src="198.51.100.1", proto=4) / Raw(ip)),
    "4in6": (1, lambda ip: frame() / IPv6(src="2001:db8:1::1", nh=4) / Raw(ip)),
    "4in6 behind extension headers": (
        1,
        lambda ip: frame() / OUTER6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(nh=4) / Raw(ip),
    ),
    "EtherIP": (1, lambda ip: frame() / IP(src="198.51.100.1", proto=97) / Raw(b"\x30\x00") / inner(ip)),
    "llc snap": (1, lambda ip: Dot3(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / SNAP_IP / Raw(ip)),
    "llc snap, 802.1H": (
        1,
        lambda ip: (
            Dot3(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
            / LLC(dsap=0xAA, ssap=0xAA, ctrl=3)
            / SNAP(OUI=0xF8, code=0x0800)
            / Raw(ip)
        ),
    ),
    "llc snap in a VLAN": (1, lambda ip: frame() / Dot1Q(vlan=3, type=1000) / SNAP_IP / Raw(ip)),
    "llc": (
        1,
        lambda ip: (
            Dot3(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / LLC(dsap=6, ssap=6, ctrl=3) / Raw(ip)
        ),
    ),
    "gtp-u": (1, lambda ip: udp(2152) / GTP_U_Header(teid=5, gtp_type=255) / Raw(ip)),
    "gtp-u with sequence": (
        1,
        lambda ip: udp(2152) / GTP_U_Header(teid=5, gtp_type=255, S=1, seq=1) / Raw(ip),
    ),
    "gtp-u with extensions": (
        1,
        lambda ip: (
            udp(2152)
            / Raw(struct.pack("!BBHIHBB", 0x34, 255, len(ip) + 8, 5, 0, 0, 0x85))
            / GTPPDUSessionContainer(ExtHdrLen=1, QFI=9)
            / Raw(ip)
        ),
    ),
    "pppoe": (1, lambda ip: frame(0x8864) / PPPoE(sessionid=1) / PPP(proto=0x21) / Raw(ip)),
    "pppoe, short protocol": (1, lambda ip: frame(0x8864) / PPPoE(sessionid=1) / Raw(b"\x21" + ip)),
    "pppoe in a VLAN": (
        1,
        lambda ip: frame() / Dot1Q(vlan=7, type=0x8864) / PPPoE(sessionid=1) / PPP(proto=0x21) / Raw(ip),
    ),
    "pppoe, link type": (51, lambda ip: bytes(PPPoE(sessionid=1) / PPP(proto=0x21) / Raw(ip))),
    "l2tp": (1, lambda ip: udp(1701) / L2TP() / PPP(proto=0x21) / Raw(ip)),
    "l2tp with length, sequence, offset": (
        1,
        lambda ip: (
            udp(1701)
            / Raw(struct.pack("!HHHHHHHxx", 0x4A02, len(ip) + 20, 1, 2, 3, 4, 2) + b"\xff\x03\x00\x21")
            / Raw(ip)
        ),
    ),
    "l2tp version 3 with a cookie": (
        1,
        lambda ip: (
            frame()
            / IP(src="9.9.9.9", proto=115)
            / Raw(struct.pack("!IQ", 7, 0xFFEEDDCCBBAA9988))
            / inner(ip)
        ),
    ),
    "qinq": (1, lambda ip: frame() / Dot1AD(vlan=5) / Dot1Q(vlan=6, type=0x0800) / Raw(ip)),
    "802.1ah": (1, lambda ip: frame() / Dot1AD(vlan=5) / Dot1AH(isid=77) / inner(ip)),
    "802.1ah, customer's VLANs": (
        1,
        lambda ip: (
            frame(0x88E7) / Dot1AH(isid=77) / frame() / Dot1AD(vlan=5) / Dot1Q(vlan=6, type=0x0800) / Raw(ip)
        ),
    ),
    "loopback": (0, lambda ip: Loopback(type=2) / Raw(ip)),
    "802.11": (
        105,
        lambda ip: Dot11(type=2, FCfield=1, addr1="02:00:00:00:00:01") / SNAP_IP / Raw(ip),
    ),
    "radiotap, QoS": (
        127,
        lambda ip: (
            RadioTap(present="TSFT+Flags+Rate", mac_timestamp=1, Flags=0, Rate=2)
            / Dot11(type=2, subtype=8, FCfield=2)
            / Dot11QoS()
            / SNAP_IP
            / Raw(ip)
        ),
    ),
    "radiotap, padded, between access points": (
        127,
        lambda ip: (
            RadioTap(present="Flags", Flags="pad")
            / Raw(bytes(Dot11(type=2, subtype=8, FCfield=3, addr4="02:00:00:00:00:09") / Dot11QoS()))
            / Raw(bytes(SNAP_IP))
            / Raw(ip)
        ),
    ),
    "prism": (
        119,
        lambda ip: (
            struct.pack("<II", 0x44, 144) + bytes(136) + bytes(Dot11(type=2, FCfield=1) / SNAP_IP / Raw(ip))
        ),
    ),
    "ppi": (192, lambda ip: struct.pack("<BBHI", 0, 0, 8, 1) + bytes(inner(ip))),
    "pktap": (258, lambda ip: struct.pack("<III", 108, 1, 1) + bytes(96) + bytes(inner(ip))),
    "nflog": (
        239,
        lambda ip: b"\x02\0\0\0" + attribute(1, b"\x08\0\1\0") + attribute(10, b"x\0") + attribute(9, ip),
    ),
    "nflog of a big-endian machine": (
        239,
        lambda ip: b"\x02\0\0\0" + attribute(1, b"\x08\0\1\0", ">") + attribute(9, ip, ">"),
    ),
    "pflog": (117, lambda ip: bytes([61]) + bytes(63) + ip),
    "cisco hdlc": (104, lambda ip: b"\x0f\0\x08\0" + ip),
    "frame relay": (107, lambda ip: b"\x18\x41\x03\xcc" + ip),
    "frame relay, snap": (107, lambda ip: b"\x18\x41\x03\0\x80\0\0\0\x08\0" + ip),
    "atm": (100, lambda ip: bytes(SNAP_IP) + ip),
    "ppp with direction": (204, lambda ip: b"\x01\xff\x03\0\x21" + ip),
    "erf in pcap": (
        197,
        lambda ip: (
            bytes(8) + struct.pack("!BBHHHH", 2, 4, 34 + len(ip), 0, 14 + len(ip), 0) + bytes(inner(ip))
        ),
    ),
}


SIX = {
    "6in4": lambda ip: frame() / IP(src="198.51.100.1", proto=41) / Raw(ip),
    "6in6": lambda ip: frame() / IPv6(src="2001:db8:1::1", nh=41) / Raw(ip),
    "teredo": lambda ip: udp(3544) / Raw(bytes(8)) / Raw(ip),
    "vxlan": lambda ip: udp(4789) / VXLAN(flags=8) / inner(ip),
    "mpls": lambda ip: frame(0x8847) / MPLS(label=16, s=1) / Raw(ip),
    "pppoe": lambda ip: frame(0x8864) / PPPoE(sessionid=1) / PPP(proto=0x57) / Raw(ip),
    "gtp-u": lambda ip: udp(2152) / GTP_U_Header(teid=5, gtp_type=255) / Raw(ip),
    "gre": lambda ip: frame() / OUTER4 / GRE(proto=0x86DD) / Raw(ip),
}
