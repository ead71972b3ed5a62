# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE playback and record channels
# scapy.contrib.status = loads
"""Every message of the playback and record channels (spice.proto); times in ms of the server's clock."""

from scapy.fields import ByteField, FieldLenField, FieldListField, LEIntField, LEShortField

from dissectors.wire.constants import ChannelType, MsgcRecord, MsgPlayback, MsgRecord
from dissectors.wire.enums import AudioDataMode, AudioFmt
from dissectors.wire.fields import enum16
from dissectors.wire.message import SpiceMessage, message
from dissectors.wire.struct_fields import RestField

PLAYBACK = ChannelType.SPICE_CHANNEL_PLAYBACK
RECORD = ChannelType.SPICE_CHANNEL_RECORD


class _Packet(SpiceMessage):
    """Sound in the mode in force, and when it belongs."""

    fields_desc = [LEIntField("multi_media_time", 0), RestField("data")]


class _Mode(SpiceMessage):
    """From now on sound comes in this mode; `data` is for the mode to define."""

    fields_desc = [LEIntField("multi_media_time", 0), enum16("mode", 0, AudioDataMode), RestField("data")]


class _Volume(SpiceMessage):
    """Volume of each of the channels, 0..65535."""

    fields_desc = [
        FieldLenField("nchannels", None, count_of="volume", fmt="B"),
        FieldListField("volume", [], LEShortField("level", 0), count_from=lambda p: p.nchannels),
    ]


class _Mute(SpiceMessage):
    """1: silent."""

    fields_desc = [ByteField("mute", 0)]


@message(MsgPlayback.SPICE_MSG_PLAYBACK_DATA, PLAYBACK)
class SpiceMsgPlaybackData(_Packet):
    """Sound to play."""


@message(MsgPlayback.SPICE_MSG_PLAYBACK_MODE, PLAYBACK)
class SpiceMsgPlaybackMode(_Mode):
    """How sound to play is encoded."""


@message(MsgPlayback.SPICE_MSG_PLAYBACK_START, PLAYBACK)
class SpiceMsgPlaybackStart(SpiceMessage):
    """Playing begins; `frequency` in Hz."""

    fields_desc = [
        LEIntField("channels", 0),
        enum16("format", 0, AudioFmt),
        LEIntField("frequency", 0),
        LEIntField("multi_media_time", 0),
    ]


@message(MsgPlayback.SPICE_MSG_PLAYBACK_STOP, PLAYBACK)
class SpiceMsgPlaybackStop(SpiceMessage):
    """Playing ends."""


@message(MsgPlayback.SPICE_MSG_PLAYBACK_VOLUME, PLAYBACK)
class SpiceMsgPlaybackVolume(_Volume):
    """The guest's volume of playing."""


@message(MsgPlayback.SPICE_MSG_PLAYBACK_MUTE, PLAYBACK)
class SpiceMsgPlaybackMute(_Mute):
    """The guest's playing is silent or not."""


@message(MsgPlayback.SPICE_MSG_PLAYBACK_LATENCY, PLAYBACK)
class SpiceMsgPlaybackLatency(SpiceMessage):
    """The delay that the client should keep, so that pictures arrive with the sound."""

    fields_desc = [LEIntField("latency_ms", 0)]


@message(MsgRecord.SPICE_MSG_RECORD_START, RECORD)
class SpiceMsgRecordStart(SpiceMessage):
    """The guest listens; `frequency` in Hz."""

    fields_desc = [LEIntField("channels", 0), enum16("format", 0, AudioFmt), LEIntField("frequency", 0)]


@message(MsgRecord.SPICE_MSG_RECORD_STOP, RECORD)
class SpiceMsgRecordStop(SpiceMessage):
    """The guest no longer listens."""


@message(MsgRecord.SPICE_MSG_RECORD_VOLUME, RECORD)
class SpiceMsgRecordVolume(_Volume):
    """The guest's volume of recording."""


@message(MsgRecord.SPICE_MSG_RECORD_MUTE, RECORD)
class SpiceMsgRecordMute(_Mute):
    """The guest's recording is silent or not."""


@message(MsgcRecord.SPICE_MSGC_RECORD_DATA, RECORD)
class SpiceMsgcRecordData(_Packet):
    """Sound from the client's microphone."""


@message(MsgcRecord.SPICE_MSGC_RECORD_MODE, RECORD)
class SpiceMsgcRecordMode(_Mode):
    """How recorded sound is encoded."""


@message(MsgcRecord.SPICE_MSGC_RECORD_START_MARK, RECORD)
class SpiceMsgcRecordStartMark(SpiceMessage):
    """When the first recorded sound was taken."""

    fields_desc = [LEIntField("multi_media_time", 0)]
