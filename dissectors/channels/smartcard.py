# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE smartcard channel
# scapy.contrib.status = loads
"""The smartcard channel: one message type each way, which carries libcacard's VSC messages.

The header is little-endian on the SPICE connection, though libcacard's own is in network order. The client's
five names in the enumeration are one number, 101; the VSC type tells them apart.
"""

from scapy.fields import FieldLenField, LEIntField, StrField, XLEIntField
from scapy.packet import Packet

from dissectors.wire.constants import ChannelType, MsgcSmartcard, MsgSmartcard
from dissectors.wire.enums import VscMessageType
from dissectors.wire.fields import enum32
from dissectors.wire.message import message
from dissectors.wire.struct_fields import RestField, UnionField
from dissectors.wire.structs import Struct, StructMessage

SMARTCARD = ChannelType.SPICE_CHANNEL_SMARTCARD


class VSCMsgInit(Struct):
    """Version and capabilities of the sender's libcacard."""

    fields_desc = [XLEIntField("magic", 0), LEIntField("version", 0), XLEIntField("capabilities", 0)]


class VSCMsgError(Struct):
    """0: done; else why not."""

    fields_desc = [LEIntField("code", 0)]


class VSCMsgReaderAdd(Struct):
    """A reader and its name, with a NUL."""

    fields_desc = [StrField("reader_name", b"")]


class VSCMsgATR(Struct):
    """A card is in the reader; its answer to reset."""

    fields_desc = [RestField("atr")]


class VSCMsgAPDU(Struct):
    """A command to the card, or its answer."""

    fields_desc = [RestField("data")]


class VSCMsgUnknown(Struct):
    """The body of a type that has none, or that is not known."""

    fields_desc = [RestField("data")]


BODIES = {
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_Init: VSCMsgInit,
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_Error: VSCMsgError,
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_ReaderAdd: VSCMsgReaderAdd,
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_ATR: VSCMsgATR,
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_APDU: VSCMsgAPDU,
}


def _body(packet: Packet, s: bytes) -> type[Struct]:
    return BODIES.get(packet.type, VSCMsgUnknown)


class _VSCMessage(StructMessage):
    fields_desc = [
        enum32("type", 0, VscMessageType),
        LEIntField("reader_id", 0),
        FieldLenField("length", None, length_of="body", fmt="<I"),
        UnionField("body", _body, length_from=lambda p: p.length),
    ]


@message(MsgSmartcard.SPICE_MSG_SMARTCARD_DATA, SMARTCARD)
class SpiceMsgSmartcardData(_VSCMessage):
    """From the guest's reader."""


@message(MsgcSmartcard.SPICE_MSGC_SMARTCARD_DATA, SMARTCARD)
class SpiceMsgcSmartcardData(_VSCMessage):
    """From the client's reader and card."""
