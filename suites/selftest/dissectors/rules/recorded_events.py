# SPDX-License-Identifier: GPL-2.0-only
"""The project's recordings as events, and changes to them: other messages, other places on the network."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache

from dissectors.capture.reader import events
from dissectors.framing.events import ConnectionEvent, Endpoint, Event, HostEvent, LinkBytes, Message, Opened
from dissectors.rules.oracle import Oracle
from fixtures.captures import DIRECTORY

Events = tuple[Event, ...]
ANNOUNCING = ("MIGRATE_BEGIN", "MIGRATE_BEGIN_SEAMLESS", "MIGRATE_SWITCH_HOST")
ID = slice(16, 20)  # connection_id in a link message


@cache
def recording(name: str) -> Events:
    return tuple(e for e in events([DIRECTORY / f"{name}.pcapng.gz"]) if not isinstance(e, HostEvent))


def broken(every: Iterable[Event]) -> set[str]:
    """The ids of all requirements that these events break, in the order of their times."""
    oracle = Oracle()
    for event in sorted(every, key=lambda event: event.time):
        oracle.observe(event)
    return set(oracle.close().broken)


def at(every: Sequence[Event], name: str, connection: int | None = None, number: int = 0) -> int:
    """The index of a message (its name without SPICE_MSG_ or SPICE_MSGC_) or of a link packet."""
    found = [
        index
        for index, event in enumerate(every)
        if isinstance(event, Message | LinkBytes)
        and connection in (None, event.connection)
        and name == (short(event) if isinstance(event, Message) else event.kind)
    ]
    return found[number]


def short(message: Message) -> str:
    return message.name.removeprefix("SPICE_MSG_").removeprefix("SPICE_MSGC_").removeprefix("MAIN_")


def message(every: Sequence[Event], name: str, connection: int | None = None, number: int = 0) -> Message:
    event = every[at(every, name, connection, number)]
    assert isinstance(event, Message)
    return event


def without(every: Events, index: int) -> Events:
    return every[:index] + every[index + 1 :]


def changed(every: Events, index: int, place: int, value: int) -> Events:
    """Another byte at this place of a message's body, or of a link packet."""
    event = every[index]
    assert isinstance(event, Message | LinkBytes)
    data = bytearray(event.body if isinstance(event, Message) else event.raw)
    data[place] = value
    if isinstance(event, Message):
        return (*every[:index], replace(event, body=bytes(data)), *every[index + 1 :])
    return (*every[:index], replace(event, raw=bytes(data)), *every[index + 1 :])


def delayed(every: Events, seconds: float, which: Callable[[Event], bool]) -> Events:
    return tuple(replace(e, time=e.time + seconds) if which(e) else e for e in every)


def of_source(every: Events) -> frozenset[int]:
    """The connections to the host that was connected to first."""
    opened = [event for event in every if isinstance(event, Opened)]
    return frozenset(event.connection for event in opened if event.server == opened[0].server)


def placed(
    every: Events,
    source: Endpoint,
    target: Endpoint,
    client: str,
    *,
    base: int = 0,
    begin: float = 0.0,
    session: bytes | None = None,
    name: str | None = None,
) -> Events:
    """The same conversation on other machines: their addresses, the announced address (or `name`), the
    connections' numbers (from `base`), the time at which it begins (s), the source's session id."""
    here, zero = of_source(every), every[0].time
    known = message(every, "INIT").body[:4]
    result: list[Event] = []
    for event in every:
        event = replace(event, time=event.time - zero + begin)
        if isinstance(event, Opened):
            server = source if event.connection in here else target
            event = replace(event, server=server, client=Endpoint(client, event.client.port))
        elif isinstance(event, Message) and short(event) in ANNOUNCING:
            event = _announcing(event, name or target.host, target.port)
        elif isinstance(event, Message) and short(event) == "INIT" and session and event.body[:4] == known:
            event = replace(event, body=session + event.body[4:])
        elif isinstance(event, LinkBytes) and event.kind == "mess" and session and event.raw[ID] == known:
            event = replace(event, raw=event.raw[: ID.start] + session + event.raw[ID.stop :])
        if isinstance(event, ConnectionEvent):
            event = replace(event, connection=event.connection + base)
        result.append(event)
    return tuple(result)


def _announcing(event: Message, host: str, port: int) -> Message:
    """The announcement of another address, without TLS and certificate subject."""
    text = host.encode() + b"\0"
    offset = struct.unpack_from("<I", event.body, 8)[0]
    head = bytearray(event.body[:offset])
    struct.pack_into("<HHIIII", head, 0, port, 0, len(text), offset, 0, 0)
    body = bytes(head) + text
    return replace(event, body=body, size=len(body))
