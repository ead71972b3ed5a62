# SPDX-License-Identifier: GPL-2.0-only
"""The parties of a conversation: connections, sessions, hosts, and the migrations between them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from dissectors.conversation.connection_states import State
from dissectors.framing.events import (
    Closed,
    ConnectFailed,
    Endpoint,
    HostEvent,
    LinkBytes,
    Message,
    Opened,
    ProxyTunnel,
    TlsAlert,
    TlsCertificate,
    TlsHello,
    WrongProtocol,
)
from dissectors.wire.constants import LINK_HEADER_BYTES, ChannelType, Side

MAIN = ChannelType.SPICE_CHANNEL_MAIN


@dataclass(eq=False)
class Connection:
    """One connection and its state."""

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
    left: State | None = None  # the state before a breach: the true state is this one or `state`
    late: dict[Side, frozenset[int]] = field(  # types that may still come after a breach
        default_factory=lambda: {Side.CLIENT: frozenset(), Side.SERVER: frozenset()}
    )
    session: Session | None = None
    arrives: bool = False  # its first message in the capture is one to a target
    certain: bool = True  # nothing of it is missing so far
    migrate: Message | None = None  # SPICE_MSG_MIGRATE
    serials: dict[Side, int | None] = field(default_factory=lambda: {Side.CLIENT: None, Side.SERVER: None})
    shown: Counter[tuple[Side, int]] = field(default_factory=Counter)  # messages, by sender and type
    familiar: dict[Side, frozenset[int]] = field(  # types of which enough messages have been shown
        default_factory=lambda: {Side.CLIENT: frozenset(), Side.SERVER: frozenset()}
    )
    heard: set[Side] = field(default_factory=set)  # the sides with any bytes in the evidence
    messages: dict[Side, int] = field(default_factory=lambda: {Side.CLIENT: 0, Side.SERVER: 0})
    beside: Message | None = None  # the server's first message, while another link to the channel was open
    said: set[int] = field(default_factory=set)  # message types that the client has sent
    pings: deque[bytes] = field(default_factory=lambda: deque(maxlen=64))  # id and timestamp, the last ones
    # PINGs without a PONG, oldest first, with id and timestamp only; and the first that was passed over.
    unanswered: deque[Message] = field(default_factory=lambda: deque(maxlen=64))
    passed_over: Message | None = None
    unsynced: Message | None = None  # the oldest SET_ACK without an ACK_SYNC
    # Answers without a seen question. Where a capture lost a part of a PING, its PONG may come before it.
    strange: deque[Message] = field(default_factory=lambda: deque(maxlen=16))
    generations: deque[bytes] = field(default_factory=lambda: deque(maxlen=8))  # of SET_ACK, the last ones
    window: int | None = None  # of the latest SET_ACK: messages for which the server wants an ACK
    unacked: int = 0  # the server's messages since then, less the windows that were acknowledged
    last: dict[Side, Message | None] = field(default_factory=lambda: {Side.CLIENT: None, Side.SERVER: None})
    failed: ConnectFailed | None = None  # the connection attempt failed: there is no `opened`
    hello: TlsHello | None = None
    certificate: TlsCertificate | None = None
    alerts: list[TlsAlert] = field(default_factory=list)
    tunnel: ProxyTunnel | None = None
    wrong: WrongProtocol | None = None
    beyond: Connection | None = None  # its second leg: a proxy passes it on, and both are in the evidence

    def forget_packets(self) -> None:
        """Frees the packets that were built from its link stage; they are built again on access. Closed
        connections must cost little memory: there may be many."""
        for part in (self.mess, self.reply, self.mechanism, self.ticket, self.result, *self.last.values()):
            if part is not None:
                part.__dict__.pop("packet", None)

    @property
    def is_main(self) -> bool:
        """Whether this is a main channel."""
        return self.channel == MAIN

    @property
    def linked(self) -> bool:
        """Whether the link stage ended with SPICE_LINK_ERR_OK."""
        return self.result is not None and self.result.raw == b"\0\0\0\0"

    @property
    def linked_whole(self) -> bool:
        """Whether the evidence holds the whole link stage."""
        return self.mess is not None and self.result is not None

    @property
    def refusal(self) -> LinkBytes | None:
        """The link reply or result that refused the link; None if there is none."""
        for part, at in ((self.reply, LINK_HEADER_BYTES), (self.result, 0)):
            if part is not None and any(part.raw[at : at + 4]):
                return part
        return None

    @property
    def server(self) -> Endpoint | None:
        """The address that the client connected to."""
        known = self.opened or self.failed
        return known.server if known is not None else None

    @property
    def places(self) -> tuple[Endpoint, ...]:
        """The address that the client connected to, and the addresses behind it (a proxy's target)."""
        beyond = self.beyond.server if self.beyond is not None else None
        goal = self.opened.goal if self.opened is not None else None
        return tuple(dict.fromkeys(place for place in (self.server, goal, beyond) if place is not None))

    @property
    def client(self) -> Endpoint | None:
        """The client's address."""
        known = self.opened or self.failed
        return known.client if known is not None else None

    @property
    def as_target(self) -> bool:
        """Whether it requests, or belongs to, the target's part of a migration."""
        return self.is_main and self.connection_id != 0


@dataclass(eq=False)
class Session:
    """One client on one host: a main connection and the channels that name its id."""

    host: int
    id: int | None
    main: Connection
    channels: list[Connection] = field(default_factory=list)
    migration: Migration | None = None  # the latest one in which it is the source
    arrived: Migration | None = None  # the one in which it is the target
    offered: frozenset[tuple[int, int]] = frozenset()  # CHANNELS_LIST
    offered_at: float = 0.0  # time (s) of the latest CHANNELS_LIST
    attached: Message | None = None  # the client's first ATTACH_CHANNELS
    listed: bool = False  # CHANNELS_LIST has named a channel, or the evidence holds only a part of it
    replaces: Session | None = None  # sessions that were still open on this host when this one began
    init: Message | None = None
    agent_data: Message | None = None  # the client's first AGENT_DATA
    agent: bool | None = None  # whether the guest's agent is connected, by the server's messages
    agent_news: float = 0.0  # time (s) of that message
    started: bool = False  # the client has sent AGENT_START
    tokens: int | None = None  # the client's tokens for the agent; None: unknown
    used: int = 0  # tokens that the client has used and that the server has not returned
    displays: int | None = None  # INIT's display_channels_hint
    fewer: bool = False  # CHANNELS_LIST names more displays
    clock: tuple[float, int] | None = None  # the latest multimedia time: (event's s, its ms)

    def connections(self) -> Iterator[Connection]:
        """All connections of the session, main first."""
        yield self.main
        yield from self.channels

    def links_to(self, channel: Connection) -> list[Connection]:
        """All links to a connection's channel, in their order. Without the link message one of several cannot
        be identified."""
        key = channel.channel, channel.channel_id
        known = [c for c in self.channels if c.mess is not None and (c.channel, c.channel_id) == key]
        return known if channel.mess is not None else [channel]

    def take_over(self, source: Session) -> None:
        """Takes over the state that a seamless migration carries: the agent and its tokens."""
        if self.agent is None:
            self.agent, self.agent_news = source.agent, source.agent_news
        self.started = self.started or source.started
        if source.tokens is not None:
            self.tokens = max(self.tokens or 0, source.tokens)
            self.used += source.used


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
    known: bool = True  # whether the evidence holds all of the announced address
    version: int | None = None  # src_mig_version
    target: Session | None = None
    answer: Message | None = None  # the client's CONNECTED, CONNECTED_SEAMLESS or CONNECT_ERROR
    ended: Message | None = None  # MIGRATE_END, SWITCH_HOST, MIGRATE_CANCEL or main's MIGRATE
    data: dict[tuple[int, int], bytes] = field(default_factory=dict)  # MIGRATE_DATA by channel
    steps: list[Message] = field(default_factory=list)
    begun: float = 0.0  # time (s) of its first event in the evidence
    misnamed: list[LinkBytes] = field(default_factory=list)  # links to the target with another session's id

    def send_to(self, event: Message) -> None:
        """Takes an announcement's host, ports and certificate subject, as far as the evidence holds them."""
        packet, self.known = event.packet, event.whole
        self.port = int(packet.port) if event.holds("port") else 0
        self.tls_port = int(packet.sport) if event.holds("sport") else 0
        if event.whole:
            self.host = (packet.host or b"").decode("utf-8", "replace") or None
            self.subject = packet.cert_subject

    @property
    def ports(self) -> frozenset[int]:
        """The announced ports without those left out (0, or 65535 on the wire)."""
        return frozenset({self.port, self.tls_port}) - {0, 0xFFFF}


@dataclass(eq=False)
class Server:
    """One host: its label if known, the addresses that lead to it, its hypervisor's calls."""

    label: str | None
    endpoints: set[Endpoint] = field(default_factory=set)
    has_main: bool = False  # addresses of its main channels
    ids: set[int] = field(default_factory=set)  # session ids it has given out or taken over
    settings: dict[str, object] = field(default_factory=dict)  # of the `configured` event
    calls: list[HostEvent] = field(default_factory=list)
    died: HostEvent | None = None
