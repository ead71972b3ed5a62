# SPDX-License-Identifier: GPL-2.0-only
"""The data of agent messages (vd_agent.h), by type; little-endian, packed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from scapy.fields import (
    ByteField,
    ConditionalField,
    FieldLenField,
    FieldListField,
    LEIntField,
    LELongField,
    LEShortField,
    LESignedIntField,
    StrFixedLenField,
    StrLenField,
)

from dissectors.channels.agent_enums import (
    AgentCap,
    AgentType,
    ClipboardSelection,
    ClipboardType,
    DisplayConfigFlag,
    FileXferError,
    FileXferStatus,
    MonitorsConfigFlag,
    MouseMask,
    ReplyCode,
)
from dissectors.wire.fields import CapsField, enum8, enum32, flags
from dissectors.wire.struct_fields import BulkField, PartListField, RestField, UnionField
from dissectors.wire.structs import Struct


class VDAgentMouseState(Struct):
    """Server to agent: where the mouse is, pixels."""

    fields_desc = [
        LEIntField("x", 0),
        LEIntField("y", 0),
        flags("buttons", 0, 32, MouseMask),
        ByteField("display_id", 0),
    ]


class VDAgentMonConfig(Struct):
    """One monitor, pixels; 0 by 0: switched off."""

    fields_desc = [
        LEIntField("height", 0),
        LEIntField("width", 0),
        LEIntField("depth", 0),
        LESignedIntField("x", 0),
        LESignedIntField("y", 0),
    ]


class VDAgentMonitorMM(Struct):
    """The size of one monitor, mm."""

    fields_desc = [LEShortField("height", 0), LEShortField("width", 0)]


class VDAgentMonitorsConfig(Struct):
    """Client to agent: the monitors that it wishes."""

    fields_desc = [
        FieldLenField("num_of_monitors", None, count_of="monitors", fmt="<I"),
        flags("flags", 0, 32, MonitorsConfigFlag),
        PartListField("monitors", VDAgentMonConfig, count_from=lambda p: p.num_of_monitors),
        ConditionalField(
            PartListField("physical_sizes", VDAgentMonitorMM, count_from=lambda p: p.num_of_monitors),
            lambda p: int(p.flags) & MonitorsConfigFlag.VD_AGENT_CONFIG_MONITORS_FLAG_PHYSICAL_SIZE,
        ),
    ]


class VDAgentReply(Struct):
    """Agent to client: how a message of that type fared."""

    fields_desc = [enum32("type", 0, AgentType), enum32("error", 0, ReplyCode)]


class VDAgentDisplayConfig(Struct):
    """Client to agent: what to leave out of the picture; `depth` in bits."""

    fields_desc = [flags("flags", 0, 32, DisplayConfigFlag), LEIntField("depth", 0)]


class VDAgentAnnounceCapabilities(Struct):
    """What the sender can do; `request` 1: the other side shall answer with its own."""

    fields_desc = [
        LEIntField("request", 0),
        CapsField("caps", lambda p: (len(p.original) - 4) // 4, lambda p: AgentCap),
    ]


def _selection() -> list[object]:
    return [enum8("selection", 0, ClipboardSelection), StrFixedLenField("reserved", b"\0\0\0", 3)]


class VDAgentClipboard(Struct):
    """What is in the clipboard."""

    fields_desc = [enum32("type", 0, ClipboardType), RestField("data")]


class VDAgentClipboardWithSelection(Struct):
    """What is in one of the clipboards."""

    fields_desc = [*_selection(), enum32("type", 0, ClipboardType), RestField("data")]


class VDAgentClipboardGrab(Struct):
    """The sender's clipboard has something new, in these types."""

    fields_desc = [FieldListField("types", [], enum32("type", 0, ClipboardType))]


class VDAgentClipboardGrabWithSelection(Struct):
    """One of the sender's clipboards has something new, in these types."""

    fields_desc = [*_selection(), FieldListField("types", [], enum32("type", 0, ClipboardType))]


class VDAgentClipboardGrabWithSerial(Struct):
    """As with the selection; the serial settles who was first."""

    fields_desc = [
        *_selection(),
        LEIntField("serial", 0),
        FieldListField("types", [], enum32("type", 0, ClipboardType)),
    ]


class VDAgentClipboardRequest(Struct):
    """The sender asks for what is in the clipboard."""

    fields_desc = [enum32("type", 0, ClipboardType)]


class VDAgentClipboardRequestWithSelection(Struct):
    """The sender asks for what is in one of the clipboards."""

    fields_desc = [*_selection(), enum32("type", 0, ClipboardType)]


class VDAgentClipboardRelease(Struct):
    """Nothing is in the clipboard any more."""


class VDAgentClipboardReleaseWithSelection(Struct):
    """Nothing is in one of the clipboards any more."""

    fields_desc = _selection()


class VDAgentFileXferStartMessage(Struct):
    """Client to agent: a file begins; `data` is text in key file format (name, size in bytes)."""

    fields_desc = [LEIntField("id", 0), RestField("data")]


class VDAgentFileXferStatusError(Struct):
    """Why a file could not be transferred."""

    fields_desc = [enum8("error_type", 0, FileXferError), LEIntField("error_code", 0)]


class VDAgentFileXferStatusNotEnoughSpace(Struct):
    """How many bytes there are."""

    fields_desc = [LELongField("disk_free_space", 0)]


class VDAgentUnknown(Struct):
    """Bytes of no known layout."""

    fields_desc = [RestField("data")]


#: Details of a result, which a sender may leave out.
DETAILS = {
    FileXferStatus.VD_AGENT_FILE_XFER_STATUS_ERROR: VDAgentFileXferStatusError,
    FileXferStatus.VD_AGENT_FILE_XFER_STATUS_NOT_ENOUGH_SPACE: VDAgentFileXferStatusNotEnoughSpace,
}


class VDAgentFileXferStatusMessage(Struct):
    """How a file fares; to both sides."""

    fields_desc = [
        LEIntField("id", 0),
        enum32("result", 0, FileXferStatus),
        UnionField("details", lambda p, s: DETAILS.get(p.result, VDAgentUnknown) if s else None),
    ]


class VDAgentFileXferDataMessage(Struct):
    """Client to agent: a piece of a file."""

    fields_desc = [
        LEIntField("id", 0),
        FieldLenField("size", None, length_of="data", fmt="<Q"),
        BulkField("data", b"", length_from=lambda p: p.size),
    ]


class VDAgentMaxClipboard(Struct):
    """Client to agent: bytes that it takes at once; -1: any number."""

    fields_desc = [LESignedIntField("max", 0)]


class VDAgentAudioVolumeSync(Struct):
    """Client to agent: its volume, 0..65535 for each channel."""

    fields_desc = [
        ByteField("is_playback", 0),
        ByteField("mute", 0),
        FieldLenField("nchannels", None, count_of="volume", fmt="B"),
        FieldListField("volume", [], LEShortField("level", 0), count_from=lambda p: p.nchannels),
    ]


class VDAgentDeviceDisplayInfo(Struct):
    """Which device and output of the guest is behind a monitor; the address's length counts its NUL."""

    fields_desc = [
        LEIntField("channel_id", 0),
        LEIntField("monitor_id", 0),
        LEIntField("device_display_id", 0),
        FieldLenField("device_address_len", None, length_of="device_address", fmt="<I"),
        StrLenField("device_address", b"", length_from=lambda p: p.device_address_len),
    ]


class VDAgentGraphicsDeviceInfo(Struct):
    """Server to agent: the devices behind the monitors."""

    fields_desc = [
        FieldLenField("count", None, count_of="display_info", fmt="<I"),
        PartListField(
            "display_info",
            VDAgentDeviceDisplayInfo,
            count_from=lambda p: p.count,
            span=lambda p, s, at: 16 + int.from_bytes(s[at + 12 : at + 16], "little"),
        ),
    ]


class VDAgentClientDisconnected(Struct):
    """Server to agent: the client has gone."""


BODIES: Mapping[int, type[Struct]] = MappingProxyType(
    {
        AgentType.VD_AGENT_MOUSE_STATE: VDAgentMouseState,
        AgentType.VD_AGENT_MONITORS_CONFIG: VDAgentMonitorsConfig,
        AgentType.VD_AGENT_REPLY: VDAgentReply,
        AgentType.VD_AGENT_CLIPBOARD: VDAgentClipboard,
        AgentType.VD_AGENT_DISPLAY_CONFIG: VDAgentDisplayConfig,
        AgentType.VD_AGENT_ANNOUNCE_CAPABILITIES: VDAgentAnnounceCapabilities,
        AgentType.VD_AGENT_CLIPBOARD_GRAB: VDAgentClipboardGrab,
        AgentType.VD_AGENT_CLIPBOARD_REQUEST: VDAgentClipboardRequest,
        AgentType.VD_AGENT_CLIPBOARD_RELEASE: VDAgentClipboardRelease,
        AgentType.VD_AGENT_FILE_XFER_START: VDAgentFileXferStartMessage,
        AgentType.VD_AGENT_FILE_XFER_STATUS: VDAgentFileXferStatusMessage,
        AgentType.VD_AGENT_FILE_XFER_DATA: VDAgentFileXferDataMessage,
        AgentType.VD_AGENT_CLIENT_DISCONNECTED: VDAgentClientDisconnected,
        AgentType.VD_AGENT_MAX_CLIPBOARD: VDAgentMaxClipboard,
        AgentType.VD_AGENT_AUDIO_VOLUME_SYNC: VDAgentAudioVolumeSync,
        AgentType.VD_AGENT_GRAPHICS_DEVICE_INFO: VDAgentGraphicsDeviceInfo,
    }
)
WITH_SELECTION: Mapping[int, type[Struct]] = MappingProxyType(
    {
        AgentType.VD_AGENT_CLIPBOARD: VDAgentClipboardWithSelection,
        AgentType.VD_AGENT_CLIPBOARD_GRAB: VDAgentClipboardGrabWithSelection,
        AgentType.VD_AGENT_CLIPBOARD_REQUEST: VDAgentClipboardRequestWithSelection,
        AgentType.VD_AGENT_CLIPBOARD_RELEASE: VDAgentClipboardReleaseWithSelection,
    }
)
