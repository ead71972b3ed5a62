# SPDX-License-Identifier: GPL-2.0-only
"""A target waits silently for as long as the migration takes, and begins the session once (semi-seamless
scheme, target (2))."""

from __future__ import annotations

import pytest

from dissectors.framing.events import Ending
from dissectors.wire.constants import ChannelType, MainCap, MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import closed_after, requirement, stuck_after, timers, twice
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability

INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
INIT, LIST = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
MIGRATE_END, ATTACH = MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END, MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS
BROUGHT = 0x8AC0FFE1
#: How long a migration of a large machine may take, ms.
LONG_MS, STEP_MS = 600_000, 30_000
TIMEOUT_MS = 10_000
DEVICES = ("keyboard", "mouse", "playback", "record")


@requirement(
    "MIG-DST-015",
    fault=closed_after("result", host="target", channel=INPUTS),
)
@requirement("MIG-DST-002", "MIG-DST-003", "MIG-DST-004", "MIG-DST-006")
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_long_migration(bench: Bench) -> None:
    """Minutes pass before MIGRATE_END: the target sends nothing, drops nobody, and begins the session
    then."""
    target = bench.start("target", incoming=True, devices=DEVICES)
    main = bench.link(target, connection_id=BROUGHT)
    kinds = (INPUTS, ChannelType.SPICE_CHANNEL_PLAYBACK, ChannelType.SPICE_CHANNEL_RECORD)
    channels = [bench.link(target, channel=kind, connection_id=BROUGHT) for kind in kinds]
    for _ in range(0, LONG_MS, STEP_MS):
        bench.pass_time(target, STEP_MS)
    said = [f"{c.name}: {m.name}" for c in (main, *channels) for m in c.messages]
    bench.claim(not said, "silence", said, proves="MIG-DST-003")
    endings = [f"{c.name}: {c.ending}" for c in (main, *channels) if c.ending]
    bench.claim(not endings, "links that are still there", endings, proves="MIG-DST-015")
    main.send(MIGRATE_END)
    bench.expect(main, INIT, proves="MIG-DST-004")
    bench.expect(channels[0], proves="MIG-DST-006")


@requirement("MIG-DST-003", "MIG-DST-005")
@pytest.mark.needs(Ability.CALLS, Ability.DEVICES)
def test_guest_that_stirs_early(bench: Bench) -> None:
    """Before MIGRATE_END the target sends nothing about its machine's devices: the agent connects, lights
    change, a device is added, and the client sends ATTACH_CHANNELS."""
    target = bench.start("target", incoming=True, devices=DEVICES)
    main = bench.link(target, connection_id=BROUGHT)
    inputs = bench.link(target, channel=INPUTS, connection_id=BROUGHT)
    main.send(ATTACH)
    target.call("agent_attach")
    target.call("kbd_leds", leds=6)
    target.call("playback_start")
    target.call("chardev_attach", device="port:late.example")
    bench.settle()
    for owing, connection in (("MIG-DST-003", main), ("MIG-DST-005", inputs)):
        said = [m.name for m in connection.messages]
        bench.claim(not said, "silence", said, proves=owing)
    main.send(MIGRATE_END)
    bench.expect(main, INIT, proves="MIG-DST-004")


@requirement("MIG-DST-016", fault=twice(INIT, host="target"))
def test_begins_once(bench: Bench) -> None:
    """A second MIGRATE_END has no effect."""
    target = bench.start("target", incoming=True)
    main = bench.link(target, connection_id=BROUGHT)
    for _ in range(3):
        main.send(MIGRATE_END)
    main.send(ATTACH)
    bench.expect(main, LIST, proves="MIG-DST-009")
    inits = len(main.got(INIT))
    bench.claim(inits == 1, "one INIT", inits)


@requirement("MIG-DST-016")
def test_client_without_the_capability_does_not_begin(bench: Bench) -> None:
    """MIGRATE_END from a client without SEMI_SEAMLESS_MIGRATE begins no session."""
    target = bench.start("target", incoming=True)
    caps = EVERYTHING.without(MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE)
    main = bench.link(target, connection_id=BROUGHT, capabilities=caps)
    main.send(MIGRATE_END)
    bench.settle()
    inits = len(main.got(INIT))
    bench.claim(not inits, "no INIT", inits)


@requirement("MIG-DST-006", "CONNID-007", "CONNID-010")
def test_all_channels_begin(bench: Bench) -> None:
    """Each channel that was linked before MIGRATE_END begins, and so does one that is linked later; a channel
    that was linked twice begins once."""
    target = bench.start("target", incoming=True, devices=("keyboard", "mouse", "port:one", "port:two"))
    main = bench.link(target, connection_id=BROUGHT)
    port = ChannelType.SPICE_CHANNEL_PORT
    wanted = [(INPUTS, 0), (port, 0), (INPUTS, 0)]
    linked = [
        bench.link(target, channel=kind, channel_id=number, connection_id=BROUGHT) for kind, number in wanted
    ]
    main.send(MIGRATE_END)
    bench.expect(main, INIT, proves="MIG-DST-004")
    for channel in linked[:2]:
        bench.expect(channel, proves="MIG-DST-006")
    late = bench.link(target, channel=port, channel_id=1, connection_id=BROUGHT)
    bench.expect(late, proves="MIG-DST-006")
    ending = linked[2].expect_end()
    bench.claim(not linked[2].messages, "the second of two links is closed", ending, proves="CONNID-010")
    bench.settle()
    lost = [c.name for c in (linked[0], linked[1], late) if c.ending]
    bench.claim(not lost, "the channels go on", lost, proves="MIG-DST-006")


@requirement("MIG-DST-006", fault=closed_after("result", host="target", channel=INPUTS))
@pytest.mark.needs(Ability.CALLS, Ability.DEVICES)
def test_device_that_goes_while_the_target_waits(bench: Bench) -> None:
    """A device whose channel is linked is unplugged before MIGRATE_END: the channels that were linked before
    and after it begin."""
    port = ChannelType.SPICE_CHANNEL_PORT
    target = bench.start("target", incoming=True, devices=("keyboard", "mouse", "port:one", "port:two"))
    main = bench.link(target, connection_id=BROUGHT)
    wanted = [(port, 0), (port, 1), (INPUTS, 0)]
    linked = [
        bench.link(target, channel=kind, channel_id=number, connection_id=BROUGHT) for kind, number in wanted
    ]
    target.call("chardev_detach", device="port:two")
    main.send(MIGRATE_END)
    bench.expect(main, INIT, proves="MIG-DST-004")
    for channel in (linked[0], linked[2]):
        bench.expect(channel)
    bench.claim(
        not linked[1].messages, "nothing on the channel of the missing device", len(linked[1].messages)
    )


@requirement("MAIN-015", "MIG-DST-001")
@pytest.mark.parametrize("first_id", [0, BROUGHT], ids=["ordinary", "migrating"])
def test_migrating_client_takes_over(bench: Bench, first_id: int) -> None:
    """A migrating client takes the session over like any other client: one client at a time."""
    target = bench.start("target", incoming=True)
    first = bench.link(target, connection_id=first_id)
    second = bench.link(target, connection_id=BROUGHT ^ 0x40000000)
    ending = first.expect_end()
    bench.claim(ending is not Ending.TIMEOUT, "the old client is disconnected", ending, proves="MAIN-015")
    second.send(MIGRATE_END)
    bench.expect(second, INIT, proves="MIG-DST-004")


@requirement(
    "MIG-DST-017",
    fault=(
        stuck_after("result", host="target", channel=ChannelType.SPICE_CHANNEL_MAIN),
        timers(1),
        timers(-1),
        closed_after("result", host="target", channel=ChannelType.SPICE_CHANNEL_MAIN),
    ),
)
@requirement("TIME-001")
@pytest.mark.needs(Ability.CALLS, Ability.VIRTUAL_CLOCK)
def test_next_migration_does_not_wait_for_ever(bench: Bench) -> None:
    """If a client has not arrived when the next migration's timeout is over, it is disconnected."""
    target, third = bench.start("target", incoming=True), bench.start("target2", incoming=True)
    main = bench.link(target, connection_id=BROUGHT)
    target.announce(third)
    bench.pass_time(target, TIMEOUT_MS - 1)
    bench.claim(main.ending is None, "a client that may still arrive", main.ending, proves="MIG-DST-017")
    bench.pass_time(target, 1)
    completions = bench.seen(target, "migrate_connect_complete")
    bench.claim(completions == 1, "completion after 10,000 ms", completions, proves="TIME-001")
    ending = main.expect_end()
    bench.claim(ending is not Ending.TIMEOUT, "a client that is disconnected", ending, proves="MIG-DST-017")
