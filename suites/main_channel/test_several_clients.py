# SPDX-License-Identifier: GPL-2.0-only
"""Several clients at once, where the server allows them (SPICE_DEBUG_ALLOW_MC), and hosts that start one
after the other (server/reds.cpp)."""

from __future__ import annotations

import struct

import pytest

from dissectors.framing.events import DISCONNECTED
from dissectors.wire.constants import ChannelType, MsgcMain, MsgMain, MsgSpicevmc
from dissectors.wire.enums import MouseMode
from fixtures.bench import Bench
from fixtures.bench.planting import changed, closed_after, lost, put, requirement, twice
from fixtures.system.hosts import Ability
from suites.channel_devices import SPICEVMC, UNCOMPRESSED

INIT, LIST = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
MODE = MsgMain.SPICE_MSG_MAIN_MOUSE_MODE
COME, GONE = MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS, MsgMain.SPICE_MSG_MAIN_AGENT_DISCONNECTED
FROM_GUEST = MsgSpicevmc.SPICE_MSG_SPICEVMC_DATA
SHARED = {
    ChannelType.SPICE_CHANNEL_DISPLAY,
    ChannelType.SPICE_CHANNEL_CURSOR,
    ChannelType.SPICE_CHANNEL_INPUTS,
}
ALLOWED = {"SPICE_DEBUG_ALLOW_MC": "1"}
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
    source = bench.start(devices=DEVICES, spare=("smartcard",), environment=ALLOWED)
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
    source = bench.start(devices=("keyboard", "mouse", device), environment=ALLOWED)
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


@requirement("MAIN-009", fault=lost(COME))
@requirement("MAIN-012", fault=(lost(MODE, nth=2), twice(MODE)))
@requirement("MAIN-016", fault=lost(GONE))
@pytest.mark.needs(Ability.DEVICES, Ability.CALLS)
def test_each_client_is_told(bench: Bench) -> None:
    """The mouse mode changes, and the agent comes and goes: the server informs every client, not only one."""
    source = bench.start(devices=("keyboard", "mouse", "tablet", "display"), environment=ALLOWED)
    source.call("set_agent_mouse", enable=0)
    mains = [bench.client(source, channels=()).main for _ in range(3)]
    for mode in (MouseMode.SPICE_MOUSE_MODE_CLIENT, MouseMode.SPICE_MOUSE_MODE_SERVER):
        mains[1].send(MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST, struct.pack("<H", mode))
        bench.settle()
    source.call("agent_attach")
    bench.settle()
    source.call("agent_detach")
    bench.settle()
    for type_, times, proves in ((MODE, 2, "MAIN-012"), (COME, 1, "MAIN-009"), (GONE, 1, "MAIN-016")):
        seen = [len(main.got(type_)) for main in mains]
        bench.claim(
            seen == [times] * 3, f"{type_.name} to each of 3 clients, {times} times", seen, proves=proves
        )


@requirement("CONNID-016", fault=put(INIT, session_id=0x6B8B4567))
def test_ids_of_two_starts(bench: Bench) -> None:
    """The first session of a machine has another id each time its process starts."""
    ids = []
    for number in range(3):
        main = bench.link(bench.start(f"start {number}"))
        ids.append(int(bench.expect(main, INIT, proves="MAIN-001").packet.session_id))
    shown = " ".join(f"{i:08x}" for i in ids)
    bench.claim(len(set(ids)) == len(ids), "three ids", shown)
