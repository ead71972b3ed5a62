# SPDX-License-Identifier: GPL-2.0-only
"""The events that the oracle reads.

A live run, a replay, a fuzz campaign and a packet capture all yield the same stream of events, in the
order of their times; the oracle reads nothing else. No Scapy here: a message carries its bytes, and
`Message.packet` builds the Scapy packet at first access.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from dissectors.wire.constants import Side, message_name

if TYPE_CHECKING:
    from scapy.packet import Packet


#: Bodies up to this size (bytes) often repeat; the number of packets of such bodies that are cached.
ALIKE_BYTES, PACKETS_KEPT = 256, 512


class Ending(StrEnum):
    """How a connection ended."""

    CLOSED = "closed"  # FIN: an orderly end
    RESET = "reset"  # RST
    TIMEOUT = "timeout"  # nothing came before the deadline
    DIED = "process died"  # the server process ended (signal or exit)


#: A live peer ended the connection. The kernel sends RST instead of FIN where the peer left bytes unread.
DISCONNECTED = frozenset({Ending.CLOSED, Ending.RESET})


@dataclass(frozen=True)
class Endpoint:
    """An address on the network; `host` is an IP literal or a name, `port` 0..65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


#: Placeholder for a host name that may be a secret.
HIDDEN_HOST = "***"


@dataclass(frozen=True, kw_only=True)
class Event:
    """`time`: seconds (CLOCK_MONOTONIC live, since the epoch in a capture). `frame`: the capture's frame
    number as Wireshark counts (from 1), None where there is no capture."""

    time: float
    frame: int | None = None


def end_of_process(signal: str | None, status: int | None, message: str | None) -> str:
    """How a server's process has ended, in the words of a finding."""
    by = f" by {signal}" if signal else "" if status is None else f" by status {status}"
    return f"it ended{by}: {message or 'no message'}"


@dataclass(frozen=True, kw_only=True)
class ConnectionEvent(Event):
    """An event on one connection; `connection` is a number that is unique in the conversation."""

    connection: int


@dataclass(frozen=True, kw_only=True)
class Opened(ConnectionEvent):
    """A TCP connection. `host` is the label of the server where it is known ("source", "target").

    `midstream`: it began before the capture did. `readable`: False for TLS that cannot be decrypted.
    `via`: what the client asked a proxy for, where `server` is a proxy (secrets masked; see `ProxyTunnel`).
    `origin`: the client that a PROXY protocol header names, where `client` is a proxy.
    """

    client: Endpoint
    server: Endpoint
    tls: bool = False
    host: str | None = None
    midstream: bool = False
    readable: bool = True
    via: str | None = None
    origin: Endpoint | None = None

    @property
    def goal(self) -> Endpoint:
        """The client's destination: the target in its request to a proxy, if known, else `server`."""
        host, _, port = (self.via or "").rpartition(":")
        if not port.isdigit() or host == HIDDEN_HOST:
            return self.server
        return Endpoint(host.strip("[]"), int(port))


@dataclass(frozen=True, kw_only=True)
class LinkBytes(ConnectionEvent):
    """One packet of the link stage, named by its Scapy class (`dissectors.wire.link_packets`).

    `kind`: "mess", "reply", "mechanism", "ticket", "result", "sasl". `raw` is the whole packet;
    of a link message that is not `whole`, the beginning that the capture holds.
    """

    sender: Side
    kind: str
    raw: bytes
    channel: int = 0  # the connection's channel type, once the link message has named it
    whole: bool = True

    @cached_property
    def packet(self) -> Packet:
        """The Scapy packet; malformed bytes give a packet that says so, never an exception. Link messages of
        the same bytes share one: copy it before you change it."""
        from dissectors.wire.link_packets import link_packet

        if self.kind == "mess":
            return _link_message(self.raw, self.channel)
        return link_packet(self.kind, self.raw, self.channel)


@dataclass(frozen=True, kw_only=True)
class Message(ConnectionEvent):
    """One message of the data stage (the header is not part of `body`).

    `size` is the header's; `body` is shorter only where a capture lost or cut bytes (`whole`): it ends there.
    `serial` is None with mini headers. `sub_list` is the full header's offset (0: none); `packet` is what
    comes before the sub-messages. `carrier`: bytes behind the body that `size` does not count; descriptors
    travel beside them.
    """

    sender: Side
    channel: int
    type: int
    body: bytes
    size: int
    serial: int | None = None
    sub_list: int = 0
    whole: bool = True
    carrier: int = 0

    @property
    def name(self) -> str:
        """The enum's name, such as `SPICE_MSG_MAIN_INIT`."""
        return message_name(self.channel, self.sender, self.type)

    def holds(self, field: str) -> bool:
        """Whether the evidence holds this field of `packet`; else Scapy gives its default."""
        return self.whole or field in self.packet.fields

    @cached_property
    def packet(self) -> Packet:
        """The Scapy packet; malformed bytes give a packet that says so, never an exception. Small messages of
        the same bytes share one: copy it before you change it."""
        build = _packet if len(self.body) > ALIKE_BYTES else _shared_packet
        return build(self.channel, self.sender, self.type, self.body, self.sub_list)


def _packet(channel: int, sender: Side, kind: int, body: bytes, sub_list: int) -> Packet:
    """See `Message.packet`."""
    from dissectors.channels.message_classes import decode
    from dissectors.wire.data_header import own_part

    return decode(channel, sender, kind, own_part(body, sub_list))


_shared_packet = lru_cache(PACKETS_KEPT)(_packet)


@lru_cache(PACKETS_KEPT)
def _link_message(raw: bytes, channel: int) -> Packet:
    """See `LinkBytes.packet`."""
    from dissectors.wire.link_packets import link_packet

    return link_packet("mess", raw, channel)


@dataclass(frozen=True, kw_only=True)
class Quiet(ConnectionEvent):
    """`count` messages of `bytes` bytes that no rule needs in the connection's present state.

    `serial`: of the last one, None with mini headers. Their serials go up by one, from that of the message
    before them.
    """

    sender: Side
    count: int
    bytes: int
    serial: int | None = None


@dataclass(frozen=True, kw_only=True)
class Gap(ConnectionEvent):
    """`bytes` bytes of one direction are missing (None: unknown how many).

    `cut`: the packet is there, but the capture kept only its beginning (snap length). `inside`: it lies
    inside one message whose header was seen, so that no message is missing.
    """

    sender: Side
    bytes: int | None
    cut: bool = False
    inside: bool = False


@dataclass(frozen=True, kw_only=True)
class Garbage(ConnectionEvent):
    """Bytes that are no SPICE where SPICE was due; `reason` is one line."""

    sender: Side
    raw: bytes
    reason: str


@dataclass(frozen=True, kw_only=True)
class Closed(ConnectionEvent):
    """The end of a connection. `by` is who ended it, None if unknown."""

    how: Ending
    by: Side | None = None


class AttemptFailure(StrEnum):
    """Why a connection attempt came to nothing."""

    REFUSED = "refused"  # RST: nobody listens there, or a firewall refuses
    PROHIBITED = "prohibited"  # ICMP: a firewall or router does not let it pass
    UNREACHABLE = "unreachable"  # ICMP: no way to that network, host or port
    UNANSWERED = "not answered"  # SYNs without any answer
    WORDLESS = "closed without a word"  # the server accepted it and closed it; nobody sent a byte
    OTHER = "another protocol"  # the server spoke first, in another protocol, and the client left


@dataclass(frozen=True, kw_only=True)
class ConnectFailed(ConnectionEvent):
    """A failed TCP connection attempt. No `Opened` comes before it.

    `time` and `frame` are those of the packet that proves it: RST, ICMP, FIN, or the last SYN where nothing
    answered. `why`: one line, such as "ICMP: communication administratively prohibited, from
    192.0.2.1". `first` and `last`: times of the first and the last SYN, `first_frame` the frame of the first.
    `until`: nothing answered until this time (seconds since the epoch); a short wait proves little.
    """

    client: Endpoint
    server: Endpoint
    how: AttemptFailure
    why: str
    attempts: int
    first: float
    last: float
    until: float
    first_frame: int | None = None


@dataclass(frozen=True, kw_only=True)
class TlsHello(ConnectionEvent):
    """The ClientHello: the server name it asks for (SNI) and its ALPN protocols."""

    server_name: str | None
    protocols: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TlsCertificate(ConnectionEvent):
    """The certificate that the server presented (its own, not those of its issuers).

    In TLS 1.2 it is in clear; in TLS 1.3 it needs the connection's secrets. `subject` and `issuer` as SPICE
    writes them, such as "C=IL,O=example,CN=host" (in the order in which the certificate has them).
    `names`: subjectAltName. `not_before` and `not_after`: seconds since the epoch.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: float
    not_after: float


@dataclass(frozen=True, kw_only=True)
class TlsAlert(ConnectionEvent):
    """A TLS alert but close_notify.

    `name`: of RFC 8446, 6, such as "bad_certificate"; None, as `number`, where it is encrypted and cannot be
    read. `fatal`: it ends the connection. `finished`: the sender's handshake was over, as far as can be seen.
    """

    sender: Side
    name: str | None
    number: int | None
    fatal: bool
    finished: bool = False


@dataclass(frozen=True, kw_only=True)
class ProxyTunnel(ConnectionEvent):
    """The client asks a proxy for a tunnel; what follows on the connection is what the tunnel carries.

    `protocol`: "HTTP CONNECT", "SOCKS4", "SOCKS4a" or "SOCKS5". `target`: "host:port" as in the request,
    a possible ticket masked (None: the request stops before it). `answer`: the proxy's answer in words,
    such as "407 Proxy Authentication Required" or "host unreachable"; None: it does not answer.
    `refused`: the answer is a refusal.
    """

    protocol: str
    target: str | None
    answer: str | None
    refused: bool


@dataclass(frozen=True, kw_only=True)
class ProxyHeader(ConnectionEvent):
    """A PROXY protocol header (`version` 1 or 2) before everything else: who is behind the proxy.

    None: the header has no addresses (UNKNOWN, LOCAL, a Unix socket).
    """

    version: int
    source: Endpoint | None
    destination: Endpoint | None


@dataclass(frozen=True, kw_only=True)
class WrongProtocol(ConnectionEvent):
    """The two ends of a connection speak different protocols, and one of them speaks SPICE or TLS.

    Each is a name such as "SPICE", "TLS", "HTTP", "VNC", "SSH" or "unknown"; None: that end sends nothing.
    `time` and `frame` are those of the bytes that do not fit.
    """

    client_speaks: str | None
    server_speaks: str | None


#: The name of the host event in which a test records its own judgement of a requirement. Its arguments:
#: `requirement`, `kept`, `expected`, `seen`, `connection`, `about` (the label of the host that it concerns).
CLAIM = "claim"


@dataclass(frozen=True, kw_only=True)
class HostEvent(Event):
    """An event on the host (the process that acts as hypervisor): a call, a callback, a log line, its end.

    `host`: its label ("source", "target"). `name`: a call as `call:<function>`, its return as
    `return:<function>`, a callback by its own name (`migrate_connect_complete`), `timer_start`, `log`,
    `died`, `exited`, `hung`. `args`: JSON-able. `clock_ms`: the host's own clock (virtual or real),
    milliseconds since its start.
    """

    host: str
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    clock_ms: float | None = None
