# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE messages of every channel
# scapy.contrib.status = library
"""The messages that every channel has, both directions (spice.proto, BaseChannel)."""

from scapy.fields import (
    ByteField,
    FieldLenField,
    LEIntField,
    LELongField,
    PacketListField,
    StrField,
    StrLenField,
)

from dissectors.wire.constants import LinkErr, MsgBase, MsgcBase
from dissectors.wire.enums import MigrateFlags, NotifySeverity, NotifyVisibility
from dissectors.wire.fields import enum32, flags
from dissectors.wire.message import SpiceMessage, SpicePart, message


@message(MsgBase.SPICE_MSG_MIGRATE)
class SpiceMsgMigrate(SpiceMessage):
    """The channel migrates; the flags say what the client must send before it leaves."""

    fields_desc = [flags("flags", 0, 32, MigrateFlags)]


@message(MsgBase.SPICE_MSG_MIGRATE_DATA)
class SpiceMsgMigrateData(SpiceMessage):
    """State for the target, of a channel whose layout is not known."""

    fields_desc = [StrField("data", b"")]


@message(MsgBase.SPICE_MSG_SET_ACK)
class SpiceMsgSetAck(SpiceMessage):
    """From now on an ACK is due after every `window` messages."""

    fields_desc = [LEIntField("generation", 0), LEIntField("window", 0)]


@message(MsgBase.SPICE_MSG_PING)
class SpiceMsgPing(SpiceMessage):
    """Answered by PONG with the same id and timestamp; `data` is padding that loads the network."""

    fields_desc = [LEIntField("id", 0), LELongField("timestamp", 0), StrField("data", b"")]


class SpiceWaitForChannel(SpicePart):
    """One channel and the serial of its message to wait for."""

    fields_desc = [ByteField("channel_type", 0), ByteField("channel_id", 0), LELongField("message_serial", 0)]


@message(MsgBase.SPICE_MSG_WAIT_FOR_CHANNELS)
class SpiceMsgWaitForChannels(SpiceMessage):
    """The client waits until other channels have processed their messages up to these serials."""

    fields_desc = [
        FieldLenField("wait_count", None, count_of="wait_list", fmt="B"),
        PacketListField("wait_list", [], SpiceWaitForChannel, count_from=lambda p: p.wait_count),
    ]


class _Disconnecting(SpiceMessage):
    fields_desc = [LELongField("time_stamp", 0), enum32("reason", 0, LinkErr)]


@message(MsgBase.SPICE_MSG_DISCONNECTING)
class SpiceMsgDisconnecting(_Disconnecting):
    """The server is about to leave."""


@message(MsgBase.SPICE_MSG_NOTIFY)
class SpiceMsgNotify(SpiceMessage):
    """Text for the user. The text's length leaves out its NUL."""

    fields_desc = [
        LELongField("time_stamp", 0),
        enum32("severity", 0, NotifySeverity),
        enum32("visibility", 0, NotifyVisibility),
        LEIntField("what", 0),
        FieldLenField("message_len", None, length_of="message", fmt="<I"),
        StrLenField("message", b"", length_from=lambda p: p.message_len),
        StrField("terminator", b""),
    ]


@message(MsgBase.SPICE_MSG_LIST)
class SpiceMsgList(SpiceMessage):
    """Nothing but a sub-message list (`dissectors.wire.data_header.sub_messages`)."""

    fields_desc = [StrField("data", b"")]


@message(MsgcBase.SPICE_MSGC_ACK_SYNC)
class SpiceMsgcAckSync(SpiceMessage):
    """The answer to SET_ACK, with its generation."""

    fields_desc = [LEIntField("generation", 0)]


@message(MsgcBase.SPICE_MSGC_ACK)
class SpiceMsgcAck(SpiceMessage):
    """One window of messages has arrived."""


@message(MsgcBase.SPICE_MSGC_PONG)
class SpiceMsgcPong(SpiceMessage):
    """The answer to PING, with its id and timestamp."""

    fields_desc = [LEIntField("id", 0), LELongField("timestamp", 0)]


@message(MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK)
class SpiceMsgcMigrateFlushMark(SpiceMessage):
    """The last message of a migrating channel before the client waits for MIGRATE_DATA."""


@message(MsgcBase.SPICE_MSGC_MIGRATE_DATA)
class SpiceMsgcMigrateData(SpiceMessage):
    """State that the client brings from the source, of a channel whose layout is not known."""

    fields_desc = [StrField("data", b"")]


@message(MsgcBase.SPICE_MSGC_DISCONNECTING)
class SpiceMsgcDisconnecting(_Disconnecting):
    """The client is about to leave."""
