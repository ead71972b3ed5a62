# SPDX-License-Identifier: GPL-2.0-only
"""Rules for a seamless migration's channels: all of them move, and the target repeats nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum

from dissectors.conversation.connection_states import MOVING, State
from dissectors.conversation.conversation import Connection, Conversation, Session
from dissectors.framing.events import Message
from dissectors.rules.migration_facts import is_recorded
from dissectors.rules.rule_engine import Broken, Kept, Ruling, at_end, on
from dissectors.wire.constants import (
    ChannelType,
    MsgCursor,
    MsgDisplay,
    MsgPlayback,
    MsgRecord,
    Side,
    channel_name,
)

#: The messages that a target's channel would send a second time while it restores its state.
TOLD_BY_THE_SOURCE: Sequence[type[MsgDisplay] | IntEnum] = (
    MsgDisplay,
    MsgCursor.SPICE_MSG_CURSOR_INIT,
    MsgCursor.SPICE_MSG_CURSOR_RESET,
    MsgPlayback.SPICE_MSG_PLAYBACK_MODE,
    MsgPlayback.SPICE_MSG_PLAYBACK_VOLUME,
    MsgPlayback.SPICE_MSG_PLAYBACK_MUTE,
    MsgRecord.SPICE_MSG_RECORD_VOLUME,
    MsgRecord.SPICE_MSG_RECORD_MUTE,
)
#: The messages that follow when a hypervisor sets a state again at the target.
SET_BY_THE_MACHINE = frozenset(
    {
        (ChannelType.SPICE_CHANNEL_PLAYBACK, MsgPlayback.SPICE_MSG_PLAYBACK_VOLUME),
        (ChannelType.SPICE_CHANNEL_PLAYBACK, MsgPlayback.SPICE_MSG_PLAYBACK_MUTE),
        (ChannelType.SPICE_CHANNEL_RECORD, MsgRecord.SPICE_MSG_RECORD_VOLUME),
        (ChannelType.SPICE_CHANNEL_RECORD, MsgRecord.SPICE_MSG_RECORD_MUTE),
    }
)

#: The machine's reset of its graphics card (spice-qxl.h, spice_qxl_destroy_surfaces and what follows it).
RESET = "call:qxl_reset"
#: A channel that ends this soon (s) after main's SPICE_MSG_MIGRATE may have ended before its own MIGRATE.
TOGETHER_S = 0.0001
#: This long (s) after main's SPICE_MSG_MIGRATE a source has surely moved its other channels.
MOVES_S = 2.0


@on(Message, *TOLD_BY_THE_SOURCE, states={State.TARGET_RESTORING})
def told_again(view: Conversation, event: Message) -> Iterator[Ruling]:
    """While a target's channel restores its state, it does not repeat what the source has sent."""
    connection = view.connection(event)
    if event.sender is not Side.SERVER or connection.state is not State.TARGET_RESTORING:
        return
    session = connection.session
    if (
        session is None
        or not connection.certain
        or not (session.main.state is State.TARGET_SEAMLESS or _data_is_due(session, connection))
    ):
        return
    if (event.channel, event.type) in SET_BY_THE_MACHINE and not view.hosts[connection.host].settings.get(
        "calls"
    ):
        return  # a QEMU sets them as soon as it has loaded the sound device's state
    if event.channel == ChannelType.SPICE_CHANNEL_CURSOR and _card_was_reset(view, connection):
        return
    yield Broken("MIG-DST-027", "nothing that the source has sent, before MIGRATE_DATA", event.name)


def _data_is_due(session: Session, connection: Connection) -> bool:
    """Whether the source has sent MIGRATE_DATA for this channel, which the client must bring here."""
    migration = session.arrived
    return migration is not None and (connection.channel, connection.channel_id) in migration.data


def _card_was_reset(view: Conversation, connection: Connection) -> bool:
    """Whether the machine has reset its graphics card since the connection began: that resets the cursor."""
    since = connection.opened.time if connection.opened else 0.0
    return any(c.name == RESET and c.time >= since for c in view.hosts[connection.host].calls)


@at_end
def all_move(view: Conversation) -> Iterator[Ruling]:
    """After main's SPICE_MSG_MIGRATE the source sends SPICE_MSG_MIGRATE on each channel of the session."""
    for session in view.sessions:
        main = session.main
        died = main.host >= 0 and view.hosts[main.host].died is not None
        if main.state is not State.GONE or not main.certain or died:
            continue
        for channel in session.channels:
            if channel.state in MOVING:
                yield Kept("MIG-SRC-050")
            elif channel.state is State.OPEN and channel.certain and _left_behind(view, main, channel):
                seen = f"none on {channel_name(channel.channel)} {channel.channel_id}"
                yield Broken("MIG-SRC-050", "SPICE_MSG_MIGRATE on each channel", seen, main.migrate)


def _left_behind(view: Conversation, main: Connection, channel: Connection) -> bool:
    """Whether the channel was open when main moved, and stayed open long enough to be moved too."""
    if main.migrate is None:
        return False
    begun = channel.result is not None and channel.result.time < main.migrate.time
    if channel.closed is not None and channel.closed.time < main.migrate.time + TOGETHER_S:
        return channel.closed.by is Side.SERVER and begun and channel.closed.time > main.migrate.time
    waited = view.now - main.migrate.time > MOVES_S
    return begun and (waited or (main.closed is not None and _goes_on(view, main.migrate, channel)))


def _goes_on(view: Conversation, moved: Message, channel: Connection) -> bool:
    """Whether the evidence shows the channel, or its end, after main has moved: a capture may have lost its
    last packets. What this project has recorded is whole."""
    last = channel.last[Side.SERVER]
    later = channel.closed is not None or (last is not None and last.time > moved.time)
    return later or is_recorded(view, channel)
