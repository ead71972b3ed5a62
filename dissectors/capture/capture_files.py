# SPDX-License-Identifier: GPL-2.0-only
"""Reads pcap and pcapng files into records, whole blocks of the file at a time.

Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, Wireshark's wiretap for the pcap variants.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

from dissectors.capture.capture_items import CaptureError, Wait
from dissectors.capture.file_bytes import Source
from dissectors.capture.file_kinds import describe
from dissectors.capture.pcapng_reader import SECTION, Pcapng
from dissectors.capture.record import IDLE, LIMIT, Format, Progress, Record
from dissectors.capture.time_order import Order

#: This many records with so few bytes on average are no capture (a few bytes that unpack to gigabytes).
MANY, EMPTY = 10_000, 17
#: Records that are looked at to tell the size of their headers, and how far apart (s) they may be.
LOOKED_AT, YEARS = 4, 1 << 28

_time = itemgetter(0)


class Pcap:
    """The classic format; `magic` tells byte order, fraction of a second and record header."""

    own = several = False
    #: magic: (ticks a second, bytes after the record header, bytes after the file header)
    VARIANTS = {
        0xA1B2C3D4: (1_000_000, 0, 0),
        0xA1B23C4D: (1_000_000_000, 0, 0),
        0xA1B2CD34: (1_000_000, 8, 0),  # "modified" (Kuznetzov)
        0x1C0001AC: (1_000_000_000, 0, 4),  # Ixia, hardware
        0x1C0001AB: (1_000_000_000, 0, 4),  # Ixia, software
    }
    HEADER = 24

    def __init__(self, header: bytes, order: str, file: int) -> None:
        magic, _major, _minor, _zone, _accuracy, _snap, link = struct.unpack(order + "IHHiIII", header)
        self._ticks, extra, self.skip = self.VARIANTS[magic]
        self._byte_order = order
        self._header = struct.Struct(f"{order}IIII{extra}x")
        self._link = link & 0xFFFF  # above: length of the frame check sequence
        self._file = file
        self._frame = 0

    def choose_header(self, buffer: bytes) -> None:
        """Some systems wrote longer record headers without another magic (Nokia, Red Hat 6.1, SuSE 6.3)."""
        if self._fits(buffer, self._header):
            return
        for extra in (4, 8, 12):
            header = struct.Struct(f"{self._byte_order}IIII{extra}x")
            if self._fits(buffer, header):
                self._header = header
                return

    def _fits(self, buffer: bytes, header: struct.Struct) -> bool:
        """Whether the first records could have headers of this size."""
        position, first = self.HEADER + self.skip, None
        for _ in range(LOOKED_AT):
            if position + header.size > len(buffer):
                break
            seconds, fraction, captured, wire = header.unpack_from(buffer, position)
            first = seconds if first is None else first
            if captured > min(wire, LIMIT) or fraction >= self._ticks or abs(seconds - first) > YEARS:
                return False
            position += header.size + captured
        return first is not None

    def parse(self, buffer: bytes, position: int, out: list[Record]) -> int:
        """See `Format`."""
        unpack, size, ticks, link = self._header.unpack_from, self._header.size, self._ticks, self._link
        frame, last, file = self._frame, len(buffer), self._file
        while (start := position + size) <= last:
            seconds, fraction, captured, wire = unpack(buffer, position)
            if captured > LIMIT:
                raise ValueError(f"damaged: frame {frame + 1} claims {captured} bytes")
            end = start + captured
            if end > last:
                break
            frame += 1
            out.append((seconds + fraction / ticks, frame, link, buffer, start, end, wire, file))
            position = end
        self._frame = frame
        return position


def open_format(buffer: bytes, file: int) -> tuple[Format, int] | None:
    """The format and where its records begin; None if more bytes are needed; ValueError if it is neither."""
    if buffer[:4] == SECTION[: len(buffer)]:
        return (Pcapng(file), 0) if len(buffer) >= 4 else None
    if len(buffer) >= 4:
        for order in "<>":
            if struct.unpack_from(order + "I", buffer)[0] in Pcap.VARIANTS:
                if len(buffer) < Pcap.HEADER:
                    return None
                pcap = Pcap(buffer[: Pcap.HEADER], order, file)
                pcap.choose_header(buffer)
                return pcap, Pcap.HEADER + pcap.skip
        raise ValueError(describe(buffer))
    return None


class CaptureFile:
    """One capture file; `index` is its place among those that are read together.

    `records` can be iterated once.
    """

    def __init__(
        self, path: Path, index: int = 0, follow: Wait | None = None, progress: Progress | None = None
    ) -> None:
        self._index = index
        self._source = Source(path, follow)
        self._progress = progress
        self._format: Format | None = None
        self._order = Order()
        self._held: list[Record] = []  # of a recording of this project, until all of it is there
        self.broken_off = False  # the following was ended in the middle of a record
        self.first: float | None = None  # time of the first packet
        self.last = 0.0  # time of the last packet so far

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self._source.name

    @property
    def own(self) -> bool:
        """Whether this project recorded it (known from the first record on)."""
        return self._format is not None and self._format.own

    def records(self) -> Iterator[Record]:
        """The records of all batches."""
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[list[Record]]:
        """The records in the order of their times, as many as a block of the file holds at a time (all of a
        recording of this project's: it is small).

        Raises CaptureError after the last good record where the file is damaged, cut or no capture; a
        followed file may end in the middle of a record.
        """
        try:
            yield from self._blocks()
        except CaptureError:
            yield self._rest()
            raise

    def _blocks(self) -> Iterator[list[Record]]:
        """See `batches`, which also yields the records that are held when this raises."""
        source, followed = self._source, self._source.following
        buffer, position = b"", 0
        try:
            while (block := source.read()) != b"":
                if block is None:
                    yield [*self._rest(), (0.0, 0, IDLE, b"", 0, 0, 0, self._index)]
                    if not source.wait():
                        break
                    continue
                buffer = buffer[position:] + block
                position = 0
                if self._format is None:
                    opened = self._open(buffer)
                    if opened is None:
                        continue
                    self._format, position = opened
                    if position > len(buffer):
                        raise source.error("cut in its header")
                batch: list[Record] = []
                damage: ValueError | None = None
                try:
                    position = self._format.parse(buffer, position, batch)
                except ValueError as error:
                    damage = error
                if len(batch) > MANY and position < EMPTY * len(batch):
                    damage = ValueError(f"damaged: nothing but empty records up to frame {batch[-1][1]}")
                yield self._in_order(batch)
                if damage is not None:
                    raise source.error(str(damage))
                if self._progress:
                    self._progress(source.done, source.size)
            yield self._rest()
            self.broken_off = followed and position < len(buffer)
            self._check_end(len(buffer) - position, followed and source.regular)
        finally:
            source.close()

    @property
    def several_interfaces(self) -> bool:
        """Whether the file has described several interfaces so far."""
        return self._format is not None and self._format.several

    def _in_order(self, batch: list[Record]) -> list[Record]:
        """The next records; notes their times."""
        if self.own:  # in the order of recording: the recorder gets a host's event later than it happened
            self._held += batch
            ordered = self._rest() if self._source.following else []
        else:
            if self._format is not None and self._format.several:
                self._order.several()
            ordered = self._order.take(batch)
            if self._order.in_order and ordered and ordered[0][2] >= 0 <= ordered[-1][2]:
                batch = [ordered[0], ordered[-1]]
        times = [record[0] for record in batch if record[2] >= 0]
        if times:
            self.first = min(times if self.first is None else (self.first, *times))
            self.last = max(self.last, max(times))
        return ordered

    def _rest(self) -> list[Record]:
        """The records that were held to sort them."""
        held, self._held = sorted(self._held, key=_time), []
        return held + self._order.rest()

    def _open(self, buffer: bytes) -> tuple[Format, int] | None:
        try:
            return open_format(buffer, self._index)
        except ValueError as error:
            raise self._source.error(str(error)) from None

    def _check_end(self, rest: int, followed: bool) -> None:
        if self._source.done == 0:
            raise self._source.error("the file is empty")
        if self._format is None:
            raise self._source.error("not a capture file (too short)")
        if rest and not followed:
            raise self._source.error("cut: its last record is not whole")
