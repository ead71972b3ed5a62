# SPDX-License-Identifier: GPL-2.0-only
"""Who takes part in a conversation: connections, sessions, hosts, and the migrations between them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dissectors.conversation.order_tables import State
from dissectors.framing.events import (
    Closed,
    ConnectFailed,
    Endpoint,
    HostEvent,
    LinkBytes,
    Message,
    Opened,
    ProxyHeader,
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
    left: State | None = None  # the state that a breach has left: it stands there or in `state`
    late: dict[Side, frozenset[int]] = field(  # types that may still come after a breach
        default_factory=lambda: {Side.CLIENT: frozenset(), Side.SERVER: frozenset()}
    )
    session: Session | None = None
    arrives: bool = False  # its first message that is seen is one to a target
    certain: bool = True  # nothing of it is missing so far
    migrate: Message | None = None  # SPICE_MSG_MIGRATE
    serials: dict[Side, int | None] = field(default_factory=lambda: {Side.CLIENT: None, Side.SERVER: None})
    shown: Counter[tuple[Side, int]] = field(default_factory=Counter)  # messages, by sender and type
    familiar: dict[Side, frozenset[int]] = field(  # types of which enough messages have been shown
        default_factory=lambda: {Side.CLIENT: frozenset(), Side.SERVER: frozenset()}
    )
    heard: set[Side] = field(default_factory=set)  # who has said anything that is in the evidence
    messages: dict[Side, int] = field(default_factory=lambda: {Side.CLIENT: 0, Side.SERVER: 0})
    beside: Message | None = None  # its server's first one, while another link to the channel was open
    said: set[int] = field(default_factory=set)  # message types that the client has sent
    pings: deque[bytes] = field(default_factory=lambda: deque(maxlen=64))  # id and timestamp, the last ones
    unanswered: Message | None = None  # the oldest PING without a PONG, with no more than id and timestamp
    # Answers to what was not seen: where a capture lost a part of a PING, it is whole only after its PONG.
    strange: deque[Message] = field(default_factory=lambda: deque(maxlen=16))
    generations: deque[bytes] = field(default_factory=lambda: deque(maxlen=8))  # of SET_ACK, the last ones
    window: int | None = None  # of the latest SET_ACK: messages for which the server wants an ACK
    unacked: int = 0  # the server's messages since then, less the windows that were acknowledged
    last: dict[Side, Message | None] = field(default_factory=lambda: {Side.CLIENT: None, Side.SERVER: None})
    failed: ConnectFailed | None = None  # the attempt came to nothing: there is no `opened`
    hello: TlsHello | None = None
    certificate: TlsCertificate | None = None
    alerts: list[TlsAlert] = field(default_factory=list)
    tunnel: ProxyTunnel | None = None
    proxied: ProxyHeader | None = None
    wrong: WrongProtocol | None = None
    beyond: Connection | None = None  # its second leg: a proxy passes it on, and both are in the evidence

    def forget_packets(self) -> None:
        """Gives back the packets that were built of its link stage; they are built again where one is asked
        for. Connections that are over must cost little: there may be many."""
        for part in (self.mess, self.reply, self.mechanism, self.ticket, self.result, *self.last.values()):
            if part is not None:
                part.__dict__.pop("packet", None)

    @property
    def is_main(self) -> bool:
        """A main channel."""
        return self.channel == MAIN

    @property
    def linked(self) -> bool:
        """The link stage ended well."""
        return self.result is not None and self.result.raw == b"\0\0\0\0"

    @property
    def linked_whole(self) -> bool:
        """All of the link stage is known."""
        return self.mess is not None and self.result is not None

    @property
    def refusal(self) -> LinkBytes | None:
        """The link reply or result that says no."""
        for part, at in ((self.reply, LINK_HEADER_BYTES), (self.result, 0)):
            if part is not None and any(part.raw[at : at + 4]):
                return part
        return None

    @property
    def server(self) -> Endpoint | None:
        """Where the client went."""
        known = self.opened or self.failed
        return known.server if known is not None else None

    @property
    def places(self) -> tuple[Endpoint, ...]:
        """Where it leads: the address that the client went to, and what lies behind that."""
        beyond = self.beyond.server if self.beyond is not None else None
        goal = self.opened.goal if self.opened is not None else None
        return tuple(dict.fromkeys(place for place in (self.server, goal, beyond) if place is not None))

    @property
    def client(self) -> Endpoint | None:
        """Where the client came from."""
        known = self.opened or self.failed
        return known.client if known is not None else None

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
    replaces: Session | None = None  # still open on this host when this one came
    init: Message | None = None
    agent_data: Message | None = None  # the first that the client sent to the agent
    agent: bool | None = None  # whether the guest's agent is there, as the server has said
    agent_news: float = 0.0  # when it said so
    started: bool = False  # the client has said AGENT_START
    tokens: int | None = None  # that the client has for the agent; None: unknown
    used: int = 0  # tokens that the client has used and not got back
    displays: int | None = None  # INIT's display_channels_hint
    clock: tuple[float, int] | None = None  # when the server last told the multimedia time, and which (ms)

    def connections(self) -> Iterator[Connection]:
        """Main first."""
        yield self.main
        yield from self.channels

    def links_to(self, channel: Connection) -> list[Connection]:
        """Every link that there was to a connection's channel, in their order; without its link message
        nobody knows which of several it is."""
        key = channel.channel, channel.channel_id
        known = [c for c in self.channels if c.mess is not None and (c.channel, c.channel_id) == key]
        return known if channel.mess is not None else [channel]

    def take_over(self, source: Session) -> None:
        """What a seamless migration brings along: the agent and its tokens."""
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
    version: int | None = None  # src_mig_version
    target: Session | None = None
    answer: Message | None = None  # the client's CONNECTED, CONNECTED_SEAMLESS or CONNECT_ERROR
    ended: Message | None = None  # MIGRATE_END, SWITCH_HOST, MIGRATE_CANCEL or main's MIGRATE
    data: dict[tuple[int, int], bytes] = field(default_factory=dict)  # MIGRATE_DATA by channel
    steps: list[Message] = field(default_factory=list)
    begun: float = 0.0  # time (s) of the first that is seen of it

    def send_to(self, packet: Any) -> None:
        """Takes host, ports and certificate subject from an announcement's packet."""
        self.host = (packet.host or b"").decode("utf-8", "replace") or None
        self.port, self.tls_port = int(packet.port), int(packet.sport)
        self.subject = packet.cert_subject

    @property
    def ports(self) -> frozenset[int]:
        """The announced ports; those that are left out (0, or 65535 on the wire) are not among them."""
        return frozenset({self.port, self.tls_port}) - {0, 0xFFFF}


@dataclass(eq=False)
class Server:
    """One host: its label where known, the addresses that lead to it, what its hypervisor did."""

    label: str | None
    endpoints: set[Endpoint] = field(default_factory=set)
    has_main: bool = False  # main channels go to it
    ids: set[int] = field(default_factory=set)  # session ids it has given out or taken over
    settings: dict[str, object] = field(default_factory=dict)  # of the `configured` event
    calls: list[HostEvent] = field(default_factory=list)
    died: HostEvent | None = None
