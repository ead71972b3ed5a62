# SPDX-License-Identifier: GPL-2.0-only
"""The constants for framing and naming SPICE: channels, messages, link errors, capabilities.

Source: spice-protocol, spice/protocol.h and spice/enums.h. `suites/selftest` proves every value
against the installed headers. The values inside messages are in `dissectors.wire.enums`.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType

SPICE_MAGIC = b"REDQ"
SPICE_VERSION_MAJOR = 2
SPICE_VERSION_MINOR = 2
SPICE_MAX_PASSWORD_LENGTH = 60  # bytes
SPICE_TICKET_KEY_PAIR_LENGTH = 1024  # bits
SPICE_TICKET_PUBKEY_BYTES = 162
TICKET_BYTES = SPICE_TICKET_KEY_PAIR_LENGTH // 8
BASE_LAST = 100  # message types up to here belong to every channel (SPICE_MSG_BASE_LAST)

LINK_HEADER_BYTES = 16
DATA_HEADER_BYTES = 18
MINI_HEADER_BYTES = 6


class Side(StrEnum):
    """Who sent a packet."""

    CLIENT = "client"
    SERVER = "server"


class LinkErr(IntEnum):
    """Errors of the link reply and of the link result (enums.h, SpiceLinkErr)."""

    SPICE_LINK_ERR_OK = 0
    SPICE_LINK_ERR_ERROR = 1
    SPICE_LINK_ERR_INVALID_MAGIC = 2
    SPICE_LINK_ERR_INVALID_DATA = 3
    SPICE_LINK_ERR_VERSION_MISMATCH = 4
    SPICE_LINK_ERR_NEED_SECURED = 5
    SPICE_LINK_ERR_NEED_UNSECURED = 6
    SPICE_LINK_ERR_PERMISSION_DENIED = 7
    SPICE_LINK_ERR_BAD_CONNECTION_ID = 8
    SPICE_LINK_ERR_CHANNEL_NOT_AVAILABLE = 9


class CommonCap(IntEnum):
    """Bit numbers of the capabilities that every channel has (protocol.h, SPICE_COMMON_CAP_*)."""

    SPICE_COMMON_CAP_PROTOCOL_AUTH_SELECTION = 0
    SPICE_COMMON_CAP_AUTH_SPICE = 1
    SPICE_COMMON_CAP_AUTH_SASL = 2
    SPICE_COMMON_CAP_MINI_HEADER = 3


class MainCap(IntEnum):
    """Bit numbers of the main channel's capabilities (protocol.h, SPICE_MAIN_CAP_*)."""

    SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE = 0
    SPICE_MAIN_CAP_NAME_AND_UUID = 1
    SPICE_MAIN_CAP_AGENT_CONNECTED_TOKENS = 2
    SPICE_MAIN_CAP_SEAMLESS_MIGRATE = 3


class DisplayCap(IntEnum):
    """Bit numbers of the display channel's capabilities (protocol.h, SPICE_DISPLAY_CAP_*)."""

    SPICE_DISPLAY_CAP_SIZED_STREAM = 0
    SPICE_DISPLAY_CAP_MONITORS_CONFIG = 1
    SPICE_DISPLAY_CAP_COMPOSITE = 2
    SPICE_DISPLAY_CAP_A8_SURFACE = 3
    SPICE_DISPLAY_CAP_STREAM_REPORT = 4
    SPICE_DISPLAY_CAP_LZ4_COMPRESSION = 5
    SPICE_DISPLAY_CAP_PREF_COMPRESSION = 6
    SPICE_DISPLAY_CAP_GL_SCANOUT = 7
    SPICE_DISPLAY_CAP_MULTI_CODEC = 8
    SPICE_DISPLAY_CAP_CODEC_MJPEG = 9
    SPICE_DISPLAY_CAP_CODEC_VP8 = 10
    SPICE_DISPLAY_CAP_CODEC_H264 = 11
    SPICE_DISPLAY_CAP_PREF_VIDEO_CODEC_TYPE = 12
    SPICE_DISPLAY_CAP_CODEC_VP9 = 13
    SPICE_DISPLAY_CAP_CODEC_H265 = 14
    SPICE_DISPLAY_CAP_GL_SCANOUT2 = 15  # not in 0.14.3


class InputsCap(IntEnum):
    """Bit numbers of the inputs channel's capabilities (protocol.h, SPICE_INPUTS_CAP_*)."""

    SPICE_INPUTS_CAP_KEY_SCANCODE = 0


class PlaybackCap(IntEnum):
    """Bit numbers of the playback channel's capabilities (protocol.h, SPICE_PLAYBACK_CAP_*)."""

    SPICE_PLAYBACK_CAP_CELT_0_5_1 = 0
    SPICE_PLAYBACK_CAP_VOLUME = 1
    SPICE_PLAYBACK_CAP_LATENCY = 2
    SPICE_PLAYBACK_CAP_OPUS = 3


class RecordCap(IntEnum):
    """Bit numbers of the record channel's capabilities (protocol.h, SPICE_RECORD_CAP_*)."""

    SPICE_RECORD_CAP_CELT_0_5_1 = 0
    SPICE_RECORD_CAP_VOLUME = 1
    SPICE_RECORD_CAP_OPUS = 2


class SpicevmcCap(IntEnum):
    """Bit numbers of the capabilities of usbredir, port and webdav (protocol.h, SPICE_SPICEVMC_CAP_*)."""

    SPICE_SPICEVMC_CAP_DATA_COMPRESS_LZ4 = 0


class ChannelType(IntEnum):
    """Channel types (enums.h)."""

    SPICE_CHANNEL_MAIN = 1
    SPICE_CHANNEL_DISPLAY = 2
    SPICE_CHANNEL_INPUTS = 3
    SPICE_CHANNEL_CURSOR = 4
    SPICE_CHANNEL_PLAYBACK = 5
    SPICE_CHANNEL_RECORD = 6
    SPICE_CHANNEL_TUNNEL = 7
    SPICE_CHANNEL_SMARTCARD = 8
    SPICE_CHANNEL_USBREDIR = 9
    SPICE_CHANNEL_PORT = 10
    SPICE_CHANNEL_WEBDAV = 11


class MsgBase(IntEnum):
    """Server messages of every channel (enums.h)."""

    SPICE_MSG_MIGRATE = 1
    SPICE_MSG_MIGRATE_DATA = 2
    SPICE_MSG_SET_ACK = 3
    SPICE_MSG_PING = 4
    SPICE_MSG_WAIT_FOR_CHANNELS = 5
    SPICE_MSG_DISCONNECTING = 6
    SPICE_MSG_NOTIFY = 7
    SPICE_MSG_LIST = 8


class MsgcBase(IntEnum):
    """Client messages of every channel (enums.h)."""

    SPICE_MSGC_ACK_SYNC = 1
    SPICE_MSGC_ACK = 2
    SPICE_MSGC_PONG = 3
    SPICE_MSGC_MIGRATE_FLUSH_MARK = 4
    SPICE_MSGC_MIGRATE_DATA = 5
    SPICE_MSGC_DISCONNECTING = 6


class MsgMain(IntEnum):
    """Server messages of the main channel (enums.h)."""

    SPICE_MSG_MAIN_MIGRATE_BEGIN = 101
    SPICE_MSG_MAIN_MIGRATE_CANCEL = 102
    SPICE_MSG_MAIN_INIT = 103
    SPICE_MSG_MAIN_CHANNELS_LIST = 104
    SPICE_MSG_MAIN_MOUSE_MODE = 105
    SPICE_MSG_MAIN_MULTI_MEDIA_TIME = 106
    SPICE_MSG_MAIN_AGENT_CONNECTED = 107
    SPICE_MSG_MAIN_AGENT_DISCONNECTED = 108
    SPICE_MSG_MAIN_AGENT_DATA = 109
    SPICE_MSG_MAIN_AGENT_TOKEN = 110
    SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST = 111
    SPICE_MSG_MAIN_MIGRATE_END = 112
    SPICE_MSG_MAIN_NAME = 113
    SPICE_MSG_MAIN_UUID = 114
    SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS = 115
    SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS = 116
    SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK = 117
    SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK = 118


class MsgcMain(IntEnum):
    """Client messages of the main channel (enums.h)."""

    SPICE_MSGC_MAIN_CLIENT_INFO = 101
    SPICE_MSGC_MAIN_MIGRATE_CONNECTED = 102
    SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR = 103
    SPICE_MSGC_MAIN_ATTACH_CHANNELS = 104
    SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST = 105
    SPICE_MSGC_MAIN_AGENT_START = 106
    SPICE_MSGC_MAIN_AGENT_DATA = 107
    SPICE_MSGC_MAIN_AGENT_TOKEN = 108
    SPICE_MSGC_MAIN_MIGRATE_END = 109
    SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS = 110
    SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS = 111
    SPICE_MSGC_MAIN_QUALITY_INDICATOR = 112


class MsgDisplay(IntEnum):
    """Server messages of the display channel (enums.h)."""

    SPICE_MSG_DISPLAY_MODE = 101
    SPICE_MSG_DISPLAY_MARK = 102
    SPICE_MSG_DISPLAY_RESET = 103
    SPICE_MSG_DISPLAY_COPY_BITS = 104
    SPICE_MSG_DISPLAY_INVAL_LIST = 105
    SPICE_MSG_DISPLAY_INVAL_ALL_PIXMAPS = 106
    SPICE_MSG_DISPLAY_INVAL_PALETTE = 107
    SPICE_MSG_DISPLAY_INVAL_ALL_PALETTES = 108
    SPICE_MSG_DISPLAY_STREAM_CREATE = 122
    SPICE_MSG_DISPLAY_STREAM_DATA = 123
    SPICE_MSG_DISPLAY_STREAM_CLIP = 124
    SPICE_MSG_DISPLAY_STREAM_DESTROY = 125
    SPICE_MSG_DISPLAY_STREAM_DESTROY_ALL = 126
    SPICE_MSG_DISPLAY_DRAW_FILL = 302
    SPICE_MSG_DISPLAY_DRAW_OPAQUE = 303
    SPICE_MSG_DISPLAY_DRAW_COPY = 304
    SPICE_MSG_DISPLAY_DRAW_BLEND = 305
    SPICE_MSG_DISPLAY_DRAW_BLACKNESS = 306
    SPICE_MSG_DISPLAY_DRAW_WHITENESS = 307
    SPICE_MSG_DISPLAY_DRAW_INVERS = 308
    SPICE_MSG_DISPLAY_DRAW_ROP3 = 309
    SPICE_MSG_DISPLAY_DRAW_STROKE = 310
    SPICE_MSG_DISPLAY_DRAW_TEXT = 311
    SPICE_MSG_DISPLAY_DRAW_TRANSPARENT = 312
    SPICE_MSG_DISPLAY_DRAW_ALPHA_BLEND = 313
    SPICE_MSG_DISPLAY_SURFACE_CREATE = 314
    SPICE_MSG_DISPLAY_SURFACE_DESTROY = 315
    SPICE_MSG_DISPLAY_STREAM_DATA_SIZED = 316
    SPICE_MSG_DISPLAY_MONITORS_CONFIG = 317
    SPICE_MSG_DISPLAY_DRAW_COMPOSITE = 318
    SPICE_MSG_DISPLAY_STREAM_ACTIVATE_REPORT = 319
    SPICE_MSG_DISPLAY_GL_SCANOUT_UNIX = 320
    SPICE_MSG_DISPLAY_GL_DRAW = 321
    SPICE_MSG_DISPLAY_QUALITY_INDICATOR = 322
    SPICE_MSG_DISPLAY_GL_SCANOUT2_UNIX = 323  # not in 0.14.3


class MsgcDisplay(IntEnum):
    """Client messages of the display channel (enums.h)."""

    SPICE_MSGC_DISPLAY_INIT = 101
    SPICE_MSGC_DISPLAY_STREAM_REPORT = 102
    SPICE_MSGC_DISPLAY_PREFERRED_COMPRESSION = 103
    SPICE_MSGC_DISPLAY_GL_DRAW_DONE = 104
    SPICE_MSGC_DISPLAY_PREFERRED_VIDEO_CODEC_TYPE = 105


class MsgInputs(IntEnum):
    """Server messages of the inputs channel (enums.h)."""

    SPICE_MSG_INPUTS_INIT = 101
    SPICE_MSG_INPUTS_KEY_MODIFIERS = 102
    SPICE_MSG_INPUTS_MOUSE_MOTION_ACK = 111


class MsgcInputs(IntEnum):
    """Client messages of the inputs channel (enums.h)."""

    SPICE_MSGC_INPUTS_KEY_DOWN = 101
    SPICE_MSGC_INPUTS_KEY_UP = 102
    SPICE_MSGC_INPUTS_KEY_MODIFIERS = 103
    SPICE_MSGC_INPUTS_KEY_SCANCODE = 104
    SPICE_MSGC_INPUTS_MOUSE_MOTION = 111
    SPICE_MSGC_INPUTS_MOUSE_POSITION = 112
    SPICE_MSGC_INPUTS_MOUSE_PRESS = 113
    SPICE_MSGC_INPUTS_MOUSE_RELEASE = 114


class MsgCursor(IntEnum):
    """Server messages of the cursor channel (enums.h)."""

    SPICE_MSG_CURSOR_INIT = 101
    SPICE_MSG_CURSOR_RESET = 102
    SPICE_MSG_CURSOR_SET = 103
    SPICE_MSG_CURSOR_MOVE = 104
    SPICE_MSG_CURSOR_HIDE = 105
    SPICE_MSG_CURSOR_TRAIL = 106
    SPICE_MSG_CURSOR_INVAL_ONE = 107
    SPICE_MSG_CURSOR_INVAL_ALL = 108


class MsgPlayback(IntEnum):
    """Server messages of the playback channel (enums.h)."""

    SPICE_MSG_PLAYBACK_DATA = 101
    SPICE_MSG_PLAYBACK_MODE = 102
    SPICE_MSG_PLAYBACK_START = 103
    SPICE_MSG_PLAYBACK_STOP = 104
    SPICE_MSG_PLAYBACK_VOLUME = 105
    SPICE_MSG_PLAYBACK_MUTE = 106
    SPICE_MSG_PLAYBACK_LATENCY = 107


class MsgRecord(IntEnum):
    """Server messages of the record channel (enums.h)."""

    SPICE_MSG_RECORD_START = 101
    SPICE_MSG_RECORD_STOP = 102
    SPICE_MSG_RECORD_VOLUME = 103
    SPICE_MSG_RECORD_MUTE = 104


class MsgcRecord(IntEnum):
    """Client messages of the record channel (enums.h)."""

    SPICE_MSGC_RECORD_DATA = 101
    SPICE_MSGC_RECORD_MODE = 102
    SPICE_MSGC_RECORD_START_MARK = 103


class MsgSmartcard(IntEnum):
    """Server messages of the smartcard channel (enums.h)."""

    SPICE_MSG_SMARTCARD_DATA = 101


class MsgcSmartcard(IntEnum):
    """Client messages of the smartcard channel (enums.h)."""

    SPICE_MSGC_SMARTCARD_DATA = 101
    SPICE_MSGC_SMARTCARD_HEADER = 101
    SPICE_MSGC_SMARTCARD_ERROR = 101
    SPICE_MSGC_SMARTCARD_ATR = 101
    SPICE_MSGC_SMARTCARD_READER_ADD = 101


class MsgSpicevmc(IntEnum):
    """Server messages of the spicevmc channel (enums.h)."""

    SPICE_MSG_SPICEVMC_DATA = 101
    SPICE_MSG_SPICEVMC_COMPRESSED_DATA = 102


class MsgcSpicevmc(IntEnum):
    """Client messages of the spicevmc channel (enums.h)."""

    SPICE_MSGC_SPICEVMC_DATA = 101
    SPICE_MSGC_SPICEVMC_COMPRESSED_DATA = 102


class MsgPort(IntEnum):
    """Server messages of the port channel (enums.h)."""

    SPICE_MSG_PORT_INIT = 201
    SPICE_MSG_PORT_EVENT = 202


class MsgcPort(IntEnum):
    """Client messages of the port channel (enums.h)."""

    SPICE_MSGC_PORT_EVENT = 201


CHANNEL_CAPS: Mapping[int, type[IntEnum]] = MappingProxyType(
    {
        ChannelType.SPICE_CHANNEL_MAIN: MainCap,
        ChannelType.SPICE_CHANNEL_DISPLAY: DisplayCap,
        ChannelType.SPICE_CHANNEL_INPUTS: InputsCap,
        ChannelType.SPICE_CHANNEL_PLAYBACK: PlaybackCap,
        ChannelType.SPICE_CHANNEL_RECORD: RecordCap,
        ChannelType.SPICE_CHANNEL_USBREDIR: SpicevmcCap,
        ChannelType.SPICE_CHANNEL_PORT: SpicevmcCap,
        ChannelType.SPICE_CHANNEL_WEBDAV: SpicevmcCap,
    }
)

# (channel type, sender) -> the enumerations that name its messages, besides those of every channel.
CHANNEL_MESSAGES: Mapping[tuple[int, Side], tuple[type[IntEnum], ...]] = MappingProxyType(
    {
        (ChannelType.SPICE_CHANNEL_MAIN, Side.SERVER): (MsgMain,),
        (ChannelType.SPICE_CHANNEL_MAIN, Side.CLIENT): (MsgcMain,),
        (ChannelType.SPICE_CHANNEL_DISPLAY, Side.SERVER): (MsgDisplay,),
        (ChannelType.SPICE_CHANNEL_DISPLAY, Side.CLIENT): (MsgcDisplay,),
        (ChannelType.SPICE_CHANNEL_INPUTS, Side.SERVER): (MsgInputs,),
        (ChannelType.SPICE_CHANNEL_INPUTS, Side.CLIENT): (MsgcInputs,),
        (ChannelType.SPICE_CHANNEL_CURSOR, Side.SERVER): (MsgCursor,),
        (ChannelType.SPICE_CHANNEL_PLAYBACK, Side.SERVER): (MsgPlayback,),
        (ChannelType.SPICE_CHANNEL_RECORD, Side.SERVER): (MsgRecord,),
        (ChannelType.SPICE_CHANNEL_RECORD, Side.CLIENT): (MsgcRecord,),
        (ChannelType.SPICE_CHANNEL_SMARTCARD, Side.SERVER): (MsgSmartcard,),
        (ChannelType.SPICE_CHANNEL_SMARTCARD, Side.CLIENT): (MsgcSmartcard,),
        (ChannelType.SPICE_CHANNEL_USBREDIR, Side.SERVER): (MsgSpicevmc,),
        (ChannelType.SPICE_CHANNEL_USBREDIR, Side.CLIENT): (MsgcSpicevmc,),
        (ChannelType.SPICE_CHANNEL_PORT, Side.SERVER): (MsgSpicevmc, MsgPort),
        (ChannelType.SPICE_CHANNEL_PORT, Side.CLIENT): (MsgcSpicevmc, MsgcPort),
        (ChannelType.SPICE_CHANNEL_WEBDAV, Side.SERVER): (MsgSpicevmc, MsgPort),
        (ChannelType.SPICE_CHANNEL_WEBDAV, Side.CLIENT): (MsgcSpicevmc, MsgcPort),
    }
)


def _names() -> dict[tuple[int, Side], dict[int, str]]:
    table: dict[tuple[int, Side], dict[int, str]] = {}
    for channel in ChannelType:
        for side, base in ((Side.SERVER, MsgBase), (Side.CLIENT, MsgcBase)):
            enums: tuple[type[IntEnum], ...] = (base, *CHANNEL_MESSAGES.get((channel, side), ()))
            table[channel, side] = {int(m): m.name for enum in enums for m in enum}
    return table


# (channel type, sender) -> {message type: its name in spice-protocol}
MESSAGE_NAMES: Mapping[tuple[int, Side], Mapping[int, str]] = MappingProxyType(_names())


def message_name(channel: int, sender: Side, message_type: int) -> str:
    """The enum name of a message, or `unknown (<number>)`."""
    return MESSAGE_NAMES.get((channel, sender), {}).get(message_type) or f"unknown ({message_type})"


def channel_name(channel: int) -> str:
    """The short name that people and command lines use: `main`, `display`; a number if unknown."""
    try:
        return ChannelType(channel).name.removeprefix("SPICE_CHANNEL_").lower()
    except ValueError:
        return str(channel)
