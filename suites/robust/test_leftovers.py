# SPDX-License-Identifier: GPL-2.0-only
"""However a session ends, the server keeps nothing of it: no descriptor, watch, timer, thread or growing
memory (house rule)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

import pytest

from dissectors.wire.constants import ChannelType, LinkErr, MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import bloats, leaks, requirement
from fixtures.peer.duties import CANNOT_CONNECT, MigrationStep
from fixtures.system.hosts import Ability, Host
from suites.steps import migrated

INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
TICKET, WRONG = "correct horse", "wrong"
#: How many times each act is done before and between the two counts, and what one act may leave for the next.
WARM_UP, TIMES, SLACK = 2, 6, 2
#: Memory that this many links may take for good, KiB: MANY links would show a leak of even the smallest
#: block.
MANY, SLACK_KIB = 100, 2048

pytestmark = pytest.mark.needs(Ability.STATS)


def session(bench: Bench, host: Host) -> None:
    """A session with every channel, ended by the client."""
    client = bench.client(host, password=TICKET)
    bench.settle()
    client.close()


def taken_over(bench: Bench, host: Host) -> None:
    """A session that another client takes over."""
    first = bench.client(host, channels=(INPUTS,), password=TICKET)
    second = bench.client(host, channels=(), password=TICKET)
    first.main.expect_end()
    second.close()
    first.close()


def unread(bench: Bench, host: Host) -> None:
    """A session whose client sends unreadable bytes."""
    client = bench.client(host, channels=(INPUTS,), password=TICKET)
    client.main.send(0x7FFF, b"\xa5" * 8)
    client.main.expect_end()
    client.close()


def refused(bench: Bench, host: Host) -> None:
    """Links that the server refuses for each reason: their message, their id, their ticket, their channel."""
    client = bench.client(host, channels=(), password=TICKET)
    for wanted in (
        {"password": WRONG},
        {"channel": INPUTS, "connection_id": client.session_id ^ 1, "password": TICKET},
        {"channel": INPUTS, "connection_id": client.session_id, "password": WRONG},
        {"channel": ChannelType.SPICE_CHANNEL_SMARTCARD, "connection_id": client.session_id},
    ):
        connection = bench.connect(host, **wanted)
        error = bench.try_link(connection)
        bench.claim(error != LinkErr.SPICE_LINK_ERR_OK, "a refusal", error, proves="LINK-016")
        bench.must_close(connection)
    for fields in ({"magic": b"RED?"}, {"major_version": 3}, {"size": 5000}, {"caps_offset": 1}):
        connection = bench.connect(host)
        connection.send_mess(**fields)
        bench.must_close(connection)
    client.close()


def duplicate(bench: Bench, host: Host) -> None:
    """Opens a second link to an open channel."""
    client = bench.client(host, channels=(INPUTS,), password=TICKET)
    second = bench.connect(host, channel=INPUTS, connection_id=client.session_id, password=TICKET)
    bench.try_link(second)
    second.expect_end()
    client.close()


def main_alone_ends(bench: Bench, host: Host) -> None:
    """A session whose main channel ends first: the server ends the other channels."""
    client = bench.client(host, channels=(INPUTS,), password=TICKET)
    client.main.close()
    client.current.channels[INPUTS, 0].expect_end()
    client.close()


ENDS: Mapping[str, Callable[[Bench, Host], None]] = {
    "session": session,
    "taken over": taken_over,
    "unread": unread,
    "refused": refused,
    "duplicate": duplicate,
    "main alone": main_alone_ends,
}


def nothing_left(bench: Bench, before: dict[str, int], host: Host, what: str) -> None:
    """Claims that the host's counts equal the earlier ones."""
    after = host.stats()
    for kind in sorted(after.keys() & {"fds", "watches", "timers", "threads", "clients"}):
        grown = after[kind] - before[kind]
        bench.claim(grown <= SLACK, f"no {kind} left by {what}", f"{grown} more", proves="ROBUST-003")


@requirement("ROBUST-003")
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_sessions_leave_nothing(bench: Bench, end: Callable[[Bench, Host], None]) -> None:
    """However sessions and links end, their descriptors, watches and timers go with them."""
    source = bench.start(devices=("keyboard", "mouse", "playback", "record"), ticket=TICKET)
    for _ in range(WARM_UP):
        end(bench, source)
    bench.settle()
    before = source.stats()
    for _ in range(TIMES):
        end(bench, source)
    bench.settle()
    nothing_left(bench, before, source, f"{TIMES} times '{end.__name__}'")


@requirement("ROBUST-016", fault=bloats(24, case="linked"))
@requirement("ROBUST-003", fault=leaks("timer", case="linked"))
@pytest.mark.parametrize("refuse", [False, True], ids=["linked", "refused"])
def test_links_take_no_memory_for_good(bench: Bench, refuse: bool) -> None:
    """Hundreds of links that open and close leave the server's memory as it was."""
    source = bench.start(ticket=TICKET)

    def links(times: int) -> None:
        for _ in range(times):
            connection = bench.connect(source, password=WRONG if refuse else TICKET)
            bench.try_link(connection)
            connection.close()
        bench.settle()

    links(MANY // 4)
    before = source.stats()
    links(MANY)
    grown = source.stats()["rss_kib"] - before["rss_kib"]
    bench.claim(
        grown < SLACK_KIB, f"less than {SLACK_KIB} KiB more", f"{grown} KiB more", proves="ROBUST-016"
    )
    nothing_left(bench, before, source, f"{MANY} links")


@requirement("ROBUST-003")
@pytest.mark.needs(Ability.CALLS, Ability.VIRTUAL_CLOCK)
@pytest.mark.parametrize("refuses", [True, False])
def test_announcements_leave_nothing(bench: Bench, refuses: bool) -> None:
    """Announcements that end in an error or in the timeout leave no timer running at the source."""
    source, target = bench.pair()
    duties = CANNOT_CONNECT if refuses else CANNOT_CONNECT.skipping(MigrationStep.ANSWER)
    client = bench.client(source, channels=(), duties=duties)
    counts = []
    for _ in range(6):
        source.announce(target, subject="CN=target")
        bench.pass_time(source, 10_000)
        source.call("migrate_end", completed=0)
        bench.settle()
        counts.append(source.stats())
    for kind in ("timers", "armed", "watches", "fds"):
        grown = counts[-1][kind] - counts[1][kind]
        bench.claim(grown <= 0, f"no {kind} left by 4 announcements", f"{grown} more")
    bench.claim(client.main.ending is None, "the session goes on", client.main.ending)


@requirement("ROBUST-003")
def test_a_chain_leaves_nothing(bench: Bench) -> None:
    """Hosts that a client has left by a migration keep nothing of it."""
    source = bench.start("source")
    idle = source.stats()
    client = bench.client(source)
    target = bench.start("target", incoming=True)
    migrated(bench, source, client, target)
    bench.settle()
    nothing_left(bench, idle, source, "a session that was migrated")


@requirement("ROBUST-002")
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)  # an event of its loop says so if it does not come to rest
@pytest.mark.parametrize("agent", [False, True], ids=["no-agent", "agent"])
def test_idle_sessions_cost_nothing(bench: Bench, agent: bool) -> None:
    """An idle server uses no processor time: no watch stays ready, no timer of 0 ms."""
    devices = ("keyboard", "mouse", *["agent"] * agent)
    source = bench.start(devices=devices)
    client = bench.client(source)
    if agent:
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 10))
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    bench.expect(client.main, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST, proves="MAIN-008")
    for _ in range(3):
        bench.settle()
    busy = bench.seen(source, "busy")
    bench.claim(not busy, "a server that comes to rest", f"{busy} times it did not")
