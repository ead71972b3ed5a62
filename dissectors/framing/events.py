# SPDX-License-Identifier: GPL-2.0-only
"""The one kind of thing that everything becomes: an event.

A live run, a replay, a fuzz campaign and a packet capture all yield the same stream of events, in the
order of their times; the oracle reads nothing else. No Scapy here: a message carries its bytes, and
`Message.packet` builds the Scapy packet only when somebody looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dissectors.wire.constants import Side, message_name

if TYPE_CHECKING:
    from scapy.packet import Packet


class Ending(StrEnum):
    """How a connection ended: a value of its own."""

    CLOSED = "closed"  # FIN: an orderly end
    RESET = "reset"  # RST
    TIMEOUT = "timeout"  # nothing came before the deadline
    DIED = "process died"  # the server process ended (signal or exit)


@dataclass(frozen=True)
class Endpoint:
    """An address on the network; `host` is an IP literal or a name, `port` 0..65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Event:
    """`time`: seconds (CLOCK_MONOTONIC live, since the epoch in a capture). `frame`: the capture's frame
    number as Wireshark counts (from 1), None where there is no capture."""

    time: float
    frame: int | None = None


@dataclass(frozen=True, kw_only=True)
class ConnectionEvent(Event):
    """Something on one connection; `connection` is a number that is unique in the conversation."""

    connection: int


@dataclass(frozen=True, kw_only=True)
class Opened(ConnectionEvent):
    """A TCP connection. `host` is the label of the server where it is known ("source", "target").

    `midstream`: it began before the capture did.
    """

    client: Endpoint
    server: Endpoint
    tls: bool = False
    host: str | None = None
    midstream: bool = False


@dataclass(frozen=True, kw_only=True)
class LinkBytes(ConnectionEvent):
    """One packet of the link stage, named by its Scapy class (`dissectors.wire.link_packets`).

    `kind`: "mess", "reply", "mechanism", "ticket", "result", "sasl". `raw` is the whole packet.
    """

    sender: Side
    kind: str
    raw: bytes
    channel: int = 0  # the connection's channel type, once the link message has said it

    @cached_property
    def packet(self) -> Packet:
        """The Scapy packet; malformed bytes give a packet that says so, never an exception."""
        from dissectors.wire.link_packets import link_packet

        return link_packet(self.kind, self.raw, self.channel)


@dataclass(frozen=True, kw_only=True)
class Message(ConnectionEvent):
    """One message of the data stage (the header is not part of `body`).

    `size` is what the header says; `body` is shorter only where a capture lost or cut bytes (`whole`).
    `serial` is None with mini headers. `sub_list` is the full header's offset (0: none); `packet` is what
    comes before the sub-messages.
    """

    sender: Side
    channel: int
    type: int
    body: bytes
    size: int
    serial: int | None = None
    sub_list: int = 0
    whole: bool = True

    @property
    def name(self) -> str:
        """The enum's name, such as `SPICE_MSG_MAIN_INIT`."""
        return message_name(self.channel, self.sender, self.type)

    @cached_property
    def packet(self) -> Packet:
        """The Scapy packet; malformed bytes give a packet that says so, never an exception."""
        from dissectors.wire.data_header import own_part
        from dissectors.wire.message import decode

        return decode(self.channel, self.sender, self.type, own_part(self.body, self.sub_list))


@dataclass(frozen=True, kw_only=True)
class Quiet(ConnectionEvent):
    """`count` messages of `bytes` bytes that no rule asks about in the connection's present state."""

    sender: Side
    count: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Gap(ConnectionEvent):
    """`bytes` bytes of one direction are missing (None: unknown how many)."""

    sender: Side
    bytes: int | None


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


@dataclass(frozen=True, kw_only=True)
class HostEvent(Event):
    """Something on the host (what plays the hypervisor): a call, a callback, a log line, its death.

    `host`: its label ("source", "target"). `name`: a call as `call:<function>`, its return as
    `return:<function>`, a callback by its own name (`migrate_connect_complete`), `timer_start`, `log`,
    `died`, `exited`, `hung`. `args`: JSON-able. `clock_ms`: the host's own clock (virtual or real),
    milliseconds since its start.
    """

    host: str
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    clock_ms: float | None = None
