# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE agent messages
# scapy.contrib.status = loads
"""Agent messages (vd_agent.h): what AGENT_DATA of the main channel carries, in pieces of up to 2048 bytes.

Three layouts depend on capabilities of both sides: CLIPBOARD_SELECTION puts the selection in front of the
clipboard messages, CLIPBOARD_GRAB_SERIAL a serial into the grab. An `AgentStream` takes the capabilities from
the announcements; where they are not known, the bytes decide.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from scapy.fields import FieldLenField, LEIntField, LELongField
from scapy.packet import Packet

from dissectors.channels.agent_enums import AgentCap, AgentType, ClipboardSelection, ClipboardType
from dissectors.channels.agent_messages import (
    BODIES,
    WITH_SELECTION,
    VDAgentAnnounceCapabilities,
    VDAgentClipboardGrabWithSerial,
    VDAgentUnknown,
)
from dissectors.wire.fields import cap_bits, enum32
from dissectors.wire.struct_fields import UnionField
from dissectors.wire.structs import Struct, StructMessage

VD_AGENT_PROTOCOL = 1
VD_AGENT_MAX_DATA_SIZE = 2048  # bytes of an AGENT_DATA message
HEADER = struct.Struct("<IIQI")  # protocol, type, opaque, size
SELECTION_CAP = AgentCap.VD_AGENT_CAP_CLIPBOARD_SELECTION
SERIAL_CAP = AgentCap.VD_AGENT_CAP_CLIPBOARD_GRAB_SERIAL


def _seems_selected(kind: int, s: bytes) -> bool:
    """Whether bytes that may begin with a selection do, as far as they tell."""
    least = 4 if kind == AgentType.VD_AGENT_CLIPBOARD_RELEASE else 8
    if len(s) < least or int.from_bytes(s[:4], "little") not in list(ClipboardSelection):
        return False
    return kind != AgentType.VD_AGENT_CLIPBOARD or int.from_bytes(s[4:8], "little") in list(ClipboardType)


def _seems_serial(s: bytes) -> bool:
    """Whether the word after the selection is no type that can be grabbed."""
    return len(s) >= 8 and not 0 < int.from_bytes(s[4:8], "little") <= max(ClipboardType)


def body_class(packet: Packet, s: bytes) -> type[Struct]:
    """The layout of an agent message's data."""
    kind, caps = packet.type, packet.caps
    if kind not in WITH_SELECTION:
        return BODIES.get(kind, VDAgentUnknown)
    if not (_seems_selected(kind, s) if caps is None else SELECTION_CAP in caps):
        return BODIES[kind]
    if kind == AgentType.VD_AGENT_CLIPBOARD_GRAB and (
        _seems_serial(s) if caps is None else SERIAL_CAP in caps
    ):
        return VDAgentClipboardGrabWithSerial
    return WITH_SELECTION[kind]


class VDAgentMessage(StructMessage):
    """An agent message, whole. `caps`: capabilities of both sides, None if unknown; not on the wire."""

    name = "VDAgentMessage"
    caps: frozenset[int] | None = None
    fields_desc = [
        LEIntField("protocol", VD_AGENT_PROTOCOL),
        enum32("type", 0, AgentType),
        LELongField("opaque", 0),
        FieldLenField("size", None, length_of="body", fmt="<I"),
        UnionField("body", body_class, length_from=lambda p: p.size),
    ]

    def problems(self) -> list[str]:
        """Another protocol than 1 too."""
        found = super().problems()
        if not found and self.fields.get("protocol", VD_AGENT_PROTOCOL) != VD_AGENT_PROTOCOL:
            found.append(f"protocol is {self.protocol}, not {VD_AGENT_PROTOCOL}")
        return found


def agent_message(raw: bytes, caps: Iterable[int] | None = None) -> VDAgentMessage:
    """The packet of a whole agent message, header included. Never raises."""
    if caps is None or not raw:
        return VDAgentMessage.parse(raw)
    packet = VDAgentMessage()
    packet.caps, packet.original = frozenset(caps), raw
    packet.dissect(raw)
    return packet


class AgentStream:
    """Joins the AGENT_DATA of one direction to agent messages.

    `limit`: bytes of data that are kept of one message; of a larger one only the header becomes a packet,
    which says so, and the rest is passed over. `other`: the stream of the other direction, whose announced
    capabilities count together with this one's; without it the bytes decide the layout.
    """

    def __init__(self, *, other: AgentStream | None = None, limit: int = 64 << 20) -> None:
        self.announced: frozenset[int] | None = None
        self.other = other
        self.limit = limit
        self._buffer = bytearray()
        self._skip = 0
        if other is not None:
            other.other = self

    @property
    def caps(self) -> frozenset[int] | None:
        """What both sides have announced; None until both have."""
        theirs = self.other.announced if self.other else None
        return None if self.announced is None or theirs is None else self.announced & theirs

    @property
    def pending(self) -> int:
        """Bytes of a message that is not yet whole."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[VDAgentMessage]:
        """The messages that `data` completes."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._buffer += data[skipped:]
        done: list[VDAgentMessage] = []
        while (packet := self._next()) is not None:
            done.append(packet)
        return done

    def close(self) -> list[VDAgentMessage]:
        """An incomplete last message, as a packet whose `problems` say so."""
        rest, self._buffer, self._skip = bytes(self._buffer), bytearray(), 0
        return [agent_message(rest, self.caps)] if rest else []

    def _next(self) -> VDAgentMessage | None:
        if len(self._buffer) < HEADER.size:
            return None
        size = HEADER.unpack_from(self._buffer)[3]
        end = HEADER.size + size
        if size > self.limit:
            end = HEADER.size
            self._skip = max(0, size - (len(self._buffer) - end))
            passed = size - self._skip
        elif len(self._buffer) < end:
            return None
        else:
            passed = 0
        packet = agent_message(bytes(self._buffer[:end]), self.caps)
        del self._buffer[: end + passed]
        if isinstance(body := packet.fields.get("body"), VDAgentAnnounceCapabilities):
            self.announced = cap_bits(body.caps)
        return packet


def chunks(packets: Iterable[Any], size: int = VD_AGENT_MAX_DATA_SIZE) -> list[bytes]:
    """Agent messages as the data of AGENT_DATA messages: pieces of up to `size` bytes."""
    return [
        raw[at : at + size]
        for raw in (bytes(packet) for packet in packets)
        for at in range(0, len(raw), size)
    ]
