# SPDX-License-Identifier: GPL-2.0-only
"""Truncated, lying and hostile captures of every kind give events, a note or one line: nothing else."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP

from dissectors.capture import CaptureError
from dissectors.capture.reader import EventReader
from dissectors.framing.events import Event, Message
from dissectors.wire.constants import Side
from suites.selftest.dissectors.capture.capture_mutations import (
    LINK,
    Packet,
    Turn,
    dialogue,
    packets,
    record,
    save,
)
from suites.selftest.dissectors.capture.test_capture_tls import framed
from suites.selftest.dissectors.capture.test_connection_attempts import CLIENT, ROUTER, answer, ip, syn
from suites.selftest.dissectors.capture.test_proxies import HEADERS, OK, SOCKS, TICKET, connect
from suites.selftest.dissectors.capture.tunnel_headers import WRAPS, frame

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
TURNS = dialogue(8, turns=4, longest=400)
TLS: list[Turn] = [
    (Side.CLIENT, b"\x16\3\1\0\x2d\1\0\0\x29\3\3" + bytes(32) + b"\0\0\2\x13\1\1\0\0\0"),
    (Side.SERVER, b"\x16\3\3\0\x30\2\0\0\x2c\3\3" + bytes(range(32)) + b"\0\x13\1\0\0\4\0\x2b\0\0"),
    (Side.SERVER, b"\x16\3\3\0\x0e\x0b\0\0\x0a\0\0\7\0\0\4abcd\x15\3\3\0\2\2\x2a"),
]
STREAMS: dict[str, list[Turn]] = {
    "plain": TURNS,
    "websocket": framed(TURNS),
    "connect": [(Side.CLIENT, connect(TICKET)), (Side.SERVER, OK), *TURNS],
    "socks": [*SOCKS["5"][0], *TURNS],
    "proxy": [(Side.CLIENT, HEADERS["2"][0]), *TURNS],
    "tls": TLS,
    "alert": [(Side.CLIENT, LINK), (Side.SERVER, b"\x15\3\3\0\2\2\x46")],
}


@cache
def stream(folder: Path, kind: str) -> list[Packet]:
    return packets(record(folder / "stream", STREAMS[kind]))


@cache
def original(folder: Path, kind: str, wrap: str, pack: str) -> bytes:
    """A capture file of one kind of connection in one kind of packets."""
    link, wrapper = WRAPS[wrap]
    every = [bytes(wrapper(packet.data)) for packet in stream(folder, kind)]
    timed = [Packet(1_700_000_000 + n / 1000, data, len(data)) for n, data in enumerate(every)]
    return PACKERS[pack](save(folder / "original", timed, link).read_bytes())


@cache
def blocks(folder: Path) -> bytes:
    """Our own pcapng file, with every block that the writer has."""
    return record(folder / "own", TURNS).read_bytes()


@cache
def failures(folder: Path) -> bytes:
    """Attempts that fail, and ICMP."""
    icmp = ip(ROUTER, CLIENT) / ICMP(type=3, code=1) / bytes(syn())
    every = [bytes(frame(0x0800) / packet) for packet in (syn(), icmp, syn(port=7), answer("RA"))]
    return save(folder / "f", [Packet(1.7e9, data, len(data)) for data in every], 1).read_bytes()


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[str, float, int]]:
    """A change of a file: (kind, place as a share of the file's size, bytes)."""
    what = st.sampled_from(["byte", "cut", "zeros", "ones", "double", "insert", "size"])
    change = st.tuples(what, st.floats(0, 1), st.integers(0, 255))
    return draw(st.lists(change, min_size=1, max_size=8))


def spoiled(data: bytes, todo: list[tuple[str, float, int]]) -> bytes:
    """The file after these changes."""
    spoilt = bytearray(data)
    for what, share, value in todo:
        place = int(share * len(spoilt))
        if what == "byte" and place < len(spoilt):
            spoilt[place] = value
        elif what == "cut":
            del spoilt[place:]
        elif what in ("zeros", "ones"):
            size = min(value, len(spoilt) - place)
            spoilt[place : place + size] = (b"\0" if what == "zeros" else b"\xff") * size
        elif what == "double":
            spoilt[place:place] = spoilt[place : place + value]
        elif what == "insert":
            spoilt[place:place] = bytes(value)
        elif place + 4 <= len(spoilt):
            struct.pack_into("<I", spoilt, place, value * 7919)
    return bytes(spoilt)


def read(path: Path) -> list[Event]:
    """All results of a reading; a CaptureError must be one line."""
    found: list[Event] = []
    reason = ""
    try:
        reader = EventReader([path])
        for event in reader:
            found.append(event)
            if isinstance(event, Message):
                repr(event.name)
        assert all(len(note.splitlines()) == 1 for note in reader.notes)
    except CaptureError as error:
        reason = str(error)
    assert len(reason.splitlines()) <= 1
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


FEW = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FEW
@given(
    kind=st.sampled_from(sorted(STREAMS)),
    wrap=st.sampled_from(sorted(WRAPS)),
    pack=st.sampled_from(["plain"] * 4 + sorted(PACKERS)),
    todo=changes(),
)
def test_spoiled_captures(
    folder: Path, kind: str, wrap: str, pack: str, todo: list[tuple[str, float, int]]
) -> None:
    path = folder / "spoiled"
    path.write_bytes(spoiled(original(folder, kind, wrap, pack), todo))
    read(path)


@FEW
@given(which=st.sampled_from([blocks, failures]), todo=changes())
def test_spoiled_blocks_and_failures(
    folder: Path, which: Callable[[Path], bytes], todo: list[tuple[str, float, int]]
) -> None:
    path = folder / "spoiled"
    path.write_bytes(spoiled(which(folder), todo))
    read(path)


@FEW
@given(
    link=st.sampled_from([0, *range(1, 20), *range(100, 130), *range(190, 300)]), data=st.binary(max_size=200)
)
def test_random_packets_of_every_link_type(folder: Path, link: int, data: bytes) -> None:
    path = folder / "random"
    read(save(path, [Packet(1.7e9, data, len(data))], link))
