# SPDX-License-Identifier: GPL-2.0-only
"""Facts that the migration rules share: messages, times (s), and what the evidence says of a host."""

from __future__ import annotations

from dissectors.conversation.conversation import Connection, Conversation, Server, Session
from dissectors.framing.events import HostEvent
from dissectors.wire.constants import ChannelType, MsgcDisplay, MsgcMain, MsgMain

BEGIN = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN
BEGIN_SEAMLESS = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS
SWITCH = MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST
END = MsgMain.SPICE_MSG_MAIN_MIGRATE_END
CONNECTED = (
    MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED,
    MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS,
)
#: How long the source waits for the client's answer (server/reds-private.h, MIGRATE_TIMEOUT), seconds.
WAIT_S = 10.0
#: An answer that is this old when the migration ends has surely arrived, seconds.
SETTLED_S = 2.0
#: The newest format of MIGRATE_DATA (server/migration-protocol.h, SPICE_MIGRATION_PROTOCOL_VERSION).
NEWEST_VERSION = 1


def server_of(view: Conversation, connection: Connection) -> Server | None:
    """The host that a connection leads to; None if unknown."""
    return view.hosts[connection.host] if connection.host >= 0 else None


def last_call(host: Server | None, name: str, before: float) -> HostEvent | None:
    """The latest call of that name until the time `before` (s); None if there is none."""
    calls = [c for c in host.calls if c.name == f"call:{name}" and c.time <= before] if host else []
    return calls[-1] if calls else None


def watched(host: Server | None) -> bool:
    """Whether the evidence holds the host's settings and its calls."""
    return host is not None and bool(host.settings) and bool(host.settings.get("reports_calls", True))


def is_recorded(view: Conversation, connection: Connection) -> bool:
    """Whether the evidence holds the settings of the connection's host: this project has recorded it, and no
    packet is missing."""
    return connection.host >= 0 and bool(view.hosts[connection.host].settings)


def speaks_first(channel: Connection) -> bool:
    """Whether the server sends the first message of this channel; on a display after DISPLAY_INIT."""
    if channel.channel == ChannelType.SPICE_CHANNEL_DISPLAY:
        return MsgcDisplay.SPICE_MSGC_DISPLAY_INIT in channel.said
    return channel.channel in (ChannelType.SPICE_CHANNEL_INPUTS, ChannelType.SPICE_CHANNEL_CURSOR)


def is_taken_over(view: Conversation, session: Session) -> bool:
    """Whether another client links main at the session's host, or has taken the session over: the server
    closes the old channels before it answers the newcomer's link, or after."""
    over = session.main.closed
    return any(
        other.is_main
        and other is not session.main
        and other.server == session.main.server
        and (other.closed is None or (over is not None and other.closed.time >= over.time))
        and (other.session is None or other.session.replaces is session or _came_later(other, session.main))
        for other in view.connections.values()
    )


def _came_later(newcomer: Connection, main: Connection) -> bool:
    """Whether a connection was opened while another, which is closed now, was open."""
    if newcomer.opened is None or main.opened is None or main.closed is None:
        return False
    return main.opened.time < newcomer.opened.time <= main.closed.time
