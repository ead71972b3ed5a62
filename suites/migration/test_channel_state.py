# SPDX-License-Identifier: GPL-2.0-only
"""A session's channels in a migration: they are silent after SPICE_MSG_MIGRATE, keep their state at the
target, and work there (spice.proto, BaseChannel; server/migration-protocol.h)."""

from __future__ import annotations

import struct
from functools import partial

import pytest

from dissectors.wire.constants import (
    ChannelType,
    CommonCap,
    MsgBase,
    MsgcInputs,
    MsgcMain,
    MsgCursor,
    MsgDisplay,
    MsgInputs,
    MsgMain,
    MsgPlayback,
    MsgRecord,
)
from fixtures.bench import Bench
from fixtures.bench.planting import NOTIFY_BODY, added, lost, requirement, serial, twice
from fixtures.peer import Client, Connection
from fixtures.peer.client_capabilities import EVERYTHING as CAPABLE
from fixtures.peer.duties import DUTIFUL, Duties, MigrationStep
from fixtures.system.hosts import Ability, Host
from suites.steps import announced, migrated, moved

ACK = MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK
NOTIFY = MsgBase.SPICE_MSG_NOTIFY

INPUTS, DISPLAY = ChannelType.SPICE_CHANNEL_INPUTS, ChannelType.SPICE_CHANNEL_DISPLAY
MIGRATE, SET_ACK = MsgBase.SPICE_MSG_MIGRATE, MsgBase.SPICE_MSG_SET_ACK
MOTION_ACK = MsgInputs.SPICE_MSG_INPUTS_MOUSE_MOTION_ACK
#: A mouse that moves by (1, -1), no button pressed; the server acknowledges each BUNCH of them
#: (protocol.h, SPICE_INPUT_MOTION_ACK_BUNCH).
MOTION, BUNCH = struct.pack("<iiH", 1, -1, 0), 4
EVERYTHING = ("keyboard", "mouse", "display", "playback", "record")
#: Long enough for a channel's PING timers, shorter than the time that a source waits for its clients, ms.
IDLE_MS = 5_000
SURFACE_CREATE = MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_CREATE
DRAWS = frozenset(range(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_FILL, SURFACE_CREATE))
#: What a guest does -> the channel that sends a message because of it, and the messages.
DOINGS: tuple[tuple[str, dict[str, object], ChannelType, frozenset[int]], ...] = (
    ("kbd_leds", {"leds": 2}, INPUTS, frozenset({MsgInputs.SPICE_MSG_INPUTS_KEY_MODIFIERS})),
    ("qxl_draw", {}, DISPLAY, DRAWS),
    ("qxl_cursor", {}, ChannelType.SPICE_CHANNEL_CURSOR, frozenset({MsgCursor.SPICE_MSG_CURSOR_SET})),
    (
        "playback_start",
        {},
        ChannelType.SPICE_CHANNEL_PLAYBACK,
        frozenset({MsgPlayback.SPICE_MSG_PLAYBACK_START}),
    ),
    (
        "record_start",
        {},
        ChannelType.SPICE_CHANNEL_RECORD,
        frozenset({MsgRecord.SPICE_MSG_RECORD_START}),
    ),
)

pytestmark = pytest.mark.needs(Ability.DEVICES)
guest_acts = pytest.mark.needs(Ability.CALLS)
seamless_only = pytest.mark.needs(Ability.SEAMLESS_DATA)
#: Both schemes, each marked with the requirement that a channel works at the target.
both_schemes = pytest.mark.parametrize(
    "seamless",
    [
        pytest.param(True, marks=[seamless_only, requirement("MIG-DST-024")]),
        pytest.param(False, marks=requirement("MIG-DST-006")),
    ],
    ids=["seamless", "semi-seamless"],
)


def seamless_pair(
    bench: Bench, devices: tuple[str, ...], duties: Duties = DUTIFUL
) -> tuple[Host, Host, Client]:
    """A client that has agreed to a seamless migration of a machine with these devices."""
    source, target = bench.pair(seamless=True, devices=devices)
    client = bench.client(source, duties=duties)
    bench.settle()
    announced(bench, source, client, target)
    return source, target, client


def move_mouse(connection: Connection, times: int) -> None:
    """Sends this many SPICE_MSGC_INPUTS_MOUSE_MOTION."""
    for _ in range(times):
        connection.send(MsgcInputs.SPICE_MSGC_INPUTS_MOUSE_MOTION, MOTION)


def said_more(connection: Connection, kinds: frozenset[int], before: int) -> bool:
    """Whether a channel has received more than this many of these messages."""
    return len(connection.got(*kinds)) > before


def acknowledged(bench: Bench, connection: Connection) -> int:
    """How many SPICE_MSG_INPUTS_MOUSE_MOTION_ACK have come once the server has read every motion."""
    bench.settle()
    return len(connection.got(MOTION_ACK))


@requirement("MIG-SRC-050", fault=lost(MIGRATE, channel=INPUTS))
@requirement("MIG-DST-026", fault=(lost(MOTION_ACK, host="target"), twice(MOTION_ACK, host="target")))
@requirement("MIG-SRC-041")
@pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.VIRTUAL_CLOCK)
@guest_acts
def test_channels_that_move_are_silent(bench: Bench) -> None:
    """Between SPICE_MSG_MIGRATE and MIGRATE_DATA a channel sends nothing: not for the guest's lights, the
    client's mouse, or a timer. Every channel of the session gets SPICE_MSG_MIGRATE. The target acknowledges
    the motions of that time, and counts on."""
    source, _, client = seamless_pair(bench, EVERYTHING, DUTIFUL.holding(MigrationStep.FLUSH_MARK))
    inputs = client.current.channels[INPUTS, 0]
    source.call("migrate_start")
    source.call("vm_stop")
    source.call("migrate_end", completed=1)
    bench.expect(inputs, MIGRATE, proves="MIG-SRC-050")
    source.call("kbd_leds", leds=6)
    move_mouse(inputs, 3 * BUNCH + 1)
    bench.pass_time(source, IDLE_MS)
    client.release(MigrationStep.FLUSH_MARK)
    bench.until(lambda: client.left, "SPICE_MSG_MIGRATE_DATA from the source", proves="MIG-SRC-047")
    inputs = client.current.channels[INPUTS, 0]
    seen = [acknowledged(bench, inputs)]
    for more in (BUNCH - 2, 1):
        move_mouse(inputs, more)
        seen.append(acknowledged(bench, inputs))
    bench.claim(seen == [3, 3, 4], "acknowledgements [3, 3, 4]", seen, proves="MIG-DST-026")


@requirement("MIG-DST-026", fault=(lost(MOTION_ACK, host="target"), twice(MOTION_ACK, host="target")))
@requirement("CHAN-005", fault=(lost(MOTION_ACK), twice(MOTION_ACK)))
@seamless_only
@pytest.mark.parametrize("before", range(BUNCH))
def test_motions_are_counted_on(bench: Bench, before: int) -> None:
    """The target goes on counting the mouse motions that the source has counted."""
    source, target, client = seamless_pair(bench, ("keyboard", "mouse"))
    inputs = client.current.channels[INPUTS, 0]
    move_mouse(inputs, BUNCH + before)
    seen = acknowledged(bench, inputs)
    bench.claim(seen == 1, f"1 acknowledgement of {BUNCH + before} motions", seen, proves="CHAN-005")
    source.complete(target)
    moved(bench, source, client)
    inputs = client.current.channels[INPUTS, 0]
    for after in range(1, BUNCH + 1):
        move_mouse(inputs, 1)
        due, seen = int(before + after >= BUNCH), acknowledged(bench, inputs)
        what = f"{due} acknowledgements after {before} motions before and {after} after the move"
        bench.claim(seen == due, what, seen, proves="MIG-DST-026")


@requirement("MIG-DST-027", fault=added(ACK, NOTIFY, NOTIFY_BODY))
@seamless_only
def test_what_is_known_is_not_told_again(bench: Bench) -> None:
    """Before its MIGRATE_DATA a target's channel sends nothing that the client has from the source: no
    pictures, no cursor, no sound modes, no notices."""
    source, target, client = seamless_pair(bench, EVERYTHING)
    bench.settle()
    source.complete(target)
    moved(bench, source, client)
    display = client.current.channels[DISPLAY, 0]
    target.call("qxl_draw")
    bench.until(lambda: display.got(*DRAWS), "a picture from the target", proves="MIG-DST-024")
    again = [m.name for m in display.got(SURFACE_CREATE)]
    bench.claim(not again, "no surface that the client has", again)


@guest_acts
@both_schemes
@pytest.mark.parametrize("hops", [1, 2])
def test_channels_work_at_the_target(bench: Bench, seamless: bool, hops: int) -> None:
    """What the guest does after the migration reaches the client on every channel."""
    source = bench.start("source", seamless=seamless, devices=EVERYTHING)
    client = bench.client(source)
    for hop in range(1, hops + 1):
        target = bench.start(f"target{hop}", incoming=True, seamless=seamless, devices=EVERYTHING)
        client.steps.clear()
        client.left.clear()
        migrated(bench, source, client, target)
        source = target
    for call, arguments, channel, kinds in DOINGS:
        connection = client.current.channels[channel, 0]
        heard = len(connection.got(*kinds))
        source.call(call, **arguments)
        bench.until(
            partial(said_more, connection, kinds, heard),
            f"what {call} makes the {connection.name} channel say",
        )


@guest_acts
@both_schemes
def test_channels_listen_at_the_target(bench: Bench, seamless: bool) -> None:
    """What the client sends after the migration reaches the guest: keys, and the mouse mode."""
    devices = ("keyboard", "mouse", "tablet", "display")
    source, target = bench.pair(seamless=seamless, devices=devices)
    client = bench.client(source)
    migrated(bench, source, client, target)
    pressed = bench.seen(target, "keyboard_scan")
    client.current.channels[INPUTS, 0].send(MsgcInputs.SPICE_MSGC_INPUTS_KEY_DOWN, b"\x1e\0\0\0")
    bench.until(lambda: bench.seen(target, "keyboard_scan") > pressed, "the key at the target's guest")
    seen = len(client.main.got(MsgMain.SPICE_MSG_MAIN_MOUSE_MODE))
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST, struct.pack("<H", 2))
    bench.until(
        lambda: len(client.main.got(MsgMain.SPICE_MSG_MAIN_MOUSE_MODE)) > seen,
        "the requested mouse mode",
    )


@requirement(
    "MIG-DST-031",
    fault=(
        serial("one again", "SPICE_MSG_*", lambda n: n - 1, host="target", channel=DISPLAY),
        serial("one left out", "SPICE_MSG_*", lambda n: n + 2, host="target", channel=DISPLAY),
    ),
)
@seamless_only
@guest_acts
def test_serial_goes_on(bench: Bench) -> None:
    """With full headers a display that has migrated begins with the serial of the source's last message, or
    with the next."""
    source, target = bench.pair(seamless=True, devices=("keyboard", "mouse", "display"))
    caps = CAPABLE.without(CommonCap.SPICE_COMMON_CAP_MINI_HEADER)
    client = bench.client(source, capabilities=caps)
    bench.settle()
    migrated(bench, source, client, target)
    last = client.left[0].channels[DISPLAY, 0].messages[-1].serial
    display = client.current.channels[DISPLAY, 0]
    target.call("qxl_draw")
    bench.until(lambda: display.got(*DRAWS), "a picture from the target", proves="MIG-DST-024")
    first = display.messages[0].serial
    fine = last is not None and first in (last, last + 1)
    bench.claim(fine, f"the serial {last} or the next", first)
