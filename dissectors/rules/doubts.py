# SPDX-License-Identifier: GPL-2.0-only
"""What may be why a rule only seems broken: bytes are missing, or the order of two packets is not proven.

A doubt is weighed by what could stand behind it. A hole is weighed by what it could have held: on which
connection and in which direction it lies, from when on, and whether a whole message can be in it. An order
between two connections is believed as far as the capture point proves it.
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
from dissectors.wire.constants import Side

S, C = Side.SERVER, Side.CLIENT

#: Requirements (or how their ids begin) whose evidence is one message, or the link stage of one connection:
#: only a hole before it in its own direction, behind which a boundary was found again, may explain them.
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
#: Requirements whose evidence is all on the finding's own connection, and those for which this is so on a
#: main channel.
OWN = (
    "LINK-",
    "CHAN-",
    "MAIN-",
    "MIG-DST-031",
    *(f"MIG-CLI-{number:03}" for number in (9, 11, 13, 14, 15, 16, 19)),
)
OWN_ON_MAIN = ("MIG-SRC-", "MIG-DST-")
#: Requirement -> whose messages on the other connections are its evidence; both sides' where it is not here.
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
#: Requirements that compare a channel with the same channel at the other end of the migration.
TWINS = frozenset({"MIG-CLI-010"})
#: Requirements about the order of what was said to two hosts, and on two connections to one.
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
#: Nearer than this, seconds, the order of two connections is not proven: in a capture that is seen to mix the
#: directions of a connection, and in one of several interfaces, each with times of its own.
MIXED_S, INTERFACES_S = 0.005, 0.0021

#: So many holes inside messages are remembered.
DELAYS = 1000

MISSING = "bytes that are missing may explain it"
TWO_CLOCKS = "source and target are in different files: the order is only as good as their clocks"
TOO_CLOSE = "what decides it lies close by on another connection, and the capture does not prove their order"


class Evidence(Protocol):
    """What a reader knows of its captures."""

    @property
    def files(self) -> Mapping[int, int]:
        """Connection -> which of the captures it is in."""

    @property
    def mixed(self) -> Set[int]:
        """Captures that show packets in another order than they had."""

    @property
    def several(self) -> Set[int]:
        """Captures with packets of several interfaces."""


@dataclass(frozen=True)
class Hole:
    """Bytes of one side that are missing; `since`: the time of the last whole event before them.

    A hole is often proven only when much has followed it, on other connections too: nothing that came after
    `since` is evidence for a breach that the hole may explain. Until it is `proven` it keeps back what the
    other side said, too.
    """

    connection: int
    sender: Side
    since: float
    proven: float
    inside: bool = False  # of one message
    linking: bool = False  # it lies in the link stage, and hides how the connection began

    def may_matter_at(self, time: float) -> bool:
        """It may be why something seems broken at that time (0: at none in particular)."""
        return not time or (time >= self.since and (not self.inside or time <= self.proven))


class Doubts:
    """Observes the events that the oracle reads, and weighs its findings."""

    def __init__(self, view: Conversation, evidence: Evidence) -> None:
        self._view = view
        self._evidence = evidence
        self._last: dict[tuple[int, Side], float] = {}  # time of the last whole event
        self._holes: dict[tuple[int, Side], Hole] = {}  # the first of each direction
        self._delays: deque[Hole] = deque(maxlen=DELAYS)  # the latest holes inside messages
        self._now = 0.0
        self._linked: set[int] = set()  # connections whose link stage is over
        self._turns: defaultdict[int, list[float]] = defaultdict(list)  # when a connection's state changed

    def observe(self, event: Event) -> None:
        """The next event."""
        self._now = max(self._now, event.time)
        match event:
            case LinkBytes():
                self._last[event.connection, event.sender] = event.time
                self._turns[event.connection].append(event.time)
                if event.kind == "result":
                    self._linked.add(event.connection)
            case Message():
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
        """Keeps a hole that may have held a message, or that ended the framing for a while.

        One inside a message only kept back what followed, until it was proven."""
        if gap.inside:
            since = self._last.get((gap.connection, gap.sender), -inf)
            self._delays.append(Hole(gap.connection, gap.sender, since, self._now, inside=True))
            return
        key, linking = (gap.connection, gap.sender), gap.connection not in self._linked
        since = self._last.get(key, -inf) if gap.bytes is not None else -inf
        known = self._holes.get(key)
        if known is None or since < known.since:
            self._holes[key] = Hole(gap.connection, gap.sender, since, self._now, linking=linking)

    def weigh(self, findings: Sequence[Finding]) -> list[tuple[Finding, str | None]]:
        """Each finding, and why it may be none, if anything speaks against it."""
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
        files = self._evidence.files
        if len({files.get(other.number, 0) for other in (connection, *others)}) > 1:
            return TWO_CLOCKS
        precision = self._precision(files.get(connection.number, 0))
        if precision and any(self._turned(other, finding.time, precision) for other in others):
            return TOO_CLOSE
        return None

    # ---- the order between connections

    def _others(self, finding: Finding, connection: Connection) -> list[Connection]:
        """The connections that a finding's order is about, besides its own."""
        if finding.requirement in TWO_HOSTS:
            sessions = _tied(self._view, connection)
        elif connection.session is not None:
            sessions = [connection.session]
        else:
            sessions = [s for s in self._view.sessions if s.host == connection.host]
        return [s.main for s in sessions if s.main is not connection]

    def _precision(self, file: int) -> float:
        """How near to each other the order of two packets of a capture is not proven, seconds."""
        if file in self._evidence.mixed:
            return MIXED_S
        return INTERFACES_S if file in self._evidence.several else 0.0

    def _turned(self, other: Connection, time: float, precision: float) -> bool:
        """A connection's state changed at about that time."""
        turns = sorted(self._turns[other.number])
        at = bisect_left(turns, time - precision)
        return at < len(turns) and turns[at] <= time + precision

    # ---- what is missing

    def _may_explain(self, finding: Finding, holes: Sequence[Hole]) -> bool:
        """One of these holes may be why this rule seems broken."""
        connection = self._view.connections.get(finding.connection or 0)
        if connection is None:
            return True
        own = [hole for hole in holes if hole.connection == connection.number]
        if finding.requirement.startswith(CONTENT):
            sender = C if finding.requirement.startswith("MIG-CLI-") else S
            return any(hole.sender is sender for hole in own)
        if own:
            return True
        on_main = OWN_ON_MAIN if connection.is_main and finding.requirement not in ONE_HOST else ()
        if finding.requirement.startswith((*OWN, *on_main)):
            return False
        about = _About(self._view, connection)
        return any(about.concerns(hole, finding) for hole in holes)

    def _hidden(self) -> Iterator[Hole]:
        """TLS that was not opened hides everything."""
        for number, known in self._view.connections.items():
            if known.opened is not None and known.opened.tls and known.mess is None:
                yield from (Hole(number, side, known.opened.time, inf) for side in Side)


class _About:
    """What has to do with a connection: its session, and those that a migration ties to it."""

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
        """What is missing there may matter here: what decides it is said on main channels."""
        other = self._view.connections.get(hole.connection)
        if other is None or other.opened is None:
            return True
        if hole.linking:  # whatever it seems to be, how it began was not seen
            return other.session in self._sessions or self._near(other.opened)
        if other.channel and not other.is_main:
            return finding.requirement in TWINS and self._twin(other)
        if other.session is not None:
            decides = SIDES.get(finding.requirement, hole.sender) is hole.sender
            decides = decides or finding.time <= hole.proven
            return decides and other.session in self._sessions
        if other.mess is not None and other.connection_id:
            return other.connection_id in self._ids
        if other.opened.midstream or other.opened.time < self._begun:
            return not self._seen_from_the_start
        return self._near(other.opened)

    def _near(self, opened: Opened) -> bool:
        """It leads to where one of these sessions is, or is announced to go."""
        server = opened.server
        announced = server.port in self._ports
        return announced or (server.host in self._addresses and server not in self._elsewhere)

    def _twin(self, other: Connection) -> bool:
        """The same channel at the other end of a migration."""
        own = self._connection
        same = (other.channel, other.channel_id) == (own.channel, own.channel_id)
        return same and other.session in self._sessions

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
