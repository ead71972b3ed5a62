# SPDX-License-Identifier: GPL-2.0-only
"""Several clients at once, where the server allows them (SPICE_DEBUG_ALLOW_MC), and hosts that start one
after the other (server/reds.cpp)."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest

from dissectors.framing.events import DISCONNECTED
from dissectors.wire.constants import ChannelType, MainCap, MsgcMain, MsgInputs, MsgMain, MsgSpicevmc
from dissectors.wire.enums import MouseMode
from fixtures.bench import Bench
from fixtures.bench.planting import (
    as_seamless,
    changed,
    closed_after,
    dies,
    lost,
    put,
    requirement,
    turned,
    twice,
)
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.peer.duties import DUTIFUL, NEVER_ANSWERS
from fixtures.system.hosts import SEVERAL_CLIENTS, Ability, HarnessError
from suites.channel_devices import SPICEVMC, UNCOMPRESSED
from suites.steps import BEGIN, BEGIN_SEAMLESS, announced, served

INIT, LIST = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
MODE = MsgMain.SPICE_MSG_MAIN_MOUSE_MODE
COME, GONE = MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS, MsgMain.SPICE_MSG_MAIN_AGENT_DISCONNECTED
COME_AT_OLD = MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED
ACK, NACK = MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK, MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK
INPUTS, LIGHTS = ChannelType.SPICE_CHANNEL_INPUTS, MsgInputs.SPICE_MSG_INPUTS_KEY_MODIFIERS
FROM_GUEST = MsgSpicevmc.SPICE_MSG_SPICEVMC_DATA
SHARED = {
    ChannelType.SPICE_CHANNEL_DISPLAY,
    ChannelType.SPICE_CHANNEL_CURSOR,
    ChannelType.SPICE_CHANNEL_INPUTS,
}
TIMEOUT_MS = 10_000  # of a source's wait
DEVICES = ("keyboard", "mouse", "display", "playback", "record", "smartcard", "usbredir", "webdav")


@requirement(
    "MAIN-051",
    fault=(
        changed("one more", LIST, lambda b: bytes([b[0] + 1]) + b[1:] + b"\5\0", nth=2),
        changed("one fewer", LIST, lambda b: bytes([b[0] - 1]) + b[1:-2], nth=2),
        closed_after(LIST, nth=1),
    ),
)
@pytest.mark.needs(Ability.DEVICES, Ability.CALLS)
def test_channels_of_a_second_client(bench: Bench) -> None:
    """The server offers every channel to the first client, which stays; the second gets only the channels
    that two clients can share (display, cursor and inputs) and can open them."""
    source = bench.start(devices=DEVICES, spare=("smartcard",), environment=SEVERAL_CLIENTS)
    first = bench.client(source, channels=())
    second = bench.client(source)
    bench.settle()
    seen = [
        {int(entry.type) for entry in client.main.got(LIST)[0].packet.channels} for client in (first, second)
    ]
    bench.claim(seen[0] > SHARED, "every channel to the first", sorted(seen[0]))
    bench.claim(seen[1] == SHARED, f"channels {sorted(SHARED)} to the second", sorted(seen[1]))
    ended = [c.ending for client in (first, second) for c in client.current if c.ending]
    bench.claim(not ended, "both clients stay", ended)


@requirement("MAIN-074", fault=(lost(FROM_GUEST), changed("one bit", FROM_GUEST, b"for the firsu")))
@pytest.mark.parametrize("device", SPICEVMC, ids=lambda device: device.partition(":")[0])
@pytest.mark.needs(Ability.DEVICES, Ability.CALLS)
def test_device_of_the_first_client(bench: Bench, device: str) -> None:
    """The first client uses a device that clients cannot share, and a second client links its channel too:
    the server closes that link, and the first client still gets what the guest sends."""
    source = bench.start(devices=("keyboard", "mouse", device), environment=SEVERAL_CLIENTS)
    channel = SPICEVMC[device]
    owner = bench.client(source, channels=(channel,), capabilities=UNCOMPRESSED)
    first = owner.current.channels[channel, 0]
    second = bench.client(source, channels=())
    late = bench.link(source, channel=channel, connection_id=second.session_id)
    ending = late.expect_end(deadline=2)
    bench.claim(ending in DISCONNECTED, "the second link's end", ending)
    source.call("chardev_send", device=device, hex=b"for the first".hex())
    bench.settle()
    seen = [m.body for m in first.got(FROM_GUEST)]
    bench.claim(seen == [b"for the first"], "the guest's data at the first client", seen)


@requirement("CHAN-040", fault=(lost(LIGHTS, nth=3), put(LIGHTS, modifiers=5, nth=1)))
@requirement("MAIN-009", fault=(lost(COME), turned(COME_AT_OLD, COME, lambda b: b"\x0a\0\0\0")))
@requirement("MAIN-012", fault=(lost(MODE, nth=2), twice(MODE)))
@requirement("MAIN-016", fault=lost(GONE))
@pytest.mark.needs(Ability.DEVICES, Ability.CALLS)
def test_each_client_is_told(bench: Bench) -> None:
    """The mouse mode and the keyboard's lights change, and the agent comes and goes: the server informs every
    client, not only one, and each in the form that it supports."""
    source = bench.start(devices=("keyboard", "mouse", "tablet", "display"), environment=SEVERAL_CLIENTS)
    source.call("set_agent_mouse", enable=0)
    lacking: tuple[MainCap, ...] = (MainCap.SPICE_MAIN_CAP_AGENT_CONNECTED_TOKENS,)
    abilities = EVERYTHING, EVERYTHING.without(*lacking), EVERYTHING
    clients = [bench.client(source, channels=(INPUTS,), capabilities=able) for able in abilities]
    mains = [client.main for client in clients]
    for mode in (MouseMode.SPICE_MOUSE_MODE_CLIENT, MouseMode.SPICE_MOUSE_MODE_SERVER):
        mains[1].send(MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST, struct.pack("<H", mode))
        bench.settle()
    source.call("agent_attach")
    bench.settle()
    source.call("agent_detach")
    source.call("kbd_leds", leds=4)
    bench.settle()
    told = ((MODE, [2, 2, 2], "MAIN-012"), (GONE, [1, 1, 1], "MAIN-016"))
    forms = ((COME, [1, 0, 1], "MAIN-009"), (COME_AT_OLD, [0, 1, 0], "MAIN-009"))
    for kind, times, proves in (*told, *forms):
        seen = [len(main.got(kind)) for main in mains]
        bench.claim(seen == times, f"{kind.name} to the 3 clients: {times} times", seen, proves=proves)
    lights = [[m.body[0] for m in client.current.channels[INPUTS, 0].got(LIGHTS)] for client in clients]
    bench.claim(lights == [[4]] * 3, "caps lock to each of 3 clients", lights, proves="CHAN-040")


@requirement("MIG-SRC-080", fault=turned(BEGIN, BEGIN_SEAMLESS, as_seamless))
@requirement("MIG-DST-080", fault=turned(NACK, ACK))
@pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.CALLS)
def test_no_seamless_migration_of_several_clients(bench: Bench) -> None:
    """Source and target allow several clients, and the seamless scheme is switched on: the source announces
    the semi-seamless scheme, and the target accepts no other."""
    source, target = bench.pair(environment=SEVERAL_CLIENTS)
    for host in (source, target):
        host.call("set_seamless_migration", enable=1)
    client = bench.client(source, channels=())
    announced(bench, source, client, target)
    seen = [m.name for m in client.main.got(BEGIN, BEGIN_SEAMLESS)]
    bench.claim(seen == [BEGIN.name], f"{BEGIN.name} alone", seen, proves="MIG-SRC-080")
    stranger = bench.link(target, connection_id=client.session_id ^ 0x40000000)
    stranger.send(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
    bench.settle()
    seen = [m.name for m in stranger.got(ACK, NACK)]
    bench.claim(seen == [NACK.name], f"{NACK.name} alone", seen, target, proves="MIG-DST-080")


@requirement("ROBUST-070", fault=dies(2, case="answered"))
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
@pytest.mark.parametrize("when", ["answered", "announced"])
def test_client_that_comes_in_a_migration(bench: Bench, when: str) -> None:
    """A further client connects when the first has answered the announcement, or before it has answered; then
    the source's wait of 10 s is over."""
    source, target = bench.pair(environment=SEVERAL_CLIENTS)
    client = bench.client(source, channels=(), duties=DUTIFUL if when == "answered" else NEVER_ANSWERS)
    if when == "announced":
        source.announce(target)
        bench.expect(client.main, BEGIN, proves="MIG-SRC-020")
    else:
        announced(bench, source, client, target)
    bench.settle()
    with bench.owed():
        bench.client(source, channels=())
    with suppress(HarnessError):
        bench.pass_time(source, TIMEOUT_MS)
    bench.alive("after a client that came in a migration", source)


@requirement("ROBUST-071", fault=dies(2, case="one"))
@pytest.mark.needs(Ability.SEAMLESS_DATA)
@pytest.mark.parametrize("number", [1, 2], ids=["one", "two"])
def test_seamless_migration_that_several_clients_rule_out(bench: Bench, number: int) -> None:
    """The seamless scheme was switched on before the server started; the migration begins with one client, or
    with two."""
    source, target = bench.pair(seamless=True, environment=SEVERAL_CLIENTS)
    for _ in range(number):
        bench.client(source, channels=())
    with suppress(HarnessError):
        source.announce(target)
        bench.settle()
    served(bench, source, "after migrate_connect")


@requirement("CONNID-016", fault=put(INIT, session_id=0x6B8B4567))
def test_ids_of_two_starts(bench: Bench) -> None:
    """The first session of a machine has another id each time its process starts."""
    ids = []
    for number in range(3):
        main = bench.link(bench.start(f"start {number}"))
        ids.append(int(bench.expect(main, INIT, proves="MAIN-001").packet.session_id))
    shown = " ".join(f"{i:08x}" for i in ids)
    bench.claim(len(set(ids)) == len(ids), "three ids", shown)
