# SPDX-License-Identifier: GPL-2.0-only
"""A guest that does not read from its client, a client that does not read from its guest, and a host without
free descriptors. The server holds a bounded amount of data, and loses nothing of it."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest

from dissectors.framing.events import Ending
from dissectors.wire.constants import MsgcMain, MsgcSpicevmc, MsgMain, MsgSpicevmc
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, changed, dies, dies_at, lost, requirement, stuck_after, swells
from fixtures.peer import Client, Connection, Deadline, PeerFailure
from fixtures.system.hosts import Ability, HarnessError, Host
from suites.channel_devices import SPICEVMC, UNCOMPRESSED
from suites.guest_agent import agent_message, chunk
from suites.steps import served

AGENT_START, AGENT_DATA = MsgcMain.SPICE_MSGC_MAIN_AGENT_START, MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA
MONITORS_CONFIG = 2  # spice/vd_agent.h, VD_AGENT_MONITORS_CONFIG
#: This many messages of this many bytes, 8 MB; the server holds 128 of them (server/spicevmc.cpp,
#: self-tokens).
COUNT, SIZE, HELD = 256, 32_000, 6_000_000
GUEST_COUNT, GUEST_HELD = 240, 6_700_000
#: Agent messages of 2,000 bytes; a monitors configuration of 256 monitors takes 5,148 bytes.
PIECE, PIECES, TOO_LONG = 2_000, 40, 1 << 20
#: An agent's messages, together 400 KB, and how much of them the server and both kernels hold at most.
FROM_AGENT = MsgMain.SPICE_MSG_MAIN_AGENT_DATA
FLOOD_COUNT, FLOOD_SIZE, FLOOD_HELD = 200, 2_000, 250_000

every_vmc = pytest.mark.parametrize("device", list(SPICEVMC), ids=lambda d: d.partition(":")[0])
pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def carrier(bench: Bench, device: str) -> tuple[Host, Connection]:
    """A host with the device, and a client's connection of its channel."""
    source = bench.start(devices=(device,))
    client = bench.client(source, capabilities=UNCOMPRESSED)
    bench.settle()
    return source, client.current.channels[SPICEVMC[device], 0]


def with_agent(bench: Bench, *, monitors: bool = False) -> tuple[Host, Client]:
    """A host with an agent, and a client that has sent AGENT_START. `monitors`: the guest's driver takes
    monitors configurations itself."""
    source = bench.start(devices=("keyboard", "mouse", "agent", *(("display",) if monitors else ())))
    if monitors:
        source.call("qxl_takes_monitors")
    client = bench.client(source, channels=())
    client.main.send(AGENT_START, struct.pack("<I", 10))
    bench.settle()
    return source, client


def taken(bench: Bench) -> int:
    """How many bytes the guest has read."""
    return sum(e.args["size"] for e in bench.pump.tape.host_events if e.name == "chardev_write")


def drain(bench: Bench, connection: Connection) -> None:
    """Sends the rest for as long as the server reads."""
    before = -1
    while connection.unsent and before != connection.unsent:
        before = connection.unsent
        with suppress(Deadline):
            bench.pump.pass_real_time(0.02)
    bench.settle()


@requirement("ROBUST-036", fault=Fault("the guest misses a byte", plant=("clip:webdav",), case="webdav"))
@pytest.mark.needs(Ability.STATS)
@every_vmc
def test_guest_that_does_not_read(bench: Bench, device: str) -> None:
    """The guest reads nothing while the client sends 8 MB; then the guest reads everything."""
    source, connection = carrier(bench, device)
    source.call("chardev_take", device=device, room=0)
    before = source.stats()["rss_kib"]
    for number in range(COUNT):
        connection.send(MsgcSpicevmc.SPICE_MSGC_SPICEVMC_DATA, bytes([number & 0xFF]) * SIZE)
    drain(bench, connection)
    held = (source.stats()["rss_kib"] - before) * 1024
    bench.claim(held <= HELD, f"at most {HELD:,} bytes more in memory", f"{held:,}", source)
    source.call("chardev_take", device=device, room=None)
    with bench.owed():
        bench.pump.until(lambda: not connection.unsent or connection.ending, 5, "the server's reading")
    bench.settle()
    bench.claim(
        taken(bench) == COUNT * SIZE, f"{COUNT * SIZE:,} bytes at the guest", f"{taken(bench):,}", source
    )


@requirement(
    "ROBUST-037",
    fault=changed(
        "one byte fewer", MsgSpicevmc.SPICE_MSG_SPICEVMC_DATA, lambda b: b[:-1], nth=3, case="webdav"
    ),
)
@every_vmc
def test_client_that_does_not_read(bench: Bench, device: str) -> None:
    """The client reads nothing while the guest writes 7 MB; then the client reads everything."""
    source, connection = carrier(bench, device)
    block, left = bytes(SIZE).hex(), 0
    for _ in range(GUEST_COUNT):
        left = source.call("chardev_send", device=device, hex=block)
    held = GUEST_COUNT * SIZE - left
    bench.claim(held <= GUEST_HELD, f"at most {GUEST_HELD:,} bytes read", f"{held:,}", source)

    def at_client() -> int:
        return sum(m.size for m in connection.got(MsgSpicevmc.SPICE_MSG_SPICEVMC_DATA))

    with suppress(Deadline):
        bench.pump.until(lambda: at_client() >= GUEST_COUNT * SIZE, 5)
    wanted = f"{GUEST_COUNT * SIZE:,} bytes at the client"
    bench.claim(at_client() == GUEST_COUNT * SIZE, wanted, f"{at_client():,}", source)


def flooded(bench: Bench, source: Host, count: int = FLOOD_COUNT) -> tuple[Client, int]:
    """A client that grants tokens for this many messages of the guest's agent, which sends them at once, and
    that reads nothing; how many bytes the server has read."""
    client = bench.client(source, channels=(), quick=True)
    client.main.send(AGENT_START, struct.pack("<I", count))
    bench.settle()
    source.call("limit_send_buffers", size=1, accepted=1)
    messages = b"".join(chunk(agent_message(4, bytes(FLOOD_SIZE), opaque=n)) for n in range(count))
    left = source.call("agent_send", hex=messages.hex())
    return client, len(messages) - left


@requirement(
    "ROBUST-072", fault=(lost(FROM_AGENT, nth=FLOOD_COUNT), changed("no data", FROM_AGENT, b"", nth=9))
)
def test_client_that_does_not_read_from_the_agent(bench: Bench) -> None:
    """The client reads nothing while the guest's agent sends 400 KB; then it reads everything."""
    source = bench.start(devices=("keyboard", "mouse", "agent"))
    client, held = flooded(bench, source)
    bench.claim(held <= FLOOD_HELD, f"at most {FLOOD_HELD:,} bytes read", f"{held:,}", source)
    bench.until(lambda: len(client.main.got(FROM_AGENT)) >= FLOOD_COUNT, "all of the agent's messages")
    numbers = [int.from_bytes(m.body[8:16], "little") for m in client.main.got(FROM_AGENT)]
    seen = f"{len(numbers)}, the first {numbers[:8]}"
    bench.claim(numbers == list(range(FLOOD_COUNT)), f"{FLOOD_COUNT} messages in order", seen, source)


@requirement("ROBUST-073", fault=dies(5, case="1"))
@pytest.mark.parametrize("count", [1, FLOOD_COUNT])
def test_clients_that_leave_unread(bench: Bench, count: int) -> None:
    """Four clients, one after the other, leave while messages of the guest's agent wait for them: one, or
    more than their lines hold."""
    source = bench.start(devices=("keyboard", "mouse", "agent"))
    with suppress(HarnessError, PeerFailure):
        for end in (Connection.close, Connection.reset) * 2:
            client, _ = flooded(bench, source, count)
            end(client.main)
            bench.settle()
    served(bench, source, "after clients that left unread messages of the agent")


@requirement("ROBUST-038", fault=(dies_at(AGENT_DATA), lost(MsgMain.SPICE_MSG_MAIN_INIT, nth=2)))
def test_agent_that_does_not_read(bench: Bench) -> None:
    """The agent reads nothing, and the client sends 64 messages, more than its tokens allow."""
    source, client = with_agent(bench)
    source.call("chardev_take", device="agent", room=0)
    for number in range(64):
        client.main.send(AGENT_DATA, struct.pack("<IIQI", 1, 4, number, 8) + bytes(8))
    bench.settle()
    bench.alive("after agent messages that nobody takes", source)
    if source.life().alive:
        with bench.owed():
            bench.link(source).expect(MsgMain.SPICE_MSG_MAIN_INIT)


@requirement("ROBUST-039", fault=(stuck_after(MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST), swells(100_000)))
@pytest.mark.needs(Ability.STATS)
@pytest.mark.parametrize("first", [PIECE, 10], ids=["whole header", "cut header"])
def test_monitors_configuration_that_is_too_long(bench: Bench, first: int) -> None:
    """The guest's driver takes monitors configurations itself; the client announces one of 1 MiB and sends
    more and more of it."""
    source, client = with_agent(bench, monitors=True)
    bench.settle()
    before = source.stats()["rss_kib"]
    head = struct.pack("<IIQI", 1, MONITORS_CONFIG, 0, TOO_LONG) + struct.pack("<II", 300, 0)
    content = head.ljust(PIECE * PIECES, b"\0")
    pieces = [content[:first], *(content[at : at + PIECE] for at in range(first, len(content), PIECE))]
    for piece in pieces:
        client.main.send(AGENT_DATA, piece)
        bench.settle()
        if client.main.ending:
            break
    ending = client.main.expect_end(deadline=2)
    bench.alive("after a monitors configuration that is too long", source)
    at_guest = bench.seen(source, "client_monitors_config")
    fine = ending is not Ending.TIMEOUT and not at_guest
    bench.claim(fine, "the connection's end", f"{ending}, {at_guest} at the guest", source)
    grown = source.stats()["rss_kib"] - before
    bench.claim(grown < 1024, "less than 1 MiB more", f"{grown} KiB more", source)


@requirement("ROBUST-042", fault=lost(MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST, nth=2))
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_no_descriptor_left(bench: Bench) -> None:
    """The host cannot open further descriptors when connections arrive: the server does not retry in a busy
    loop, and it still serves the client that was connected before."""
    source = bench.start()
    client = bench.client(source, channels=())
    bench.settle()
    source.call("limit_files", count=0)
    waiting = [bench.connect(source) for _ in range(3)]
    with suppress(HarnessError):
        source.settle()
        source.call("limit_files", count=50)
    bench.settle()
    spins = bench.seen(source, "busy")
    bench.claim(not spins, "a loop that comes to rest", "it is ready for ever", source)
    before = len(client.main.got(MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST))
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    bench.settle()
    lists = len(client.main.got(MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST)) - before
    bench.claim(lists == 1, "CHANNELS_LIST to the client that was there before", f"{lists} of them", source)
    with bench.owed():
        waiting[0].send_mess()
        waiting[0].expect_reply()
    for connection in waiting:
        connection.close()
