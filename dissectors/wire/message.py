# SPDX-License-Identifier: GPL-2.0-only
"""The base of every message packet, the registry of its classes, and packets for what fits none.

A message class is declared with `@message(enum member, channel, ...)`:

    @message(MsgMain.SPICE_MSG_MAIN_MULTI_MEDIA_TIME, ChannelType.SPICE_CHANNEL_MAIN)
    class SpiceMsgMainMultiMediaTime(SpiceMessage):
        fields_desc = [LEIntField("multi_media_time", 0)]  # ms

Malformed bytes never raise: what fits is dissected, the rest becomes a `SpiceMalformed` payload with the
reason. `bytes(packet)` is always what was dissected.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any, ClassVar, Self, TypeVar

from scapy.fields import ConditionalField, StrField
from scapy.packet import NoPayload, Packet

from dissectors.wire.constants import Side
from dissectors.wire.fields import NoteField, PointedStringField

EVERY_CHANNEL = 0

#: The errors that Scapy's fields raise when bytes are missing or invalid.
DOES_NOT_FIT = (struct.error, IndexError, ValueError, TypeError, KeyError, AttributeError, OverflowError)

_registry: dict[tuple[int, Side, int], type[SpiceMessage]] = {}


class SpiceMalformed(Packet):
    """Bytes that do not fit the layer above, and why; the reason is not on the wire."""

    name = "SPICE malformed"
    fields_desc = [NoteField("reason", ""), StrField("load", b"")]

    def mysummary(self) -> str:
        """The reason in one line."""
        return f"[malformed: {self.reason}]"


class SpicePacket(Packet):
    """A Scapy packet whose dissection never raises; what does not fit becomes a `SpiceMalformed` payload."""

    name = "SPICE"
    _cut: str | None = None

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Dissects `raw`, which may be empty: Scapy itself takes empty bytes for a packet to be built."""
        packet = cls(raw)
        if not raw and len(cls()):
            packet.fields = {}
            packet.raw_packet_cache, packet.raw_packet_cache_fields = b"", {}
            packet._cut = "empty"
            packet._malformed(b"", packet._cut)
        return packet

    def do_dissect(self, s: bytes) -> bytes:
        """Field by field; the first that does not fit ends it."""
        raw = s
        self.raw_packet_cache_fields = {}
        for field in self.fields_desc:
            try:
                rest, value = field.getfield(self, s)
                self._cut = self._shortage(field, value, len(s) - len(rest))
            except DOES_NOT_FIT:
                self._cut = f"{field.name} does not fit into the {len(s)} bytes that are left"
                break
            if isinstance(field, ConditionalField) and value is None:
                continue
            s = rest
            self.fields[field.name] = value
            if field.islist or field.holds_packets or field.ismutable:
                self.raw_packet_cache_fields[field.name] = field.do_copy(value)
            if self._cut:
                break
        self.raw_packet_cache = raw[: len(raw) - len(s)]
        self.explicit = 1
        return s

    def _shortage(self, field: Any, value: Any, consumed: int) -> str | None:
        """Scapy's lists and strings end silently where the bytes end; the count or length due shows it."""
        field = getattr(field, "fld", field)
        if value is None:
            return None
        if (count := getattr(field, "count_from", None)) and len(value) < (due := count(self)):
            return f"{field.name} holds {len(value)} of {due}"
        if (length := getattr(field, "length_from", None)) and consumed < (due := length(self)):
            return f"{field.name} holds {consumed} of {due} bytes"
        return None

    def dissect(self, s: bytes) -> None:
        """As Scapy's; a packet with a problem that left no bytes over is malformed too."""
        super().dissect(s)
        if isinstance(self.payload, NoPayload) and (why := self.problems()):
            self._malformed(b"", "; ".join(why))

    def do_dissect_payload(self, s: bytes) -> None:
        """Bytes beyond the fields."""
        if s:
            self._malformed(s, self._cut or f"{len(s)} bytes beyond the last field")

    def _malformed(self, load: bytes, reason: str) -> None:
        rest = SpiceMalformed(load)
        rest.reason = reason
        self.add_payload(rest)

    def problems(self) -> list[str]:
        """The problems of this packet and its parts, one line each; empty if there are none."""
        if isinstance(self.payload, SpiceMalformed):
            return [self.payload.reason]
        found = [self._cut] if self._cut else []
        for field in self.fields_desc:
            value = self.fields.get(field.name)
            if isinstance(field, PointedStringField) and (problem := field.problem(self)):
                found.append(problem)
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, SpicePacket):
                    found += [f"{field.name}: {problem}" for problem in part.problems()]
        return found


class SpiceMessage(SpicePacket):
    """The body of one message. The header is a layer of its own (`dissectors.wire.data_header`)."""

    sender: ClassVar[Side] = Side.SERVER
    message_type: ClassVar[int] = 0
    channel: ClassVar[int] = EVERY_CHANNEL


class SpiceUnknown(SpiceMessage):
    """A message whose type no enumeration has."""

    name = "SPICE unknown message"
    fields_desc = [StrField("load", b"")]


class SpicePart(SpicePacket):
    """A structure inside a message: what follows it belongs to the next one."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls._name = cls.__name__

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes | None]:
        """Leaves everything that is not its own."""
        return b"", s


_M = TypeVar("_M", bound=type[SpiceMessage])


def message(member: IntEnum, *channels: int) -> Callable[[_M], _M]:
    """Registers a class as a message: of the given channels, or of every channel if none is given."""

    def register(cls: _M) -> _M:
        cls.name = cls._name = member.name
        cls.sender = Side.CLIENT if member.name.startswith("SPICE_MSGC_") else Side.SERVER
        cls.message_type = int(member)
        cls.channel = channels[0] if channels else EVERY_CHANNEL
        for channel in channels or (EVERY_CHANNEL,):
            _registry[channel, cls.sender, int(member)] = cls
        return cls

    return register


def registered(channel: int, sender: Side, message_type: int) -> type[SpiceMessage] | None:
    """The class that was registered for a message; None if there is none (yet): see
    `dissectors.channels.message_classes`."""
    return _registry.get((channel, sender, message_type))
