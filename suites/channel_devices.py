# SPDX-License-Identifier: GPL-2.0-only
"""The devices of a machine that give it the channels, for tests of every channel."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dissectors.wire.constants import ChannelType, SpicevmcCap
from fixtures.peer.client_capabilities import EVERYTHING

#: Channel -> the devices that give a machine this channel.
DEVICES: Mapping[ChannelType, tuple[str, ...]] = MappingProxyType(
    {
        ChannelType.SPICE_CHANNEL_MAIN: ("keyboard", "mouse", "agent"),
        ChannelType.SPICE_CHANNEL_INPUTS: ("keyboard", "mouse"),
        ChannelType.SPICE_CHANNEL_DISPLAY: ("display",),
        ChannelType.SPICE_CHANNEL_CURSOR: ("display",),
        ChannelType.SPICE_CHANNEL_PLAYBACK: ("playback",),
        ChannelType.SPICE_CHANNEL_RECORD: ("record",),
        ChannelType.SPICE_CHANNEL_SMARTCARD: ("smartcard",),
        ChannelType.SPICE_CHANNEL_USBREDIR: ("usbredir",),
        ChannelType.SPICE_CHANNEL_PORT: ("port:org.example",),
        ChannelType.SPICE_CHANNEL_WEBDAV: ("webdav",),
    }
)
#: Devices whose bytes the server passes on as they are (server/spicevmc.cpp) -> their channel.
SPICEVMC: Mapping[str, ChannelType] = MappingProxyType(
    {
        "usbredir": ChannelType.SPICE_CHANNEL_USBREDIR,
        "port:org.example": ChannelType.SPICE_CHANNEL_PORT,
        "webdav": ChannelType.SPICE_CHANNEL_WEBDAV,
    }
)
#: The capabilities of a client to which the server sends these bytes uncompressed.
UNCOMPRESSED = EVERYTHING.without(SpicevmcCap.SPICE_SPICEVMC_CAP_DATA_COMPRESS_LZ4)
