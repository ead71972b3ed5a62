# SPDX-License-Identifier: GPL-2.0-only
"""The ladders of a capture: one for the sessions that migrations connect, otherwise one for all sessions; and
one for what other connections were found to break.

Unrelated connections, however many, have no column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from dissectors.conversation.conversation import Connection, Conversation, Migration, Session
from dissectors.conversation.failed_links import Attempts
from dissectors.framing.events import Event, LinkBytes, Message
from dissectors.rules.judgement import Finding
from reports.ladder.lanes import CLIENT, Ladder, Parties, ladder

GROUPS_SHOWN = 4
#: The most columns for hosts and clients in one ladder; further ones are left out.
LANES = 5
SESSIONS_SHOWN = 40


def ladders(
    view: Conversation, events: Sequence[Event], findings: Sequence[Finding], limit: int
) -> list[tuple[str, Ladder]]:
    """(title, ladder) of each group, in at most about `limit` rows each."""
    attempts = Attempts(view)
    groups = _groups(view)
    found: list[tuple[str, Ladder]] = []
    accused = _accused(view, findings)
    shown: set[int] = set()
    for migrations in groups[:GROUPS_SHOWN]:
        parties = _of_migrations(view, migrations, attempts)
        parties |= _at_these_hosts(accused, view, parties)
        shown |= parties.keys()
        numbers = [view.migrations.index(migration) + 1 for migration in migrations]
        title = f"Migration {', '.join(map(str, numbers))}" if len(view.migrations) > 1 else ""
        found.append((title, ladder(events, findings, parties=parties, limit=limit)))
    if not groups:
        parties = _of_sessions(view, attempts)
        parties |= _at_these_hosts(accused, view, parties)
        shown |= parties.keys()
        if parties:
            found.append(("", ladder(events, findings, parties=parties, limit=limit)))
        elif spoken := _spoken(events):
            return [("", ladder(spoken, findings, limit=limit))]
    if parties := _elsewhere([connection for connection in accused if connection.number not in shown]):
        found.append(("Elsewhere", ladder(events, findings, parties=parties, limit=limit)))
    return found


def _accused(view: Conversation, findings: Sequence[Finding]) -> list[Connection]:
    """The connections with findings, in their order."""
    numbers = dict.fromkeys(found.connection for found in findings if found.connection is not None)
    return [view.connections[number] for number in numbers if number in view.connections]


def _at_these_hosts(
    accused: Iterable[Connection], view: Conversation, parties: dict[int, Parties]
) -> dict[int, Parties]:
    """Connections with findings that no session has, at hosts that a ladder shows."""
    names = {view.connections[number].server: pair for number, pair in parties.items()}
    return {
        one.number: names[one.server]
        for one in accused
        if one.session is None and one.number not in parties and one.server in names
    }


def _elsewhere(accused: Sequence[Connection]) -> dict[int, Parties]:
    """Connections with findings and their sessions, at as many hosts as a ladder has room for."""
    parties: dict[int, Parties] = {}
    for connection in accused:
        name, session = str(connection.server or "unknown"), connection.session
        hosts = {pair.server for pair in parties.values()}
        if name not in hosts and len(hosts) >= LANES - 1:
            continue
        more = session.connections() if session is not None else ()
        parties |= {one.number: Parties(CLIENT, name) for one in (connection, *more)}
    return parties


def _spoken(events: Sequence[Event]) -> list[Event]:
    """SPICE messages outside of any session, of the first connections; nothing of foreign protocols."""
    spice = dict.fromkeys(e.connection for e in events if isinstance(e, LinkBytes | Message))
    shown = set(islice(spice, LANES - 1))
    return [e for e in events if getattr(e, "connection", None) in shown]


def _groups(view: Conversation) -> list[list[Migration]]:
    """Groups of migrations that share a session (a chain, a second attempt)."""
    groups: list[tuple[set[int], list[Migration]]] = []
    for migration in islice(view.migrations, 200):
        ends = {id(end) for end in (migration.source, migration.target) if end is not None}
        touched = [group for group in groups if group[0] & ends]
        merged = ({*ends}.union(*(group[0] for group in touched)), [m for group in touched for m in group[1]])
        merged[1].append(migration)
        groups = [group for group in groups if group not in touched] + [merged]
    return [migrations for _, migrations in groups]


def _of_migrations(
    view: Conversation, migrations: Sequence[Migration], attempts: Attempts
) -> dict[int, Parties]:
    """Every connection of these migrations, and the names of its ends."""
    several = len(migrations) > 1
    parties: dict[int, Parties] = {}
    for migration in migrations:
        source = _name(migration.source) if several else "source"
        parties |= _session(migration.source, source, CLIENT)
        target = _name(migration.target) if several and migration.target else "target"
        if migration.target is not None:
            parties |= _session(migration.target, target, CLIENT)
        tried: Iterable[Connection] = (a.connection for a in attempts.of(migration))
        for connection in (*tried, *attempts.hidden(migration)):
            name = str(connection.server) if several else "target"
            parties.setdefault(connection.number, Parties(CLIENT, name))
        for other in _others(view, migration):
            parties |= _session(other, parties[migration.source.main.number].server, _client(other))
    return parties


def _others(view: Conversation, migration: Migration) -> list[Session]:
    """Sessions that took this one over."""
    ends = [end for end in (migration.source, migration.target) if end is not None]
    return [s for s in view.sessions if s.replaces in ends and s not in ends and s.arrived is None]


def _of_sessions(view: Conversation, attempts: Attempts) -> dict[int, Parties]:
    """All sessions, the attempts at their hosts, and refused links; each client is named by its address."""
    sessions = view.sessions[:SESSIONS_SHOWN]
    clients = {_client(session) for session in sessions}
    parties: dict[int, Parties] = {}
    lanes: set[str] = set()

    def add(more: dict[int, Parties]) -> None:
        wanted = lanes | {name for pair in more.values() for name in pair}
        if len(wanted) <= LANES:
            lanes.update(wanted)
            parties.update(more)

    for session in sessions:
        add(_session(session, _name(session), _client(session) if len(clients) > 1 else CLIENT))
    hosts = {session.main.server.host for session in sessions if session.main.server is not None}
    for attempt in attempts.all[:200]:
        connection = attempt.connection
        if connection.number in parties or connection.server is None:
            continue
        if connection.failed is None or not hosts or connection.server.host in hosts:
            client = f"client {connection.client.host}" if connection.client else CLIENT
            add({connection.number: Parties(client if len(clients) > 1 else CLIENT, str(connection.server))})
    return parties


def _session(session: Session, host: str, client: str) -> dict[int, Parties]:
    return {connection.number: Parties(client, host) for connection in session.connections()}


def _name(session: Session) -> str:
    return str(session.main.server or "unknown")


def _client(session: Session) -> str:
    return f"client {session.main.client.host}" if session.main.client is not None else CLIENT
