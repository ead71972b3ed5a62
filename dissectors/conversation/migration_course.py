# SPDX-License-Identifier: GPL-2.0-only
"""Follows a migration through its messages: announced, answered, ended, arrived.

A capture may lack the announcement, or show the target's part before the source's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dissectors.conversation import pairing
from dissectors.conversation.connection_states import NOT_BEGUN, TAKEN_ALONG
from dissectors.conversation.main_order import ANNOUNCEMENTS
from dissectors.conversation.midstream_main import UNDER_WAY
from dissectors.conversation.migration_steps import ANSWERS, ENDS
from dissectors.conversation.order_tables import row
from dissectors.conversation.parties import Connection, Migration, Session
from dissectors.framing.events import Message
from dissectors.wire.constants import MsgBase, MsgcBase, MsgcMain, MsgMain, Side

if TYPE_CHECKING:
    from dissectors.conversation.conversation import Conversation


def follow(view: Conversation, session: Session, event: Message) -> None:
    """Updates a migration from a message on its source's main channel."""
    server = event.sender is Side.SERVER
    if server and event.type in ANNOUNCEMENTS:
        _announce(view, session, event)
    migration = session.migration or _under_way(view, session, event)
    if migration is None:
        return
    if not server and event.type in ANSWERS:
        migration.answer = event
        if event.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS and migration.target:
            _take_along(migration.target.main)
    elif server and event.type in ENDS and not _over(migration):
        migration.ended = event
        _switched(view, migration)


def arrive(migration: Migration, session: Session) -> None:
    """Notes that a migration's client is at its target."""
    migration.target, session.arrived = session, migration
    if migration.source.id is None and (session.main.as_target or session.main.arrives):
        migration.source.id = session.id


def take_id_from_init(view: Conversation, session: Session) -> None:
    """Takes a session's id from INIT, where the capture lacks the link message that names it."""
    arrived = session.arrived
    if arrived is not None and arrived.source.id is None and session.main.arrives:
        arrived.source.id = session.id
    elif arrived is None and session.main.mess is None:
        migration = pairing.migration_to(view, session)
        if migration is not None:
            arrive(migration, session)


def _announce(view: Conversation, session: Session, event: Message) -> None:
    switch = event.type == MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST
    if switch and session.migration is not None and session.migration.ended is None:
        if session.migration.host is None:  # the announcement was before the capture
            session.migration.send_to(event)
        return
    migration = Migration(
        session,
        begin=None if switch else event,
        seamless=event.type == MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS,
        version=getattr(event.packet, "src_mig_version", None) if event.holds("src_mig_version") else None,
        begun=event.time,
    )
    migration.send_to(event)
    _begin(view, migration)


def _begin(view: Conversation, migration: Migration) -> None:
    """One more migration; the client may be at its target already."""
    migration.source.migration = migration
    view.migrations.append(migration)
    before = pairing.session_before(view, migration)
    if before is not None:
        arrive(migration, before)


def _under_way(view: Conversation, session: Session, event: Message) -> Migration | None:
    """A migration whose announcement is not in the capture: it came earlier, or was lost."""
    whole = session.main.mess is not None and session.main.certain
    if whole or (event.sender, int(event.type)) not in UNDER_WAY:
        return None
    seamless = event.type in (
        MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS,
        MsgBase.SPICE_MSG_MIGRATE,
    )
    migration = Migration(session, begun=event.time, seamless=seamless)
    _begin(view, migration)
    return migration


def _switched(view: Conversation, migration: Migration) -> None:
    """Takes in a SWITCH_HOST that is read when its client is at the target already: bytes before it are
    missing, and events after such a hole come late."""
    arrived = pairing.session_after_switch(view, migration)
    if arrived is not None:
        arrive(migration, arrived)


def _take_along(target: Connection) -> None:
    """The client migrates seamlessly, whether its target has agreed or not."""
    if target.state in NOT_BEGUN:
        data = int(MsgcBase.SPICE_MSGC_MIGRATE_DATA)
        target.late[Side.CLIENT] |= {data}
        target.late[Side.SERVER] |= frozenset(row(target.channel, target.state, Side.SERVER).go)
        target.state = TAKEN_ALONG.get(target.state, target.state)


def _over(migration: Migration) -> bool:
    """Whether it has ended already: a later MIGRATE_CANCEL answers a late CONNECTED."""
    return migration.ended is not None and migration.ended.type in (
        MsgMain.SPICE_MSG_MAIN_MIGRATE_END,
        MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST,
    )
