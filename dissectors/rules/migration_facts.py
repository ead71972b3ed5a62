# SPDX-License-Identifier: GPL-2.0-only
"""What the rules of a migration share: its messages, its times, and what is known of a host."""

from __future__ import annotations

from dissectors.conversation.conversation import Connection, Conversation, Server
from dissectors.framing.events import HostEvent
from dissectors.wire.constants import MsgcMain, MsgMain

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
    """The host that a connection leads to."""
    return view.hosts[connection.host] if connection.host >= 0 else None


def last_call(host: Server | None, name: str, before: float) -> HostEvent | None:
    """The latest call of that name."""
    calls = [c for c in host.calls if c.name == f"call:{name}" and c.time <= before] if host else []
    return calls[-1] if calls else None


def watched(host: Server | None) -> bool:
    """What the host was told to do is known."""
    return host is not None and bool(host.settings) and bool(host.settings.get("calls_told", True))
