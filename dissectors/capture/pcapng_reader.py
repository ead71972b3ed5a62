# SPDX-License-Identifier: GPL-2.0-only
"""pcapng blocks to records (draft-ietf-opsawg-pcapng)."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from dissectors.capture.record import JOURNAL, LIMIT, OWN_APPLICATION, SECRETS, Record

SECTION = b"\x0a\x0d\x0d\x0a"

# Block types.
SHB, IDB, PB, SPB, EPB, JEB, DSB = 0x0A0D0D0A, 1, 2, 3, 6, 9, 10
#: Blocks without a packet that Wireshark (4.0.17) counts as records: custom ones and those of sysdig.
COUNTED = frozenset({0x0BAD, 0x40000BAD, 0x204, 0x216, 0x221})
BYTE_ORDER = 0x1A2B3C4D
TLS_KEY_LOG = 0x544C534B

TIMESTAMP = b"__REALTIME_TIMESTAMP="

MOST_INTERFACES = 1 << 14  # of one section

# Option codes.
SHB_USERAPPL, IF_TSRESOL, IF_TSOFFSET = 4, 9, 14


class Interface:
    """An interface description; `ticks` per second, `offset` in seconds."""

    __slots__ = ("link", "offset", "snap", "ticks")

    def __init__(self, link: int, snap: int, options: Mapping[int, bytes], order: str) -> None:
        self.link = link
        self.snap = snap
        resolution = (options.get(IF_TSRESOL) or b"\x06")[0]
        self.ticks = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
        offset = options.get(IF_TSOFFSET, b"")
        self.offset: int = struct.unpack(order + "q", offset)[0] if len(offset) == 8 else 0


class Pcapng:
    """The sections of one file; frames are numbered through all of them."""

    def __init__(self, file: int) -> None:
        self.own = self.several = False
        self._file = file
        self._order = "<"
        self._interfaces: list[Interface] = []
        self._frame = 0
        self._time = 0.0

    def parse(self, buffer: bytes, position: int, out: list[Record]) -> int:
        """See `files.Format`."""
        last = len(buffer)
        head = struct.Struct(self._order + "IIIIIII").unpack_from
        file, interfaces = self._file, self._interfaces
        while position + 28 <= last:  # an Enhanced Packet Block has 32 bytes at least
            kind, size, index, high, low, captured, wire = head(buffer, position)
            if kind != EPB or not 32 <= size <= LIMIT:
                if not (end := self._block(buffer, position, out)):
                    return position
                position = end
                head = struct.Struct(self._order + "IIIIIII").unpack_from
                interfaces = self._interfaces
                continue
            end = position + (size + 3 & ~3)
            if end > last:
                return position
            start = position + 28
            stop = start + captured
            if index >= len(interfaces) or stop > end - 4:
                raise ValueError(f"damaged: frame {self._frame + 1} does not fit its block")
            interface = interfaces[index]
            self._time = time = (high << 32 | low) / interface.ticks + interface.offset
            self._frame += 1
            out.append((time, self._frame, interface.link, buffer, start, stop, wire, file))
            position = end
        while position + 12 <= last and (end := self._block(buffer, position, out)):
            position = end
        return position

    def _block(self, buffer: bytes, position: int, out: list[Record]) -> int:
        """A block of any sort; where the next one begins, or 0 if it is not all there."""
        if buffer[position : position + 4] == SECTION:
            self._set_order(buffer, position)
        kind, size = struct.unpack_from(self._order + "II", buffer, position)
        if size < 12 or size > LIMIT:
            raise ValueError(f"damaged: a block after frame {self._frame} claims {size} bytes")
        end = position + (int(size) + 3 & ~3)
        if end > len(buffer):
            return 0
        self._other(kind, buffer, position + 8, end - 4, out)
        return end

    def _set_order(self, buffer: bytes, position: int) -> None:
        for order in "<>":
            if struct.unpack_from(order + "I", buffer, position + 8)[0] == BYTE_ORDER:
                self._order = order
                return
        raise ValueError("damaged: a section without a byte order mark")

    def _other(self, kind: int, buffer: bytes, start: int, end: int, out: list[Record]) -> None:
        """Everything but an Enhanced Packet Block."""
        body = buffer[start:end]
        try:
            if kind == SHB:
                self._interfaces = []
                options = dict(self._options(body, 16))
                self.own = options.get(SHB_USERAPPL, b"").startswith(OWN_APPLICATION.encode())
            elif kind == IDB:
                link, snap = struct.unpack_from(self._order + "HxxI", body)
                if len(self._interfaces) >= MOST_INTERFACES:
                    raise ValueError(f"damaged: more than {MOST_INTERFACES} interfaces")
                options = dict(self._options(body, 8))
                self._interfaces.append(Interface(link, snap, options, self._order))
                self.several = self.several or len(self._interfaces) > 1
            elif kind == SPB:
                self._simple(buffer, start, end, out)
            elif kind == PB:
                self._obsolete(buffer, start, end, out)
            elif kind == JEB:
                self._time = journal_time(body, self._time)
                self._frame += 1
                out.append((self._time, self._frame, JOURNAL, body, 0, len(body), len(body), self._file))
            elif kind == DSB:
                what, size = struct.unpack_from(self._order + "II", body)
                if what == TLS_KEY_LOG:
                    stop = min(8 + size, len(body))
                    out.append((self._time, self._frame, SECRETS, body, 8, stop, size, self._file))
            elif kind == EPB:
                raise IndexError  # too short for its own header
            elif kind in COUNTED:
                self._frame += 1
        except (struct.error, IndexError):
            raise ValueError(f"damaged: the block after frame {self._frame} is too short") from None

    def _simple(self, buffer: bytes, start: int, end: int, out: list[Record]) -> None:
        """A packet without a time: it gets that of the packet before it."""
        (wire,) = struct.unpack_from(self._order + "I", buffer, start)
        interface = self._interfaces[0]
        stop = min(start + 4 + min(wire, interface.snap or wire), end)
        self._frame += 1
        out.append((self._time, self._frame, interface.link, buffer, start + 4, stop, wire, self._file))

    def _obsolete(self, buffer: bytes, start: int, end: int, out: list[Record]) -> None:
        """The Packet Block of the first drafts."""
        index, high, low, captured, wire = struct.unpack_from(self._order + "HxxIIII", buffer, start)
        interface = self._interfaces[index]
        self._time = (high << 32 | low) / interface.ticks + interface.offset
        self._frame += 1
        stop = min(start + 20 + captured, end)
        out.append((self._time, self._frame, interface.link, buffer, start + 20, stop, wire, self._file))

    def _options(self, body: bytes, position: int) -> Iterator[tuple[int, bytes]]:
        while position + 4 <= len(body):
            code, size = struct.unpack_from(self._order + "HH", body, position)
            if code == 0:
                return
            yield code, body[position + 4 : position + 4 + size]
            position += 4 + (size + 3 & ~3)


def journal_fields(body: bytes) -> dict[str, str]:
    """A journal entry in the export format; fields of binary form (name, size, bytes) as well."""
    end = empty if (empty := body.find(b"\n\n")) >= 0 else body.rfind(b"\n")
    lines = body[: max(end, 0)].decode("utf-8", "replace").split("\n")
    if all("=" in line for line in lines):  # none of binary form: most entries
        return {name: value for name, _, value in (line.partition("=") for line in lines)}
    fields: dict[str, str] = {}
    position = 0
    while 0 <= position < len(body) and (newline := body.find(b"\n", position)) > position:
        line = body[position:newline]
        position = newline + 1
        name, equals, value = line.partition(b"=")
        if not equals:
            if position + 8 > len(body):
                break
            (size,) = struct.unpack_from("<Q", body, position)
            value = body[position + 8 : position + 8 + size]
            position += 8 + size + 1
        fields[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return fields


def journal_object(text: str) -> dict[str, Any]:
    """A JSON object in a journal entry; empty where it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def journal_time(body: bytes, default: float) -> float:
    """Seconds since the epoch (`__REALTIME_TIMESTAMP` is in microseconds)."""
    if body.startswith(TIMESTAMP):
        text = body[len(TIMESTAMP) : max(body.find(b"\n"), 0)].decode("ascii", "replace")
    else:
        text = journal_fields(body).get(TIMESTAMP[:-1].decode(), "")
    return int(text) / 1e6 if text.isascii() and text.isdigit() and len(text) < 20 else default
