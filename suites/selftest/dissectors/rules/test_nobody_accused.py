# SPDX-License-Identifier: GPL-2.0-only
"""Captures of correct clients and servers that a rule could take for faulty ones: other migrations beside
theirs, the same port on many hosts, devices that come and go, old servers, targets that do not answer."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dissectors.conversation.arrival import MigrationOutcome, arrival
from dissectors.conversation.failed_links import Attempts
from dissectors.framing.events import (
    AttemptFailure,
    Closed,
    ConnectFailed,
    ConnectionEvent,
    Ending,
    Endpoint,
    Event,
    Gap,
    HostEvent,
    LinkBytes,
    Message,
    Opened,
)
from dissectors.rules.oracle import Oracle
from dissectors.wire.constants import ChannelType, MsgcRecord, MsgPlayback, Side
from suites.selftest.dissectors.rules.recorded_events import (
    Events,
    at,
    broken,
    changed,
    delayed,
    message,
    of_source,
    placed,
    recording,
    without,
)
from suites.selftest.reports.run.report_samples import conversation

ONE, TWO, THREE, FOUR = (Endpoint(f"192.0.2.{number}", 5900) for number in range(1, 5))
NEXT_PORT = Endpoint("192.0.2.1", 5901)  # another machine on the first one's host
CLIENT, OTHER_CLIENT = "198.51.100.1", "198.51.100.2"
OTHER_ID = b"\x11\x22\x33\x44"
SCHEMES = ("semi-seamless", "seamless", "switch-host")
#: Places in a link reply's last capability word: NAME_AND_UUID and AGENT_CONNECTED_TOKENS.
CAPS, NAME_AND_UUID, TOKENS = -4, 1 << 1, 1 << 2
PLAYBACK, RECORD = ChannelType.SPICE_CHANNEL_PLAYBACK, ChannelType.SPICE_CHANNEL_RECORD


def only(every: Events, keep: Callable[[int], bool]) -> Iterator[Event]:
    """The events of these connections."""
    return (e for e in every if isinstance(e, ConnectionEvent) and keep(e.connection))


def beside(name: str, **where: object) -> Events:
    """A second migration, with connections from 100 on."""
    return placed(recording(name), **{"base": 100, "session": OTHER_ID, **where})  # type: ignore[arg-type]


@pytest.mark.parametrize("after", [0.0, 0.005, 0.02, 0.05])
@pytest.mark.parametrize("client", [CLIENT, OTHER_CLIENT])
@pytest.mark.parametrize(
    ("one", "other"), [("late", "semi-seamless"), *zip(SCHEMES, SCHEMES[1:] + SCHEMES[:1], strict=True)]
)
def test_two_migrations_at_once(one: str, other: str, client: str, after: float) -> None:
    """Two machines leave two hosts, and each has the same port on each host."""
    first = placed(recording(one), ONE, TWO, CLIENT)
    second = beside(other, source=THREE, target=FOUR, client=client, begin=after)
    assert broken((*first, *second)) == broken(first)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("announced", [None, "host-two.example.com"])
def test_another_machine_at_the_announced_port(name: str, announced: str | None) -> None:
    """The capture lacks the target; another machine on the source's host has the announced port number."""
    target = Endpoint("192.0.2.2", NEXT_PORT.port)
    whole = placed(recording(name), ONE, target, CLIENT, name=announced)
    here = of_source(recording(name))
    first = tuple(only(whole, lambda number: number in here))
    other = beside("semi-seamless", source=NEXT_PORT, target=FOUR, client=OTHER_CLIENT, begin=-1.0)
    mine = of_source(recording("semi-seamless"))
    assert broken((*first, *only(other, lambda number: number - 100 in mine))) == set()


@pytest.mark.parametrize("name", SCHEMES)
def test_another_client_arrives_at_the_announced_port(name: str) -> None:
    """Later a machine of which the capture lacks the source comes to a host with that port number."""
    first = placed(recording(name), ONE, Endpoint("192.0.2.2", NEXT_PORT.port), CLIENT)
    other = beside("semi-seamless", source=FOUR, target=NEXT_PORT, client=OTHER_CLIENT, begin=20.0)
    mine = of_source(recording("semi-seamless"))
    assert broken((*first, *only(other, lambda number: number - 100 not in mine))) == set()


def test_an_announcement_in_place_of_another() -> None:
    """The source announces again before the client's answer: it owes one answer, and its new session after
    SWITCH_HOST is none of the first announcement's."""
    every = recording("switch-host")
    index = at(every, "MIGRATE_BEGIN")
    first = replace(message(every, "MIGRATE_BEGIN"), time=every[index].time - 1e-6)
    assert broken((*every[:index], first, *every[index:])) == set()


def test_both_hosts_behind_one_address() -> None:
    """Both hosts' processes give their first session the same id, as old releases do."""
    every = placed(recording("switch-host"), ONE, ONE, CLIENT)
    first, index = message(every, "INIT"), at(every, "INIT", number=1)
    second = message(every, "INIT", number=1)
    same = replace(second, body=first.body[:4] + second.body[4:])
    changed_links = []
    for event in (*every[:index], same, *every[index + 1 :]):
        if isinstance(event, LinkBytes) and event.kind == "mess" and event.raw[16:20] == second.body[:4]:
            event = replace(event, raw=event.raw[:16] + first.body[:4] + event.raw[20:])
        changed_links.append(event)
    kept = [e for e in changed_links if not (isinstance(e, Closed) and e.connection == 1)]
    assert "CONNID-004" not in broken(kept)


def test_a_target_that_does_not_answer() -> None:
    """The client tries until the source's wait is over, and can say nothing before."""
    every = recording("switch-host")
    begin, switch = message(every, "MIGRATE_BEGIN"), message(every, "MIGRATE_SWITCH_HOST")
    source, target = (
        every[0],
        next(e for e in every if isinstance(e, Opened) and e.server.port != _port(every)),
    )
    assert isinstance(source, Opened)
    quiet = without(every, at(every, "MIGRATE_CONNECT_ERROR"))
    later = delayed(quiet, 10.02, lambda e: e.time >= switch.time)
    kept = tuple(e for e in later if not begin.time < e.time < switch.time + 10.02)
    assert broken(kept) == {"MIG-CLI-002"}
    failed = ConnectFailed(
        time=begin.time + 7,
        connection=99,
        client=source.client,
        server=target.server,
        how=AttemptFailure.UNANSWERED,
        why="",
        attempts=4,
        first=begin.time + 0.001,
        last=begin.time + 7,
        until=begin.time + 10.02,
    )
    assert broken((*kept, failed)) == set()


def _port(every: Events) -> int:
    first = every[0]
    assert isinstance(first, Opened)
    return first.server.port


@pytest.mark.parametrize(("bits", "wanted"), [(NAME_AND_UUID | TOKENS, set()), (TOKENS, {"LINK-031"})])
def test_an_old_server(bits: int, wanted: set[str]) -> None:
    """Servers before 0.15 offer neither of two capabilities, and a capture does not tell the version."""
    every = recording("switch-host")
    for connection in (1, 6):
        index = at(every, "reply", connection)
        reply = every[index]
        assert isinstance(reply, LinkBytes)
        every = changed(every, index, CAPS, reply.raw[CAPS] & ~bits)
    assert broken(every) == wanted


def test_a_device_that_is_unplugged() -> None:
    """No message tells the client that a listed channel has gone: the server closes it, and later links."""
    every = recording("switch-host")
    opened = next(e for e in every if isinstance(e, Opened) and e.connection == 3)
    link = next(e for e in every if isinstance(e, LinkBytes) and e.connection == 3 and e.kind == "mess")
    begin = message(every, "MIGRATE_BEGIN").time
    until = [e for e in every if e.time < begin or not isinstance(e, ConnectionEvent) or e.connection != 3]
    gone = [replace(one, connection=99, time=begin + n * 1e-6) for n, one in enumerate((opened, link), 2)]
    ends = [
        Closed(time=begin + time, connection=number, how=Ending.CLOSED, by=Side.SERVER)
        for number, time in ((3, 1e-6), (99, 5e-6))
    ]
    assert broken((*until, *gone, *ends)) == set()
    assert broken((*until, *gone, ends[1])) == {"MAIN-011"}


def test_a_stream_device() -> None:
    """CHANNELS_LIST names the display of a stream device, INIT does not count it."""
    every = recording("seamless")
    index = at(every, "CHANNELS_LIST")
    listed = message(every, "CHANNELS_LIST")
    count = struct.unpack_from("<I", listed.body)[0]
    body = struct.pack("<I", count + 1) + listed.body[4:] + bytes([ChannelType.SPICE_CHANNEL_DISPLAY, 1])
    more = replace(listed, body=body, size=len(body))
    assert broken((*every[:index], more, *every[index + 1 :])) == set()


def test_a_machine_without_channels() -> None:
    """An empty CHANNELS_LIST answers ATTACH_CHANNELS, too."""
    every = recording("semi-seamless")
    main = only(every, lambda number: number in (1, 5))
    empty = [
        replace(e, body=bytes(4), size=4) if isinstance(e, Message) and "CHANNELS_LIST" in e.name else e
        for e in main
    ]
    begin = message(every, "MIGRATE_BEGIN").time
    assert "MAIN-008" not in broken(delayed(tuple(empty), 6, lambda e: e.time >= begin))


def as_sound(every: Events, channel: ChannelType) -> Events:
    """The cursor's connections (3 to the source, 7 to the target) are those of a silent sound channel."""
    result: list[Event] = []
    for event in every:
        if isinstance(event, Message) and event.connection in (3, 7):
            continue
        if isinstance(event, LinkBytes) and event.connection in (3, 7):
            raw = event.raw
            if event.kind == "mess":
                raw = raw[:20] + bytes([channel]) + raw[21:]
            event = replace(event, raw=raw, channel=channel)
        result.append(event)
    return tuple(result)


def test_a_target_that_plays_sound() -> None:
    """While sound plays, it tells the time, and main does not."""
    every = as_sound(recording("seamless"), PLAYBACK)
    time = message(every, "MULTI_MEDIA_TIME", 5)
    result = [
        replace(e, time=e.time + 10) if isinstance(e, Closed) and e.time > time.time else e
        for e in every
        if e is not time
    ]
    assert "MIG-DST-025" in broken(result)
    body = struct.pack("<IIII", 2, 1, 48_000, 0)
    start = replace(
        time,
        connection=7,
        channel=PLAYBACK,
        type=int(MsgPlayback.SPICE_MSG_PLAYBACK_START),
        body=body[:14],
        size=14,
    )
    assert "MIG-DST-025" not in broken([*result, start])


@pytest.mark.parametrize("why", ["nothing", "a refused message", "a newcomer"])
def test_a_channel_that_the_target_closes(why: str) -> None:
    """Without reason it does not work after MIGRATE_END. A server may refuse what a client says where it need
    not speak itself, and closes all channels of a session that another client takes over."""
    every = as_sound(recording("semi-seamless"), RECORD)
    closed = Closed(
        time=message(every, "INIT", 5).time + 0.01, connection=7, how=Ending.CLOSED, by=Side.SERVER
    )
    more: list[Event] = [closed]
    if why == "a refused message":
        end = message(every, "MIGRATE_END", 5)
        kind = int(MsgcRecord.SPICE_MSGC_RECORD_MODE)
        mode = replace(end, connection=7, channel=RECORD, type=kind, body=bytes(6), size=6)
        more.append(replace(mode, time=closed.time - 0.001))
    elif why == "a newcomer":
        main = [e for e in every if isinstance(e, Opened | LinkBytes) and e.connection == 5][:2]
        link = [replace(e, connection=99, time=closed.time - 0.002 + n * 1e-4) for n, e in enumerate(main)]
        more += [
            replace(e, raw=e.raw[:16] + bytes(4) + e.raw[20:]) if isinstance(e, LinkBytes) else e
            for e in link
        ]
    kept = [e for e in every if not (isinstance(e, Closed) and e.connection == 7)]
    assert ("MIG-DST-006" in broken([*kept, *more])) is (why == "nothing")


@pytest.mark.parametrize(
    ("returns", "waits", "blocks"),
    [(1000.2, 1, False), (1000.305, 0, False), (1000.305, 1, True), (1000.32, 0, True)],
)
def test_call_that_returns_late(returns: float, waits: int, blocks: bool) -> None:
    """A host that its machine gave no time returns from migrate_connect after the client's answer (at
    1000.3 s), but it did not sleep in between, nor does it return after the callback for that answer (at
    1000.31 s)."""
    configured = HostEvent(time=999.0, host="source", name="configured", args={"callbacks": True})
    returned = HostEvent(time=returns, host="source", name="return:migrate_connect", args={"waits": waits})
    assert ("MIG-SRC-001" in broken([configured, returned, *conversation()])) is blocks


@pytest.mark.parametrize(
    ("name", "main"),
    [("semi-seamless", 5), ("seamless", 5), ("switch-host", 6), ("late", 5), ("late", 9)],
)
def test_without_the_targets_main_channel(name: str, main: int) -> None:
    """The capture lacks the connection that opened the target's session (a member of a bond): both hosts have
    one address, and the other channels go to the announced port with an id that nothing explains."""
    every = recording(name)
    assert broken(only(every, lambda number: number != main)) <= broken(every)


@pytest.mark.parametrize("channels", [1, 2])
def test_an_id_that_no_session_had(channels: int) -> None:
    """One channel that is let in with an unknown id is the server's fault; two have their own session."""
    every = list(recording("semi-seamless"))
    for index, event in enumerate(every):
        if isinstance(event, LinkBytes) and event.kind == "mess" and event.connection in (3, 4)[:channels]:
            every[index] = replace(event, raw=event.raw[:16] + OTHER_ID + event.raw[20:])
    found = broken(every)
    assert found == ({"CONNID-003"} if channels == 1 else set())


@pytest.mark.parametrize("leaves", [True, False])
def test_a_switch_host_that_is_lost(leaves: bool) -> None:
    """MIGRATE_CANCEL answers the late CONNECTED: where the client leaves for a new session, what ended the
    migration is SWITCH_HOST, which the capture lost."""
    every = recording("late")
    index = at(every, "MIGRATE_SWITCH_HOST")
    lost = message(every, "MIGRATE_SWITCH_HOST")
    gap = Gap(time=lost.time, connection=lost.connection, sender=Side.SERVER, bytes=lost.size + 6)
    cancelled = message(every, "MIGRATE_CANCEL").time + 0.005
    oracle = Oracle()
    for event in (*every[:index], gap, *every[index + 1 :]):
        if leaves or event.time < cancelled:
            oracle.observe(event)
    view = oracle.conversation
    found = arrival(view, view.migrations[0], Attempts(view)).outcome
    assert found is (MigrationOutcome.SWITCHED if leaves else MigrationOutcome.CANCELLED)
