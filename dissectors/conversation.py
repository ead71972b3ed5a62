# SPDX-License-Identifier: GPL-2.0-only
"""Events to connections, sessions and migrations: who belongs to whom.

Channels belong to a session by connection_id; source and target of a migration belong together by the
session id that travels from one to the other. Hosts are told apart by their label where the suite knows
it, else by the addresses that links go to and that announcements name. The conversation keeps what the
rules need, never the traffic itself: its size does not grow with the capture.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from dissectors.constants import (
    BASE_LAST,
    LINK_HEADER_BYTES,
    ChannelType,
    LinkErr,
    MsgBase,
    MsgcBase,
    MsgcMain,
    MsgMain,
    Side,
)
from dissectors.events import (
    Closed,
    ConnectionEvent,
    Endpoint,
    Event,
    Gap,
    Garbage,
    HostEvent,
    LinkBytes,
    Message,
    Opened,
    Quiet,
)
from dissectors.fields import cap_bits
from dissectors.rules.tables import ANNOUNCEMENTS, WAITING, State, next_state

PONG_BYTES = 12  # the id and timestamp of a PING, which its PONG repeats
MAIN = ChannelType.SPICE_CHANNEL_MAIN


@dataclass(eq=False)
class Connection:
    """One connection and where it stands."""

    number: int
    opened: Opened | None = None
    host: int = -1  # index of the server's host in the conversation
    mess: LinkBytes | None = None
    reply: LinkBytes | None = None
    mechanism: LinkBytes | None = None
    ticket: LinkBytes | None = None
    result: LinkBytes | None = None
    closed: Closed | None = None
    channel: int = 0
    channel_id: int = 0
    connection_id: int = 0
    client_common: frozenset[int] = frozenset()
    client_caps: frozenset[int] = frozenset()
    server_common: frozenset[int] = frozenset()
    server_caps: frozenset[int] = frozenset()
    state: State = State.LINKING
    session: Session | None = None
    certain: bool = True  # nothing of it is missing so far
    migrate_flags: int | None = None
    messages: dict[Side, int] = field(default_factory=lambda: {Side.CLIENT: 0, Side.SERVER: 0})
    said: set[int] = field(default_factory=set)  # message types that the client has sent
    pings: deque[bytes] = field(default_factory=lambda: deque(maxlen=64))  # id and timestamp, unanswered
    last: dict[Side, Message | None] = field(default_factory=lambda: {Side.CLIENT: None, Side.SERVER: None})

    @property
    def is_main(self) -> bool:
        """A main channel."""
        return self.channel == MAIN

    @property
    def linked(self) -> bool:
        """The link stage ended well."""
        return self.result is not None and self.result.raw == b"\0\0\0\0"

    @property
    def as_target(self) -> bool:
        """Asks for, or belongs to, the target's part of a migration."""
        return self.is_main and self.connection_id != 0


@dataclass(eq=False)
class Session:
    """One client on one host: a main connection and the channels that name its id."""

    host: int
    id: int | None
    main: Connection
    channels: list[Connection] = field(default_factory=list)
    migration: Migration | None = None  # in which it is the source, the latest
    arrived: Migration | None = None  # in which it is the target
    offered: frozenset[tuple[int, int]] = frozenset()  # CHANNELS_LIST
    agent: bool | None = None  # whether the guest's agent is there, as the server has said

    def connections(self) -> Iterator[Connection]:
        """Main first."""
        yield self.main
        yield from self.channels


@dataclass(eq=False)
class Migration:
    """From an announcement (or a bare SWITCH_HOST) to its end."""

    source: Session
    begin: Message | None = None
    seamless: bool = False
    host: str | None = None
    port: int = 0
    tls_port: int = 0
    subject: bytes | None = None
    version: int | None = None  # src_mig_version
    target: Session | None = None
    answer: Message | None = None  # the client's CONNECTED, CONNECTED_SEAMLESS or CONNECT_ERROR
    ended: Message | None = None  # MIGRATE_END, SWITCH_HOST, MIGRATE_CANCEL or main's MIGRATE
    data: dict[tuple[int, int], bytes] = field(default_factory=dict)  # MIGRATE_DATA by channel
    steps: list[Message] = field(default_factory=list)


@dataclass(eq=False)
class Server:
    """One host: its label where known, the addresses that lead to it, what its hypervisor did."""

    label: str | None
    endpoints: set[Endpoint] = field(default_factory=set)
    ids: set[int] = field(default_factory=set)  # session ids it has given out or taken over
    settings: dict[str, object] = field(default_factory=dict)  # of the `configured` event
    calls: list[HostEvent] = field(default_factory=list)
    died: HostEvent | None = None


class Conversation:
    """Everything seen so far. `apply` takes the events in the order of their times."""

    def __init__(self) -> None:
        self.connections: dict[int, Connection] = {}
        self.sessions: list[Session] = []
        self.migrations: list[Migration] = []
        self.hosts: list[Server] = []

    def connection(self, event: ConnectionEvent) -> Connection:
        """The connection of an event; made at need, for captures that begin in the middle."""
        return self.connections.setdefault(event.connection, Connection(event.connection))

    def host_of(self, label: str) -> Server:
        """The host with this label."""
        for host in self.hosts:
            if host.label == label:
                return host
        self.hosts.append(Server(label))
        return self.hosts[-1]

    def apply(self, event: Event) -> None:
        """Takes one event in."""
        if isinstance(event, HostEvent):
            self._apply_host(event)
        elif isinstance(event, Opened):
            connection = self.connection(event)
            connection.opened = event
            connection.host = self._host_index(event)
        elif isinstance(event, LinkBytes):
            self._apply_link(self.connection(event), event)
        elif isinstance(event, Message):
            self._apply_message(self.connection(event), event)
        elif isinstance(event, Quiet):
            self.connection(event).messages[event.sender] += event.count
        elif isinstance(event, Gap | Garbage):
            self.connection(event).certain = False
        elif isinstance(event, Closed):
            self.connection(event).closed = event

    # ---- hosts

    def _apply_host(self, event: HostEvent) -> None:
        host = self.host_of(event.host)
        if event.name == "configured":
            host.settings = dict(event.args)
        elif event.name == "died":
            host.died = event
        host.calls.append(event)

    def _host_index(self, event: Opened) -> int:
        if event.host is not None:
            host = self.host_of(event.host)
            host.endpoints.add(event.server)
            return self.hosts.index(host)
        for index, host in enumerate(self.hosts):
            if event.server in host.endpoints:
                return index
        self.hosts.append(Server(None, {event.server}))
        return len(self.hosts) - 1

    def _same_host(self, connection: Connection, host: int) -> None:
        """A second port (TLS) of a host that is known already."""
        if connection.opened is not None and self.hosts[host].label is None:
            self.hosts[host].endpoints.add(connection.opened.server)
        connection.host = host

    # ---- the link stage

    def _apply_link(self, connection: Connection, event: LinkBytes) -> None:
        if event.kind in ("mess", "reply", "mechanism", "ticket", "result"):
            if event.kind == "reply" and connection.reply is not None:
                return  # a second reply where the result belongs: the link rules have read it
            setattr(connection, event.kind, event)
        packet = event.packet
        if event.kind == "mess" and len(event.raw) > LINK_HEADER_BYTES + 6:
            connection.channel, connection.channel_id = int(packet.channel_type), int(packet.channel_id)
            connection.connection_id = int(packet.connection_id)
            connection.client_common, connection.client_caps = _caps(packet)
        elif event.kind == "reply" and connection.reply is event:
            connection.server_common, connection.server_caps = _caps(packet)
        elif event.kind == "result" and connection.linked:
            self._join(connection)

    def _join(self, connection: Connection) -> None:
        if connection.is_main:
            session = Session(connection.host, connection.connection_id or None, connection)
            self.sessions.append(session)
            connection.session = session
            connection.state = State.TARGET_WAIT if connection.as_target else State.LINKED
            self._arrive(session)
            return
        session_found = self.session(connection.connection_id, connection)
        if session_found is None:
            connection.state = State.ORPHAN
            return
        if session_found.host != connection.host:
            self._same_host(connection, session_found.host)
        session_found.channels.append(connection)
        connection.session = session_found
        connection.state = _secondary_state(session_found.main.state)

    def session(self, session_id: int, connection: Connection) -> Session | None:
        """The open session with this id that a new channel joins: on its own host, else on one that shares
        its address (another port of the same host)."""
        named = [s for s in reversed(self.sessions) if s.id == session_id and s.main.closed is None]
        for session in named:
            if session.host == connection.host:
                return session
        opened = connection.opened
        for session in named:
            main = session.main.opened
            if opened and main and main.host is None and main.server.host == opened.server.host:
                return session
        return None

    def _arrive(self, session: Session) -> None:
        """Finds the migration that brought a session to its target: by its id, and by address where the id
        says nothing (after SWITCH_HOST) or is not the one that it should be."""
        opened = session.main.opened
        waiting = [m for m in reversed(self.migrations) if m.target is None and m.source.host != session.host]
        here = [m for m in waiting if opened is not None and opened.server.port in (m.port, m.tls_port)]
        by_id = [m for m in waiting if session.main.as_target and m.source.id == session.id]
        switched = [m for m in here if _ended_by(m, MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST)]
        announced = [m for m in here if m.ended is None and _client(m.source) == _client(session)]
        both = [m for m in by_id if m in here]
        for migration in (*switched, *both, *by_id, *announced)[:1]:
            migration.target, session.arrived = session, migration

    # ---- messages

    def _apply_message(self, connection: Connection, event: Message) -> None:
        connection.messages[event.sender] += 1
        connection.last[event.sender] = event
        if event.sender is Side.CLIENT:
            connection.said.add(event.type)
        elif event.type == MsgBase.SPICE_MSG_PING:
            connection.pings.append(event.body[:PONG_BYTES])
        if not connection.channel:
            connection.channel = event.channel
        if connection.is_main:
            self._apply_main(connection, event)
        before, connection.state = connection.state, next_state(connection.state, event)
        session = connection.session
        if connection.is_main and session is not None and before is not connection.state:
            for channel in session.channels:
                channel.state = _follows(channel.state, connection.state)
        if session is not None:
            self._note_step(session, connection, event)

    def _note_step(self, session: Session, connection: Connection, event: Message) -> None:
        """Keeps what a migration's story is made of."""
        leaving = session.migration
        if (
            event.sender is Side.SERVER
            and event.type == MsgBase.SPICE_MSG_MIGRATE_DATA
            and leaving is not None
        ):
            leaving.data[connection.channel, connection.channel_id] = event.body
        main_only = event.type > BASE_LAST
        if (event.sender, event.type) not in STEPS or (main_only and not connection.is_main):
            return
        at_target = (event.sender, event.type) in TARGET_STEPS and session.arrived is not None
        migration = session.arrived if at_target or leaving is None else leaving
        if migration is not None:
            migration.steps.append(event)

    def _apply_main(self, connection: Connection, event: Message) -> None:
        session = connection.session
        if session is None:
            return
        server = event.sender is Side.SERVER
        if server and event.type == MsgMain.SPICE_MSG_MAIN_INIT:
            session.id = int(event.packet.session_id)
            session.agent = bool(event.packet.agent_connected)
            self.hosts[connection.host].ids.add(session.id)
        elif server and event.type in AGENT_NEWS:
            session.agent = event.type != MsgMain.SPICE_MSG_MAIN_AGENT_DISCONNECTED
        elif server and event.type == MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST:
            session.offered = frozenset(
                (int(c.type), int(c.id)) for c in event.packet.channels if hasattr(c, "type")
            )
        elif server and event.type in ANNOUNCEMENTS:
            self._announce(session, event)
        migration = session.migration
        if migration is None:
            return
        if not server and event.type in ANSWERS:
            migration.answer = event
        elif server and event.type in ENDS and not _over(migration):
            migration.ended = event

    def _announce(self, session: Session, event: Message) -> None:
        packet = event.packet
        switch = event.type == MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST
        if switch and session.migration is not None and session.migration.ended is None:
            return
        migration = Migration(
            session,
            begin=None if switch else event,
            seamless=event.type == MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS,
            host=(packet.host or b"").decode("utf-8", "replace") or None,
            port=int(packet.port),
            tls_port=int(packet.sport),
            subject=packet.cert_subject,
            version=getattr(packet, "src_mig_version", None),
        )
        session.migration = migration
        self.migrations.append(migration)


#: What tells that the guest's agent has come or gone.
AGENT_NEWS = frozenset(
    {
        MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED,
        MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS,
        MsgMain.SPICE_MSG_MAIN_AGENT_DISCONNECTED,
    }
)
#: What the client answers to an announcement.
ANSWERS = frozenset(
    {
        MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED,
        MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR,
        MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS,
    }
)
#: What ends a migration at the source.
ENDS = frozenset(
    {
        MsgMain.SPICE_MSG_MAIN_MIGRATE_END,
        MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST,
        MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL,
        1,  # SPICE_MSG_MIGRATE
    }
)
#: The messages that tell a migration's story, and those of them that belong to its target.
TARGET_STEPS = frozenset(
    {
        (Side.SERVER, int(MsgMain.SPICE_MSG_MAIN_INIT)),
        (Side.SERVER, int(MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK)),
        (Side.SERVER, int(MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK)),
        (Side.CLIENT, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)),
        (Side.CLIENT, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS)),
        (Side.CLIENT, int(MsgcBase.SPICE_MSGC_MIGRATE_DATA)),
    }
)
STEPS = (
    TARGET_STEPS
    | {(Side.SERVER, int(kind)) for kind in ANNOUNCEMENTS | ENDS | {MsgBase.SPICE_MSG_MIGRATE_DATA}}
    | {(Side.CLIENT, int(kind)) for kind in ANSWERS | {MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK}}
)


def _ended_by(migration: Migration, kind: int) -> bool:
    return migration.ended is not None and migration.ended.type == kind


def _client(session: Session) -> str | None:
    """The address of a session's client."""
    return session.main.opened.client.host if session.main.opened is not None else None


def _over(migration: Migration) -> bool:
    """It has ended already: a MIGRATE_CANCEL that follows answers a late CONNECTED."""
    return migration.ended is not None and migration.ended.type in (
        MsgMain.SPICE_MSG_MAIN_MIGRATE_END,
        MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST,
    )


def _caps(packet: object) -> tuple[frozenset[int], frozenset[int]]:
    common = getattr(packet, "common_caps", None) or []
    channel = getattr(packet, "channel_caps", None) or []
    return cap_bits(common), cap_bits(channel)


def _secondary_state(main: State) -> State:
    """Where a channel stands that joins a session whose main channel stands there."""
    return {
        State.TARGET_WAIT: State.TARGET_SILENT,
        State.TARGET_ANSWERED: State.TARGET_SILENT,
        State.TARGET_ASKED: State.TARGET_RESTORING,
        State.TARGET_REASKED: State.TARGET_RESTORING,
        State.TARGET_SEAMLESS: State.TARGET_RESTORING,
    }.get(main, State.OPEN)


def _follows(channel: State, main: State) -> State:
    """Where a target's channel goes when its main channel moves. A channel that restores its state goes on
    with its own MIGRATE_DATA; the server may activate it as soon as it has read DST_DO_SEAMLESS."""
    if channel is State.TARGET_RESTORING and main not in WAITING:
        return channel
    return _secondary_state(main) if channel in (State.TARGET_SILENT, State.TARGET_RESTORING) else channel


def link_error(event: LinkBytes) -> LinkErr | int:
    """The error of a link reply or result."""
    value = int(event.packet.error)
    try:
        return LinkErr(value)
    except ValueError:
        return value
