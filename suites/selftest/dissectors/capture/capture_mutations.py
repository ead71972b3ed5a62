# SPDX-License-Identifier: GPL-2.0-only
"""Captures for the self-tests of the capture reader, and changes that a network or a capture host makes to
them."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from dissectors.capture import AnyItem, Begin, CaptureError, Chunk, End, Gap, Note, read
from dissectors.capture.capture_files import CaptureFile
from dissectors.capture.pcapng_writer import PcapngWriter
from dissectors.framing.events import Ending, Endpoint
from dissectors.wire.constants import Side

CLIENT, SERVER = Endpoint("192.0.2.1", 40_000), Endpoint("192.0.2.2", 49_215)
START = 1_700_000_000.0
#: A link message: REDQ, version 2.2, size 18, connection id, main channel 0, no capabilities (at offset 18).
LINK = b"REDQ" + struct.pack("<IIIIBBIII", 2, 2, 18, 0x89ABCDEF, 1, 0, 0, 0, 18)

Turn = tuple[Side, bytes]


@dataclass(frozen=True)
class Packet:
    """One record: the raw IP packet, its time and its size on the wire."""

    time: float
    data: bytes
    wire: int

    @property
    def payload(self) -> bytes:
        """The TCP payload (IPv4 without options)."""
        return self.data[20 + (self.data[32] >> 4) * 4 :]


def dialogue(seed: int = 1, turns: int = 20, longest: int = 20_000) -> list[Turn]:
    """A capture in which both ends send REDQ, then random bytes, in random order."""
    random = Random(seed)
    said = [
        (side, random.randbytes(random.randint(1, longest))) for side in random.choices(list(Side), k=turns)
    ]
    return [(Side.CLIENT, LINK), (Side.SERVER, LINK), *said]


def said(turns: Iterable[Turn]) -> dict[Side, bytes]:
    """All bytes of each end."""
    whole: dict[Side, bytes] = dict.fromkeys(Side, b"")
    for side, data in turns:
        whole[side] += data
    return whole


def record(
    path: Path,
    turns: Iterable[Turn],
    *,
    segment: int = 1448,
    how: Ending = Ending.CLOSED,
    ends: tuple[Endpoint, Endpoint] = (CLIENT, SERVER),
) -> Path:
    """A capture of one connection in segments of `segment` bytes, a millisecond apart."""
    with path.open("wb") as file:
        writer = PcapngWriter(file, epoch=START)
        writer.open_connection(1, *ends, 0.0)
        time = 0.0
        for side, data in turns:
            for start in range(0, len(data), segment):
                time += 0.001
                writer.segment(1, side, data[start : start + segment], time)
        writer.close_connection(1, how, Side.SERVER, time + 0.001)
        if how is Ending.CLOSED:
            writer.close_connection(1, how, Side.CLIENT, time + 0.002)
    return path


def packets(path: Path) -> list[Packet]:
    """The packets of a capture of raw IP."""
    return [
        Packet(time, buffer[start:end], wire)
        for time, _, link, buffer, start, end, wire, _ in CaptureFile(path).records()
        if link >= 0
    ]


def save(path: Path, packets: Iterable[Packet], link: int = 101, prefix: bytes = b"") -> Path:
    """A pcap file; `prefix` is put before every packet, for other link types than raw IP."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, link))
        for packet in packets:
            seconds, fraction = divmod(round(packet.time * 1e6), 1_000_000)
            sizes = (len(prefix) + len(packet.data), len(prefix) + packet.wire)
            file.write(struct.pack("<IIII", seconds, fraction, *sizes) + prefix + packet.data)
    return path


def shuffled(packets: Sequence[Packet], seed: int, distance: int = 6) -> list[Packet]:
    """The packets, each moved by up to about `distance` places."""
    random = Random(seed)
    order = sorted(range(len(packets)), key=lambda index: index + random.uniform(0, distance))
    return [packets[index] for index in order]


def duplicated(packets: Sequence[Packet], seed: int) -> list[Packet]:
    """The packets with a third of them repeated, some of the copies later."""
    random = Random(seed)
    result = list(packets)
    for packet in random.sample(list(packets), len(packets) // 3):
        result.insert(min(result.index(packet) + random.choice((1, 1, 1, 5, 20)), len(result)), packet)
    return result


def without(packets: Sequence[Packet], lost: Iterable[int]) -> list[Packet]:
    """The packets without those at these places."""
    gone = set(lost)
    return [packet for index, packet in enumerate(packets) if index not in gone]


def cut(packets: Iterable[Packet], snap: int) -> list[Packet]:
    """The packets cut to a snap length."""
    return [replace(packet, data=packet.data[:snap]) for packet in packets]


def overlapping(packets: Iterable[Packet], seed: int) -> list[Packet]:
    """The packets, some of which begin with bytes that were sent before, now wrong (the first copy
    counts)."""
    random = Random(seed)
    sent: dict[bytes, int] = defaultdict(int)
    result: list[Packet] = []
    for packet in packets:
        key, payload = packet.data[12:24], packet.payload
        again = random.randint(0, min(sent[key], 2000)) if payload else 0
        sent[key] += len(payload)
        result.append(extended(packet, again) if again + len(payload) < 65_000 else packet)
    return result


def extended(packet: Packet, again: int) -> Packet:
    """The packet with `again` zero bytes before its payload."""
    head = bytearray(packet.data[: len(packet.data) - len(packet.payload)])
    struct.pack_into("!I", head, 24, (struct.unpack_from("!I", head, 24)[0] - again) & 0xFFFFFFFF)
    data = bytes(head) + bytes(again) + packet.payload
    return replace(packet, data=data[:2] + struct.pack("!H", len(data)) + data[4:], wire=len(data))


@dataclass
class Story:
    """The result of a reading; `streams` by (connection, sender), a hole as None."""

    begins: list[Begin] = field(default_factory=list)
    streams: dict[tuple[int, Side], bytes] = field(default_factory=lambda: defaultdict(bytes))
    gaps: list[Gap] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    items: list[AnyItem] = field(default_factory=list)
    error: str | None = None

    def says(self, connection: int = 1) -> dict[Side, bytes]:
        """The bytes of each end of a connection."""
        return {side: self.streams[connection, side] for side in Side}


def story(*paths: Path, keylog: Path | None = None) -> Story:
    """Reads captures to the end."""
    result = Story()
    try:
        for item in read(paths, keylog=keylog):
            result.items.append(item)
            match item:
                case Begin():
                    result.begins.append(item)
                case Chunk():
                    assert item.ends[-1] == len(item.data)
                    result.streams[item.connection, item.sender] += item.data
                case Gap():
                    result.gaps.append(item)
                case End():
                    result.ends.append(item)
                case Note():
                    result.notes.append(item)
    except CaptureError as error:
        result.error = str(error)
        assert len(result.error.splitlines()) == 1
    return result
