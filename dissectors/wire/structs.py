# SPDX-License-Identifier: GPL-2.0-only
"""Structures inside messages: nested, in lists, chosen by a type, or pointed to by an offset.

An offset counts from the start of the message body (0: absent). A dissected message keeps all bytes after
its fixed part in its `TailField`, so that it rebuilds exactly whatever the sender's layout; what the
offsets lead to is shown beside them as packets. A message that is built has no tail: whatever hangs on an
offset that is None is appended in order and the offsets are filled in, nested ones too.
"""

from __future__ import annotations

from typing import Any, Self

from scapy.fields import FieldLenField
from scapy.packet import Packet, RawVal, fuzz

from dissectors.wire.message import SpiceMalformed, SpiceMessage, SpicePacket, SpicePart
from dissectors.wire.struct_fields import (
    OffsetField,
    PartField,
    PointedField,
    TailField,
    UnionField,
    consumed,
    message_body,
    plain,
)


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
        pointed = [field for field in self.fields_desc if isinstance(plain(field), PointedField)]
        astray = [problem for field in pointed if (problem := plain(field).problem(self))]
        found = super().problems() + astray
        if not found and self.fields.get("tail") and (loose := _loose(self)):
            found.append(f"{loose} bytes that no offset leads to")
        return found

    def copy(self) -> Any:
        """As Scapy's, with what is wrong; structures are copied here, once, and nowhere while dissecting."""
        clone = super().copy()
        clone._cut = self._cut
        for name, value in clone.fields.items():
            if isinstance(value, StructPacket):
                clone.fields[name] = value.copy()
            elif isinstance(value, list):
                clone.fields[name] = [x.copy() if isinstance(x, Packet) else x for x in value]
        return clone

    def unpin(self) -> None:
        """Forgets the sender's layout, counts and sizes, so that changes of any kind reach the bytes."""
        self.clear_cache()
        for field in self.fields_desc:
            if isinstance(plain(field), TailField | OffsetField | FieldLenField):
                self.fields.pop(field.name, None)
            value = self.fields.get(field.name)
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, StructPacket):
                    part.unpin()


class StructMessage(StructPacket, SpiceMessage):
    """A message with structures in it."""


class Struct(StructPacket, SpicePart):
    """A structure with structures in it."""


def fuzz_struct(packet: Packet) -> Packet:
    """Scapy's `fuzz`, which leaves structures as they are, in structures too."""
    packet = fuzz(packet)
    for name, value in packet.fields.items():
        if isinstance(value, StructPacket):
            packet.fields[name] = fuzz_struct(value)
    return packet


def _concrete(packet: Packet) -> Packet:
    return packet if packet.explicit else next(iter(packet))


def _assemble(packet: Packet) -> tuple[bytes, list[tuple[int, Any]]]:
    """The bytes of a packet in place, and (position of an empty offset, what it is to lead to)."""
    out, slots = b"", []
    for field in packet.fields_desc:
        if packet._cut and field.name not in packet.fields:
            continue  # dissection did not get so far
        bare = plain(field)
        if bare is not field and not field._evalcond(packet):
            continue
        value = packet.getfieldval(field.name)
        if isinstance(bare, UnionField):
            value = value if packet._cut else bare.value(packet, value)
        if isinstance(bare, OffsetField) and value is None:
            target = packet.getfieldval(bare.of)
            slots += [] if target is None else [(len(out), target)]
            out += bytes(4)
        elif isinstance(bare, PartField | UnionField) and isinstance(value, StructPacket):
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
        if value is not None and isinstance(plain(field), PointedField):
            found.append((packet.fields.get(plain(field).offset) or 0, value))
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
    return len(target) if isinstance(target, bytes) else consumed(target)
