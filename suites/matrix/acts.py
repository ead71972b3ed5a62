# SPDX-License-Identifier: GPL-2.0-only
"""The alphabet of the matrix: the acts of a client or a hypervisor, as data.

The way into a place is a sequence of acts; a cell is one more act.

An act is no move of `suites.fuzz.moves`: it happens at the one host of its place, may have any body and any
arguments, and its text names a cell. A move names its host, and JSON holds it, so that a campaign can shorten
and replay it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dissectors.wire.constants import ChannelType, Side, channel_name, message_name

MAIN = int(ChannelType.SPICE_CHANNEL_MAIN)


class LinkId(StrEnum):
    """The connection_id that a link names."""

    ZERO = "zero"
    OWN = "own"  # of the client's session
    GIVEN = "given"  # of a session at a source, which a target does not know yet
    STALE = "stale"  # of a session of this host that has ended
    OTHER = "other"  # of another client's session
    WRONG = "wrong"  # nobody's


class LeaveHow(StrEnum):
    """How a client leaves."""

    CLOSE = "close"
    RESET = "reset"
    HALF_CLOSE = "half-close"
    DISCONNECTING = "SPICE_MSGC_DISCONNECTING, then close"


@dataclass(frozen=True)
class SendAct:
    """A client sends a message; `body`: None for the body that a correct client would send."""

    channel: int
    type: int
    body: bytes | None = None
    client: int = 1

    def __str__(self) -> str:
        return message_name(self.channel, Side.CLIENT, self.type)


@dataclass(frozen=True)
class LinkAct:
    """A client opens a channel."""

    channel: int
    id: LinkId = LinkId.ZERO
    client: int = 1

    def __str__(self) -> str:
        return f"link {channel_name(self.channel)}, id {self.id}"


@dataclass(frozen=True)
class LeaveAct:
    """A client ends a connection."""

    channel: int
    how: LeaveHow = LeaveHow.CLOSE
    client: int = 1

    def __str__(self) -> str:
        return str(self.how)


@dataclass(frozen=True)
class CallAct:
    """The hypervisor or the guest does something (`fixtures.library.host.calls`)."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = ", ".join(
            str(value)
            for name, value in self.args.items()
            if not isinstance(value, str) or name in ("kind", "channel")
        )
        return f"{self.name}({shown})"

    def __hash__(self) -> int:
        return hash((self.name, *self.args.items()))


@dataclass(frozen=True)
class PassAct:
    """Time passes, ms on the virtual clock."""

    ms: int

    def __str__(self) -> str:
        return f"{self.ms} ms pass"


Act = SendAct | LinkAct | LeaveAct | CallAct | PassAct
