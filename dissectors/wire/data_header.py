# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE data headers and sub-message lists
# scapy.contrib.status = loads
"""The two data headers and sub-message lists (protocol.h: SpiceDataHeader, SpiceMiniDataHeader,
SpiceSubMessageList, SpiceSubMessage).

Which header a connection uses follows from the link stage (MINI_HEADER in both sides' common
capabilities); which messages a type number means, from channel and sender. `frame_class` gives the header
class for one such context, with its messages bound to it by Scapy's own means.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any, ClassVar

from scapy.fields import (
    FieldLenField,
    FieldListField,
    LEIntField,
    LELongField,
    LEShortEnumField,
    LEShortField,
)
from scapy.packet import Packet, Raw

from dissectors.wire.constants import MESSAGE_NAMES, MINI_HEADER_BYTES, Side, channel_name
from dissectors.wire.message import DOES_NOT_FIT, SpiceMalformed, SpiceMessage, SpicePacket, SpicePart, decode

MINI = struct.Struct("<HI")  # type, size
FULL = struct.Struct("<QHII")  # serial, type, size, sub_list


class _TypeField(LEShortEnumField):
    """The message type; None takes it from the message above."""

    def i2m(self, pkt: Packet, x: int | None) -> int:
        return int(getattr(pkt.payload, "message_type", 0)) if x is None else super().i2m(pkt, x)


class _SizeField(LEIntField):
    """Bytes of the body; None computes it."""

    def i2m(self, pkt: Packet, x: int | None) -> int:
        return len(pkt.payload) if x is None else x


class _Header(SpicePacket):
    """What both headers share: the body is the message that channel and sender give the type."""

    channel: ClassVar[int] = 0
    sender: ClassVar[Side] = Side.SERVER

    def do_dissect_payload(self, s: bytes) -> None:
        """The message; a body shorter than the size is malformed, longer leaves padding."""
        size = self.fields.get("size")
        if size is None:
            super().do_dissect_payload(s)
        elif len(s) < size:
            self._malformed(s, f"the body has {len(s)} of {size} bytes")
        else:
            self.add_payload(decode(self.channel, self.sender, self.fields["type"], s[:size]))
            if s[size:]:
                self.lastlayer().add_payload(Raw(s[size:]))

    def problems(self) -> list[str]:
        """The header's and the message's."""
        if isinstance(self.payload, SpiceMessage):
            return self.payload.problems()
        return super().problems()


class SpiceMiniDataHeader(_Header):
    """type u16, size u32."""

    name = "SPICE mini data header"
    fields_desc = [_TypeField("type", None, {}), _SizeField("size", None)]


class SpiceDataHeader(_Header):
    """serial u64, type u16, size u32, offset of the sub-message list u32 (0: none)."""

    name = "SPICE data header"
    fields_desc = [
        LELongField("serial", 1),
        _TypeField("type", None, {}),
        _SizeField("size", None),
        LEIntField("sub_list", 0),
    ]


@cache
def frame_class(channel: int, sender: Side, *, mini: bool) -> type[_Header]:
    """The header class of one channel and sender, whose `show()` names the messages."""
    base: type[_Header] = SpiceMiniDataHeader if mini else SpiceDataHeader
    names = dict(MESSAGE_NAMES.get((channel, sender), {}))
    described = [_TypeField("type", None, names) if f.name == "type" else f for f in base.fields_desc]
    title = f"{base._name} ({channel_name(channel)}, from {sender})"
    body: dict[str, Any] = {"fields_desc": described, "channel": channel, "sender": sender, "name": title}
    return type(base.__name__, (base,), body)


class SpiceSubMessage(SpicePart):
    """type u16, size u32, then the body (left to `sub_messages`)."""

    fields_desc = [LEShortField("type", 0), LEIntField("size", 0)]


class SpiceSubMessageList(SpicePart):
    """size u16, then that many offsets u32 of SpiceSubMessages, from the start of the body."""

    fields_desc = [
        FieldLenField("size", None, count_of="sub_messages", fmt="<H"),
        FieldListField("sub_messages", [], LEIntField("offset", 0), count_from=lambda p: p.size),
    ]


def sub_messages(body: bytes, sub_list: int) -> list[tuple[int, bytes]] | SpiceMalformed:
    """(type, body) of each sub-message of a message whose list is at offset `sub_list`.

    A list or entry that leaves the body gives a `SpiceMalformed` that says which.
    """
    found: list[tuple[int, bytes]] = []
    try:
        (count,) = struct.unpack_from("<H", body, sub_list)
        for n in range(count):
            (offset,) = struct.unpack_from("<I", body, sub_list + 2 + 4 * n)
            kind, size = MINI.unpack_from(body, offset)
            if offset + MINI_HEADER_BYTES + size > len(body):
                return SpiceMalformed(body, reason=f"sub-message {n} of {size} bytes leaves the body")
            start = offset + MINI_HEADER_BYTES
            found.append((kind, body[start : start + size]))
    except DOES_NOT_FIT:
        return SpiceMalformed(
            body, reason=f"sub-message {len(found)} of the list at {sub_list} leaves the body"
        )
    return found


def own_part(body: bytes, sub_list: int) -> bytes:
    """The body without its sub-messages and their list (they follow what is the message's own).

    `sub_list` 0: there are none. Offsets that leave the body cut nothing; `sub_messages` tells of them.
    """
    end = sub_list
    try:
        (count,) = struct.unpack_from("<H", body, sub_list) if sub_list else (0,)
        for offset in struct.unpack_from(f"<{count}I", body, sub_list + 2) if count else ():
            end = min(end, offset)
    except struct.error:
        return body
    return body[:end] if sub_list else body


def encode(message_type: int, body: bytes, *, serial: int | None) -> bytes:
    """A message as it goes on the wire: mini header if `serial` is None, else the full one."""
    if serial is None:
        return MINI.pack(message_type, len(body)) + body
    return FULL.pack(serial, message_type, len(body), 0) + body
