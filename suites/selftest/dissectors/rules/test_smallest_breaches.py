# SPDX-License-Identifier: GPL-2.0-only
"""The smallest breaches of requirements that packets alone can show: one message left out, one byte changed,
one message too early. Each breaks its requirement and no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from dissectors.framing.events import Closed, ConnectionEvent, Event
from dissectors.wire.constants import ChannelType, MsgcBase, Side
from suites.selftest.dissectors.rules.recorded_events import (
    Events,
    at,
    broken,
    changed,
    delayed,
    message,
    of_source,
    recording,
    without,
)

CURSOR, INPUTS = ChannelType.SPICE_CHANNEL_CURSOR, ChannelType.SPICE_CHANNEL_INPUTS
HINT, ERROR = 4, 16  # places: INIT's display_channels_hint, a link reply's error
JUST = 1e-6  # s


def lost(name: str, connection: int | None = None, number: int = 0) -> Callable[[Events], Events]:
    """The message is never sent."""
    return lambda every: without(every, at(every, name, connection, number))


def hint(number: int, displays: int) -> Callable[[Events], Events]:
    """Another number of displays in the first or second INIT."""
    return lambda every: changed(every, at(every, "INIT", number=number), HINT, displays)


def refused_reply(every: Events) -> Events:
    """The link reply says SPICE_LINK_ERR_ERROR, and the link goes on."""
    return changed(every, at(every, "reply", 1), ERROR, 1)


def no_sync(every: Events) -> Events:
    """The client does not answer SET_ACK, and goes on sending 11 s later."""
    index = at(every, "ACK_SYNC", 2)
    sync = message(every, "ACK_SYNC", 2)
    later = replace(sync, type=int(MsgcBase.SPICE_MSGC_ACK), body=b"", size=0, time=sync.time + 11)
    rest = delayed(without(every, index), 11, lambda e: e.time > sync.time)
    return (*rest, later)


def end_ignored(every: Events) -> Events:
    """The client stays at the source after MIGRATE_END until the source drops it, and never goes on."""
    end, here = message(every, "MIGRATE_END"), of_source(every)
    result: list[Event] = []
    for event in every:
        if isinstance(event, Closed):
            source = event.connection in here
            wait, by = (10.01, Side.SERVER) if source else (10.05, Side.CLIENT)
            result.append(replace(event, time=end.time + wait, by=by))
        elif event.time <= end.time:
            result.append(event)
    return tuple(result)


def display_speaks(every: Events) -> Events:
    """The target's display sends MARK before its MIGRATE_DATA, which comes 20 ms after that of main."""
    data = message(every, "MIGRATE_DATA", 8)
    rest = delayed(every, 0.02, lambda e: isinstance(e, ConnectionEvent) and _from(e, 8, data.time))
    mark = replace(message(every, "DISPLAY_MARK"), connection=8, time=data.time + 0.015)
    return (*rest, mark)


def _from(event: ConnectionEvent, connection: int, time: float) -> bool:
    return event.connection == connection and event.time >= time


def time_too_early(every: Events) -> Events:
    """The target's multimedia time comes before MIGRATE_DATA, and none after it."""
    time, data = message(every, "MULTI_MEDIA_TIME", 5), message(every, "MIGRATE_DATA", 5)
    early = replace(time, time=data.time - JUST)
    rest = (e for e in every if e is not time)
    return (*delayed(tuple(rest), 10, lambda e: isinstance(e, Closed) and e.time > data.time), early)


def data_for(connection: int, channel: int, name: str) -> Callable[[Events], Events]:
    """The client sends MIGRATE_DATA of its own on a channel of the target, before this message."""

    def spoil(every: Events) -> Events:
        place = message(every, name, 5)
        body = b"ICMD\1\0\0\0\0\0"
        kind = int(MsgcBase.SPICE_MSGC_MIGRATE_DATA)
        own = replace(place, connection=connection, channel=channel, type=kind, body=body, size=len(body))
        return (*every, replace(own, time=place.time - JUST))

    return spoil


def cursor_late(name: str) -> Callable[[Events], Events]:
    """The cursor's link to the target begins 1 ms after this message."""

    def spoil(every: Events) -> Events:
        cursor = [e for e in every if isinstance(e, ConnectionEvent) and e.connection == 7]
        then = message(every, name, number=-1).time + 0.001 - cursor[0].time
        stays = delayed(every, 1, lambda e: isinstance(e, Closed))
        return delayed(stays, then, lambda e: isinstance(e, ConnectionEvent) and e.connection == 7)

    return spoil


BREACHES: Sequence[tuple[str, str, str, Callable[[Events], Events]]] = [
    ("MIG-CLI-021", "the first PING of three", "semi-seamless", lost("PONG")),
    ("MIG-CLI-021", "the second PING", "seamless", lost("PONG", number=1)),
    ("MIG-CLI-014", "SET_ACK", "seamless", no_sync),
    ("MAIN-008", "no list, semi-seamless", "semi-seamless", lost("CHANNELS_LIST")),
    ("MAIN-008", "no list, seamless", "seamless", lost("CHANNELS_LIST")),
    ("MAIN-017", "no display at the source", "semi-seamless", hint(0, 0)),
    ("MAIN-017", "two displays at the source", "semi-seamless", hint(0, 2)),
    ("MAIN-017", "no display at the target", "semi-seamless", hint(1, 0)),
    ("MAIN-017", "two displays at the target", "tls", hint(1, 2)),
    ("LINK-017", "a session after an error", "semi-seamless", refused_reply),
    ("MIG-CLI-004", "dropped at the timeout", "semi-seamless", end_ignored),
    ("MIG-CLI-015", "CONNECT_ERROR to nothing", "switch-host", lost("MIGRATE_BEGIN")),
    ("MIG-DST-027", "after main's data", "seamless", display_speaks),
    ("MIG-DST-025", "only before the data", "seamless", time_too_early),
    ("MIG-CLI-010", "semi-seamless inputs", "semi-seamless", data_for(6, INPUTS, "MIGRATE_END")),
    ("MIG-CLI-010", "the cursor has none", "seamless", data_for(7, CURSOR, "MIGRATE_DATA")),
    ("MIG-CLI-020", "after MIGRATE_END", "semi-seamless", cursor_late("MIGRATE_END")),
    ("MIG-CLI-020", "after INIT", "semi-seamless", cursor_late("INIT")),
]


@pytest.mark.parametrize(
    ("requirement", "name", "spoil"),
    [pytest.param(r, n, spoil, id=f"{r}: {what}") for r, what, n, spoil in BREACHES],
)
def test_smallest_breach(requirement: str, name: str, spoil: Callable[[Events], Events]) -> None:
    assert broken(spoil(recording(name))) == {requirement}
