# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE cursor channel
# scapy.contrib.status = loads
"""Every message of the cursor channel (spice.proto, CursorChannel); the client has none of its own."""

from scapy.fields import ByteField, ConditionalField, LEShortField, XLELongField

from dissectors.wire.constants import ChannelType, MsgCursor
from dissectors.wire.enums import CursorFlags, CursorType
from dissectors.wire.fields import enum8, flags
from dissectors.wire.geometry import SpicePoint16
from dissectors.wire.message import SpiceMessage, message
from dissectors.wire.struct_fields import PartField, RestField
from dissectors.wire.structs import Struct, StructMessage

CURSOR = ChannelType.SPICE_CHANNEL_CURSOR


class SpiceCursorHeader(Struct):
    """Size and hot spot in pixels; `unique` is the cursor's id in the cache."""

    fields_desc = [
        XLELongField("unique", 0),
        enum8("type", 0, CursorType),
        LEShortField("width", 0),
        LEShortField("height", 0),
        LEShortField("hot_spot_x", 0),
        LEShortField("hot_spot_y", 0),
    ]


class SpiceCursor(Struct):
    """No cursor, or one with its pixels, or one from the cache."""

    fields_desc = [
        flags("flags", 0, 16, CursorFlags),
        ConditionalField(
            PartField("header", SpiceCursorHeader),
            lambda p: not int(p.flags) & CursorFlags.SPICE_CURSOR_FLAGS_NONE,
        ),
        RestField("data"),
    ]


@message(MsgCursor.SPICE_MSG_CURSOR_INIT, CURSOR)
class SpiceMsgCursorInit(StructMessage):
    """The cursor when the channel opens."""

    fields_desc = [
        PartField("position", SpicePoint16),
        LEShortField("trail_length", 0),
        LEShortField("trail_frequency", 0),
        ByteField("visible", 0),
        PartField("cursor", SpiceCursor),
    ]


@message(MsgCursor.SPICE_MSG_CURSOR_RESET, CURSOR)
class SpiceMsgCursorReset(SpiceMessage):
    """No cursor, and an empty cache."""


@message(MsgCursor.SPICE_MSG_CURSOR_SET, CURSOR)
class SpiceMsgCursorSet(StructMessage):
    """Another cursor."""

    fields_desc = [
        PartField("position", SpicePoint16),
        ByteField("visible", 0),
        PartField("cursor", SpiceCursor),
    ]


@message(MsgCursor.SPICE_MSG_CURSOR_MOVE, CURSOR)
class SpiceMsgCursorMove(StructMessage):
    """The guest has moved the cursor."""

    fields_desc = [PartField("position", SpicePoint16)]


@message(MsgCursor.SPICE_MSG_CURSOR_HIDE, CURSOR)
class SpiceMsgCursorHide(SpiceMessage):
    """The cursor is not to be seen."""


@message(MsgCursor.SPICE_MSG_CURSOR_TRAIL, CURSOR)
class SpiceMsgCursorTrail(SpiceMessage):
    """What the cursor leaves behind as it moves."""

    fields_desc = [LEShortField("length", 0), LEShortField("frequency", 0)]


@message(MsgCursor.SPICE_MSG_CURSOR_INVAL_ONE, CURSOR)
class SpiceMsgCursorInvalOne(SpiceMessage):
    """A cursor leaves the cache."""

    fields_desc = [XLELongField("id", 0)]


@message(MsgCursor.SPICE_MSG_CURSOR_INVAL_ALL, CURSOR)
class SpiceMsgCursorInvalAll(SpiceMessage):
    """All cursors leave the cache."""
