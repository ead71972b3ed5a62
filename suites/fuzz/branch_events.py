# SPDX-License-Identifier: GPL-2.0-only
"""Clients inside a branch: their connections, and the events in what the branch reports of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from dissectors.framing.events import Closed, Ending, Endpoint, Event, LinkBytes, Message, Opened
from dissectors.wire.constants import Side

_SENDERS = {"client": Side.CLIENT, "server": Side.SERVER}


@dataclass
class BranchConnection:
    """A client's connection inside a branch. `last`: the latest message of each type."""

    number: int
    channel: int
    ending: str | None = None
    last: dict[int, Message] = field(default_factory=dict)

    @property
    def wanted(self) -> Any:
        """As in `fixtures.peer.Connection`."""
        return SimpleNamespace(channel=self.channel)

    def got(self, *types: int) -> list[Message]:
        """The latest message of each of these types."""
        return [self.last[kind] for kind in types if kind in self.last]


def client_event(
    connection: BranchConnection, label: str, server: Endpoint, time: float, kind: str, *more: Any
) -> Event:
    """The event in one `client` line of a branch (`fixtures.library.host.inner_clients` lists them); updates
    the connection. `label`, `server`: the host and its address."""
    number = connection.number
    if kind == "open":
        client = Endpoint("127.0.0.1", number)
        return Opened(time=time, connection=number, client=client, server=server, host=label)
    if kind == "end":
        connection.ending = str(Ending(more[1]))
        return Closed(time=time, connection=number, how=Ending(more[1]), by=_SENDERS[more[0]])
    sender = _SENDERS[more[0]]
    if kind == "link":
        raw, channel = bytes.fromhex(more[2]), connection.channel
        return LinkBytes(time=time, connection=number, sender=sender, kind=more[1], raw=raw, channel=channel)
    of_type, size, serial, sub_list, body = more[1:]
    message = Message(
        time=time,
        connection=number,
        sender=sender,
        channel=connection.channel,
        type=of_type,
        body=bytes.fromhex(body).ljust(size, b"\0"),
        size=size,
        serial=serial,
        sub_list=sub_list,
    )
    if sender is Side.SERVER:
        connection.last[of_type] = message
    return message
