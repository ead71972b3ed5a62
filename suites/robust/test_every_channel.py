# SPDX-License-Identifier: GPL-2.0-only
"""Faults of one client on each of its channels: a second link, messages that are too long, migration data
that is too short, readers that do not exist. Each fault was a bug of one channel."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from dissectors.channels.migration_data import SpiceMsgcMigrateDataMain
from dissectors.wire.constants import ChannelType, MsgcBase, MsgcDisplay, MsgcMain, MsgMain
from dissectors.wire.enums import VscMessageType
from fixtures.bench import Bench
from fixtures.bench.planting import dies, dies_at, hangs, lost, requirement, stuck_after, swells
from fixtures.peer import Client, Connection, Deadline, LinkRefused
from fixtures.peer.duties import DUTIFUL
from fixtures.peer.peer_client import start
from fixtures.system.hosts import Ability, HarnessError, Host
from suites.channel_devices import DEVICES
from suites.steps import announced

MAIN, DISPLAY = ChannelType.SPICE_CHANNEL_MAIN, ChannelType.SPICE_CHANNEL_DISPLAY
INIT = MsgMain.SPICE_MSG_MAIN_INIT
#: The size of the fixed part of each channel's migration data, bytes, with the header
#: (server/migration-protocol.h, packed).
FIXED = {
    MAIN: len(bytes(SpiceMsgcMigrateDataMain())),
    ChannelType.SPICE_CHANNEL_INPUTS: 10,
    DISPLAY: 80,
    ChannelType.SPICE_CHANNEL_SMARTCARD: 42,
    ChannelType.SPICE_CHANNEL_USBREDIR: 33,
    ChannelType.SPICE_CHANNEL_PORT: 33,
    ChannelType.SPICE_CHANNEL_WEBDAV: 33,
}
#: A display's worker is a thread of its own: its reaction shows only in real time.
WORKER_S = 0.1
#: Longer than any channel's buffer for messages; longer than a process's heap at its start.
LONG, LONGER, ONES = 70_000, 1 << 20, (1 << 32) - 1
#: The first message type that belongs to one channel.
OWN = 101
#: How many bytes of a message are sent, how many its header announces, and how many the server may hold.
SENT, ANNOUNCED, HELD = 12 << 20, 64 << 20, 4 << 20

every_channel = pytest.mark.parametrize("channel", list(DEVICES), ids=lambda c: c.name[14:].lower())
pytestmark = pytest.mark.needs(Ability.DEVICES)


def opened(bench: Bench, channel: ChannelType) -> tuple[Host, Client, Connection]:
    """A host with the channel, a client that has it open, and the client's connection."""
    source = bench.start(devices=DEVICES[channel])
    client = bench.client(source)
    bench.settle()
    connections = [c for c in client.current if c.wanted.channel == channel]
    return source, client, connections[0]


def served(bench: Bench, host: Host, client: Client | None = None) -> None:
    """The host lives, the session of `client` goes on, and another client gets a session."""
    with suppress(Deadline):
        bench.pump.pass_real_time(WORKER_S)
    bench.alive("after it", host)
    if host.life().alive:
        if client is not None:
            client.main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
            bench.settle()
            bench.claim(not client.main.ending, "the session goes on", client.main.ending, host)
        with bench.owed():
            bench.link(host).expect(INIT)


@requirement("ROBUST-031", fault=(dies(5, case="cursor"), lost(INIT, nth=2, case="cursor")))
@every_channel
def test_channel_linked_twice(bench: Bench, channel: ChannelType) -> None:
    """A second link to the channel, while the first is open and again after it has closed."""
    source, client, first = opened(bench, channel)
    if channel == MAIN:
        first.close()
    for _ in range(2):
        with suppress(LinkRefused, Deadline):
            second = bench.link(
                source, channel=channel, channel_id=first.wanted.channel_id, connection_id=client.session_id
            )
            start(second)
            bench.pump.pass_real_time(WORKER_S / 2)
    served(bench, source, None if channel == MAIN else client)


@requirement(
    "ROBUST-032",
    fault=(dies_at(OWN, case="record-own-ones"), lost(INIT, nth=2, case="record-own-ones")),
)
@pytest.mark.parametrize(
    ("kind", "size"),
    [(OWN, LONG), (OWN, ONES), (MsgcBase.SPICE_MSGC_ACK_SYNC, ONES)],
    ids=["own-whole", "own-ones", "base-ones"],
)
@every_channel
def test_message_that_is_too_long(bench: Bench, channel: ChannelType, kind: int, size: int) -> None:
    """A message of the channel's own, or one that all channels share: 70,000 bytes, or a size of all ones."""
    source, _, connection = opened(bench, channel)
    connection.send_raw(struct.pack("<HI", kind, size) + bytes(LONG if size == LONG else LONGER))
    with suppress(Deadline):
        bench.pump.until(lambda: not connection.unsent or connection.ending, 2)
    served(bench, source)


@requirement("ROBUST-033", fault=swells(50))
@pytest.mark.needs(Ability.STATS)
@every_channel
def test_message_without_an_end(bench: Bench, channel: ChannelType) -> None:
    """12 MiB of a message of 64 MiB, of the channel's usual data type."""
    source, _, connection = opened(bench, channel)
    before = source.stats()["rss_kib"]
    kind = MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA if channel == MAIN else 101
    connection.send_raw(struct.pack("<HI", kind, ANNOUNCED))
    block = bytes(1 << 20)
    for _ in range(SENT // len(block)):
        connection.send_raw(block)
        with suppress(Deadline):
            bench.pump.until(lambda: not connection.unsent or connection.ending, 2)
        if connection.ending:
            break
    bench.settle()
    held = (source.stats()["rss_kib"] - before) // 1024
    bench.claim(held < HELD >> 20, f"less than {HELD >> 20} MiB more", f"{held} MiB more", source)


def moved(bench: Bench, channel: ChannelType, change: Callable[[bytes], bytes]) -> tuple[Host, Connection]:
    """Migrates seamlessly with a client that changes the channel's MIGRATE_DATA, and with an agent that it
    has started, without which the source ends. Returns the target and the channel there."""

    def changed(source: Connection, data: bytes) -> bytes:
        return change(data) if source.wanted.channel == channel else data

    source, target = bench.pair(seamless=True, devices=DEVICES[channel])
    client = bench.client(source, duties=replace(DUTIFUL, migrate_data=changed))
    if channel == MAIN:
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 10))
    bench.settle()
    announced(bench, source, client, target)
    moving = next(c for c in client.target or () if c.wanted.channel == channel)
    with suppress(HarnessError):
        source.complete(target)
    over = lambda: client.left or not target.life().alive  # noqa: E731
    bench.until(over, "the client's move")
    return target, moving


@requirement(
    "ROBUST-034",
    fault=(
        dies_at(MsgcBase.SPICE_MSGC_MIGRATE_DATA, on="target", case="inputs-header"),
        stuck_after(
            "result", host="target", channel=ChannelType.SPICE_CHANNEL_INPUTS, case="inputs-one byte short"
        ),
    ),
)
@pytest.mark.needs(Ability.SEAMLESS_DATA)
@pytest.mark.parametrize("cut", ["header", "one byte short"])
@pytest.mark.parametrize("channel", list(FIXED), ids=lambda c: c.name[14:].lower())
def test_migration_data_that_is_too_short(bench: Bench, channel: ChannelType, cut: str) -> None:
    """A MIGRATE_DATA of 8 bytes, or one byte shorter than the channel's fixed part: the channel ends."""

    def shorten(data: bytes) -> bytes:
        return data[: 8 if cut == "header" else FIXED[channel] - 1]

    target, moving = moved(bench, channel, shorten)
    with suppress(Deadline), bench.pump.in_real_time():
        bench.pump.until(lambda: moving.ending, 0.5)
    bench.alive("after MIGRATE_DATA that is too short", target)
    bench.claim(moving.ending is not None, f"the end of {moving.name}", "it is open", target)
    if target.life().alive:
        with bench.owed():
            bench.link(target)


#: The channels whose migration data hold the state of a character device, main with the agent's. Its version
#: follows the header (server/migration-protocol.h, SpiceMigrateDataCharDevice).
OF_DEVICES = [
    MAIN,
    ChannelType.SPICE_CHANNEL_SMARTCARD,
    ChannelType.SPICE_CHANNEL_USBREDIR,
    ChannelType.SPICE_CHANNEL_PORT,
    ChannelType.SPICE_CHANNEL_WEBDAV,
]


@requirement(
    "ROBUST-066",
    fault=(
        dies_at(MsgcBase.SPICE_MSGC_MIGRATE_DATA, on="target", case="main-1"),
        lost(INIT, host="target", case="main-1"),
    ),
)
@pytest.mark.needs(Ability.SEAMLESS_DATA)
@pytest.mark.parametrize("version", [1, 2, ONES])
@pytest.mark.parametrize("channel", OF_DEVICES, ids=lambda c: c.name[14:].lower())
def test_device_state_of_a_newer_version(bench: Bench, channel: ChannelType, version: int) -> None:
    """The source's own MIGRATE_DATA, but for the version of the device's state: 1 in every release."""

    def newer(data: bytes) -> bytes:
        return data[:8] + struct.pack("<I", version) + data[12:]

    target, _ = moved(bench, channel, newer)
    bench.settle()
    served(bench, target)


@requirement("ROBUST-035", fault=dies_at(OWN, nth=len(VscMessageType) + 1, case="7-none"))
@pytest.mark.parametrize("added", [False, True], ids=["none", "added"])
@pytest.mark.parametrize("reader", [0, 1, 7, 0xFFFFFFFF])
def test_smartcard_reader_that_there_is_not(bench: Bench, reader: int, added: bool) -> None:
    """Messages of every type for a reader that does not exist, before a reader was added or after."""
    source, client, card = opened(bench, ChannelType.SPICE_CHANNEL_SMARTCARD)
    for kind in (*VscMessageType, 99):
        if card.ending:
            with bench.owed():
                card = bench.link(
                    source, channel=ChannelType.SPICE_CHANNEL_SMARTCARD, connection_id=client.session_id
                )
        if added:
            add = VscMessageType.SPICE_VSC_MESSAGE_TYPE_ReaderAdd
            card.send(101, struct.pack("<III", add, 0xFFFFFFFF, 2) + b"r\0")
        card.send(101, struct.pack("<III", kind, reader, 3) + b"abc")
        bench.settle()
        bench.alive(f"after a message of type {int(kind)} for reader {reader:#x}", source)
        if not source.life().alive:
            break


@requirement("ROBUST-040", fault=(dies(5), lost(INIT, nth=2)))
def test_display_init_twice(bench: Bench) -> None:
    """DISPLAY_INIT a second time, the same or another one."""
    source, _, display = opened(bench, DISPLAY)
    for number in (1, 2):
        display.send(
            MsgcDisplay.SPICE_MSGC_DISPLAY_INIT, struct.pack("<BqBi", number, 1 << 20, number, 1 << 20)
        )
        bench.pump.pass_real_time(WORKER_S / 2)
    served(bench, source)


@requirement("ROBUST-041", fault=hangs(3))
def test_display_without_its_init(bench: Bench) -> None:
    """A client links a display and sends nothing: the server still answers the host's calls, and another
    client gets a session."""
    source = bench.start(devices=("display",))
    client = bench.client(source, channels=())
    bench.link(source, channel=DISPLAY, connection_id=client.session_id)
    with suppress(Deadline):
        bench.pump.pass_real_time(WORKER_S)
    source.deadline = 2.5  # type: ignore[attr-defined]  # of library hosts
    with suppress(HarnessError):
        source.call("qxl_sync")
    bench.connect(source)
    bench.alive("while a display has not said its DISPLAY_INIT", source)
