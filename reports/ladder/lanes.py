# SPDX-License-Identifier: GPL-2.0-only
"""The ladder of a conversation: lanes for the hosts and the client, rows downwards in time.

Only the model; `ladder_svg` and `ladder_text` draw it. Sans-I/O and deterministic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from dissectors.framing.events import (
    Closed,
    ConnectFailed,
    ConnectionEvent,
    Event,
    Garbage,
    HostEvent,
    LinkBytes,
    Message,
    Opened,
    Quiet,
    TlsCertificate,
)
from dissectors.framing.events import Gap as LostBytes
from dissectors.rules.judgement import FAILING, Finding
from dissectors.wire.constants import Side, channel_name
from dissectors.wire.visible_text import visible
from reports.ladder import wording

CLIENT = "client"


class RowKind(StrEnum):
    """The kind of a row."""

    ARROW = "arrow"  # a message between two lanes
    CALL = "call"  # a call that the host made
    CALLBACK = "callback"  # a callback of the server to its host
    END = "end"  # a connection ended
    NOTE = "note"  # a word across all lanes
    DEATH = "death"  # a server's process ended


@dataclass(frozen=True)
class LadderRow:
    """`time`: seconds since the first event. `lane` is where it starts, `to` where an arrow ends.

    `label` is short, `name` is the full name, `detail` the relevant fields. `faults`: a line for each rule
    that was broken at this row; `failing` if one of them makes the build not conformant. `event`: its index
    in the ladder's events; None if the row stands for none or for many (`count`)."""

    time: float
    kind: RowKind
    label: str
    lane: int = 0
    to: int | None = None
    name: str = ""
    detail: str = ""
    channel: str = ""
    routine: bool = False
    faults: tuple[str, ...] = ()
    failing: bool = False
    frame: int | None = None
    event: int | None = None
    count: int = 1


@dataclass(frozen=True)
class Ladder:
    """`lanes`: their names, left to right."""

    lanes: tuple[str, ...]
    rows: tuple[LadderRow, ...]

    @property
    def faults(self) -> int:
        """How many rows show a broken rule."""
        return sum(bool(row.faults) for row in self.rows)


def ladder(
    events: Iterable[Event],
    findings: Iterable[Finding] = (),
    *,
    names: Mapping[str, str] | None = None,
    parties: Mapping[int, Parties] | None = None,
    collapse: bool = True,
    limit: int | None = 240,
) -> Ladder:
    """The ladder of a conversation. `parties`: the connections to show, by number, and the names of their
    ends (None: all). `collapse` leaves out the hosts' bookkeeping and puts runs of routine messages in one
    row each; of more than `limit` rows the middle, where no fault is near, is left out. `names`: the name of
    a server that the events identify by its address alone."""
    many = list(events)
    builder = _Builder(many, names or {}, parties)
    rows = [row for n, event in enumerate(many) if (row := builder.row(n, event)) is not None]
    rows.sort(key=_time)  # events that a capture proves late come late in the stream
    shown = [found for found in findings if parties is None or found.connection in (None, *parties)]
    rows = _blame(rows, many, shown, builder.zero)
    if collapse:
        rows = [row for row in rows if row.faults or row.kind is not RowKind.CALLBACK or not row.routine]
        rows = list(_collapse(rows))
    if limit is not None and len(rows) > limit:
        rows = _shorten(rows, limit)
    return Ladder(builder.lanes, tuple(rows))


class Parties(NamedTuple):
    """The names of the two ends of a connection."""

    client: str
    server: str


_time = attrgetter("time")


@dataclass
class _Builder:
    events: Sequence[Event]
    names: Mapping[str, str]
    parties: Mapping[int, Parties] | None = None
    lanes: tuple[str, ...] = ()
    zero: float = 0.0  # time of the first event that is shown
    _host_of: dict[int, str] = field(default_factory=dict)
    _client_of: dict[int, str] = field(default_factory=dict)
    _clients: list[str] = field(default_factory=list)
    _channel_of: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for event in self.events:
            if not self._shown(event):
                continue
            match event:
                case Opened() | ConnectFailed():
                    self._place(event)
                case LinkBytes(kind="mess"):
                    self._channel_of[event.connection] = wording.channel_of_link(event)
                case Message():
                    self._channel_of.setdefault(event.connection, channel_name(event.channel))
                case _:
                    pass
        hosts = dict.fromkeys((*self._host_of.values(), *_hosts(self.events)))
        self._clients = list(dict.fromkeys(self._client_of.values())) or [CLIENT]
        self.lanes = _lanes(list(hosts) or ["server"], self._clients)
        self.zero = min((event.time for event in self.events if self._shown(event)), default=0.0)

    def _shown(self, event: Event) -> bool:
        if self.parties is None or not isinstance(event, ConnectionEvent):
            return True
        return event.connection in self.parties

    def _place(self, event: Opened | ConnectFailed) -> None:
        """The two lanes of a connection."""
        if self.parties is not None:
            self._client_of[event.connection], self._host_of[event.connection] = self.parties[
                event.connection
            ]
            return
        where = getattr(event, "host", None) or str(event.server)
        self._host_of[event.connection] = self.names.get(where, where)
        self._client_of[event.connection] = CLIENT

    def row(self, number: int, event: Event) -> LadderRow | None:
        if isinstance(event, HostEvent):
            return self._host_row(number, event)
        if not isinstance(event, ConnectionEvent) or not self._shown(event):
            return None
        client = self.lanes.index(self._client_of.get(event.connection, self._clients[0]))
        server = self._lane(event.connection)
        channel = self._channel_of.get(event.connection, "")
        start, to = (server, client) if _from_server(event) else (client, server)
        time = event.time - self.zero
        arrow = LadderRow(
            time, RowKind.ARROW, "", lane=start, to=to, channel=channel, frame=event.frame, event=number
        )
        if isinstance(event, Opened | ConnectFailed | Closed):
            return self._end_row(event, arrow, client, server)
        return _said(event, arrow)

    def _end_row(
        self, event: ConnectionEvent, arrow: LadderRow, client: int, server: int
    ) -> LadderRow | None:
        """A connection begins, fails to begin, or ends."""
        match event:
            case Opened() if event.connection in self._channel_of:
                return None  # its link message says more
            case Opened():
                label = "TLS connection" if event.tls else "TCP connection"
                return replace(arrow, label=label, detail=str(event.server), routine=True)
            case ConnectFailed():
                label, why = f"SYN {event.how}", visible(event.why)
                return replace(arrow, kind=RowKind.END, lane=client, to=server, label=label, detail=why)
            case Closed(by=None):
                return replace(arrow, kind=RowKind.END, label=str(event.how))
            case Closed():
                start, to = (client, server) if event.by is Side.CLIENT else (server, client)
                return replace(arrow, kind=RowKind.END, label=str(event.how), lane=start, to=to)
        return None

    def _lane(self, connection: int) -> int:
        host = self._host_of.get(connection)
        if host is not None:
            return self.lanes.index(host)
        return next(n for n, lane in enumerate(self.lanes) if lane not in self._clients)

    def _host_row(self, number: int, event: HostEvent) -> LadderRow:
        label, detail = wording.host(event)
        dies = event.name in wording.DEATHS
        kind = RowKind.CALL if event.name.startswith("call:") else RowKind.CALLBACK
        return LadderRow(
            event.time - self.zero,
            RowKind.DEATH if dies else kind,
            label,
            lane=self.lanes.index(event.host),
            name=event.name,
            detail=detail,
            routine=not dies and wording.is_backstage(event),
            frame=event.frame,
            event=number,
        )


def _hosts(events: Iterable[Event]) -> Iterable[str]:
    return (event.host for event in events if isinstance(event, HostEvent))


def _from_server(event: ConnectionEvent) -> bool:
    """Whether its arrow begins at the server."""
    return isinstance(event, TlsCertificate) or getattr(event, "sender", Side.CLIENT) is Side.SERVER


def _said(event: ConnectionEvent, arrow: LadderRow) -> LadderRow | None:
    """A row for a message, or for missing bytes."""
    match event:
        case LinkBytes():
            label, detail, routine = wording.link(event)
            return replace(arrow, label=label, name=label, detail=detail, routine=routine)
        case Message():
            return replace(
                arrow,
                label=wording.short(event),
                name=event.name,
                detail=wording.detail(event),
                routine=wording.is_routine(event),
            )
        case Quiet():
            noun = "message" if event.count == 1 else "messages"
            text = f"{event.count:,} {noun}, {event.bytes:,} bytes"
            return replace(arrow, label=text, routine=True, count=event.count)
        case LostBytes(cut=True):
            return None  # said once for all
        case LostBytes():
            size = "an unknown number of" if event.bytes is None else f"{event.bytes:,}"
            words = f"{size} bytes of the {event.sender} are missing"
            return replace(
                arrow, kind=RowKind.NOTE, label=words, lane=0, to=None, routine=event.bytes is None
            )
        case Garbage():
            return replace(arrow, label="no SPICE", detail=visible(event.reason))
    label, detail, routine = wording.around(event)
    return replace(arrow, label=label, detail=detail, routine=routine)


def _lanes(hosts: list[str], clients: list[str]) -> tuple[str, ...]:
    """Source, client, target; a lone target is right of its client, any other lone server left of it, or
    between two clients. Further clients are right of their servers."""
    if hosts == ["target"]:
        return (*clients, "target")
    first = "source" if "source" in hosts else hosts[0]
    rest = [host for host in hosts if host != first]
    if len(clients) > 1 and not rest:
        return (clients[0], first, *clients[1:])
    return (first, clients[0], *rest, *clients[1:])


def _blame(
    rows: list[LadderRow], events: Sequence[Event], findings: list[Finding], zero: float
) -> list[LadderRow]:
    """Puts each finding on the row of its event; a finding without such a row gets a row of its own."""
    for found in findings:
        words = visible(f"{found.requirement}: expected {found.expected}; seen: {found.seen}")
        failing = found.level in FAILING
        index = _row_of(found, rows, events)
        if index is not None:
            row = rows[index]
            rows[index] = replace(row, faults=(*row.faults, words), failing=row.failing or failing)
        elif events and found.time:
            time = found.time - zero
            place = next((n for n, row in enumerate(rows) if row.time > time), len(rows))
            note = LadderRow(time, RowKind.NOTE, "here", frame=found.frame, faults=(words,), failing=failing)
            rows.insert(place, note)
    return rows


def _row_of(found: Finding, rows: list[LadderRow], events: Sequence[Event]) -> int | None:
    best: tuple[int, int] | None = None
    for index, row in enumerate(rows):
        if row.event is None:
            continue
        event = events[row.event]
        same_frame = found.frame is not None and event.frame == found.frame
        if not same_frame and event.time != found.time:
            continue
        score = 2 * (getattr(event, "connection", None) == found.connection) + same_frame
        if best is None or score > best[0]:
            best = (score, index)
    return best[1] if best else None


def _collapse(rows: Iterable[LadderRow]) -> Iterable[LadderRow]:
    for routine, group in groupby(rows, key=lambda row: row.routine and not row.faults):
        run = list(group)
        if not routine or len(run) == 1:
            yield from run
            continue
        counts = Counter(row.label for row in run)
        words = [label if n == 1 else f"{n} {label}" for label, n in counts.items()]
        label = ", ".join(words[:4]) + (f" and {len(words) - 4} kinds more" if len(words) > 4 else "")
        channels = ", ".join(dict.fromkeys(row.channel for row in run if row.channel))
        total = sum(row.count for row in run)
        lanes = {lane for row in run for lane in (row.lane, row.to) if lane is not None}
        yield LadderRow(
            run[0].time,
            RowKind.NOTE,
            label,
            lane=min(lanes),
            to=max(lanes),
            channel=channels,
            routine=True,
            count=total,
        )


def _shorten(rows: list[LadderRow], limit: int) -> list[LadderRow]:
    """Keeps both ends and the rows around each fault."""
    near = {n + d for n, row in enumerate(rows) if row.faults for d in range(-6, 4)}
    edge = max(4, (limit - len(near)) // 2)
    short: list[LadderRow] = []
    skipped: list[LadderRow] = []
    for n, row in enumerate(rows):
        if n < edge or n >= len(rows) - edge or n in near:
            if skipped:
                short.append(_left_out(skipped))
                skipped = []
            short.append(row)
        else:
            skipped.append(row)
    return short


def _left_out(rows: list[LadderRow]) -> LadderRow:
    return LadderRow(rows[0].time, RowKind.NOTE, f"{len(rows)} rows are left out here", routine=True)
