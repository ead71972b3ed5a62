# SPDX-License-Identifier: GPL-2.0-only
"""Fields that hold structures: in place, in lists, chosen by the packet, or where an offset leads to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scapy.fields import (
    ConditionalField,
    Field,
    LEIntField,
    PacketField,
    PacketListField,
    StrField,
    StrLenField,
)
from scapy.packet import Packet, Padding

from dissectors.wire.message import SpiceMessage, SpicePart

SHOWN_BYTES = 16  # of bulk data

#: A class, or the choice of one by the packet and the bytes that are to be read (empty when building).
Choice = type[SpicePart] | Callable[[Packet, bytes], type[SpicePart] | None]


class TailField(StrField):
    """All bytes after the fixed part; None (built): nothing here, see `dissectors.wire.structs`."""

    def __init__(self) -> None:
        super().__init__("tail", None)

    def i2m(self, pkt: Packet, x: bytes | None) -> bytes:
        """The bytes themselves."""
        return x or b""

    def i2repr(self, pkt: Packet, x: bytes | None) -> str:
        """How many there are: they are shown where they are pointed to."""
        return f"{len(x)} bytes" if x else "empty"


class BulkField(StrLenField):
    """Bytes of which only the first are shown."""

    def i2repr(self, pkt: Packet, x: Any) -> str:
        """Length and beginning."""
        return _shown(x)


class RestField(StrField):
    """All the bytes that are left, of which only the first are shown."""

    def __init__(self, name: str) -> None:
        super().__init__(name, b"")

    def i2repr(self, pkt: Packet, x: Any) -> str:
        """Length and beginning."""
        return _shown(x)


class PartField(PacketField):
    """A structure in place. Empty bytes are not taken for a default one."""

    def __init__(self, name: str, cls: type[SpicePart]) -> None:
        super().__init__(name, cls(), cls)

    def do_copy(self, x: Any) -> Any:
        """The structure itself: `StructPacket.copy` copies it."""
        return x

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, Packet | None]:
        """The structure and the bytes after it."""
        part = _dissect(self.cls, s, pkt)
        return s[consumed(part) :], part


class UnionField(Field[Any, Any]):
    """A structure in place whose class the packet chooses; None where there is none for it.

    `length_from(packet)`, if given, is the length that the structure must have.
    """

    __slots__ = ["choose", "length_from"]
    holds_packets = 1

    def __init__(
        self,
        name: str,
        choose: Callable[[Packet, bytes], type[SpicePart] | None],
        length_from: Callable[[Packet], int] | None = None,
    ) -> None:
        super().__init__(name, None, "0s")
        self.choose, self.length_from = choose, length_from

    def do_copy(self, x: Any) -> Any:
        """The structure itself: `StructPacket.copy` copies it."""
        return x

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, Any]:
        """The structure that the packet chooses, and the bytes after it."""
        given = s if self.length_from is None else s[: self.length_from(pkt)]
        cls = self.choose(pkt, given)
        if cls is None or not (given or len(cls())):
            return s, None
        part = _dissect(cls, given, pkt)
        return s[consumed(part) :], part

    def addfield(self, pkt: Packet, s: bytes, val: Any) -> bytes:
        """A value that is no structure is taken as bytes."""
        return s + bytes(val or b"")

    def any2i(self, pkt: Packet | None, x: Any) -> Any:
        """Tells a structure where it is."""
        return _adopt(pkt, x)

    def i2len(self, pkt: Packet, x: Any) -> int:
        """Length as it will be built."""
        return len(self.value(pkt, x) or b"")

    def value(self, pkt: Packet, x: Any) -> Any:
        """The value, or what the packet's choice is by default."""
        if x is not None or (cls := self.choose(pkt, b"")) is None:
            return x
        return cls()

    def i2repr(self, pkt: Packet, x: Any) -> str:
        """Shown when there is no structure."""
        return "nothing" if x is None else repr(x)


class PartListField(PacketListField):
    """Structures one after the other: `count_from(packet)` of them, or as many as there are bytes.

    `span(packet, bytes, position)` gives the length of the next one, if the class has not a fixed one:
    it keeps the time linear.
    """

    __slots__ = ["span"]

    def __init__(
        self,
        name: str,
        cls: type[SpicePart],
        count_from: Callable[[Packet], int] | None = None,
        span: Callable[[Packet, bytes, int], int] | None = None,
    ) -> None:
        super().__init__(name, [], cls, count_from=count_from)
        length = fixed_length(cls)
        self.span = span or (lambda pkt, s, at: len(s) if length is None else length)

    def do_copy(self, x: Any) -> Any:
        """The structures themselves: `StructPacket.copy` copies them."""
        return x

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, list[Packet]]:
        """The structures and the bytes after them."""
        due = self.count_from(pkt) if self.count_from else None
        parts: list[Packet] = []
        at = 0
        while at < len(s) and (due is None or len(parts) < due):
            part = _dissect(self.cls, s[at : at + self.span(pkt, s, at)], pkt)
            if not consumed(part):
                break
            parts.append(part)
            at += consumed(part)
        return s[at:], parts


class OffsetField(LEIntField):
    """Offset of what another field shows; None: filled in when the message is laid out."""

    __slots__ = ["of"]

    def __init__(self, name: str, of: str) -> None:
        super().__init__(name, None)
        self.of = of

    def i2m(self, pkt: Packet, x: int | None) -> int:
        """0 until it is filled in."""
        return x or 0

    def i2repr(self, pkt: Packet, x: int | None) -> str:
        """The number, or that it is still to come."""
        return "(laid out when built)" if x is None else str(x)


class PointedField(Field[Any, Any]):
    """What an `OffsetField` of the same packet leads to: no bytes here.

    `what` is a structure's class or the choice of one; without it: `size(packet)` bytes.
    """

    __slots__ = ["offset", "size", "what"]

    def __init__(
        self, name: str, offset: str, what: Choice | None = None, size: Callable[[Packet], int] | None = None
    ) -> None:
        super().__init__(name, None, "0s")
        self.offset, self.what, self.size = offset, what, size

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, Any]:
        """Follows the offset; consumes nothing."""
        offset = pkt.fields.get(self.offset)
        found = message_body(pkt)[offset:] if offset else b""
        if not found:
            return s, None
        if self.what is None:
            return s, found[: self.size(pkt) if self.size else None]
        cls = self.what if isinstance(self.what, type) else self.what(pkt, found)
        return s, cls and _dissect(cls, found, pkt)

    def addfield(self, pkt: Packet, s: bytes, val: Any) -> bytes:
        """Adds nothing."""
        return s

    def any2i(self, pkt: Packet | None, x: Any) -> Any:
        """Tells a structure where it is."""
        return _adopt(pkt, x)

    def i2len(self, pkt: Packet, x: Any) -> int:
        """Bytes, for a size field."""
        return len(x or b"")

    def i2repr(self, pkt: Packet, x: Any) -> str:
        """Shown when there is no structure."""
        return "absent" if x is None else _shown(x)

    def problem(self, pkt: Packet) -> str | None:
        """What is wrong with the offset, or None."""
        offset, end = pkt.fields.get(self.offset), len(message_body(pkt))
        if not offset:
            return None
        if offset >= end:
            return f"{self.name}: offset {offset} is outside the message's {end} bytes"
        if self.size and offset + self.size(pkt) > end:
            return f"{self.name}: bytes {offset}..{offset + self.size(pkt)} are outside the message's {end}"
        return None


def pointer(name: str, what: Choice) -> list[Any]:
    """The two fields of a pointer: its offset, and what is there."""
    return [OffsetField(f"{name}_offset", name), PointedField(name, f"{name}_offset", what)]


def by_type(classes: Mapping[Any, type[SpicePart]], field: str) -> Callable[[Packet, bytes], Any]:
    """The choice of a structure by the value of a field."""
    return lambda pkt, s: classes.get(pkt.getfieldval(field))


def message_body(pkt: Packet) -> bytes:
    """The bytes that offsets count in: of the message that the packet is in, or its own."""
    while not isinstance(pkt, SpiceMessage) and pkt.parent is not None:
        pkt = pkt.parent
    return bytes(pkt.original or b"")


def fixed_length(cls: type[Packet]) -> int | None:
    """Bytes of a structure whose length never differs, else None."""
    for field in cls.fields_desc:
        if isinstance(field, PartField):
            if fixed_length(field.cls) is None:
                return None
        elif field.islist or isinstance(field, ConditionalField | StrField | UnionField | PointedField):
            return None
    return len(cls())


def plain(field: Any) -> Any:
    """The field itself, where a condition is around it."""
    return getattr(field, "fld", field)


def _adopt(pkt: Packet | None, x: Any) -> Any:
    if isinstance(x, Packet) and pkt is not None:
        x.add_parent(pkt)
    return x


def _dissect(cls: type[SpicePart], s: bytes, parent: Packet) -> Packet:
    if not s:
        raise ValueError("nothing left")
    part = cls(s, _parent=parent)
    last = part.lastlayer()
    if isinstance(last, Padding):
        del last.underlayer.payload
    part.original = part.raw_packet_cache  # not all that follows it
    return part


def consumed(part: Packet) -> int:
    """Bytes that a structure was dissected from."""
    return len(part.raw_packet_cache)


def _shown(x: Any) -> str:
    data = bytes(x or b"")
    more = " ..." if len(data) > SHOWN_BYTES else ""
    return f"{len(data)} bytes: {data[:SHOWN_BYTES].hex(' ')}{more}" if data else "empty"
