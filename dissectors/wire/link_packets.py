# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE link stage
# scapy.contrib.status = loads
"""The link stage: SpiceLinkMess, SpiceLinkReply, auth mechanism, ticket, SASL steps, result
(spice-protocol, protocol.h).

Order: the client sends a link message; the server a link reply; if both common capabilities have
PROTOCOL_AUTH_SELECTION the client names a mechanism (u32); then the ticket (128 bytes, RSA-OAEP with SHA-1,
the password with its NUL) or SASL steps; the server's result (u32) ends the stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from scapy.fields import (
    ByteField,
    LEIntField,
    StrField,
    StrFixedLenField,
    StrLenField,
    XStrFixedLenField,
)
from scapy.packet import Packet

from dissectors.wire.constants import (
    CHANNEL_CAPS,
    SPICE_MAGIC,
    SPICE_TICKET_PUBKEY_BYTES,
    SPICE_VERSION_MAJOR,
    SPICE_VERSION_MINOR,
    TICKET_BYTES,
    ChannelType,
    CommonCap,
    LinkErr,
)
from dissectors.wire.fields import CapsField, enum8, enum32
from dissectors.wire.message import SpicePacket

MESS_FIXED_BYTES = 18
REPLY_FIXED_BYTES = 4 + SPICE_TICKET_PUBKEY_BYTES + 12
MAX_CAPS = 1024


class _CountField(LEIntField):
    """Number of words in a list; None counts them."""

    __slots__ = ["of"]

    def __init__(self, name: str, of: str) -> None:
        super().__init__(name, None)
        self.of = of

    def i2m(self, pkt: Packet, x: int | None) -> int:
        return len(pkt.getfieldval(self.of) or []) if x is None else x


class _BodySizeField(LEIntField):
    """Bytes after the link header; None computes it."""

    def i2m(self, pkt: Packet, x: int | None) -> int:
        if x is not None:
            return x
        fixed = MESS_FIXED_BYTES if isinstance(pkt, SpiceLinkMess) else REPLY_FIXED_BYTES
        words = len(pkt.common_caps or []) + len(pkt.channel_caps or [])
        return fixed + len(pkt.gap) + 4 * words


_HEADER = [
    StrFixedLenField("magic", SPICE_MAGIC, 4),
    LEIntField("major_version", SPICE_VERSION_MAJOR),
    LEIntField("minor_version", SPICE_VERSION_MINOR),
    _BodySizeField("size", None),
]


def _caps(fixed: int) -> list[object]:
    """Counts, offset, the gap between fixed part and words (normally none), the words."""
    return [
        _CountField("num_common_caps", "common_caps"),
        _CountField("num_channel_caps", "channel_caps"),
        LEIntField("caps_offset", fixed),
        StrLenField("gap", b"", length_from=lambda p: max(0, min(p.caps_offset, 4096) - fixed)),
        CapsField("common_caps", lambda p: _count(p, p.num_common_caps), lambda p: CommonCap),
        CapsField(
            "channel_caps",
            lambda p: _count(p, p.num_channel_caps),
            lambda p: CHANNEL_CAPS.get(p.channel_of()),
        ),
    ]


def _count(packet: Packet, count: int) -> int:
    if count > MAX_CAPS:
        raise ValueError("too many capability words")
    return count


class SpiceLinkMess(SpicePacket):
    """The client's first packet: which channel of which session it wants, and what it can do.

    `connection_id` 0 asks for a new session (main channel only); another value names the session that a
    channel belongs to, or, on the main channel, announces a migration target.
    """

    name = "SpiceLinkMess"
    fields_desc = [
        *_HEADER,
        LEIntField("connection_id", 0),
        enum8("channel_type", ChannelType.SPICE_CHANNEL_MAIN, ChannelType),
        ByteField("channel_id", 0),
        *_caps(MESS_FIXED_BYTES),
    ]

    def channel_of(self) -> int:
        """The channel whose capabilities these are."""
        return int(self.channel_type)


class SpiceLinkReply(SpicePacket):
    """The server's answer: an error or its public key (X.509 SubjectPublicKeyInfo, DER) and capabilities.

    `channel` (not on the wire) says whose channel capabilities to name.
    """

    name = "SpiceLinkReply"
    channel: int = 0
    fields_desc = [
        *_HEADER,
        enum32("error", LinkErr.SPICE_LINK_ERR_OK, LinkErr),
        XStrFixedLenField("pub_key", b"\0" * SPICE_TICKET_PUBKEY_BYTES, SPICE_TICKET_PUBKEY_BYTES),
        *_caps(REPLY_FIXED_BYTES),
    ]

    def channel_of(self) -> int:
        """The channel whose capabilities these are."""
        return self.channel


class SpiceLinkAuthMechanism(SpicePacket):
    """The mechanism that the client picks: the number of a common capability."""

    name = "SpiceLinkAuthMechanism"
    fields_desc = [enum32("auth_mechanism", CommonCap.SPICE_COMMON_CAP_AUTH_SPICE, CommonCap)]


class SpiceLinkEncryptedTicket(SpicePacket):
    """The password and its NUL under the reply's key."""

    name = "SpiceLinkEncryptedTicket"
    fields_desc = [XStrFixedLenField("encrypted_data", b"\0" * TICKET_BYTES, TICKET_BYTES)]


class SpiceLinkResult(SpicePacket):
    """The last word of the link stage: `SPICE_LINK_ERR_OK` opens the channel."""

    name = "SpiceLinkResult"
    fields_desc = [enum32("error", LinkErr.SPICE_LINK_ERR_OK, LinkErr)]


class SpiceSasl(SpicePacket):
    """One step of the SASL exchange, length and bytes; framed, not interpreted. Behind the bytes the server
    says whether that was all, and with which outcome (`framing.link_sizes.sasl_size`)."""

    name = "SpiceSasl"
    fields_desc = [LEIntField("length", 0), StrField("data", b"")]


LINK_CLASSES: Mapping[str, type[SpicePacket]] = MappingProxyType(
    {
        "mess": SpiceLinkMess,
        "reply": SpiceLinkReply,
        "mechanism": SpiceLinkAuthMechanism,
        "ticket": SpiceLinkEncryptedTicket,
        "result": SpiceLinkResult,
        "sasl": SpiceSasl,
    }
)


def link_packet(kind: str, raw: bytes, channel: int = 0) -> SpicePacket:
    """The packet of `dissectors.framing.events.LinkBytes`; never raises."""
    packet = LINK_CLASSES[kind].parse(raw)
    if isinstance(packet, SpiceLinkReply):
        packet.channel = channel
    return packet
