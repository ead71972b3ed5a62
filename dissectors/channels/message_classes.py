# SPDX-License-Identifier: GPL-2.0-only
"""Finds the packet class of a message by its channel, sender and type.

A channel's messages are imported when the channel is first met: a capture of few channels is read sooner."""

# ruff: noqa: F401  (an import registers the messages of its module)
from __future__ import annotations

from dissectors.channels import common
from dissectors.wire.constants import ChannelType, MsgBase, MsgcBase, Side
from dissectors.wire.message import EVERY_CHANNEL, SpiceMessage, SpiceUnknown, registered

_MIGRATE_DATA = {
    Side.SERVER: int(MsgBase.SPICE_MSG_MIGRATE_DATA),
    Side.CLIENT: int(MsgcBase.SPICE_MSGC_MIGRATE_DATA),
}
_imported: set[int] = set()


def message_class(channel: int, sender: Side, message_type: int) -> type[SpiceMessage]:
    """The class of a message; `SpiceUnknown` where there is none."""
    if channel not in _imported:
        _imported.add(channel)
        _import_messages(channel)
    if message_type == _MIGRATE_DATA[sender]:
        from dissectors.channels import migration_data
    found = registered(channel, sender, message_type)
    return found or registered(EVERY_CHANNEL, sender, message_type) or SpiceUnknown


def decode(channel: int, sender: Side, message_type: int, body: bytes) -> SpiceMessage:
    """The packet of a message body. Never raises; `packet.problems()` says what is wrong with it."""
    return message_class(channel, sender, message_type).parse(bytes(body))


def _import_messages(channel: int) -> None:
    """Imports the module that declares a channel's own messages."""
    match channel:
        case ChannelType.SPICE_CHANNEL_MAIN:
            from dissectors.channels import main
        case ChannelType.SPICE_CHANNEL_DISPLAY:
            from dissectors.channels import display
        case ChannelType.SPICE_CHANNEL_INPUTS:
            from dissectors.channels import inputs
        case ChannelType.SPICE_CHANNEL_CURSOR:
            from dissectors.channels import cursor
        case ChannelType.SPICE_CHANNEL_PLAYBACK | ChannelType.SPICE_CHANNEL_RECORD:
            from dissectors.channels import sound
        case ChannelType.SPICE_CHANNEL_SMARTCARD:
            from dissectors.channels import smartcard
        case (
            ChannelType.SPICE_CHANNEL_USBREDIR
            | ChannelType.SPICE_CHANNEL_PORT
            | ChannelType.SPICE_CHANNEL_WEBDAV
        ):
            from dissectors.channels import spicevmc
