# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE usbredir, port and webdav channels
# scapy.contrib.status = loads
"""The channels that carry a character device's bytes: usbredir, port, webdav (spice.proto)."""

from scapy.fields import ByteField, ConditionalField, LEIntField

from dissectors.wire.constants import ChannelType, MsgcPort, MsgcSpicevmc, MsgPort, MsgSpicevmc
from dissectors.wire.enums import DataCompressionType, PortEvent
from dissectors.wire.fields import (
    PointedStringField,
    PointerOffsetField,
    PointerSizeField,
    StringTailField,
    enum8,
)
from dissectors.wire.message import SpiceMessage, message
from dissectors.wire.struct_fields import RestField

#: The channels that derive from SpicevmcChannel, and those of them that are ports.
VMC = (ChannelType.SPICE_CHANNEL_USBREDIR, ChannelType.SPICE_CHANNEL_PORT, ChannelType.SPICE_CHANNEL_WEBDAV)
PORTS = VMC[1:]


class _Data(SpiceMessage):
    """The device's bytes."""

    fields_desc = [RestField("data")]


class _CompressedData(SpiceMessage):
    """The device's bytes, compressed; `uncompressed_size` in bytes."""

    fields_desc = [
        enum8("type", 0, DataCompressionType),
        ConditionalField(
            LEIntField("uncompressed_size", 0),
            lambda p: p.type != DataCompressionType.SPICE_DATA_COMPRESSION_TYPE_NONE,
        ),
        RestField("compressed_data"),
    ]


class _Event(SpiceMessage):
    """The other side has opened or closed the port, or sends a break."""

    fields_desc = [enum8("event", 0, PortEvent)]


@message(MsgSpicevmc.SPICE_MSG_SPICEVMC_DATA, *VMC)
class SpiceMsgSpicevmcData(_Data):
    """From the guest's device."""


@message(MsgcSpicevmc.SPICE_MSGC_SPICEVMC_DATA, *VMC)
class SpiceMsgcSpicevmcData(_Data):
    """For the guest's device."""


@message(MsgSpicevmc.SPICE_MSG_SPICEVMC_COMPRESSED_DATA, *VMC)
class SpiceMsgSpicevmcCompressedData(_CompressedData):
    """From the guest's device."""


@message(MsgcSpicevmc.SPICE_MSGC_SPICEVMC_COMPRESSED_DATA, *VMC)
class SpiceMsgcSpicevmcCompressedData(_CompressedData):
    """For the guest's device."""


@message(MsgPort.SPICE_MSG_PORT_INIT, *PORTS)
class SpiceMsgPortInit(SpiceMessage):
    """The port's name, and whether the guest has it open."""

    fields_desc = [
        PointerSizeField("name_size", "port_name"),
        PointerOffsetField("name_offset", "port_name"),
        ByteField("opened", 0),
        StringTailField(),
        PointedStringField("port_name", size="name_size", offset="name_offset"),
    ]


@message(MsgPort.SPICE_MSG_PORT_EVENT, *PORTS)
class SpiceMsgPortEvent(_Event):
    """An event at the guest's end of the port."""


@message(MsgcPort.SPICE_MSGC_PORT_EVENT, *PORTS)
class SpiceMsgcPortEvent(_Event):
    """An event at the client's end of the port."""
