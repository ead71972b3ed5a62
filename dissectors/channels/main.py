# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE main channel
# scapy.contrib.status = loads
"""Every message of the main channel, both directions (spice.proto, MainChannel)."""

from scapy.fields import (
    ByteField,
    FieldLenField,
    LEIntField,
    LELongField,
    LEShortField,
    PacketListField,
    StrField,
    StrFixedLenField,
    StrLenField,
)

from dissectors.wire.constants import ChannelType, LinkErr, MsgcMain, MsgMain
from dissectors.wire.enums import MouseMode
from dissectors.wire.fields import (
    PointedStringField,
    PointerOffsetField,
    PointerSizeField,
    StringTailField,
    enum8,
    enum32,
    flags,
)
from dissectors.wire.message import SpiceMessage, SpicePart, message

MAIN = ChannelType.SPICE_CHANNEL_MAIN
NO_PORT = 0xFFFF  # the value of a port that was left out


def _destination() -> list[object]:
    """SpiceMigrationDstInfo: where the target is; offsets count from the start of the message body."""
    return [
        LEShortField("port", 0),
        LEShortField("sport", 0),
        PointerSizeField("host_size", "host"),
        PointerOffsetField("host_offset", "host"),
        PointerSizeField("cert_subject_size", "cert_subject"),
        PointerOffsetField("cert_subject_offset", "cert_subject"),
    ]


def _strings() -> list[object]:
    return [
        StringTailField(),
        PointedStringField("host", size="host_size", offset="host_offset"),
        PointedStringField("cert_subject", size="cert_subject_size", offset="cert_subject_offset"),
    ]


@message(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN, MAIN)
class SpiceMsgMainMigrateBegin(SpiceMessage):
    """Connect to the target now; the machine's migration follows."""

    fields_desc = [*_destination(), *_strings()]


@message(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS, MAIN)
class SpiceMsgMainMigrateBeginSeamless(SpiceMessage):
    """As MIGRATE_BEGIN; the channels' state will travel too, in the source's version of the format."""

    fields_desc = [*_destination(), LEIntField("src_mig_version", 0), *_strings()]


@message(MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST, MAIN)
class SpiceMsgMainMigrateSwitchHost(SpiceMessage):
    """The machine has moved: leave, and open a new session at the new host."""

    fields_desc = [*_destination(), *_strings()]


@message(MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL, MAIN)
class SpiceMsgMainMigrateCancel(SpiceMessage):
    """The migration was cancelled: close the connections to the target."""


@message(MsgMain.SPICE_MSG_MAIN_MIGRATE_END, MAIN)
class SpiceMsgMainMigrateEnd(SpiceMessage):
    """The machine has moved: switch to the connections that are open to the target."""


@message(MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK, MAIN)
class SpiceMsgMainMigrateDstSeamlessAck(SpiceMessage):
    """The target can restore the channels' state."""


@message(MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK, MAIN)
class SpiceMsgMainMigrateDstSeamlessNack(SpiceMessage):
    """The target cannot restore the channels' state."""


@message(MsgMain.SPICE_MSG_MAIN_INIT, MAIN)
class SpiceMsgMainInit(SpiceMessage):
    """The session begins; `multi_media_time` in ms, `ram_hint` in bytes."""

    fields_desc = [
        LEIntField("session_id", 0),
        LEIntField("display_channels_hint", 0),
        flags("supported_mouse_modes", 0, 32, MouseMode),
        flags("current_mouse_mode", 0, 32, MouseMode),
        LEIntField("agent_connected", 0),
        LEIntField("agent_tokens", 0),
        LEIntField("multi_media_time", 0),
        LEIntField("ram_hint", 0),
    ]


class SpiceChannelId(SpicePart):
    """One channel that the server offers."""

    fields_desc = [enum8("type", 0, ChannelType), ByteField("id", 0)]


@message(MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST, MAIN)
class SpiceMsgMainChannelsList(SpiceMessage):
    """The channels that the client may open."""

    fields_desc = [
        FieldLenField("num_of_channels", None, count_of="channels", fmt="<I"),
        PacketListField("channels", [], SpiceChannelId, count_from=lambda p: p.num_of_channels),
    ]


@message(MsgMain.SPICE_MSG_MAIN_MOUSE_MODE, MAIN)
class SpiceMsgMainMouseMode(SpiceMessage):
    """Mouse modes that are possible, and the one in force."""

    fields_desc = [flags("supported_modes", 0, 16, MouseMode), flags("current_mode", 0, 16, MouseMode)]


@message(MsgMain.SPICE_MSG_MAIN_MULTI_MEDIA_TIME, MAIN)
class SpiceMsgMainMultiMediaTime(SpiceMessage):
    """The server's clock for sound and video, ms."""

    fields_desc = [LEIntField("multi_media_time", 0)]


@message(MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED, MAIN)
class SpiceMsgMainAgentConnected(SpiceMessage):
    """The guest's agent is connected."""


@message(MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS, MAIN)
class SpiceMsgMainAgentConnectedTokens(SpiceMessage):
    """The guest's agent is connected, and the client may send it `num_tokens` messages."""

    fields_desc = [LEIntField("num_tokens", 0)]


@message(MsgMain.SPICE_MSG_MAIN_AGENT_DISCONNECTED, MAIN)
class SpiceMsgMainAgentDisconnected(SpiceMessage):
    """The guest's agent has disconnected."""

    fields_desc = [enum32("error_code", 0, LinkErr)]


class _AgentData(SpiceMessage):
    """A piece of the agent's stream (`dissectors.channels.agent` joins and reads it)."""

    fields_desc = [StrField("data", b"")]


class _Tokens(SpiceMessage):
    """The number of further AGENT_DATA messages that the other side may send."""

    fields_desc = [LEIntField("num_tokens", 0)]


@message(MsgMain.SPICE_MSG_MAIN_AGENT_DATA, MAIN)
class SpiceMsgMainAgentData(_AgentData):
    """From the guest's agent."""


@message(MsgMain.SPICE_MSG_MAIN_AGENT_TOKEN, MAIN)
class SpiceMsgMainAgentToken(_Tokens):
    """More tokens for the client."""


@message(MsgMain.SPICE_MSG_MAIN_NAME, MAIN)
class SpiceMsgMainName(SpiceMessage):
    """The machine's name; the length counts its NUL."""

    fields_desc = [
        FieldLenField("name_len", None, length_of="vm_name", fmt="<I"),
        StrLenField("vm_name", b"", length_from=lambda p: p.name_len),
    ]


@message(MsgMain.SPICE_MSG_MAIN_UUID, MAIN)
class SpiceMsgMainUuid(SpiceMessage):
    """The machine's UUID, 16 bytes in network order."""

    fields_desc = [StrFixedLenField("uuid", b"\0" * 16, 16)]


@message(MsgcMain.SPICE_MSGC_MAIN_CLIENT_INFO, MAIN)
class SpiceMsgcMainClientInfo(SpiceMessage):
    """The size of the client's cache, bytes."""

    fields_desc = [LELongField("cache_size", 0)]


@message(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED, MAIN)
class SpiceMsgcMainMigrateConnected(SpiceMessage):
    """To the source: the client is linked to the target."""


@message(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR, MAIN)
class SpiceMsgcMainMigrateConnectError(SpiceMessage):
    """To the source: the client could not link to the target."""


@message(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS, MAIN)
class SpiceMsgcMainMigrateConnectedSeamless(SpiceMessage):
    """To the source: linked, and the target can restore the channels' state."""


@message(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END, MAIN)
class SpiceMsgcMainMigrateEnd(SpiceMessage):
    """To the target: the client has left the source; the session may begin."""


@message(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS, MAIN)
class SpiceMsgcMainMigrateDstDoSeamless(SpiceMessage):
    """To the target: can it restore state in the source's version of the format?"""

    fields_desc = [LEIntField("src_version", 0)]


@message(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS, MAIN)
class SpiceMsgcMainAttachChannels(SpiceMessage):
    """Asks for the list of channels."""


@message(MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST, MAIN)
class SpiceMsgcMainMouseModeRequest(SpiceMessage):
    """Asks for a mouse mode."""

    fields_desc = [flags("mode", 0, 16, MouseMode)]


@message(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, MAIN)
class SpiceMsgcMainAgentStart(_Tokens):
    """The client starts to talk to the agent, which may send `num_tokens` messages."""


@message(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, MAIN)
class SpiceMsgcMainAgentData(_AgentData):
    """For the guest's agent."""


@message(MsgcMain.SPICE_MSGC_MAIN_AGENT_TOKEN, MAIN)
class SpiceMsgcMainAgentToken(_Tokens):
    """More tokens for the agent."""


@message(MsgcMain.SPICE_MSGC_MAIN_QUALITY_INDICATOR, MAIN)
class SpiceMsgcMainQualityIndicator(SpiceMessage):
    """Declared by the enumeration; no layout is written down for it."""

    fields_desc = [StrField("load", b"")]
