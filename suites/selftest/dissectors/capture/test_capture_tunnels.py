# SPDX-License-Identifier: GPL-2.0-only
"""Every tunnel and link header, made with Scapy, leads to the same bytes; endless nesting is cut."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.contrib.mpls import MPLS, EoMCW
from scapy.layers.dot11 import Dot11
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1AD, Dot1Q
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from suites.selftest.dissectors.capture.capture_mutations import (
    Packet,
    packets,
    record,
    said,
    save,
    story,
)
from suites.selftest.dissectors.capture.tunnel_headers import (
    ENDS6,
    OUTER4,
    SIX,
    TURNS,
    WRAPS,
    Wrap,
    frame,
    inner,
    kind,
    udp,
)


def wrapped(packet: Packet, wrap: Wrap) -> Packet:
    data = bytes(wrap(packet.data))
    return Packet(packet.time, data, len(data))


@pytest.mark.parametrize("name", WRAPS)
def test_tunnels(tmp_path: Path, name: str) -> None:
    link, wrap = WRAPS[name]
    every = packets(record(tmp_path / "a", TURNS))
    found = story(save(tmp_path / "b", (wrapped(packet, wrap) for packet in every), link))
    assert found.says() == said(TURNS)
    assert not found.gaps


@pytest.mark.parametrize("name", SIX)
def test_tunnels_of_ipv6(tmp_path: Path, name: str) -> None:
    every = packets(record(tmp_path / "a", TURNS, ends=ENDS6))
    found = story(save(tmp_path / "b", (wrapped(packet, SIX[name]) for packet in every), 1))
    assert found.says() == said(TURNS)


def test_tunnels_in_tunnels(tmp_path: Path) -> None:
    """A container's overlay in a cloud's overlay, tagged and labelled."""
    every = packets(record(tmp_path / "a", TURNS))

    def deep(ip: bytes) -> ScapyPacket:
        tenant = udp(4789) / VXLAN(flags=8) / inner(ip)
        cloud = udp(6081) / GENEVE(proto=0x6558) / tenant
        return frame() / Dot1AD(vlan=5) / Dot1Q(vlan=6, type=0x8847) / MPLS(label=16, s=1) / EoMCW() / cloud

    found = story(save(tmp_path / "b", (wrapped(packet, deep) for packet in every), 1))
    assert found.says() == said(TURNS)


TAPS: dict[str, tuple[Wrap, Wrap]] = {
    "access port and trunk": (
        lambda ip: frame(kind(ip)) / Raw(ip),
        lambda ip: frame() / Dot1Q(vlan=7, type=kind(ip)) / Raw(ip),
    ),
    "guest and underlay": (inner, lambda ip: udp(4789) / VXLAN(flags=8) / inner(ip)),
}


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize("apart", [0.0, 0.00004, -0.0015])
def test_the_same_packets_at_two_taps(tmp_path: Path, taps: str, apart: float) -> None:
    """One connection, whichever tap shows a packet first."""
    every = []
    for packet in packets(record(tmp_path / "a", TURNS)):
        one, two = (wrapped(packet, wrap) for wrap in TAPS[taps])
        every += [one, replace(two, time=two.time + apart)]
    every.sort(key=lambda packet: packet.time)
    found = story(save(tmp_path / "b", every, 1))
    assert found.says() == said(TURNS)
    assert (len(found.begins), found.gaps) == (1, [])


def test_an_outer_datagram_in_fragments(tmp_path: Path) -> None:
    """The overlay's packets are larger than the path takes."""
    from scapy.layers.inet import fragment

    pieces = []
    for number, packet in enumerate(packets(record(tmp_path / "a", TURNS))):
        outer = OUTER4 / UDP(sport=1, dport=4789) / VXLAN(flags=8) / inner(packet.data)
        outer[IP].id = number
        pieces += [
            Packet(packet.time, bytes(part), len(part))
            for part in fragment(IP(bytes(outer)), fragsize=600)[::-1]
        ]
    found = story(save(tmp_path / "b", pieces))
    assert found.says() == said(TURNS)


@pytest.mark.parametrize("header", [bytes(OUTER4), bytes(Dot1Q(type=0x8100)), b"\x45" + bytes(19)])
def test_nested_tunnels_end(tmp_path: Path, header: bytes) -> None:
    header = bytes(IP(proto=4, len=60_000)) if header[0] == 0x45 else header
    bomb = Packet(1.0, bytes(frame(0x0800 if header[0] == 0x45 else 0x8100)) + header * 3000, 65_000)
    found = story(save(tmp_path / "a", [bomb] * 50, 1))
    assert found.begins == []
    assert found.notes[0].text == (
        "50 packets of nested tunnels were not read: they are more than 32 layers deep"
    )


@pytest.mark.parametrize(
    ("link", "data", "words"),
    [
        (
            1,
            bytes(frame() / OUTER4 / UDP(dport=51_820) / Raw(b"\4\0\0\0rest")),
            "WireGuard were not read: they are",
        ),
        (
            1,
            bytes(frame() / IP(src="9.9.9.9", proto=50) / Raw(b"spi.data")),
            "IPsec (ESP) were not read: they are",
        ),
        (1, bytes(frame(0x88E5)) + b"\x0c" + bytes(40), "MACsec (encrypted) were not read: capture on the"),
        (105, bytes(Dot11(type=2, FCfield=0x41)) + bytes(40), "802.11 (encrypted) were not read: capture on"),
        (147, bytes(60), "3 packets of link type 147 (user-defined) were not read; capture on an Ethernet"),
        (2999, bytes(60), "3 packets of link type 2999 were not read"),
        (239, bytes(60), "3 packets of link type 239 (NFLOG) hold only what a firewall rule has logged"),
    ],
)
def test_what_is_not_read_is_counted(tmp_path: Path, link: int, data: bytes, words: str) -> None:
    """The reader counts unreadable packets by kind, and says what to do."""
    other = save(tmp_path / "b", [Packet(1_700_000_000.0, data, len(data))] * 3, link)
    plain = save(tmp_path / "c", packets(record(tmp_path / "a", TURNS)))
    found = story(plain, other)
    assert found.says() == said(TURNS)
    (note,) = found.notes
    assert words in note.text


def test_cut_packets_are_reported_once(tmp_path: Path) -> None:
    every = [wrapped(p, WRAPS["vxlan"][1]) for p in packets(record(tmp_path / "a", TURNS))]
    found = story(save(tmp_path / "b", [replace(p, data=p.data[:120]) for p in every], 1))
    (note,) = found.notes
    count = sum(len(p.data) > 120 for p in every)
    assert note.text == (
        f"packets are cut at 120 bytes ({count} of {len(every)}); capture with -s 0 to keep all of them"
    )
    assert found.gaps
    assert all(gap.cut for gap in found.gaps)


def test_hostile_fragments_stay_small(tmp_path: Path) -> None:
    """Thousands of first pieces, and one datagram in eight-byte pieces that never ends."""
    head = b"\x45\0\0\x1c" + b"%c%c" + b"\x20\0\x40\6\0\0\1\2\3\4\5\6\7\x08"
    pieces = [
        Packet(1.0, head[:4] + struct.pack("!HH", number, 0x2000) + head[-12:] + bytes(8), 28)
        for number in range(5000)
    ]
    pieces += [
        Packet(2.0, head[:4] + struct.pack("!HH", 7, 0x2000 | number) + head[-12:] + bytes(8), 28)
        for number in range(8000)
    ]
    assert story(save(tmp_path / "a", pieces)).items == []
