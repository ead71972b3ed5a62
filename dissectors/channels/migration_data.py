# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE migration data
# scapy.contrib.status = loads
"""The data of MIGRATE_DATA: a channel's state, from the source to the client and from it to the target.

The same bytes in both directions. Offsets count from the start of the body, header included. Source: the
server's own migration-protocol.h; it is no part of spice-protocol, and version 1 is the only one so far.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from scapy.fields import (
    ByteField,
    FieldLenField,
    FieldListField,
    LEIntField,
    LELongField,
    LEShortField,
    LESignedIntField,
    LESignedLongField,
)
from scapy.packet import Packet

from dissectors.channels.spicevmc import VMC
from dissectors.wire.constants import ChannelType, MsgBase, MsgcBase
from dissectors.wire.fields import enum32
from dissectors.wire.message import message
from dissectors.wire.struct_fields import (
    OffsetField,
    PartField,
    PartListField,
    PointedField,
    TailField,
    pointer,
)
from dissectors.wire.structs import Struct, StructMessage

VERSION = 1
MAX_CACHE_CLIENTS = 4  # channels that share a pixmap cache (MIGRATE_DATA_DISPLAY_MAX_CACHE_CLIENTS)


class MigrateMagic(IntEnum):
    """The magic of a channel's state: four letters."""

    MNMD = 0x444D4E4D
    DCMD = 0x444D4344
    ICMD = 0x444D4349
    SCMD = 0x444D4353
    SVMD = 0x444D5653


class MigrateData(StructMessage):
    """The state of a channel, as its header says."""

    magic_due: ClassVar[MigrateMagic]

    def problems(self) -> list[str]:
        """A header that is not of this channel, or of a later version, too."""
        found = super().problems()
        magic, version = self.fields.get("magic"), self.fields.get("version")
        if not found and magic not in (None, self.magic_due):
            found.append(f"magic is {magic:#x}, not {self.magic_due.name}")
        if not found and version and version > VERSION:
            found.append(f"version {version} is later than {VERSION}")
        return found


def _header(magic: MigrateMagic) -> list[object]:
    return [enum32("magic", magic, MigrateMagic), LEIntField("version", VERSION)]


class SpiceMigrateDataCharDevice(Struct):
    """A character device: whether the client is connected to it, its tokens, what was not yet written to it.

    With no device all is 0 but the version.
    """

    fields_desc = [
        LEIntField("version", VERSION),
        ByteField("connected", 0),
        LEIntField("num_client_tokens", 0),
        LEIntField("num_send_tokens", 0),
        FieldLenField("write_size", None, length_of="write_data", fmt="<I"),
        LEIntField("write_num_client_tokens", 0),
        OffsetField("write_data_offset", "write_data"),
        PointedField("write_data", "write_data_offset", size=lambda p: p.write_size),
    ]


class _Main(MigrateData):
    """The guest's agent: its device, and how far messages have got in both directions.

    A chunk of the agent's may be cut off in its header (`chunk_header_size` of 8 bytes are there), or in the
    header of the message in it (`msg_header`); after that, `..._msg_remaining` bytes of the message are due.
    """

    magic_due = MigrateMagic.MNMD
    fields_desc = [
        *_header(magic_due),
        PartField("agent_base", SpiceMigrateDataCharDevice),
        ByteField("client_agent_started", 0),
        LEIntField("chunk_header_size", 0),
        LEIntField("chunk_port", 0),
        LEIntField("chunk_size", 0),
        ByteField("msg_header_done", 0),
        FieldLenField("msg_header_partial_len", None, length_of="msg_header", fmt="<I"),
        OffsetField("msg_header_offset", "msg_header"),
        PointedField("msg_header", "msg_header_offset", size=lambda p: p.msg_header_partial_len),
        LEIntField("agent2client_msg_remaining", 0),
        ByteField("agent2client_msg_filter_result", 0),
        LEIntField("client2agent_msg_remaining", 0),
        ByteField("client2agent_msg_filter_result", 0),
        TailField(),
    ]


class SpiceMigrateDataRect(Struct):
    """In another order than SpiceRect."""

    fields_desc = [LESignedIntField(name, 0) for name in ("left", "top", "right", "bottom")]


class MigrateDisplaySurfaceLossless(Struct):
    """A surface that the client has."""

    fields_desc = [LEIntField("id", 0)]


class MigrateDisplaySurfaceLossy(Struct):
    """A surface that the client has, and which part of it came with losses."""

    fields_desc = [LEIntField("id", 0), PartField("lossy_rect", SpiceMigrateDataRect)]


class MigrateDisplaySurfacesAtClientLossless(Struct):
    """The surfaces that the client has."""

    fields_desc = [
        FieldLenField("num_surfaces", None, count_of="surfaces", fmt="<I"),
        PartListField("surfaces", MigrateDisplaySurfaceLossless, count_from=lambda p: p.num_surfaces),
    ]


class MigrateDisplaySurfacesAtClientLossy(Struct):
    """The surfaces that the client has, of a server that compresses with losses (JPEG)."""

    fields_desc = [
        FieldLenField("num_surfaces", None, count_of="surfaces", fmt="<I"),
        PartListField("surfaces", MigrateDisplaySurfaceLossy, count_from=lambda p: p.num_surfaces),
    ]


def _surfaces(packet: Packet, s: bytes) -> type[Struct]:
    """Chooses one of the two by the length of this last part; the server's JPEG setting decides it."""
    count = int.from_bytes(s[:4], "little")
    if count and len(s) == 4 + 20 * count:
        return MigrateDisplaySurfacesAtClientLossy
    return MigrateDisplaySurfacesAtClientLossless


class _Display(MigrateData):
    """The pixmap cache, the GLZ dictionary, and the surfaces that the client has; sizes in pixels."""

    magic_due = MigrateMagic.DCMD
    fields_desc = [
        *_header(magic_due),
        LELongField("message_serial", 0),
        ByteField("low_bandwidth_setting", 0),
        ByteField("pixmap_cache_id", 0),
        LESignedLongField("pixmap_cache_size", 0),
        ByteField("pixmap_cache_freezer", 0),
        FieldListField(
            "pixmap_cache_clients",
            [0] * MAX_CACHE_CLIENTS,
            LELongField("serial", 0),
            count_from=lambda p: MAX_CACHE_CLIENTS,
        ),
        ByteField("glz_dict_id", 0),
        LEIntField("glz_dict_size", 0),
        LEIntField("glz_dict_max_encoders", 0),
        LELongField("glz_dict_last_image_id", 0),
        *pointer("surfaces_at_client", _surfaces),
        TailField(),
    ]


class _Inputs(MigrateData):
    """Motion messages since the last MOUSE_MOTION_ACK."""

    magic_due = MigrateMagic.ICMD
    fields_desc = [*_header(magic_due), LEShortField("motion_count", 0)]


class _Smartcard(MigrateData):
    """The reader's device, and what was read from it of a message that is not yet whole."""

    magic_due = MigrateMagic.SCMD
    fields_desc = [
        *_header(magic_due),
        PartField("base", SpiceMigrateDataCharDevice),
        ByteField("reader_added", 0),
        FieldLenField("read_size", None, length_of="read_data", fmt="<I"),
        OffsetField("read_data_offset", "read_data"),
        PointedField("read_data", "read_data_offset", size=lambda p: p.read_size),
        TailField(),
    ]


class _Spicevmc(MigrateData):
    """The device of a usbredir, port or webdav channel."""

    magic_due = MigrateMagic.SVMD
    fields_desc = [*_header(magic_due), PartField("base", SpiceMigrateDataCharDevice), TailField()]


@message(MsgBase.SPICE_MSG_MIGRATE_DATA, ChannelType.SPICE_CHANNEL_MAIN)
class SpiceMsgMigrateDataMain(_Main):
    """The guest's agent, from the source."""


@message(MsgcBase.SPICE_MSGC_MIGRATE_DATA, ChannelType.SPICE_CHANNEL_MAIN)
class SpiceMsgcMigrateDataMain(_Main):
    """The guest's agent, to the target."""


@message(MsgBase.SPICE_MSG_MIGRATE_DATA, ChannelType.SPICE_CHANNEL_DISPLAY)
class SpiceMsgMigrateDataDisplay(_Display):
    """Caches and surfaces, from the source."""


@message(MsgcBase.SPICE_MSGC_MIGRATE_DATA, ChannelType.SPICE_CHANNEL_DISPLAY)
class SpiceMsgcMigrateDataDisplay(_Display):
    """Caches and surfaces, to the target."""


@message(MsgBase.SPICE_MSG_MIGRATE_DATA, ChannelType.SPICE_CHANNEL_INPUTS)
class SpiceMsgMigrateDataInputs(_Inputs):
    """Motion, from the source."""


@message(MsgcBase.SPICE_MSGC_MIGRATE_DATA, ChannelType.SPICE_CHANNEL_INPUTS)
class SpiceMsgcMigrateDataInputs(_Inputs):
    """Motion, to the target."""


@message(MsgBase.SPICE_MSG_MIGRATE_DATA, ChannelType.SPICE_CHANNEL_SMARTCARD)
class SpiceMsgMigrateDataSmartcard(_Smartcard):
    """The reader, from the source."""


@message(MsgcBase.SPICE_MSGC_MIGRATE_DATA, ChannelType.SPICE_CHANNEL_SMARTCARD)
class SpiceMsgcMigrateDataSmartcard(_Smartcard):
    """The reader, to the target."""


@message(MsgBase.SPICE_MSG_MIGRATE_DATA, *VMC)
class SpiceMsgMigrateDataSpicevmc(_Spicevmc):
    """The device, from the source."""


@message(MsgcBase.SPICE_MSGC_MIGRATE_DATA, *VMC)
class SpiceMsgcMigrateDataSpicevmc(_Spicevmc):
    """The device, to the target."""
