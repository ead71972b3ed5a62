# SPDX-License-Identifier: GPL-2.0-only
"""Sorts events into connections, sessions and migrations.

A channel joins its session by connection_id; a migration's source and target share the session id that the
client carries from one to the other. A host is known by its label where the suite sets one, else by the
addresses of links and announcements. The conversation keeps only the state that the rules need, never the
traffic: its size does not grow with the capture.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from dissectors.conversation import migration_course, pairing
from dissectors.conversation.agent_state import apply_agent
from dissectors.conversation.connection_memory import (
    GENERATION_BYTES,
    PONG_BYTES,
    UNKNOWN,
    answers,
    remember,
)
from dissectors.conversation.connection_moves import following, move, state_to_join
from dissectors.conversation.connection_states import State
from dissectors.conversation.duplicate_links import legs_of_one_link
from dissectors.conversation.midstream_main import ARRIVING, state_before
from dissectors.conversation.migration_steps import ANSWERS, STEPS, TARGET_STEPS
from dissectors.conversation.parties import MAIN, Connection, Migration, Server, Session
from dissectors.framing.events import (
    Closed,
    ConnectFailed,
    ConnectionEvent,
    Event,
    Gap,
    Garbage,
    HostEvent,
    LinkBytes,
    Message,
    Opened,
    ProxyHeader,
    ProxyTunnel,
    Quiet,
    TlsAlert,
    TlsCertificate,
    TlsHello,
    WrongProtocol,
)
from dissectors.wire.constants import (
    BASE_LAST,
    LINK_HEADER_BYTES,
    LinkErr,
    MsgBase,
    MsgcBase,
    MsgcMain,
    MsgMain,
    Side,
)
from dissectors.wire.fields import cap_bits

__all__ = [
    "ANSWERS",
    "GENERATION_BYTES",
    "MAIN",
    "PONG_BYTES",
    "UNKNOWN",
    "Connection",
    "Conversation",
    "Migration",
    "Server",
    "Session",
    "answers",
    "link_error",
]

#: The most earlier links that are compared with a new one, which a proxy may have passed on.
LINKS_COMPARED = 32


#: The events around SPICE: TLS, proxies, failed connections.
AROUND = (ConnectFailed, TlsHello, TlsCertificate, TlsAlert, ProxyTunnel, ProxyHeader, WrongProtocol)


class Conversation:
    """Everything seen so far. `apply` takes the events in the order of their times."""

    def __init__(self) -> None:
        self.connections: dict[int, Connection] = {}
        self.sessions: list[Session] = []
        self.migrations: list[Migration] = []
        self.hosts: list[Server] = []
        self.legs: dict[int, Connection] = {}  # second leg's number -> first leg
        self._ticketed: deque[Connection] = deque(maxlen=LINKS_COMPARED)  # the latest with a ticket
        self._orphans: list[Connection] = []  # channels without a session, so far
        self.now = 0.0  # time of the latest event
        self.keeps_packets = False  # also those of closed connections

    def connection(self, event: ConnectionEvent) -> Connection:
        """The connection of an event; created if unknown, as in captures that begin in the middle."""
        known = self.connections.get(event.connection)
        if known is None:
            known = self.connections[event.connection] = Connection(event.connection)
        return known

    def host_of(self, label: str) -> Server:
        """The host with this label."""
        for host in self.hosts:
            if host.label == label:
                return host
        self.hosts.append(Server(label))
        return self.hosts[-1]

    def apply(self, event: Event) -> None:
        """Updates the conversation with one event."""
        self.now = max(self.now, event.time)
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
            self._count(event, event.count)
        elif isinstance(event, Garbage) or (isinstance(event, Gap) and not event.inside):
            self.connection(event).certain = False
        elif isinstance(event, AROUND):
            _note(self.connection(event), event)
        elif isinstance(event, Closed):
            connection = self.connection(event)
            connection.closed = event
            if not self.keeps_packets:
                connection.forget_packets()

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
            if event.goal in host.endpoints:
                return index
        self.hosts.append(Server(None, {event.goal}))
        return len(self.hosts) - 1

    def _same_host(self, connection: Connection, host: int) -> None:
        """A second port (TLS) of a host that is known already."""
        if connection.opened is not None and self.hosts[host].label is None:
            self.hosts[host].endpoints.add(connection.opened.goal)
        connection.host = host

    # ---- the link stage

    def _apply_link(self, connection: Connection, event: LinkBytes) -> None:
        connection.heard.add(event.sender)
        if event.kind in ("mess", "reply", "mechanism", "ticket", "result"):
            if event.kind == "reply" and connection.reply is not None:
                return  # a second reply in place of the result: the link rules judge it
            if event.whole:
                setattr(connection, event.kind, event)
        if event.kind == "mess" and len(event.raw) > LINK_HEADER_BYTES + 6:
            packet = event.packet
            connection.channel, connection.channel_id = int(packet.channel_type), int(packet.channel_id)
            connection.connection_id = int(packet.connection_id)
            connection.client_common, connection.client_caps = _caps(packet)
            self._note_main(connection)
        elif event.kind == "reply" and connection.reply is event:
            connection.server_common, connection.server_caps = _caps(event.packet)
        elif event.kind == "ticket":
            self._compare_legs(connection)
        elif event.kind == "result" and connection.linked:
            if connection.channel:
                self._join(connection)
            else:  # its link message is not in the capture: its first message shows the state
                self._orphans.append(connection)

    def _compare_legs(self, connection: Connection) -> None:
        """Marks the second leg of a link that a proxy passes on: the story shows the link once."""
        for other in self._ticketed:
            legs = legs_of_one_link(other, connection)
            if legs is not None:
                first, second = legs
                first.beyond = second
                self.legs[second.number] = first
                return
        self._ticketed.append(connection)

    def _note_main(self, connection: Connection) -> None:
        if connection.is_main and connection.host >= 0:
            self.hosts[connection.host].has_main = True

    def _join(self, connection: Connection) -> None:
        if connection.is_main:
            self._begin_session(connection, State.TARGET_WAIT if connection.as_target else State.LINKED)
        else:
            self._join_session(connection)

    def _begin_session(self, connection: Connection, state: State) -> None:
        """A main channel opens a new session, or continues a migrating client's."""
        session = Session(connection.host, connection.connection_id or None, connection)
        session.replaces = self._still_open(session)
        self._note_main(connection)
        self.sessions.append(session)
        connection.session = session
        connection.state = state
        migration = pairing.migration_to(self, session)
        if migration is not None:
            migration_course.arrive(migration, session)

    def _join_session(self, connection: Connection) -> None:
        """Another channel joins the session that it belongs to."""
        session = pairing.session_of(self, connection)
        if session is None:
            connection.state = State.ORPHAN
            self._orphans.append(connection)
            return
        if session.id is None:
            session.id = connection.connection_id or None
        if session.host != connection.host:
            self._same_host(connection, session.host)
        session.channels.append(connection)
        connection.session = session
        connection.state = state_to_join(session.main.state)

    def session(self, session_id: int, connection: Connection) -> Session | None:
        """The open session with this id, or with an unknown id, that a channel may join."""
        found = pairing.session_of(self, connection)
        return found if found is not None and found.id in (None, session_id) else None

    def _still_open(self, session: Session) -> Session | None:
        """The latest session that is still open on the same host."""
        for other in islice(reversed(self.sessions), pairing.LATEST):
            if other.host == session.host and other.main.closed is None:
                known = pairing.client_of(session), pairing.client_of(other)
                return other if None not in known else None
        return None

    def _adopt(self, connection: Connection, event: Message) -> None:
        """Takes in a channel whose link stage is not in the capture: its first message shows its state."""
        if connection.state is State.ORPHAN and not connection.is_main:
            return
        if connection in self._orphans:
            self._orphans.remove(connection)
        if connection.is_main:
            state = state_before(event)
            connection.arrives = state in ARRIVING
            self._begin_session(connection, state)
            orphans, self._orphans = self._orphans, []
            for orphan in orphans:
                self._join_session(orphan)
        else:
            self._join_session(connection)

    # ---- messages

    def count(self, event: Message) -> None:
        """Takes in a message that no rule needs, as if the framer had only counted it."""
        self._count(event, 1)

    def _count(self, event: Message | Quiet, count: int) -> None:
        connection = self.connection(event)
        self.now = max(self.now, event.time)
        connection.heard.add(event.sender)
        connection.messages[event.sender] += count
        if event.sender is Side.SERVER:
            connection.unacked += count
        connection.serials[event.sender] = event.serial

    def _apply_message(self, connection: Connection, event: Message) -> None:
        self._note_beside(connection, event)
        self._count(event, 1)
        remember(connection, event)
        if not connection.channel:
            connection.channel = event.channel
        if connection.session is None and connection.channel and not connection.linked_whole:
            self._adopt(connection, event)
        if connection.is_main:
            self._apply_main(connection, event)
        before = connection.state
        move(connection, event)
        session = connection.session
        if connection.is_main and session is not None and before is not connection.state:
            for channel in session.channels:
                channel.state = following(channel.state, connection.state)
        if session is not None:
            self._note_step(session, connection, event)

    def _note_beside(self, connection: Connection, event: Message) -> None:
        """Keeps the first message of a channel that was linked while its first link is still open."""
        session = connection.session
        if event.sender is Side.SERVER and not connection.messages[Side.SERVER] and session is not None:
            links = session.links_to(connection)
            if links and links[0] is not connection and links[0].closed is None:
                connection.beside = event

    def _note_step(self, session: Session, connection: Connection, event: Message) -> None:
        """Keeps the messages of a migration's story."""
        leaving = session.migration
        if (
            event.sender is Side.SERVER
            and event.type == MsgBase.SPICE_MSG_MIGRATE_DATA
            and leaving is not None
            and event.whole
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
        apply_agent(session, event)
        if server and event.type == MsgMain.SPICE_MSG_MAIN_INIT and session.init is None:
            self._apply_init(connection, session, event)
        elif (
            server
            and event.type == MsgMain.SPICE_MSG_MAIN_MULTI_MEDIA_TIME
            and event.holds("multi_media_time")
        ):
            session.clock = event.time, int(event.packet.multi_media_time)
        elif not server and event.type == MsgcBase.SPICE_MSGC_MIGRATE_DATA and session.arrived:
            session.take_over(session.arrived.source)
        elif server and event.type == MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST:
            session.offered = frozenset(
                (int(c.type), int(c.id)) for c in event.packet.channels or () if hasattr(c, "type")
            )
            session.listed = bool(session.offered) or not event.whole
            session.offered_at = event.time
        elif not server and event.type == MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS:
            session.attached = session.attached or event
        migration_course.follow(self, session, event)

    def _apply_init(self, connection: Connection, session: Session, event: Message) -> None:
        """Takes what the evidence holds of a session's first INIT."""
        session.init = event
        if event.holds("display_channels_hint"):
            session.displays = int(event.packet.display_channels_hint)
        if event.holds("multi_media_time"):
            session.clock = event.time, int(event.packet.multi_media_time)
        if event.holds("session_id"):
            session.id = int(event.packet.session_id)
            self.hosts[connection.host].ids.add(session.id)
            migration_course.take_id_from_init(self, session)


def _note(connection: Connection, event: ConnectionEvent) -> None:
    """Keeps the events around SPICE: TLS, proxies, failed connections."""
    match event:
        case ConnectFailed():
            connection.failed = event
        case TlsHello():
            connection.hello = event
        case TlsCertificate():
            connection.certificate = event
        case TlsAlert():
            connection.alerts.append(event)
        case ProxyTunnel():
            connection.tunnel = event
        case WrongProtocol():
            connection.wrong = event


def _caps(packet: object) -> tuple[frozenset[int], frozenset[int]]:
    common = getattr(packet, "common_caps", None) or []
    channel = getattr(packet, "channel_caps", None) or []
    return cap_bits(common), cap_bits(channel)


def link_error(event: LinkBytes) -> LinkErr | int:
    """The error of a link reply or result."""
    at = LINK_HEADER_BYTES if event.kind == "reply" else 0
    value = int.from_bytes(event.raw[at : at + 4], "little")
    try:
        return LinkErr(value)
    except ValueError:
        return value
