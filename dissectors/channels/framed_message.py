# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE data headers with their messages
# scapy.contrib.status = loads
"""A data header and its message as one Scapy packet (protocol.h: SpiceDataHeader, SpiceMiniDataHeader).

Which header a connection uses follows from the link stage (MINI_HEADER in both sides' common
capabilities); which messages a type number means, from channel and sender. `frame_class` gives the header
class for one such context, with its messages bound to it by Scapy's own means.
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from scapy.fields import LEIntField, LELongField, LEShortEnumField
from scapy.packet import Packet, Raw

from dissectors.channels.message_classes import decode
from dissectors.wire.constants import MESSAGE_NAMES, Side, channel_name
from dissectors.wire.message import SpiceMessage, SpicePacket


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
