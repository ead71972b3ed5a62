# SPDX-License-Identifier: GPL-2.0-only
"""No input from a linked client ends the server, hangs it, or makes its memory grow; each case has fresh
processes."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import replace
from itertools import product

import pytest

from dissectors.channels.migration_data import SpiceMigrateDataCharDevice, SpiceMsgcMigrateDataMain
from dissectors.wire.constants import ChannelType, CommonCap, MsgcBase, MsgcDisplay, MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import dies, dies_at, leaks, lost, requirement, swells
from fixtures.peer import Client, Connection, Deadline
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.peer.duties import DUTIFUL, MigrationStep
from fixtures.system.hosts import Ability, Host
from suites.steps import announced, served

INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
INIT = MsgMain.SPICE_MSG_MAIN_INIT
ACK = MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK
FLUSH_MARK, MIGRATE_DATA = MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK, MsgcBase.SPICE_MSGC_MIGRATE_DATA
DO_SEAMLESS, MIGRATE_END = (
    MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS,
    MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END,
)
VERSION_1 = struct.pack("<I", 1)
#: A pixmap cache and a GLZ dictionary, 1 Mi pixels each, both with id 1.
DISPLAY_INIT = struct.pack("<BqBi", 1, 1 << 20, 1, 1 << 20)
IDS = (0x8A000001, 0x8B000002)
#: How many messages, each of the largest size that fits the main channel's buffer, show whether memory grows.
GROWTH_BYTES, PONG_BYTES = 24 << 20, 4000
#: A link, its two ends, and one more session: what may stay open in a host that serves one client.
SLACK_FDS = 6


def target_link(bench: Bench, host: Host, number: int = 0) -> Connection:
    """A main link to a target that has sent DST_DO_SEAMLESS and received ACK."""
    main = bench.link(host, connection_id=IDS[number])
    main.send(DO_SEAMLESS, VERSION_1)
    bench.until(lambda: main.got(ACK) or main.ending, "the answer to DST_DO_SEAMLESS", proves="MIG-DST-020")
    return main


@requirement("ROBUST-004", fault=(dies(3), lost(INIT, nth=2)))
@pytest.mark.parametrize("channel", ["main", "inputs"])
def test_unsolicited_flush_mark(bench: Bench, channel: str) -> None:
    """A FLUSH_MARK that the server has not requested."""
    source = bench.start()
    client = bench.client(source, channels=(INPUTS,))
    (client.main if channel == "main" else client.current.channels[INPUTS, 0]).send(FLUSH_MARK)
    served(bench, source, "after an unsolicited FLUSH_MARK")


@requirement("ROBUST-005", fault=(dies(2), lost(INIT, nth=2)))
def test_do_seamless_on_an_ordinary_session(bench: Bench) -> None:
    """DST_DO_SEAMLESS where no migration is running."""
    source = bench.start(seamless=True)
    client = bench.client(source, channels=())
    client.main.send(DO_SEAMLESS, VERSION_1)
    served(bench, source, "after DST_DO_SEAMLESS on an ordinary session")


@requirement("ROBUST-006", fault=(dies(2), lost(INIT, nth=1)))
def test_migrate_end_after_do_seamless(bench: Bench) -> None:
    """MIGRATE_END from a client whose DST_DO_SEAMLESS the target has answered with ACK."""
    target = bench.start("target", incoming=True, seamless=True)
    target_link(bench, target).send(MIGRATE_END)
    served(bench, target, "after MIGRATE_END of a seamless client")


@requirement("ROBUST-007", fault=(dies(2), lost(INIT, nth=1)))
@pytest.mark.parametrize(
    "start",
    [b"XXXX\1\0\0\0", b"MNMD\xff\xff\xff\x7f", b"MNMD\0\0\0\0", b"\0" * 8],
    ids=["magic", "version", "version 0", "zeros"],
)
@pytest.mark.parametrize("length", [8, 65, 4096])
def test_migrate_data_that_is_none(bench: Bench, start: bytes, length: int) -> None:
    """MIGRATE_DATA with a wrong magic or version."""
    target = bench.start("target", incoming=True, seamless=True)
    target_link(bench, target).send(MIGRATE_DATA, start.ljust(length, b"\0"))
    served(bench, target, "after MIGRATE_DATA with a wrong header")


@requirement("ROBUST-008", fault=(dies(3), lost(INIT, nth=1)))
@pytest.mark.parametrize("second", ["client", "question"])
def test_second_seamless_client(bench: Bench, second: str) -> None:
    """Another migrating client, or a second DST_DO_SEAMLESS, after a seamless client; then a channel."""
    target = bench.start("target", incoming=True, seamless=True)
    main = target_link(bench, target)
    if second == "client":
        bench.link(target, connection_id=IDS[1])
    else:
        main.send(DO_SEAMLESS, VERSION_1)
    bench.settle()
    if target.life().alive:
        bench.try_link(bench.connect(target, channel=INPUTS, connection_id=IDS[second == "client"]))
    served(bench, target, "after a second seamless attempt and a channel")


@requirement("ROBUST-009", fault=(dies(3), lost(INIT, nth=2)))
@pytest.mark.parametrize("kind", [0, 7, 100, 113, 200, 0x7FFF, 0xFFFF])
@pytest.mark.parametrize("mini", [True, False], ids=["mini", "full"])
def test_unknown_message(bench: Bench, kind: int, mini: bool) -> None:
    """A message of a type that no enumeration contains, on main and inputs."""
    source = bench.start()
    caps = EVERYTHING if mini else EVERYTHING.without(CommonCap.SPICE_COMMON_CAP_MINI_HEADER)
    client = bench.client(source, channels=(INPUTS,), capabilities=caps)
    for connection in (client.current.channels[INPUTS, 0], client.main):
        connection.send(kind, b"\xa5" * 8)
        bench.settle()
    served(bench, source, f"after messages of type {kind}")


@requirement("ROBUST-010", fault=(dies(2), lost(INIT, nth=2)))
@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x00FFFFFF, 0x10000, 4097])
def test_size_that_lies(bench: Bench, size: int) -> None:
    """A header that announces far more bytes than follow; then the connection ends."""
    source = bench.start()
    client = bench.client(source, channels=())
    client.main.send_raw(struct.pack("<HI", MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, size) + b"\0" * 4096)
    bench.settle()
    client.main.close()
    served(bench, source, f"after a message of {size} bytes that never came")


@requirement("ROBUST-010")
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (MsgcMain.SPICE_MSGC_MAIN_AGENT_START, b""),
        (MsgcMain.SPICE_MSGC_MAIN_AGENT_TOKEN, b"\1"),
        (MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST, b""),
        (MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST, b"\xff\xff"),
        (MsgcMain.SPICE_MSGC_MAIN_CLIENT_INFO, b"\1\2\3"),
        (MsgcBase.SPICE_MSGC_ACK_SYNC, b""),
        (MsgcBase.SPICE_MSGC_PONG, b"\0" * 3),
        (MsgcBase.SPICE_MSGC_DISCONNECTING, b""),
        (MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS, b"\xff" * 300),
    ],
    ids=lambda v: v.name.removeprefix("SPICE_MSGC_") if hasattr(v, "name") else f"{len(v)} bytes",
)
def test_body_that_does_not_fit(bench: Bench, kind: int, body: bytes) -> None:
    """Bodies that are shorter or longer than their layout."""
    source = bench.start()
    client = bench.client(source, channels=())
    client.main.send(kind, body)
    served(bench, source, "after a body that does not fit")


@requirement("ROBUST-011", fault=(dies(9), lost(INIT, nth=8)))
@requirement("ROBUST-003", fault=(leaks(), leaks("watch")))
@pytest.mark.needs(Ability.STATS)
def test_connections_that_end_anywhere(bench: Bench) -> None:
    """Connections that end at each stage, orderly or by a reset, leave nothing behind."""
    source = bench.start()
    served(bench, source, "at first", proves="ROBUST-011")
    bench.settle()
    before = source.stats()
    with bench.owed("ROBUST-011"):
        for _, stage, end in product(range(3), range(6), ("close", "reset")):
            _cut_at(bench, source, stage, end)
    bench.settle()
    after = source.stats()
    for what in before.keys() & {"fds", "watches"}:
        grown = after[what] - before[what]
        bench.claim(
            grown <= SLACK_FDS, f"no {what} left by 36 connections", f"{grown} more", proves="ROBUST-003"
        )
    served(bench, source, "after connections that ended at each stage", proves="ROBUST-011")


def _cut_at(bench: Bench, host: Host, stage: int, end: str) -> None:
    """One connection that ends at a stage of its life."""
    connection = bench.connect(host)
    if stage >= 1:
        connection.send_raw(b"REDQ\2\0\0\0")
    if stage >= 2:
        connection.close() if end == "close" else connection.reset()
        connection = bench.connect(host)
        connection.send_mess()
    if stage >= 3:
        connection.expect_reply()
    if stage >= 4:
        connection.send_mechanism()
    if stage >= 5:
        connection.send_ticket()
        connection.expect_result()
    connection.close() if end == "close" else connection.reset()
    bench.settle()


@requirement("ROBUST-003")
@pytest.mark.needs(Ability.STATS)
def test_migrations_leave_nothing(bench: Bench) -> None:
    """Cancelled migrations leave neither descriptors nor timers behind, at source and target."""
    source, target = bench.pair()
    client = bench.client(source, channels=(INPUTS,))
    counts = []
    for _ in range(8):
        client.steps.clear()
        announced(bench, source, client, target)
        source.cancel(target)
        bench.until(lambda: client.target is None, "SPICE_MSG_MAIN_MIGRATE_CANCEL", proves="MIG-SRC-017")
        bench.settle()
        counts.append((source.stats(), target.stats()))
    for which, label in enumerate(("source", "target")):
        for what in counts[0][which].keys() & {"fds", "watches", "timers"}:
            grown = counts[-1][which][what] - counts[1][which][what]
            bench.claim(
                grown <= 1,
                f"no {what} left at the {label} by 6 migrations",
                f"{grown} more",
                (source, target)[which],
            )


@requirement("ROBUST-019", fault=(dies(3), lost(INIT, nth=2)))
@pytest.mark.needs(Ability.DEVICES)
@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("said", [False, True], ids=["silent", "init"])
def test_display_link_that_ends_at_once(bench: Bench, said: bool, end: str) -> None:
    """A display link that ends before its first message, or right after its DISPLAY_INIT."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    client = bench.client(source, channels=())
    display = bench.link(source, channel=ChannelType.SPICE_CHANNEL_DISPLAY, connection_id=client.session_id)
    if said:
        display.send(MsgcDisplay.SPICE_MSGC_DISPLAY_INIT, DISPLAY_INIT)
    display.close() if end == "close" else display.reset()
    # the display's worker is a thread of its own: if it ends, this shows within a second
    with suppress(Deadline), bench.pump.in_real_time():
        bench.pump.until(lambda: not source.life().alive, 1.5)
    served(bench, source, "after a display link that ended at once")


@requirement("ROBUST-012", fault=(dies(3), lost(INIT, nth=2)))
@pytest.mark.parametrize("length", [0, 7, 8, 65, 5000])
@pytest.mark.parametrize("channel", ["main", "inputs"])
def test_uninvited_migrate_data(bench: Bench, length: int, channel: str) -> None:
    """MIGRATE_DATA on an ordinary session."""
    source = bench.start()
    client = bench.client(source, channels=(INPUTS,))
    connection = client.main if channel == "main" else client.current.channels[INPUTS, 0]
    connection.send(MIGRATE_DATA, b"MNMD\1\0\0\0".ljust(length, b"\0")[:length])
    served(bench, source, "after uninvited MIGRATE_DATA")


@requirement("ROBUST-012")
@pytest.mark.needs(Ability.DEVICES)
@pytest.mark.parametrize("connected", [False, True], ids=["agent-absent", "agent-connected"])
def test_migrate_data_of_a_migration_that_never_was(bench: Bench, connected: bool) -> None:
    """A client pretends to arrive at an ordinary running server, with MIGRATE_DATA of its own making."""
    source = bench.start(seamless=True, devices=("keyboard", "mouse", "agent"))
    agent = SpiceMigrateDataCharDevice(connected=connected)
    target_link(bench, source).send(MIGRATE_DATA, bytes(SpiceMsgcMigrateDataMain(agent_base=agent)))
    served(bench, source, "after MIGRATE_DATA without a migration")


@requirement("ROBUST-013", fault=(dies(2), lost(INIT, nth=2)))
@pytest.mark.needs(Ability.DEVICES)
@pytest.mark.parametrize("attached", [True, False], ids=["agent", "no-agent"])
@pytest.mark.parametrize("kind", ["token", "data", "start-twice"])
def test_agent_messages_at_the_wrong_time(bench: Bench, attached: bool, kind: str) -> None:
    """Agent messages before AGENT_START, and without an agent."""
    source = bench.start(devices=("keyboard", "mouse", *(("agent",) if attached else ())))
    client = bench.client(source, channels=())
    if kind == "token":
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_TOKEN, struct.pack("<I", 5))
    elif kind == "data":
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, struct.pack("<IIQI", 1, 9, 0, 0))
    else:
        for tokens in (0xFFFFFFFF, 1):
            client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", tokens))
    served(bench, source, "after agent messages at the wrong time")


@requirement(
    "ROBUST-014",
    fault=(dies_at(MIGRATE_DATA, on="target"), lost(INIT, host="target", case="half-inputs-agent")),
)
@pytest.mark.needs(Ability.SEAMLESS_DATA)
@pytest.mark.parametrize("agent", [False, True], ids=["no-agent", "agent"])
@pytest.mark.parametrize("channel", ["main", "inputs"])
@pytest.mark.parametrize("cut", ["half", "header", "ones"])
def test_migrate_data_with_inner_sizes_out_of_range(
    bench: Bench, channel: str, cut: str, agent: bool
) -> None:
    """The source's own MIGRATE_DATA, cut short or with its sizes set to all ones."""
    wanted = ChannelType.SPICE_CHANNEL_MAIN if channel == "main" else INPUTS

    def spoil(source: Connection, data: bytes) -> bytes:
        if source.wanted.channel != wanted:
            return data
        return {
            "half": data[: len(data) // 2],
            "header": data[:8],
            "ones": data[:8] + b"\xff" * (len(data) - 8),
        }[cut]

    devices = ("keyboard", "mouse", *(("agent",) if agent else ()))
    source, target = bench.pair(seamless=True, devices=devices)
    client: Client = bench.client(source, channels=(INPUTS,), duties=replace(DUTIFUL, migrate_data=spoil))
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 10))
    bench.settle()
    announced(bench, source, client, target)
    source.complete(target)
    over = lambda: client.left or not target.life().alive  # noqa: E731
    bench.until(over, "the client's move to the target")
    served(bench, target, "after MIGRATE_DATA with inner sizes out of range")


@requirement("ROBUST-018", fault=(dies_at(FLUSH_MARK), lost(INIT, host="source", nth=2)))
@pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.DEVICES)
@pytest.mark.parametrize("started", [True, False], ids=["agent-started", "agent-not-started"])
def test_seamless_migration_with_an_agent(bench: Bench, started: bool) -> None:
    """A well-behaved client and an attached agent, started by the client or not."""
    source = bench.start("source", seamless=True, devices=("keyboard", "mouse", "agent"))
    target = bench.start("target", incoming=True, seamless=True)
    client = bench.client(source)
    if started:
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 10))
        bench.settle()
    announced(bench, source, client, target)
    source.complete(target)
    over = lambda: client.left or not source.life().alive  # noqa: E731
    bench.until(over, "the client's move to the target")
    served(bench, source, "after a seamless migration with an agent")


@requirement("ROBUST-016", fault=swells(50))
@pytest.mark.needs(Ability.STATS)
def test_memory_is_bounded(bench: Bench) -> None:
    """Messages that the server has not requested do not pile up in it: 24 MiB of long PONGs."""
    source = bench.start()
    client = bench.client(source, channels=())
    bench.settle()
    before = source.stats()["rss_kib"]
    block = struct.pack("<HI", MsgcBase.SPICE_MSGC_PONG, PONG_BYTES) + b"\0" * PONG_BYTES
    for _ in range(GROWTH_BYTES // len(block)):
        client.main.send_raw(block)
        if client.main.unsent:
            bench.pump.turn(0.001)
    taken = lambda: not client.main.unsent or client.main.ending  # noqa: E731
    bench.until(taken, "the server's reading", deadline=20)
    bench.settle()
    grown = source.stats()["rss_kib"] - before
    bench.claim(grown < 8 * 1024, "less than 8 MiB more", f"{grown // 1024} MiB more")


@requirement("ROBUST-017", fault=(dies(2), lost(INIT, nth=2)))
@pytest.mark.parametrize(
    "kind",
    [
        MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED,
        MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR,
        MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS,
        MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END,
    ],
    ids=lambda v: v.name.removeprefix("SPICE_MSGC_MAIN_"),
)
@pytest.mark.parametrize("where", ["ordinary", "target", "announced-twice"])
def test_uninvited_answers(bench: Bench, kind: int, where: str) -> None:
    """The scheme's answers without a request, once or twice, at source and target."""
    source, target = bench.pair()
    if where == "target":
        host, main = target, bench.link(target, connection_id=IDS[0])
    else:
        host, main = source, bench.client(source, channels=(), duties=DUTIFUL.skipping(*MigrationStep)).main
    if where == "announced-twice":
        source.announce(target)
        bench.expect(main, MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN, proves="MIG-SRC-020")
    for _ in range(2):
        main.send(kind)
        bench.settle()
    served(bench, host, "after uninvited answers")
