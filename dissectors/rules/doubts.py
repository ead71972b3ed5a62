# SPDX-License-Identifier: GPL-2.0-only
"""Why a finding may be no breach: bytes are missing, or the capture does not prove the order of two packets.

A hole (missing bytes) counts by what it could have held: its connection and direction, its time, and whether
a whole message fits into it. The order of packets on two connections counts as far as the capture point
proves it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Protocol

from dissectors.conversation.conversation import Connection, Conversation, Session
from dissectors.conversation.migration_steps import STEPS
from dissectors.framing.events import Closed, Event, Gap, LinkBytes, Message, Opened, Quiet
from dissectors.rules.judgement import Finding
from dissectors.rules.migration_facts import is_recorded
from dissectors.wire.constants import BASE_LAST, ChannelType, MsgBase, MsgMain, Side

S, C = Side.SERVER, Side.CLIENT

#: Requirements (or prefixes of ids) whose evidence is one message, or the link stage of one connection. Only
#: an earlier hole in the same direction, after which the framer found a boundary again, may explain them.
CONTENT = (
    "LINK-001",
    "LINK-002",
    "LINK-003",
    "LINK-009",
    "CHAN-001",
    "CHAN-002",
    "MAIN-004",
    "MAIN-005",
    "MAIN-010",
    "CONNID-001",
    "CONNID-005",
    "MIG-SRC-007",
    "MIG-SRC-008",
    "MIG-SRC-010",
    "MIG-SRC-043",
    "MIG-SRC-044",
    "MIG-SRC-046",
    "MIG-CLI-017",
    "MIG-CLI-018",
)
#: Requirements whose whole evidence is on the finding's own connection: on any channel, and on main only.
OWN = (
    "LINK-",
    "CHAN-",
    "MAIN-",
    "MIG-DST-031",
    *(f"MIG-CLI-{number:03}" for number in (9, 11, 13, 14, 15, 16, 19, 21)),
)
OWN_ON_MAIN = ("MIG-SRC-", "MIG-DST-")
#: Requirement -> the side whose messages on other connections are its evidence; others need both sides.
SIDES: Mapping[str, Side] = MappingProxyType(
    {
        "MIG-DST-005": C,  # MIGRATE_END
        "MIG-SRC-040": C,  # CONNECTED_SEAMLESS
        "MIG-CLI-001": S,  # INIT
        "MIG-CLI-003": S,  # the target's link result
        "MIG-CLI-005": S,  # the source's MIGRATE_END
        "MIG-CLI-007": S,  # the target's ACK
        "MIG-CLI-008": S,  # BEGIN_SEAMLESS
        "CONNID-002": S,  # INIT, here and in what follows
        "CONNID-003": S,
        "CONNID-007": S,
        "CONNID-008": S,
        "CONNID-009": S,
    }
)
#: Requirements that a message on another connection would have kept: that it was not sent by then is shown by
#: what that side did there afterwards, or by its end. A capture may lose the last packets of a connection
#: without a trace.
SENT_BEFORE = frozenset({"MIG-DST-005", "MIG-SRC-040", "MIG-CLI-003", "MIG-CLI-005", "MIG-CLI-007"})
#: Requirements that compare a channel with the same channel at the other end of the migration.
TWINS = frozenset({"MIG-CLI-010"})
#: Requirements about the order of messages to two hosts, and on two connections to one host.
TWO_HOSTS = frozenset(
    {"MIG-CLI-001", "MIG-CLI-003", "MIG-CLI-005", "MIG-CLI-007", "MIG-CLI-020", "MIG-SRC-047"}
)
ONE_HOST = frozenset(
    {
        "CONNID-002",
        "CONNID-003",
        "CONNID-007",
        "CONNID-008",
        "CONNID-009",
        "CONNID-010",
        "MIG-DST-005",
        "MIG-DST-027",
        "MIG-SRC-040",
        "MIG-SRC-049",
        "MIG-SRC-050",
    }
)
#: A capture does not prove the order of packets on two connections within this time, seconds: where it mixes
#: the directions of one connection, and where it has several interfaces with clocks of their own.
MIXED_S, INTERFACES_S = 0.005, 0.0021

#: The most holes inside messages that are remembered.
DELAYS = 1000

#: The server's messages whose field decides what the rest of the session means. Where the capture holds the
#: message without that field, this is as if the message were missing.
DECIDING: Mapping[int, str] = MappingProxyType(
    {
        MsgMain.SPICE_MSG_MAIN_INIT: "session_id",
        MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN: "sport",
        MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS: "sport",
        MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST: "sport",
        MsgBase.SPICE_MSG_MIGRATE: "flags",
    }
)

MISSING = "bytes that are missing may explain it"
TWO_CLOCKS = "source and target are in different files: the order is only as good as their clocks"
TOO_CLOSE = "what decides it lies close by on another connection, and the capture does not prove their order"


class ReadEvidence(Protocol):
    """What `Doubts` needs to know of the captures that a reader reads."""

    @property
    def files(self) -> Mapping[int, int]:
        """Connection number -> index of its capture."""

    @property
    def mixed(self) -> Set[int]:
        """Indexes of captures that show packets in another order than on the wire."""

    @property
    def several(self) -> Set[int]:
        """Indexes of captures with packets of several interfaces."""


@dataclass(frozen=True)
class Hole:
    """Missing bytes of one side; `since`: the time (s) of the last whole event before them.

    The reader often proves a hole only after many later packets, on other connections too: nothing after
    `since` is evidence for a breach that the hole may explain. Until it is `proven` the hole also delays the
    other side's messages.
    """

    connection: int
    sender: Side
    since: float
    proven: float
    inside: bool = False  # of one message
    linking: bool = False  # it is in the link stage, and hides the connection's beginning

    def may_matter_at(self, time: float) -> bool:
        """Whether this hole may explain a finding at that time (s; 0: at no particular time)."""
        return not time or (time >= self.since and (not self.inside or time <= self.proven))


class Doubts:
    """Observes the oracle's events, and names a doubt for each finding that may be no breach."""

    def __init__(self, view: Conversation, evidence: ReadEvidence) -> None:
        self._view = view
        self._evidence = evidence
        self._last: dict[tuple[int, Side], float] = {}  # time of the last whole event
        self._holes: dict[tuple[int, Side], Hole] = {}  # the first of each direction
        self._delays: deque[Hole] = deque(maxlen=DELAYS)  # the latest holes inside messages
        self._now = 0.0
        self._linked: set[int] = set()  # connections whose link stage is over
        self._turns: defaultdict[int, list[float]] = defaultdict(list)  # when a connection's state changed

    def observe(self, event: Event) -> None:
        """Takes the next event."""
        self._now = max(self._now, event.time)
        match event:
            case LinkBytes():
                self._last[event.connection, event.sender] = event.time
                self._turns[event.connection].append(event.time)
                if event.kind == "result":
                    self._linked.add(event.connection)
            case Message():
                if not event.whole:
                    self._part(event)
                self._last[event.connection, event.sender] = event.time
                if (event.sender, event.type) in STEPS:
                    self._turns[event.connection].append(event.time)
            case Quiet():
                self._last[event.connection, event.sender] = event.time
            case Opened():
                self._last.update({(event.connection, side): event.time for side in Side})
                self._turns[event.connection].append(event.time)
            case Closed():
                self._turns[event.connection].append(event.time)
            case Gap():
                self._hole(event)

    def _hole(self, gap: Gap) -> None:
        """Keeps a hole that may have held a message, or after which the framer had to find a boundary.

        A hole inside one message only delayed what followed, until the reader proved it."""
        if gap.inside:
            since = self._last.get((gap.connection, gap.sender), -inf)
            self._delays.append(Hole(gap.connection, gap.sender, since, self._now, inside=True))
            return
        key, linking = (gap.connection, gap.sender), gap.connection not in self._linked
        since = self._last.get(key, -inf) if gap.bytes is not None else -inf
        known = self._holes.get(key)
        if known is None or since < known.since:
            self._holes[key] = Hole(gap.connection, gap.sender, since, self._now, linking=linking)

    def _part(self, event: Message) -> None:
        """Keeps a hole in place of a deciding field."""
        main_only = event.type > BASE_LAST
        if event.sender is S and (not main_only or event.channel == ChannelType.SPICE_CHANNEL_MAIN):
            field = DECIDING.get(event.type)
            if field is not None and not event.holds(field):
                key = event.connection, event.sender
                since = self._last.get(key, -inf)
                self._holes.setdefault(key, Hole(*key, since, self._now))

    def weigh(self, findings: Sequence[Finding]) -> list[tuple[Finding, str | None]]:
        """(finding, the reason why it may be no breach or None) for each finding."""
        holes = [*self._holes.values(), *self._delays, *self._hidden()]
        return [(finding, self._doubt(finding, holes)) for finding in findings]

    def _doubt(self, finding: Finding, holes: Sequence[Hole]) -> str | None:
        late = [hole for hole in holes if hole.may_matter_at(finding.time)]
        if late and self._may_explain(finding, late):
            return MISSING
        connection = self._view.connections.get(finding.connection or 0)
        if connection is None or finding.requirement not in TWO_HOSTS | ONE_HOST:
            return None
        others = self._others(finding, connection)
        if finding.requirement in SENT_BEFORE and others and not self._goes_on(others, finding):
            return MISSING
        files = self._evidence.files
        if len({files.get(other.number, 0) for other in (connection, *others)}) > 1:
            return TWO_CLOCKS
        precision = self._precision(files.get(connection.number, 0))
        if precision and any(self._turned(other, finding.time, precision) for other in others):
            return TOO_CLOSE
        return None

    # ---- the order between connections

    def _others(self, finding: Finding, connection: Connection) -> list[Connection]:
        """The other connections whose packets a finding orders against its own."""
        if finding.requirement in TWO_HOSTS:
            sessions = _tied(self._view, connection)
        elif connection.session is not None:
            sessions = [connection.session]
        else:
            sessions = [s for s in self._view.sessions if s.host == connection.host]
        return [s.main for s in sessions if s.main is not connection]

    def _goes_on(self, others: Sequence[Connection], finding: Finding) -> bool:
        """Whether the evidence holds the end of one of these connections, or anything later from the side
        that decides. What this project has recorded is whole."""
        if any(is_recorded(self._view, other) for other in others):
            return True
        side = SIDES[finding.requirement]
        latest = (self._last.get((other.number, side), -inf) for other in others)
        return any(other.closed is not None for other in others) or max(latest) >= finding.time

    def _precision(self, file: int) -> float:
        """The time (s) within which a capture does not prove the order of two packets."""
        if file in self._evidence.mixed:
            return MIXED_S
        return INTERFACES_S if file in self._evidence.several else 0.0

    def _turned(self, other: Connection, time: float, precision: float) -> bool:
        """Whether a connection's state changed within the unproven time around `time`."""
        turns = sorted(self._turns[other.number])
        at = bisect_left(turns, time - precision)
        return at < len(turns) and turns[at] <= time + precision

    # ---- what is missing

    def _may_explain(self, finding: Finding, holes: Sequence[Hole]) -> bool:
        """Whether one of these holes may explain this finding."""
        connection = self._view.connections.get(finding.connection or 0)
        if connection is None:
            return True
        own = [hole for hole in holes if hole.connection == connection.number]
        if finding.requirement.startswith(CONTENT):
            sender = C if finding.requirement.startswith("MIG-CLI-") else S
            return any(hole.sender is sender for hole in own)
        if own:
            return True
        if finding.requirement == "CHAN-003" and connection.as_target:  # main says whether serials go on
            return any(_About(self._view, connection).concerns(hole, finding) for hole in holes)
        if finding.requirement == "MIG-DST-024" and any(self._brings(hole, connection) for hole in holes):
            return True
        on_main = OWN_ON_MAIN if connection.is_main and finding.requirement not in ONE_HOST else ()
        if finding.requirement.startswith((*OWN, *on_main)):
            return False
        about = _About(self._view, connection)
        return any(about.concerns(hole, finding) for hole in holes)

    def _brings(self, hole: Hole, main: Connection) -> bool:
        """Whether the client may have brought there what the target need not take: other MIGRATE_DATA."""
        other = self._view.connections.get(hole.connection)
        return hole.sender is C and other is not None and other.session is main.session is not None

    def _hidden(self) -> Iterator[Hole]:
        """Whether TLS that could not be decrypted hides the evidence."""
        for number, known in self._view.connections.items():
            if known.opened is not None and known.opened.tls and known.mess is None:
                yield from (Hole(number, side, known.opened.time, inf) for side in Side)


class _About:
    """A connection's session and the sessions that migrations tie to it."""

    def __init__(self, view: Conversation, connection: Connection) -> None:
        self._view = view
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

    def concerns(self, hole: Hole, finding: Finding) -> bool:
        """Whether missing bytes of that connection may matter: main channels carry the deciding messages."""
        other = self._view.connections.get(hole.connection)
        if other is None or other.opened is None:
            return True
        if hole.linking:  # its beginning was not seen: it may be any channel
            return other.session in self._sessions or self._near(other.opened)
        if other.channel and not other.is_main:
            return finding.requirement in TWINS and self._twin(other)
        if other.session is not None:
            decides = SIDES.get(finding.requirement, hole.sender) is hole.sender
            decides = decides or finding.time <= hole.proven
            return decides and (other.session in self._sessions or other.session.id in self._ids)
        if other.mess is not None and other.connection_id:
            return other.connection_id in self._ids
        if other.opened.midstream or other.opened.time < self._begun:
            return not self._seen_from_the_start
        return self._near(other.opened)

    def _near(self, opened: Opened) -> bool:
        """Whether it leads to a host of these sessions, or to an address that was announced to them."""
        server = opened.server
        announced = server.port in self._ports
        return announced or (server.host in self._addresses and server not in self._elsewhere)

    def _twin(self, other: Connection) -> bool:
        """Whether the other connection is the same channel at the migration's other end."""
        own = self._connection
        same = (other.channel, other.channel_id) == (own.channel, own.channel_id)
        return same and other.session in self._sessions

    @property
    def _seen_from_the_start(self) -> bool:
        """Whether the evidence shows a first main channel: all connections of these sessions began later."""
        return bool(self._sessions) and any(
            session.main.mess is not None and not session.main.as_target for session in self._sessions
        )


def _tied(view: Conversation, connection: Connection) -> list[Session]:
    """The connection's session and all that migrations tie to it; without a session, those of its host."""
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
