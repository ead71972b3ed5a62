# SPDX-License-Identifier: GPL-2.0-only
"""A capture to events, and events to a story: the inspector without its views.

Bulk messages that no rule asks about are only counted (`Oracle.quiet`), so that neither time nor memory is
spent on what nobody wants to see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dissectors.capture import CaptureError, Wait
from dissectors.capture.reader import EventReader, Quieter
from dissectors.capture.record import Progress
from dissectors.conversation.conversation import Connection, Migration, Session
from dissectors.conversation.order_tables import State
from dissectors.framing.events import Event, Gap, Message
from dissectors.framing.framer import NO_QUIET
from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.doubts import Holes
from dissectors.rules.judgement import Finding, Judgement
from dissectors.rules.oracle import Oracle
from dissectors.wire.constants import MsgcBase, MsgcMain, MsgMain, Side


class Inspection:
    """Reads captures through the oracle; `as_dict` is the story so far, at any moment.

    `everything`: build an event for each message, also for those that no rule asks about.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        keylog: Path | None = None,
        follow: Wait | None = None,
        progress: Progress | None = None,
        everything: bool = False,
    ) -> None:
        self.oracle = Oracle()
        quiet: Quieter = (lambda *_: NO_QUIET) if everything else self.oracle.quiet
        self.source = EventReader(paths, keylog=keylog, follow=follow, progress=progress, quiet=quiet)
        self.gaps: list[Gap] = []
        self._holes = Holes(self.oracle.conversation, self.source.files, self.source.reader.mixed)
        self.error: CaptureError | None = None
        self._over = False
        self._last_weighed: list[tuple[Finding, str | None]] | None = None

    def run(self) -> Iterator[tuple[Event, list[Finding]]]:
        """Each event with the findings that it brought. What cannot be read is kept in `error`."""
        try:
            for event in self.source:
                if isinstance(event, Gap):
                    self.gaps.append(event)
                self._holes.observe(event)
                yield event, self.oracle.observe(event)
        except CaptureError as error:
            self.error = error
        self.oracle.close()
        self._over, self._last_weighed = True, None

    @property
    def findings(self) -> list[Finding]:
        """What the capture proves."""
        return [finding for finding, why in self._weighed() if why is None]

    @property
    def doubtful(self) -> list[tuple[Finding, str]]:
        """What may have another cause than a breach, and which."""
        return [(finding, why) for finding, why in self._weighed() if why is not None]

    def _weighed(self) -> list[tuple[Finding, str | None]]:
        """The oracle's findings and what speaks against them; the same again once all is read."""
        if not self._over or self._last_weighed is None:
            self._last_weighed = self._holes.doubts(self.oracle.judgement.findings)
        return self._last_weighed

    def finish(self) -> Judgement:
        """Reads all that is left."""
        for _ in self.run():
            pass
        return self.oracle.judgement

    def as_dict(self) -> dict[str, Any]:
        """The story with the keys that scripts rely on; unknown values are None. Times in seconds."""
        view, reader = self.oracle.conversation, self.source.reader
        return {
            "capture": {
                "packets": reader.packets,
                "bytes": reader.bytes,
                "seconds": round(reader.seconds, 6),
                "streams": reader.streams,
                "other_streams": self.source.other_streams,
                "notes": self.source.notes,
            },
            "sessions": [self._session(session) for session in view.sessions],
            "migrations": [self._migration(migration) for migration in view.migrations],
            "findings": [self._finding(finding) for finding in self.findings],
            "doubtful": [{**self._finding(finding), "why": why} for finding, why in self.doubtful],
            "gaps": [
                {"connection": g.connection, "packet": g.frame, "sender": str(g.sender), "bytes": g.bytes}
                for g in self.gaps
            ],
            "unjudged": [
                {"requirement": requirement, "why": f"not seen: {why}"}
                for requirement, why in self.oracle.judgement.unjudged(CATALOGUE)
            ]
            + [
                {"requirement": requirement, "why": why}
                for requirement, why in self.oracle.judgement.not_looked_at()
            ],
        }

    def _finding(self, finding: Finding) -> dict[str, Any]:
        return {
            "requirement": finding.requirement,
            "level": str(finding.level),
            "text": CATALOGUE[finding.requirement].text,
            "packet": finding.frame,
            "time": finding.time,
            "connection": finding.connection,
            "host": finding.host,
            "expected": finding.expected,
            "seen": finding.seen,
        }

    def _session(self, session: Session) -> dict[str, Any]:
        return {
            "session_id": session.id,
            "host": self._host_name(session),
            "target": session.main.as_target,
            "channels": [self._channel(connection) for connection in session.connections()],
        }

    def _host_name(self, session: Session) -> str | None:
        label = self.oracle.conversation.hosts[session.host].label if session.host >= 0 else None
        opened = session.main.opened
        return label or (str(opened.server) if opened else None)

    def _channel(self, connection: Connection) -> dict[str, Any]:
        opened, framer = connection.opened, self.source.framers[connection.number]
        sides = {side: framer.counts(side) for side in Side}
        return {
            "type": connection.channel,
            "id": connection.channel_id,
            "connection": connection.number,
            "connection_id": connection.connection_id,
            "client": str(opened.client) if opened else None,
            "server": str(opened.server) if opened else None,
            "tls": opened.tls if opened else None,
            "mini_header": framer.known_header,
            "messages": sum(sum(counts.values()) for counts, _ in sides.values()),
            "bytes": sum(size for _, size in sides.values()),
            "ended": str(connection.closed.how) if connection.closed else None,
        }

    def _migration(self, migration: Migration) -> dict[str, Any]:
        subject = migration.subject
        return {
            "scheme": scheme(migration),
            "outcome": outcome(migration),
            "source": self._host_name(migration.source),
            "target": self._host_name(migration.target) if migration.target else None,
            "session_id": migration.source.id,
            "target_session_id": migration.target.id if migration.target else None,
            "host": migration.host,
            "port": migration.port,
            "tls_port": migration.tls_port,
            "cert_subject": subject.decode("utf-8", "replace") if subject is not None else None,
            "steps": [_step(event) for event in migration.steps],
        }


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
    announced = "seamless" if migration.seamless else "semi-seamless"
    if migration.begin is None:
        return "switch-host"
    if migration.ended is not None and migration.ended.type == MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST:
        return f"{announced}, then switch-host"
    if migration.seamless and migration.answer is not None:
        if migration.answer.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED:
            return "seamless, then semi-seamless"
    return announced


def outcome(migration: Migration) -> str:
    """completed, switched, cancelled, refused (by the client), moving or announced."""
    ended, target, answer = migration.ended, migration.target, migration.answer
    if ended is None:
        refused = answer is not None and answer.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR
        return "refused" if refused else "announced"
    if ended.type == MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL:
        return "cancelled"
    if ended.type == MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST:
        return "switched"
    if target is None:
        return "moving"
    begun = target.main.state is State.READY or any(map(_begins_the_target, migration.steps))
    return "completed" if begun else "moving"


def _begins_the_target(step: Message) -> bool:
    """The target's INIT, or the client's migration data for it."""
    match step:
        case Message(sender=Side.SERVER, type=MsgMain.SPICE_MSG_MAIN_INIT):
            return True
        case Message(sender=Side.CLIENT, type=MsgcBase.SPICE_MSGC_MIGRATE_DATA):
            return True
    return False
