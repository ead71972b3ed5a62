# SPDX-License-Identifier: GPL-2.0-only
"""What may be why a rule only seems broken: bytes are missing, or two captures have two clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from math import inf

from dissectors.conversation.conversation import Connection, Conversation, Session
from dissectors.framing.events import Event, Gap, LinkBytes, Message, Opened, Quiet
from dissectors.rules.judgement import Finding
from dissectors.wire.constants import ChannelType, MsgcMain, Side

#: Requirements (or how their ids begin) whose evidence is all on the finding's own connection, and those
#: for which this is so on a main channel.
OWN = ("LINK-", "CHAN-", "MAIN-", *(f"MIG-CLI-{number:03}" for number in (13, 14, 15, 16, 17, 18)))
OWN_ON_MAIN = ("MIG-SRC-", "MIG-DST-")
#: Requirements about the order of what was said to two hosts.
ACROSS = frozenset({"MIG-CLI-001", "MIG-CLI-003", "MIG-CLI-005", "MIG-CLI-007", "MIG-SRC-047"})
#: Requirements about the order of a channel and of MIGRATE_END on main. A capture that is seen to mix two
#: directions proves no order between two connections where they lie so close together (s).
AFTER_THE_END = frozenset({"MIG-DST-005"})
CLOSE_S = 0.005
_END = (ChannelType.SPICE_CHANNEL_MAIN, Side.CLIENT, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)


class Holes:
    """A hole is often proven only when much has followed it, on other connections too. Nothing that came
    after the last whole event before a hole is evidence for a breach on a connection that has to do with it:
    one of the same session, of the session at the other end of its migration, or one that nobody knows.
    """

    def __init__(self, view: Conversation, files: Mapping[int, int], mixed: Set[int]) -> None:
        self._view = view
        self._files = files  # connection -> which of the captures it is in
        self._mixed = mixed  # captures that show packets in another order than they had
        self._last: dict[tuple[int, Side], float] = {}  # time of the last whole event
        self._since: dict[int, float] = {}  # by connection: from when on bytes are missing
        self._ends: dict[int, float] = {}  # time of the client's MIGRATE_END, by main connection

    def observe(self, event: Event) -> None:
        """The next event."""
        match event:
            case LinkBytes() | Message() | Quiet():
                self._last[event.connection, event.sender] = event.time
                if isinstance(event, Message) and (event.channel, event.sender, event.type) == _END:
                    self._ends.setdefault(event.connection, event.time)
            case Opened():
                self._last.update({(event.connection, side): event.time for side in Side})
            case Gap():
                before = self._last[event.connection, event.sender] if event.bytes is not None else -inf
                self._since[event.connection] = min(self._since.get(event.connection, inf), before)

    def doubts(self, findings: Sequence[Finding]) -> list[tuple[Finding, str | None]]:
        """Each finding, and why it may be none, if anything speaks against it."""
        holes = self._since | self._hidden()
        return [(finding, self._doubt(finding, holes)) for finding in findings]

    def _doubt(self, finding: Finding, holes: Mapping[int, float]) -> str | None:
        if holes and self._may_explain(finding, holes):
            return "bytes that are missing may explain it"
        if finding.requirement in ACROSS and self._two_clocks(finding):
            return "source and target are in different files: the order is only as good as their clocks"
        if finding.requirement in AFTER_THE_END and self._close_to_the_end(finding):
            return "MIGRATE_END lies close by on another connection, and the capture mixes what lies close by"
        return None

    def _two_clocks(self, finding: Finding) -> bool:
        """The connections that have to do with it are in different captures."""
        connection = self._view.connections.get(finding.connection or 0)
        if connection is None:
            return False
        mains = [session.main.number for session in _tied(self._view, connection)]
        return len({self._files.get(number, 0) for number in (*mains, connection.number)}) > 1

    def _close_to_the_end(self, finding: Finding) -> bool:
        """The client's MIGRATE_END was captured right after it, in a capture that mixes."""
        connection = self._view.connections.get(finding.connection or 0)
        if connection is None or connection.session is None:
            return False
        main = connection.session.main.number
        if self._mixed.isdisjoint({self._files.get(connection.number, 0), self._files.get(main, 0)}):
            return False
        end = self._ends.get(main)
        return end is not None and 0 <= end - finding.time < CLOSE_S

    def _may_explain(self, finding: Finding, holes: Mapping[int, float]) -> bool:
        """Missing bytes may be why this rule seems broken."""
        if finding.connection is None or finding.connection not in self._view.connections:
            return any(not finding.time or finding.time >= since for since in holes.values())
        connection = self._view.connections[finding.connection]
        if finding.requirement.startswith((*OWN, *(OWN_ON_MAIN if connection.is_main else ()))):
            since = holes.get(finding.connection)
            return since is not None and (not finding.time or finding.time >= since)
        about = _About(self._view, connection)
        return any(
            (not finding.time or finding.time >= since) and about.concerns(self._view.connections[number])
            for number, since in holes.items()
            if number in self._view.connections
        )

    def _hidden(self) -> dict[int, float]:
        """TLS that was not opened hides everything."""
        return {
            number: known.opened.time
            for number, known in self._view.connections.items()
            if known.opened is not None and known.opened.tls and known.mess is None
        }


class _About:
    """What has to do with a connection: its session, and those that a migration ties to it."""

    def __init__(self, view: Conversation, connection: Connection) -> None:
        self._connection = connection
        self._sessions = _tied(view, connection)
        self._ids = {session.id for session in self._sessions} | {connection.connection_id}
        mains = [session.main for session in self._sessions] or [connection]
        self._begun = min((main.opened.time for main in mains if main.opened is not None), default=-inf)
        openings = [known.opened for known in (*mains, connection) if known.opened is not None]
        self._addresses = {opened.server.host for opened in openings}
        moves = [m for m in view.migrations if m.source in self._sessions]
        self._ports = {port for move in moves for port in (move.port, move.tls_port)}
        others = (s.main.opened for s in view.sessions if s not in self._sessions)
        self._elsewhere = {opened.server for opened in others if opened is not None}
        self._elsewhere -= {opened.server for opened in openings}

    def concerns(self, other: Connection) -> bool:
        """What is missing there may matter here."""
        if other is self._connection or other.opened is None:
            return True
        if other.session is not None:
            return other.session in self._sessions
        if other.mess is not None and other.connection_id:
            return other.connection_id in self._ids
        if other.opened.midstream or other.opened.time < self._begun:
            return not self._seen_from_the_start
        server = other.opened.server
        announced = server.port in self._ports
        return announced or (server.host in self._addresses and server not in self._elsewhere)

    @property
    def _seen_from_the_start(self) -> bool:
        """Whatever belongs to these sessions began after their first main channel."""
        return bool(self._sessions) and any(
            session.main.mess is not None and not session.main.as_target for session in self._sessions
        )


def _tied(view: Conversation, connection: Connection) -> list[Session]:
    """The connection's session and all that migrations tie to it; without one, those of its host."""
    if connection.session is None:
        tied = [s for s in view.sessions if s.host == connection.host or s.id == connection.connection_id]
    else:
        tied = [connection.session]
    if connection.opened is not None:
        port = connection.opened.server.port
        tied += [m.source for m in view.migrations if port in (m.port, m.tls_port) and m.source not in tied]
    for session in tied:
        moves = [m for m in view.migrations if session in (m.source, m.target)]
        ends = [end for move in moves for end in (move.source, move.target) if end is not None]
        tied += [end for end in ends if end not in tied]
    return tied
