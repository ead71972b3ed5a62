# SPDX-License-Identifier: GPL-2.0-only
"""A script: the hosts that a replay needs, and the acts of client and hypervisor there, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dissectors.framing.events import Closed, Event
from suites.replay.spoken import SpokenMessage

#: What an actor had received: (connection, message name) or (host, callback) -> how many times.
Seen = Mapping[tuple[int | str, str], int]


@dataclass(frozen=True)
class Open:
    """A client connects, and links as far as in the recording (`mess`: its link message, with the recorded
    id)."""

    connection: int
    host: str
    channel: int
    channel_id: int
    tls: bool
    mess: bytes
    common: frozenset[int]
    ticket: bool  # it went on to the ticket
    denied: bool  # which was wrong


@dataclass(frozen=True)
class Say:
    """A client sends a message. `relayed`: its body is the one that the source's channel has sent."""

    connection: int
    type: int
    body: bytes
    relayed: int | None = None


@dataclass(frozen=True)
class Leave:
    """A client ends a connection."""

    connection: int
    closed: Closed


@dataclass(frozen=True)
class Announce:
    """The hypervisor announces a migration to `target`; `arguments`: those besides the address."""

    host: str
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Complete:
    """The hypervisor moves the machine, or fails to; `moved`: the move had begun."""

    host: str
    target: str
    succeeded: bool = True
    moved: bool = True


@dataclass(frozen=True)
class Calls:
    """One call as recorded."""

    host: str
    function: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Advance:
    """The host's virtual clock moves on."""

    host: str
    ms: int


Action = Open | Say | Leave | Announce | Complete | Calls | Advance


@dataclass(frozen=True)
class ScriptServer:
    """A host that the script needs."""

    label: str
    tls: bool
    ticket: bool
    settings: Mapping[str, Any]


@dataclass
class Script:
    """`actions`: each with what its actor had received. `sessions`: main connection -> id in its INIT.

    `spoken`: each server's messages by connection, in the compared form. `notes`: remarks for the reader.
    `events`: the recording itself, without large bodies."""

    servers: list[ScriptServer]
    actions: list[tuple[Action, Seen]]
    sessions: Mapping[int, int]
    spoken: Mapping[int, list[SpokenMessage]]
    names: Mapping[int, str]
    notes: list[str]
    host_calls: str
    events: list[Event] = field(default_factory=list)
