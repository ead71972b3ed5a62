# SPDX-License-Identifier: GPL-2.0-only
"""Every message that the enumerations name, its class, and examples of its bytes.

The self-tests prove the dissectors by this table, and the documentation is generated from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from scapy.fields import EnumField, FieldLenField, FieldListField, FlagsField, PacketListField, StrField
from scapy.packet import Packet

from dissectors.channels.message_classes import message_class
from dissectors.wire import fields, struct_fields
from dissectors.wire.constants import CHANNEL_MESSAGES, ChannelType, MsgBase, MsgcBase, Side, channel_name
from dissectors.wire.message import EVERY_CHANNEL, SpiceMessage

MessageClass = type[SpiceMessage]
VARIANTS = 16  # enough for every value of the enumerations that choose a layout
COMPUTED = (
    FieldLenField,
    fields.NoteField,
    fields.StringTailField,
    fields.PointerSizeField,
    fields.PointerOffsetField,
    struct_fields.TailField,
    struct_fields.OffsetField,
)


@dataclass(frozen=True)
class MessageRow:
    """One name of a message type. `channel` 0: every channel."""

    channel: int
    sender: Side
    type: int
    name: str
    cls: MessageClass

    @property
    def channel_name(self) -> str:
        """Short, as people write it."""
        return channel_name(self.channel) if self.channel else "every channel"

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of its fields, in their order on the wire."""
        return tuple(field.name for field in self.cls.fields_desc)

    def examples(self) -> Iterator[Packet]:
        """Packets to build, with values that are not the defaults."""
        return (sample(self.cls, variant) for variant in range(VARIANTS))

    @property
    def example(self) -> bytes:
        """The body of such a message."""
        return bytes(sample(self.cls))


def inventory() -> list[MessageRow]:
    """A row for each name; messages of every channel again where a channel has a layout of its own."""
    rows = []
    for sender, base in ((Side.SERVER, MsgBase), (Side.CLIENT, MsgcBase)):
        rows += _rows(EVERY_CHANNEL, sender, base)
        common = {row.type: row.cls for row in rows if row.sender == sender}
        for channel in ChannelType:
            rows += [row for row in _rows(channel, sender, base) if row.cls is not common[row.type]]
            for enum in CHANNEL_MESSAGES.get((channel, sender), ()):
                rows += _rows(channel, sender, enum)
    return rows


def _rows(channel: int, sender: Side, enum: type[IntEnum]) -> list[MessageRow]:
    return [
        MessageRow(channel, sender, int(member), name, message_class(channel, sender, int(member)))
        for name, member in enum.__members__.items()
    ]


def sample(cls: type[Packet], variant: int = 0, parent: Packet | None = None) -> Packet:
    """A packet of a class with values that are not the defaults; `variant` walks through enumerations."""
    packet = cls()
    packet.parent = parent
    for number, field in enumerate(cls.fields_desc):
        plain = getattr(field, "fld", field)
        if plain is not field and not field._evalcond(packet):
            continue
        value = _value(plain, packet, variant, number)
        if value is not None:
            packet.setfieldval(field.name, value)
    return packet


def _value(field: Any, packet: Packet, variant: int, number: int) -> Any:
    """A value for a field of a packet, by the field's kind; None: leave it."""
    if isinstance(field, COMPUTED) or (field.default and isinstance(field.default, int | bytes)):
        return None  # a default that is not nothing is what is due: a magic, a version
    if isinstance(field, struct_fields.PartField):
        return sample(field.cls, variant, packet)
    if isinstance(field, struct_fields.UnionField):
        cls = field.choose(packet, b"")
        return cls and sample(cls, variant, packet)
    if isinstance(field, struct_fields.PointedField):
        return _target(field, packet, variant)
    if isinstance(field, PacketListField):
        return [sample(field.cls, variant + n, packet) for n in range(_due(field.count_from, packet, 2))]
    if isinstance(field, FieldListField):
        return [_value(field.field, packet, variant, n) for n in range(_due(field.count_from, packet, 2))]
    if isinstance(field, StrField | fields.PointedStringField):
        return bytes(65 + n % 26 for n in range(_due(getattr(field, "length_from", None), packet, 5)))
    return _number(field, variant, number)


def _target(field: struct_fields.PointedField, packet: Packet, variant: int) -> Any:
    if field.what is None:
        return b"pointed"
    cls = field.what if isinstance(field.what, type) else field.what(packet, b"")
    return cls and sample(cls, variant, packet)


def _due(count: Any, packet: Packet, default: int) -> int:
    due = count(packet) if count else None
    return default if due is None or due < 0 else int(due)


def _number(field: Any, variant: int, number: int) -> Any:
    if isinstance(field, FlagsField):
        known = [bit for bit, name in enumerate(field.names) if not name.startswith("bit")]
        return 1 << known[variant % len(known)]
    if isinstance(field, EnumField):
        known = sorted(value for value in field.i2s if value) or [0]
        return known[variant % len(known)]
    return 1 + (variant + number) % 9
