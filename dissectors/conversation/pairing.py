# SPDX-License-Identifier: GPL-2.0-only
"""Pairs a channel with its session, and a session with the migration that brought its client.

Ids repeat between machines (a freshly started release gives out the same one again), ports do, and behind a
proxy or NAT even addresses do. So no single one of them decides: each pairing gets a score from all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from dissectors.conversation.connection_states import NOT_BEGUN
from dissectors.conversation.parties import Connection, Migration, Session
from dissectors.wire.constants import MsgMain

if TYPE_CHECKING:
    from dissectors.conversation.conversation import Conversation

#: The most earlier sessions and migrations that are compared.
LATEST = 500
#: A client that SWITCH_HOST sends elsewhere begins its session there within this time (s).
SWITCHED_S = 5.0
T = TypeVar("T")


def session_of(view: Conversation, connection: Connection) -> Session | None:
    """The open session that a channel joins: it has the id that the channel names (or none is known of one
    of the two), and it is at the same port, or at another one of the same address where that port has no main
    channels; a session of the same client that does not have this channel yet comes first."""
    best, most = None, 0
    elsewhere = connection.host < 0 or not view.hosts[connection.host].has_main
    for session in islice(reversed(view.sessions), LATEST):
        weight = _joins(session, connection) if elsewhere or session.host == connection.host else 0
        if weight > most:
            best, most = session, weight
    return best


def _joins(session: Session, connection: Connection) -> int:
    """The score of a channel for a session; 0: they do not belong together."""
    if session.main.closed is not None or session.main is connection:
        return 0
    late = connection.mess is None
    if session.id != connection.connection_id and not (late or session.id is None):
        return 0
    here, there = connection.opened, session.main.opened
    if here is None or there is None:
        return 1
    same_host = session.host == connection.host
    shares_address = there.host is None and there.goal.host == here.goal.host
    same_client = there.client.host == here.client.host
    known = session.id is not None and session.id == connection.connection_id
    if late and not (same_host and same_client):
        return 0
    leaving = session.migration
    if leaving is not None and not same_host and any(p.port in leaving.ports for p in connection.places):
        return 0  # it goes to the target, whose main channel the evidence lacks
    if not (same_host or shares_address):
        # another address of the same host: its server took the id; once a target is announced it may be that
        unlabelled = there.host is None and known and same_client and connection.linked
        if not unlabelled or session.migration is not None or session.main.as_target:
            return 0
    has_it = any(
        other.closed is None
        and (other.channel, other.channel_id) == (connection.channel, connection.channel_id)
        for other in session.channels
    )
    return 1 + 16 * known + 8 * same_client + 4 * same_host + 2 * (not has_it)


def migration_to(view: Conversation, session: Session) -> Migration | None:
    """The migration that brought this session's client to this host; None if there is none."""
    waiting = (m for m in islice(reversed(view.migrations), LATEST) if m.target is None or _left(m, session))
    return _best([(_brings(migration, session), migration) for migration in waiting])


def _left(migration: Migration, session: Session) -> bool:
    """Whether the client's migrating link to the target led to nothing and SWITCH_HOST followed: this new
    session is then the one that SWITCH_HOST requests."""
    target = migration.target
    switched = sent_elsewhere(migration, session)
    if target is None or not switched or session.main.as_target:
        return False
    return target.main.as_target and target.main.state in NOT_BEGUN


def session_before(view: Conversation, migration: Migration) -> Session | None:
    """The target's session that was read before the source's part, as in captures of two hosts whose
    files follow each other or have two clocks."""
    latest = (s for s in islice(reversed(view.sessions), LATEST) if s.arrived is None)
    waiting = (s for s in latest if s.main.as_target or s.main.arrives)
    here = [s for s in waiting if None in (migration.source.id, s.id) or migration.source.id == s.id]
    return _best([(_brings(migration, session), session) for session in here])


def session_after_switch(view: Conversation, migration: Migration) -> Session | None:
    """The new session to which SWITCH_HOST has sent the client, if it has begun already."""
    ended = migration.ended
    if ended is None or ended.type != MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST:
        return None
    fresh = (
        session
        for session in islice(reversed(view.sessions), LATEST)
        if session.arrived is None and not session.main.as_target and _opened_after(session, ended.time)
    )
    waiting = (s for s in fresh if migration.target is None or _left(migration, s))
    return _best([(_brings(migration, session), session) for session in waiting])


def _opened_after(session: Session, time: float) -> bool:
    """Whether its main link began after that time (s)."""
    return session.main.opened is not None and session.main.opened.time > time


def _best(weighed: Sequence[tuple[int, T]]) -> T | None:
    """The first candidate with the highest score; None if all scores are 0."""
    weight, found = max(weighed, key=lambda pair: pair[0], default=(0, None))
    return found if weight else None


def _brings(migration: Migration, session: Session) -> int:
    """The score of a session as the target of a migration; 0: it is not the target."""
    source, opened = migration.source, session.main.opened
    if source is session or opened is None:
        return 0
    port = any(place.port in migration.ports for place in session.main.places)
    unlinked = session.main.mess is None and port  # the capture lacks the link message with its id
    as_target = session.main.as_target or session.main.arrives
    same_id = (as_target or unlinked) and source.id == session.id is not None
    same_host = source.host == session.host
    exact = any(p.port in migration.ports and p.host == migration.host for p in session.main.places)
    client = client_of(source) == client_of(session)
    switched = sent_elsewhere(migration, session)
    pending = migration.ended is None
    unknown_id = (
        None in (source.id, session.id)
        and as_target
        and client
        and (port or same_host or not migration.ports)
    )
    if same_host and not (same_id or unknown_id or (switched and client)):
        return 0
    if same_id or unknown_id:
        reason = 32
    elif switched and (port or (client and (same_host or _follows(migration, session)))):
        reason = 16 if not as_target else 4
    elif pending and port and client and (exact or not _is_address(migration.host)):
        reason = 8 if as_target else 2
    else:
        return 0
    return reason + 8 * exact + 4 * client + 2 * port


def _follows(migration: Migration, session: Session) -> bool:
    """A client's session that begins right after SWITCH_HOST, where the announced address says little: both
    are behind one address, or it is a name, or one that has a meaning to the host only."""
    ended, here, there = migration.ended, session.main.opened, migration.source.main.opened
    if ended is None or here is None or there is None or not 0 < here.time - ended.time < SWITCHED_S:
        return False
    return here.goal.host == there.goal.host or not _is_address(migration.host)


def goes_there(migration: Migration, connection: Connection) -> bool:
    """Whether a connection surely goes to the announced address: the port alone says little, for it is the
    same on many hosts. Behind a name, and behind address translation, it is the same client's connection."""
    opened, begun = connection.opened, migration.begun
    if opened is None or opened.time < begun or migration.source.host == connection.host:
        return False
    there = [place for place in connection.places if place.port in migration.ports]
    if any(place.host == migration.host for place in there):
        return True
    source = migration.source
    same_client = source.main.opened is not None and source.main.opened.client.host == opened.client.host
    known = not _is_address(migration.host) or source.id == (connection.connection_id or None)
    return bool(there) and same_client and known


def _is_address(host: str | None) -> bool:
    """An address that leads to the same host from everywhere, as far as can be seen."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_link_local)


def client_of(session: Session) -> str | None:
    """The address of a session's client."""
    return session.main.opened.client.host if session.main.opened is not None else None


def sent_elsewhere(migration: Migration, session: Session) -> bool:
    """Whether SWITCH_HOST came before this session, or was lost: the evidence then holds the MIGRATE_CANCEL
    that may follow it, and the client leaves for a new session."""
    if ended_by(migration, MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST):
        return True
    source, opened = migration.source.main, session.main.opened
    if not ended_by(migration, MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL) or source.certain:
        return False
    if source.closed is None or opened is None or session.main.as_target:
        return False
    return 0 <= opened.time - source.closed.time < SWITCHED_S


def ended_by(migration: Migration, kind: int) -> bool:
    """Whether this message ended it."""
    return migration.ended is not None and migration.ended.type == kind
