# SPDX-License-Identifier: GPL-2.0-only
"""Every link type and IP header leads to the same segments."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from dissectors.framing.events import Endpoint
from suites.selftest.dissectors.capture.capture_mutations import (
    Packet,
    dialogue,
    packets,
    record,
    said,
    save,
    story,
)

TURNS = dialogue(5, turns=8, longest=5000)
MACS = bytes(12)
V4, V6 = b"\x08\x00", b"\x86\xdd"
ENDS6 = (Endpoint("2001:db8::1", 4), Endpoint("2001:db8::2", 6))

HEADERS = {
    "ethernet": (1, MACS + V4),
    "vlan": (1, MACS + b"\x81\x00\x00\x05" + V4),
    "qinq": (1, MACS + b"\x88\xa8\x00\x05\x81\x00\x00\x06" + V4),
    "pppoe": (1, MACS + b"\x88\x64\x11\x00\x00\x01\x00\x00\x00\x21"),
    "sll": (113, bytes(14) + V4),
    "sll vlan": (113, bytes(14) + b"\x81\x00\x00\x05" + V4),
    "sll2": (276, V4 + bytes(18)),
    "null little": (0, b"\x02\0\0\0"),
    "null big": (0, b"\0\0\0\x02"),
    "loop": (108, b"\0\0\0\x02"),
    "raw 12": (12, b""),
    "raw 14": (14, b""),
    "raw": (101, b""),
    "ipv4": (228, b""),
    "ppp": (9, b"\x00\x21"),
    "ppp short": (9, b"\x21"),
    "ppp hdlc": (50, b"\xff\x03\x00\x21"),
}
HEADERS6 = {
    "ethernet": (1, MACS + V6),
    "sll2": (276, V6 + bytes(18)),
    "null": (0, b"\x1e\0\0\0"),
    "ipv6": (229, b""),
}


@pytest.mark.parametrize("name", HEADERS)
def test_link_types(tmp_path: Path, name: str) -> None:
    link, prefix = HEADERS[name]
    every = packets(record(tmp_path / "a", TURNS))
    assert story(save(tmp_path / "b", every, link, prefix)).says() == said(TURNS)


@pytest.mark.parametrize("name", HEADERS6)
def test_link_types_of_ipv6(tmp_path: Path, name: str) -> None:
    link, prefix = HEADERS6[name]
    every = packets(record(tmp_path / "a", TURNS, ends=ENDS6))
    assert story(save(tmp_path / "b", every, link, prefix)).says() == said(TURNS)


def test_padding_of_short_ethernet_frames_is_no_data(tmp_path: Path) -> None:
    turns = [*TURNS, *((side, b"x") for side, _ in TURNS)]
    every = [
        replace(p, data=p.data + b"PADDING", wire=p.wire + 7) for p in packets(record(tmp_path / "a", turns))
    ]
    assert story(save(tmp_path / "b", every, 1, MACS + V4)).says() == said(turns)


def test_ipv4_options_and_lengths_left_to_the_hardware(tmp_path: Path) -> None:
    every = packets(record(tmp_path / "a", TURNS))
    options = [
        replace(
            p,
            data=b"\x46"
            + p.data[1:2]
            + struct.pack("!H", len(p.data) + 4)
            + p.data[4:20]
            + b"\1" * 4
            + p.data[20:],
            wire=p.wire + 4,
        )
        for p in every
    ]
    assert story(save(tmp_path / "b", options)).says() == said(TURNS)
    unsized = [replace(p, data=p.data[:2] + b"\0\0" + p.data[4:]) for p in every]
    assert story(save(tmp_path / "c", unsized)).says() == said(TURNS)


def fragments(packet: Packet, ident: int, size: int = 480) -> Iterable[Packet]:
    """An IPv4 packet in pieces, the last one first."""
    head, body = packet.data[:20], packet.data[20:]
    starts = list(range(0, len(body), size))
    for start in reversed(starts):
        more = 0x2000 if start != starts[-1] else 0
        part = body[start : start + size]
        field = struct.pack("!HHH", 20 + len(part), ident, more | start // 8)
        yield Packet(packet.time, head[:2] + field + head[8:] + part, 20 + len(part))


def test_ipv4_fragments(tmp_path: Path) -> None:
    every = packets(record(tmp_path / "a", TURNS, segment=3000))
    pieces = [piece for index, packet in enumerate(every) for piece in fragments(packet, index)]
    assert story(save(tmp_path / "b", pieces)).says() == said(TURNS)


def with_headers(packet: Packet, headers: bytes, first: int) -> Packet:
    """An IPv6 packet with extension headers, the first of them of type `first`."""
    size = struct.pack("!H", len(packet.data) - 40 + len(headers))
    data = packet.data[:4] + size + bytes([first]) + packet.data[7:40] + headers + packet.data[40:]
    return Packet(packet.time, data, len(data))


@pytest.mark.parametrize(
    ("first", "headers"),
    [
        (0, b"\x06\x00" + bytes(6)),  # hop by hop
        (60, b"\x2b\x01" + bytes(14) + b"\x06\x00" + bytes(6)),  # destination, routing
        (51, b"\x06\x04" + bytes(22)),  # authentication
        (44, b"\x06\x00\x00\x00" + bytes(4)),  # a fragment that is whole
    ],
)
def test_ipv6_extension_headers(tmp_path: Path, first: int, headers: bytes) -> None:
    every = packets(record(tmp_path / "a", TURNS, ends=ENDS6))
    found = story(save(tmp_path / "b", [with_headers(p, headers, first) for p in every]))
    assert found.says() == said(TURNS)


def test_ipv6_fragments(tmp_path: Path) -> None:
    pieces = []
    for ident, packet in enumerate(packets(record(tmp_path / "a", TURNS, segment=3000, ends=ENDS6))):
        body = packet.data[40:]
        for start in range(0, len(body), 800):
            field = start | (start + 800 < len(body))
            part = replace(packet, data=packet.data[:40] + body[start : start + 800])
            pieces.append(with_headers(part, struct.pack("!BBHI", 6, 0, field, ident), 44))
    assert story(save(tmp_path / "b", pieces)).says() == said(TURNS)
