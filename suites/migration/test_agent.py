# SPDX-License-Identifier: GPL-2.0-only
"""The guest's agent in a seamless migration: it is talked to at the target as at the source
(server/migration-protocol.h, SpiceMigrateDataMain)."""

from __future__ import annotations

import struct

import pytest

from dissectors.constants import ChannelType, CommonCap, MsgcMain, MsgDisplay, MsgMain
from fixtures.bench import Bench
from fixtures.hosts import Ability, Host
from fixtures.peer import Client
from fixtures.peer.connection import EVERYTHING
from suites.steps import announced

AGENT_DATA, MM_TIME = MsgMain.SPICE_MSG_MAIN_AGENT_DATA, MsgMain.SPICE_MSG_MAIN_MULTI_MEDIA_TIME
ARRIVED = MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS
#: VDAgentMessages (protocol 1, clipboard release, no data), told apart by their opaque number, and the
#: header that the guest puts before each.
FROM_CLIENT, FROM_GUEST = struct.pack("<IIQI", 1, 9, 0xC1, 0), struct.pack("<IIQI", 1, 9, 0x6E57, 0)
CHUNK = struct.pack("<II", 1, len(FROM_GUEST))
WITH_AGENT = ("keyboard", "mouse", "agent")

pytestmark = pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.CALLS, Ability.DEVICES)


def moved(bench: Bench, source: Host, client: Client, target: Host) -> None:
    """A whole seamless migration."""
    announced(bench, source, client, target)
    source.complete(target)
    bench.until("MIG-SRC-047", lambda: client.left, "SPICE_MSG_MIGRATE_DATA from the source")
    bench.expect("MIG-DST-025", client.main, MM_TIME)
    bench.settle()


def heard(bench: Bench, host: Host) -> int:
    """How often the guest has got the client's message."""
    return sum(
        str(e.args.get("hex", "")).count(FROM_CLIENT.hex())
        for e in bench.pump.tape.host_events
        if e.host == host.label and e.name == "chardev_write"
    )


@pytest.mark.requirement("MIG-DST-029")
@pytest.mark.parametrize("hops", [1, 2])
def test_agent_is_talked_to_at_the_target(bench: Bench, hops: int) -> None:
    """What client and guest say to each other passes at the target, without another AGENT_START."""
    source = bench.start("source", seamless=True, devices=WITH_AGENT)
    client = bench.client(source, channels=())
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 10))
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, FROM_CLIENT)
    bench.settle()
    for hop in range(1, hops + 1):
        target = bench.start(f"target{hop}", incoming=True, seamless=True, devices=WITH_AGENT)
        client.steps.clear()
        client.left.clear()
        moved(bench, source, client, target)
        source = target
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, FROM_CLIENT)
    bench.until("MIG-DST-029", lambda: heard(bench, source) == 1, "the client's message at the guest")
    source.call("agent_send", hex=(CHUNK + FROM_GUEST).hex())
    data = bench.expect("MIG-DST-029", client.main, AGENT_DATA)
    bench.claim("MIG-DST-029", data.body == FROM_GUEST, FROM_GUEST.hex(), data.body.hex())


@pytest.mark.requirement("MIG-DST-030")
def test_agent_that_only_the_target_has(bench: Bench) -> None:
    """An agent that comes with the target is told to the client."""
    source = bench.start("source", seamless=True)
    target = bench.start("target", incoming=True, seamless=True, devices=WITH_AGENT)
    client = bench.client(source, channels=())
    moved(bench, source, client, target)
    told = bench.expect("MIG-DST-030", client.main, ARRIVED)
    bench.claim("MIG-DST-030", told.type == ARRIVED, ARRIVED.name, told.name)


@pytest.mark.requirement("MIG-DST-025")
def test_time_at_the_target(bench: Bench) -> None:
    """The multimedia time that the target tells is a time."""
    source, target = bench.pair(seamless=True)
    client = bench.client(source, channels=())
    moved(bench, source, client, target)
    told = client.main.got(MM_TIME)[0].packet.multi_media_time
    bench.claim("MIG-DST-025", told != 0, "a multimedia time", told)


@pytest.mark.requirement("MIG-DST-031")
def test_serial_goes_on(bench: Bench) -> None:
    """With full headers a display that has moved goes on with the serial that it had at the source."""
    devices = ("keyboard", "mouse", "display")
    source, target = bench.pair(seamless=True, devices=devices)
    caps = EVERYTHING.without(CommonCap.SPICE_COMMON_CAP_MINI_HEADER)
    client = bench.client(source, capabilities=caps)
    bench.settle()
    moved(bench, source, client, target)
    key = (ChannelType.SPICE_CHANNEL_DISPLAY, 0)
    last = client.left[0].channels[key].messages[-1].serial
    display = client.current.channels[key]
    draws = frozenset(range(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_FILL, 314))
    target.call("qxl_draw")
    bench.until("MIG-DST-024", lambda: display.got(*draws), "a picture from the target")
    first = display.got(*draws)[0].serial
    fine = last is not None and first is not None and first >= last
    bench.claim("MIG-DST-031", fine, f"a serial from {last} on", first)
