# SPDX-License-Identifier: GPL-2.0-only
"""The story of a capture as data: what `inspect --json` prints and what every view of it is made from.

The keys are an interface: new ones may come, none is renamed. Control characters in texts are escaped
(`dissectors.wire.visible_text`).
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dissectors.conversation.arrival import (
    Arrival,
    MigrationOutcome,
    arrival,
    phases,
    switched,
    unfit_address,
)
from dissectors.conversation.conversation import Connection, Migration, Session
from dissectors.conversation.failed_links import Attempts, FailedLink, Reason, error_name
from dissectors.conversation.pairing import client_of
from dissectors.framing.events import Message
from dissectors.rules.advice import NEXT, next_of_finding
from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import Evidence, Finding
from dissectors.rules.story_notes import host_name, notes
from dissectors.wire.constants import MsgcMain, Side
from dissectors.wire.visible_text import all_visible, visible_host

if TYPE_CHECKING:
    from dissectors.rules.inspector import Inspection

#: The most failed connections that the story lists: to addresses where SPICE is spoken or announced, and to
#: other ports of these hosts (or to any host where no SPICE was found). Further ones are only counted.
MOST_ATTEMPTS, MOST_NEARBY = 200, 20


def story(inspection: Inspection) -> dict[str, Any]:
    """The story so far; unknown values are None. Times in seconds, durations in ms."""
    story: dict[str, Any] = all_visible(_Story(inspection).whole())
    return story


class _Story:
    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection
        self._view = inspection.oracle.conversation
        self._source = inspection.source
        self._attempts = Attempts(self._view)

    def whole(self) -> dict[str, Any]:
        inspection, view = self._inspection, self._view
        migrations = [self._migration(migration) for migration in view.migrations]
        return {
            "capture": self._capture(),
            "sessions": [self._session(session) for session in view.sessions],
            "migrations": migrations,
            "attempts": [self._attempt(attempt) for attempt in self._told_attempts],
            "refused": [self._refusal(connection) for connection in self._refused],
            "notes": [*notes(inspection)],
            "findings": [self._finding(finding) for finding in inspection.findings],
            "doubtful": [{**self._finding(finding), "why": why} for finding, why in inspection.doubtful],
            "gaps": [
                {
                    "connection": g.connection,
                    "packet": g.frame,
                    "sender": str(g.sender),
                    "bytes": g.bytes,
                    "cut": g.cut,
                    "all": g.sender not in self._view.connections[g.connection].heard,
                }
                for g in inspection.gaps
            ],
            "unjudged": [
                {"requirement": requirement, "why": f"it needs {why}"}
                for requirement, why in inspection.oracle.judgement.unjudged(CATALOGUE)
                if CATALOGUE[requirement].evidence is Evidence.PACKETS
            ]
            + [
                {"requirement": requirement, "why": why}
                for requirement, why in inspection.oracle.judgement.not_looked_at()
            ],
        }

    def _capture(self) -> dict[str, Any]:
        reader, judgement = self._source.reader, self._inspection.oracle.judgement
        spice = {c.number for s in self._view.sessions for c in s.connections()}
        spice |= {
            c.number for c in self._view.connections.values() if c.mess is not None or c.result is not None
        }
        read = sum(sum(c.messages.values()) for c in self._view.connections.values())
        return {
            "files": [str(path) for path in self._inspection.paths],
            "packets": reader.packets,
            "bytes": reader.bytes,
            "seconds": round(reader.seconds, 6),
            "streams": reader.streams,
            "other_streams": self._source.other_streams,
            "spice_streams": len(spice),
            "failed_streams": len(self._attempts.all) + self._source.more_failed,
            "messages": read,
            "judged": len(judgement.broken | judgement.kept.keys()),
            "nothing_judged": self._inspection.nothing_judged,
            "notes": _counted(self._source.notes),
        }

    # ---- findings

    def _finding(self, finding: Finding) -> dict[str, Any]:
        requirement = CATALOGUE[finding.requirement]
        return {
            "requirement": finding.requirement,
            "level": str(finding.level),
            "text": requirement.text,
            "duty": requirement.duty,
            "why": requirement.why or None,
            "next": next_of_finding(requirement.area, requirement.duty),
            "packet": finding.frame,
            "file": self._file(finding.connection),
            "time": finding.time,
            "connection": finding.connection,
            "host": finding.host or self._server(finding.connection),
            "expected": finding.expected,
            "seen": finding.seen,
        }

    def _file(self, connection: int | None) -> str | None:
        paths = self._inspection.paths
        index = self._source.files.get(connection) if connection is not None else None
        if len(paths) == 1:
            return str(paths[0])
        return str(paths[index]) if index is not None else None

    def _server(self, number: int | None) -> str | None:
        connection = self._view.connections.get(number) if number is not None else None
        return str(connection.server) if connection is not None and connection.server is not None else None

    # ---- sessions

    def _session(self, session: Session) -> dict[str, Any]:
        return {
            "session_id": session.id,
            "host": host_name(self._view, session),
            "target": session.main.as_target,
            "channels": [self._channel(connection) for connection in session.connections()],
        }

    def _channel(self, connection: Connection) -> dict[str, Any]:
        opened, framer = connection.opened, self._source.framers.get(connection.number)
        beyond = str(connection.beyond.server) if connection.beyond is not None else None
        sides = {side: framer.counts(side) for side in Side} if framer is not None else {}
        return {
            "type": connection.channel,
            "id": connection.channel_id,
            "connection": connection.number,
            "connection_id": connection.connection_id,
            "client": str(opened.client) if opened else None,
            "server": str(opened.server) if opened else None,
            "via": visible_host(opened.via) if opened and opened.via else beyond,
            "tls": opened.tls if opened else None,
            "mini_header": framer.known_header if framer is not None else None,
            "messages": sum(sum(counts.values()) for counts, _ in sides.values()),
            "bytes": sum(size for _, size in sides.values()),
            "ended": str(connection.closed.how) if connection.closed else None,
        }

    # ---- migrations

    def _migration(self, migration: Migration) -> dict[str, Any]:
        subject = migration.subject
        outcome = arrival(self._view, migration, self._attempts)
        attempts = self._attempts.of(migration)
        steps = phases(migration)
        presented = self._presented(migration, attempts)
        return {
            "scheme": scheme(migration),
            "outcome": str(outcome.outcome),
            "reason": str(outcome.reason) if outcome.reason else None,
            "why": self._why(migration, outcome, presented),
            "next": NEXT[outcome.reason] if outcome.reason else None,
            "packet": outcome.event.frame if outcome.event else None,
            "client": client_of(migration.source),
            "source": host_name(self._view, migration.source),
            "target": host_name(self._view, migration.target) if migration.target else None,
            "session_id": migration.source.id,
            "target_session_id": migration.target.id if migration.target else None,
            "host": visible_host(migration.host) if migration.host is not None else None,
            "port": migration.port,
            "tls_port": migration.tls_port,
            "cert_subject": subject.decode("utf-8", "replace") if subject is not None else None,
            "presented_subject": presented,
            "unreachable": unfit_address(migration),
            "phases": [
                {"name": step.name, "ms": round(step.after, 3), "packet": step.event.frame} for step in steps
            ],
            "duration_ms": round(steps[-1].after, 3) if len(steps) > 1 else None,
            "attempts": [self._attempt(attempt) for attempt in attempts],
            "steps": [_step(event) for event in migration.steps],
        }

    def _why(self, migration: Migration, outcome: Arrival, presented: str | None) -> str | None:
        if not outcome.why:
            return None
        words = [outcome.why]
        if outcome.reason is Reason.ALERT:
            subject = migration.subject
            announced_subject = subject.decode("utf-8", "replace") if subject else None
            words.append(
                f"announced subject “{announced_subject}”" if subject else "no subject was announced"
            )
            if presented:
                words.append(f"the certificate says “{presented}”")
        unfit = unfit_address(migration)
        if unfit and outcome.outcome is not MigrationOutcome.CANCELLED:
            words.append(unfit)
        return "; ".join(words)

    def _presented(self, migration: Migration, attempts: list[FailedLink]) -> str | None:
        """The subject of the target's certificate; None where the capture does not show it in clear."""
        shown = [attempt.connection.certificate for attempt in attempts]
        if migration.target is not None:
            shown += [c.certificate for c in migration.target.connections()]
        return next((one.subject for one in reversed(shown) if one is not None), None)

    # ---- failed connections

    @cached_property
    def _places(self) -> set[tuple[str, int | None]]:
        """Addresses and ports where SPICE is spoken or announced here."""
        mains = (session.main.opened for session in self._view.sessions)
        places = {(main.server.host, main.server.port) for main in mains if main is not None}
        announced_places = {(m.host, port) for m in self._view.migrations if m.host for port in m.ports}
        return places | announced_places

    @cached_property
    def _told_attempts(self) -> list[FailedLink]:
        """Failed connections that concern SPICE, as far as the capture can show."""
        hosts = {host for host, _ in self._places}
        found: list[FailedLink] = []
        nearby: list[FailedLink] = []
        for attempt in sorted(self._attempts.all, key=lambda attempt: attempt.event.time):
            failed = attempt.connection.failed
            if failed is None or (failed.server.host, failed.server.port) in self._places:
                found.append(attempt)
            elif not hosts or failed.server.host in hosts:
                nearby.append(attempt)
        listed = found[:MOST_ATTEMPTS] + nearby[:MOST_NEARBY]
        return sorted(listed, key=lambda attempt: attempt.event.time)

    def _attempt(self, attempt: FailedLink) -> dict[str, Any]:
        connection = attempt.connection
        return {
            "connection": connection.number,
            "client": str(connection.client) if connection.client else None,
            "server": str(connection.server) if connection.server else None,
            "reason": str(attempt.reason),
            "seen": attempt.seen,
            "next": NEXT[attempt.reason],
            "packet": attempt.event.frame,
            "time": attempt.event.time,
        }

    @cached_property
    def _refused(self) -> list[Connection]:
        return [c for c in self._view.connections.values() if c.refusal is not None]

    def _refusal(self, connection: Connection) -> dict[str, Any]:
        refusal = connection.refusal
        assert refusal is not None
        error = error_name(int(refusal.packet.error))
        return {
            "connection": connection.number,
            "channel": connection.channel or None,
            "channel_id": connection.channel_id,
            "connection_id": connection.connection_id,
            "client": str(connection.client) if connection.client else None,
            "server": str(connection.server) if connection.server else None,
            "by": str(refusal.sender),
            "error": error,
            "why": self._refusal_why(connection, error),
            "next": NEXT[
                {"PERMISSION_DENIED": Reason.DENIED, "BAD_CONNECTION_ID": Reason.BAD_ID}.get(
                    error, Reason.LINK
                )
            ],
            "packet": refusal.frame,
            "time": refusal.time,
        }

    def _refusal_why(self, connection: Connection, error: str) -> str:
        if error == "PERMISSION_DENIED":
            return "the ticket is wrong, missing or has expired"
        if error == "NEED_SECURED":
            return "this channel is allowed over TLS only"
        if error == "NEED_UNSECURED":
            return "this channel is not allowed over TLS"
        if error != "BAD_CONNECTION_ID":
            return "the server does not take this link message"
        open_there = [
            s.id
            for s in self._view.sessions
            if s.host == connection.host and s.id is not None and _open_at(s, connection)
        ]
        ids = ", ".join(f"{number:#010x}" for number in open_there[:4])
        named = f"it named session {connection.connection_id:#010x}"
        elsewhere = next(
            (
                host_name(self._view, s)
                for s in self._view.sessions
                if s.id == connection.connection_id and s.host != connection.host and _open_at(s, connection)
            ),
            None,
        )
        if connection.connection_id in open_there:
            return f"{named}, which is open there"
        if elsewhere:
            return f"{named}, which is open at {elsewhere} and not there"
        return f"{named}; open there: {ids}" if ids else f"{named}; none is known to be open there"


def _counted(notes: list[str]) -> list[str]:
    """Each note once, with the number of its repetitions."""
    counts = Counter(notes)
    return [note if times == 1 else f"{note} ({times} times)" for note, times in counts.items()]


def _open_at(session: Session, connection: Connection) -> bool:
    closed, refusal = session.main.closed, connection.refusal
    return closed is None or refusal is None or closed.time > refusal.time


def _step(event: Message) -> dict[str, Any]:
    return {
        "time": event.time,
        "packet": event.frame,
        "connection": event.connection,
        "sender": str(event.sender),
        "message": event.name,
    }


def scheme(migration: Migration) -> str:
    """semi-seamless, seamless or switch-host; `A, then B` where one fell back to the other."""
    announced_as = "seamless" if migration.seamless else "semi-seamless"
    switch = switched(migration)
    if migration.begin is None and (migration.ended is None or switch) and migration.answer is None:
        return "switch-host"
    if switch:
        return f"{announced_as}, then switch-host"
    if migration.seamless and migration.answer is not None:
        if migration.answer.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED:
            return "seamless, then semi-seamless"
    return announced_as
