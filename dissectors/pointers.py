# SPDX-License-Identifier: GPL-2.0-only
"""Structures inside messages: nested, in lists, chosen by a type, or pointed to by an offset.

An offset counts from the start of the message body (0: absent). A dissected message keeps all bytes after
its fixed part in its `TailField`, so that it rebuilds exactly whatever the sender's layout; what the
offsets lead to is shown beside them as packets. A message that is built has no tail: whatever hangs on an
offset that is None is appended in order and the offsets are filled in, nested ones too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from scapy.fields import (
    ConditionalField,
    Field,
    LEIntField,
    PacketField,
    PacketListField,
    StrField,
    StrLenField,
)
from scapy.packet import Packet, Padding, RawVal, fuzz

from dissectors.message import SpiceMalformed, SpiceMessage, SpicePacket, SpicePart

SHOWN_BYTES = 16  # of bulk data

#: A class, or the choice of one by the packet and the bytes that are to be read (empty when building).
Choice = type[SpicePart] | Callable[[Packet, bytes], type[SpicePart] | None]


class StructPacket(SpicePacket):
    """A packet that may hold other packets. It is always built from its fields, never from a cache."""

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """As any packet's; what had no bytes stays so."""
        packet = super().parse(raw)
        packet.explicit = 1
        return packet

    def self_build(self) -> bytes:
        """The fixed part, then what its empty offsets point to."""
        body, slots = _assemble(self)
        for position, target in slots:  # grows while it is walked: what is appended may point on
            if isinstance(target, bytes):
                block: bytes = target
            else:
                block, nested = _assemble(_concrete(target))
                slots += [(len(body) + place, further) for place, further in nested]
            body = body[:position] + len(body).to_bytes(4, "little") + body[position + 4 :] + block
        return body

    def problems(self) -> list[str]:
        """Those of the fields and parts, offsets that lead nowhere, bytes that nothing leads to."""
        if isinstance(self.payload, SpiceMalformed):
            return super().problems()
        pointed = [field for field in self.fields_desc if isinstance(_plain(field), PointedField)]
        astray = [problem for field in pointed if (problem := _plain(field).problem(self))]
        found = super().problems() + astray
        if not found and self.fields.get("tail") and (loose := _loose(self)):
            found.append(f"{loose} bytes that no offset leads to")
        return found

    def copy(self) -> Any:
        """As Scapy's, with what is wrong."""
        clone = super().copy()
        clone._cut = self._cut
        return clone

    def unpin(self) -> None:
        """Forgets the sender's layout, so that changes to what is pointed to reach the bytes."""
        self.clear_cache()
        for field in self.fields_desc:
            if isinstance(_plain(field), TailField | OffsetField):
                self.fields.pop(field.name, None)
            value = self.fields.get(field.name)
            if isinstance(value, StructPacket):
                value.unpin()


class StructMessage(StructPacket, SpiceMessage):
    """A message with structures in it."""


class Struct(StructPacket, SpicePart):
    """A structure with structures in it."""


class TailField(StrField):
    """All bytes after the fixed part; None (built): nothing here, see `StructPacket.self_build`."""

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

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, Packet | None]:
        """The structure and the bytes after it."""
        part = _dissect(self.cls, s, pkt)
        return s[_length(part) :], part


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

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, Any]:
        """The structure that the packet chooses, and the bytes after it."""
        given = s if self.length_from is None else s[: self.length_from(pkt)]
        cls = self.choose(pkt, given)
        if cls is None or not (given or len(cls())):
            return s, None
        part = _dissect(cls, given, pkt)
        return s[_length(part) :], part

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

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, list[Packet]]:
        """The structures and the bytes after them."""
        due = self.count_from(pkt) if self.count_from else None
        parts: list[Packet] = []
        at = 0
        while at < len(s) and (due is None or len(parts) < due):
            part = _dissect(self.cls, s[at : at + self.span(pkt, s, at)], pkt)
            if not _length(part):
                break
            parts.append(part)
            at += _length(part)
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


def fuzz_struct(packet: Packet) -> Packet:
    """Scapy's `fuzz`, which leaves structures as they are, in structures too."""
    packet = fuzz(packet)
    for name, value in packet.fields.items():
        if isinstance(value, StructPacket):
            packet.fields[name] = fuzz_struct(value)
    return packet


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


def _shown(x: Any) -> str:
    data = bytes(x or b"")
    more = " ..." if len(data) > SHOWN_BYTES else ""
    return f"{len(data)} bytes: {data[:SHOWN_BYTES].hex(' ')}{more}" if data else "empty"


def _plain(field: Any) -> Any:
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


def _length(part: Packet) -> int:
    return len(part.raw_packet_cache)


def _concrete(packet: Packet) -> Packet:
    return packet if packet.explicit else next(iter(packet))


def _assemble(packet: Packet) -> tuple[bytes, list[tuple[int, Any]]]:
    """The bytes of a packet in place, and (position of an empty offset, what it is to lead to)."""
    out, slots = b"", []
    for field in packet.fields_desc:
        if packet._cut and field.name not in packet.fields:
            continue  # dissection did not get so far
        plain = _plain(field)
        if plain is not field and not field._evalcond(packet):
            continue
        value = packet.getfieldval(field.name)
        if isinstance(plain, UnionField):
            value = value if packet._cut else plain.value(packet, value)
        if isinstance(plain, OffsetField) and value is None:
            target = packet.getfieldval(plain.of)
            slots += [] if target is None else [(len(out), target)]
            out += bytes(4)
        elif isinstance(plain, PartField | UnionField) and isinstance(value, StructPacket):
            inner, nested = _assemble(_concrete(value))
            slots += [(len(out) + place, target) for place, target in nested]
            out += inner + bytes(value.payload)
        else:
            out = out + bytes(value) if isinstance(value, RawVal) else field.addfield(packet, out, value)
    return out, slots


def _targets(packet: Packet) -> list[tuple[int, Any]]:
    """(offset, what is there) of all offsets in a packet and in what they lead to."""
    found: list[tuple[int, Any]] = []
    for field in packet.fields_desc:
        value = packet.fields.get(field.name)
        if value is not None and isinstance(_plain(field), PointedField):
            found.append((packet.fields[_plain(field).offset], value))
        if isinstance(value, StructPacket):
            found += _targets(value)
    return found


def _loose(packet: Packet) -> int:
    """How many bytes of the tail no offset leads to."""
    tail = packet.fields["tail"]
    end = len(message_body(packet))
    reached, loose = end - len(tail), 0
    for start, stop in sorted((offset, offset + _extent(target)) for offset, target in _targets(packet)):
        loose += max(0, start - reached)
        reached = max(reached, stop)
    return loose + max(0, end - reached)


def _extent(target: Any) -> int:
    return len(target) if isinstance(target, bytes) else _length(target)
