# SPDX-License-Identifier: GPL-2.0-only
"""The calls of the guest's graphics card, and what the server tells the card about them (spice-server's qxl
interface; server/red-qxl.cpp, red-worker.cpp)."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from dissectors.wire.constants import ChannelType, MsgcMain, MsgCursor, MsgDisplay, MsgMain
from dissectors.wire.enums import MouseMode
from fixtures.bench import Bench
from fixtures.bench.planting import added, called_twice, lost, never, put, requirement, skipped, twice
from fixtures.system.hosts import Ability
from suites.channels.test_display_capabilities import (
    DRAW_FILL,
    HEADS,
    MONITORS,
    SURFACE_CREATE,
    monitors,
    opened,
)
from suites.guest_pictures import SCREEN_HEIGHT, SCREEN_WIDTH, drawn, fill

DISPLAY, CURSOR = ChannelType.SPICE_CHANNEL_DISPLAY, ChannelType.SPICE_CHANNEL_CURSOR
SURFACE_DESTROY = MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_DESTROY
CURSOR_INIT, CURSOR_RESET, CURSOR_INVAL_ALL = (
    MsgCursor.SPICE_MSG_CURSOR_INIT,
    MsgCursor.SPICE_MSG_CURSOR_RESET,
    MsgCursor.SPICE_MSG_CURSOR_INVAL_ALL,
)
MOUSE_MODE = MsgMain.SPICE_MSG_MAIN_MOUSE_MODE
SERVER_MODE, CLIENT_MODE = MouseMode.SPICE_MOUSE_MODE_SERVER, MouseMode.SPICE_MOUSE_MODE_CLIENT
MARK = MsgDisplay.SPICE_MSG_DISPLAY_MARK
AREA, COLOUR = (30, 40, 130, 60), 0xC01020  # left, top, right, bottom
#: The calls that return at once, in an order in which a guest may make them.
CALLS = (
    "add_memslot",
    "update_area",
    "flush_surfaces",
    "destroy_surface",
    "destroy_primary_surface",
    "create_primary_surface",
    "destroy_surfaces",
    "create_primary_surface",
)
#: The first call's number: the bytes of each number differ, and its highest bit is set.
COOKIE = 0x8123456789ABCD00
#: The monitors' number (fixtures/library/host/qxl_card.py, set_monitors).
MONITORS_COOKIE = 1
WRONG_MONITORS = ((0, 4), (3, 2))  # how many there are, and how many the guest allows itself
#: Drawings beside each other, and how many the server gives back at once (server/image-encoders.h,
#: RED_RELEASE_BUNCH_SIZE).
DRAWINGS, BUNCH = 70, 64

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def told(bench: Bench, *names: str) -> list[tuple[str, dict[str, Any]]]:
    """What the server has told the card, of these kinds, in order."""
    return [(e.name, dict(e.args)) for e in bench.pump.tape.host_events if e.name in names]


@requirement(
    "CHAN-162",
    fault=(never("async_complete"), called_twice("async_complete"), never("update_area_complete")),
)
def test_asynchronous_calls(bench: Bench) -> None:
    """The guest's card makes each asynchronous call, two of them to read a screen on which it has just
    drawn, and sets no monitors, and more than it allows itself: each ends once and in order, and the guest
    then has what it has drawn."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    left, top, *_ = AREA
    for number, name in enumerate(CALLS):
        reads = name in ("update_area", "flush_surfaces")
        if reads:
            fill(source, AREA, COLOUR + number, wakes=0)
        source.call("qxl_async", begins=name, cookie=COOKIE + number)
        if reads:
            drawn(bench, source)
            seen = source.call("qxl_pixel", x=left, y=top)
            bench.claim(seen == COLOUR + number, f"the guest's colour {COLOUR + number:#x}", f"{seen:#x}")
    for count, most in WRONG_MONITORS:
        source.call("qxl_monitors", heads=HEADS, max_allowed=most, count=count)
    drawn(bench, source)
    ends = [args["cookie"] for _, args in told(bench, "async_complete")]
    due = [COOKIE + number for number in range(len(CALLS))] + [MONITORS_COOKIE] * len(WRONG_MONITORS)
    bench.claim(ends == due, f"{CALLS}, monitors: {[hex(n) for n in due]}", [hex(n) for n in ends])
    kinds = [name for name, _ in told(bench, "async_complete", "update_area_complete")][1:3]
    bench.claim(kinds == ["update_area_complete", "async_complete"], "the areas, then the end", kinds)
    areas = [
        (args["surface"], [tuple(a) for a in args["areas"]])
        for _, args in told(bench, "update_area_complete")
    ]
    bench.claim(areas == [(0, [AREA])], f"what has changed: {AREA}", areas)


@requirement("CHAN-065", fault=(lost(MARK, nth=2), lost(SURFACE_DESTROY), twice(SURFACE_CREATE, nth=2)))
def test_new_screen_by_asynchronous_calls(bench: Bench) -> None:
    """The guest's card makes its primary surface anew by asynchronous calls: its display and its cursor begin
    anew."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    channels = bench.client(source, channels=(DISPLAY, CURSOR)).current.channels
    display, cursor = channels[DISPLAY, 0], channels[CURSOR, 0]
    drawn(bench, source)
    bench.until(lambda: display.got(MARK) and cursor.got(CURSOR_INIT), "display and cursor")
    since = {channel: len(channel.messages) for channel in (display, cursor)}
    for number, name in enumerate(("destroy_primary_surface", "create_primary_surface")):
        source.call("qxl_async", begins=name, cookie=COOKIE + number)
    drawn(bench, source)
    bench.until(lambda: len(display.got(MARK)) > 1 and len(cursor.got(CURSOR_INIT)) > 1, "a new screen")
    for channel, kinds in (
        (display, (SURFACE_DESTROY, SURFACE_CREATE, MARK)),
        (cursor, (CURSOR_INVAL_ALL, CURSOR_RESET, CURSOR_INIT)),
    ):
        seen = [m.name for m in channel.messages[since[channel] :] if m.type in kinds]
        proves = "CHAN-065" if channel is display else "CHAN-102"
        bench.claim(seen == [k.name for k in kinds], [k.name for k in kinds], seen, proves=proves)


@requirement("MAIN-061", fault=(lost(MOUSE_MODE, nth=2), put(MOUSE_MODE, supported_modes=3, nth=2)))
def test_screen_without_a_cursor_of_the_clients(bench: Bench) -> None:
    """The guest makes its primary surface anew, first with a cursor that no client may draw: the client's
    mouse mode ends, and is offered again with the next surface."""
    source = bench.start(devices=("keyboard", "mouse", "tablet", "display"))
    main = bench.link(source)
    bench.expect(main, MsgMain.SPICE_MSG_MAIN_INIT, proves="MAIN-001")
    main.send(MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST, struct.pack("<H", CLIENT_MODE))
    bench.settle()
    for mouse, offered in ((0, SERVER_MODE), (1, SERVER_MODE | CLIENT_MODE)):
        due = [(int(offered), int(SERVER_MODE))]
        before = len(main.got(MOUSE_MODE))
        source.call("qxl_primary", mouse=mouse)
        drawn(bench, source)
        packets = [m.packet for m in main.got(MOUSE_MODE)[before:]]
        seen = [(int(p.supported_modes), int(p.current_mode)) for p in packets]
        bench.claim(seen == due, f"MOUSE_MODE {due}", seen)


@requirement("CHAN-166", fault=(skipped("vm_stop"), skipped("release"), lost(DRAW_FILL, nth=2)))
def test_machine_stops(bench: Bench) -> None:
    """The machine stops after the guest has drawn: all is in the guest's memory, and the guest has got it
    back. What it draws meanwhile is left until the machine runs."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source)
    fill(source, AREA, COLOUR)
    drawn(bench, source)
    source.call("vm_stop")
    left, top, *_ = AREA
    seen = source.call("qxl_pixel", x=left, y=top), source.call("qxl_held")
    bench.claim(seen == (COLOUR, 0), f"the guest's colour {COLOUR}, no drawing held", seen)
    fill(source, AREA, COLOUR ^ 0xFF)
    source.call("qxl_sync")
    bench.settle()
    seen = source.call("qxl_left"), len(display.got(DRAW_FILL))
    bench.claim(seen == (1, 1), "one drawing that is not taken, one at the client", seen)
    source.call("vm_start")
    drawn(bench, source)
    bench.until(lambda: len(display.got(DRAW_FILL)) == 2, "the second drawing")


@requirement("CHAN-163", fault=(never("notify_update"), called_twice("notify_update")))
def test_update_command(bench: Bench) -> None:
    """The guest queues drawings and update commands: it hears of each update, and has what it drew before."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    left, top, *_ = AREA
    for number in (0x81234567, 0x9ABCDEF1):
        fill(source, AREA, color := number & 0xFFFFFF, wakes=0)
        source.call("qxl_update", box=list(AREA), number=number)  # which wakes the library
        drawn(bench, source)
        due = ("notify_update", {"number": number})
        bench.until(lambda d=due: told(bench, "notify_update")[-1:] == [d], "the update")  # type: ignore[misc]
        seen = source.call("qxl_pixel", x=left, y=top)
        bench.claim(seen == color, f"the guest's colour {color:#08x}", f"{seen:#08x}")
    numbers = [hex(args["number"]) for _, args in told(bench, "notify_update")]
    bench.claim(numbers == ["0x81234567", "0x9abcdef1"], "each update once", numbers)


@requirement("CHAN-164", fault=(skipped("qxl_oom"), skipped("release")))
def test_guest_without_memory(bench: Bench) -> None:
    """The guest's memory is full of drawings that are still seen, and the guest says so twice: each time it
    gets some back, and is asked to take them."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    source.call("qxl_draw", top=0, bottom=4, times=DRAWINGS, step=6)
    drawn(bench, source)
    held = source.call("qxl_held")
    bench.claim(held == DRAWINGS, f"{DRAWINGS} drawings are held", held)
    for left in (DRAWINGS - BUNCH, 0):
        source.call("qxl_oom")
        drawn(bench, source)
        held, last = source.call("qxl_held"), source.call("qxl_flushes")[-1:]
        bench.claim(held == left, f"{left} drawings are held", held)
        bench.claim(last == [held], "the guest is asked when it has got them back", last)


@requirement(
    "CHAN-165",
    fault=(
        skipped("qxl_driver_unload"),
        added(
            SURFACE_CREATE,
            MONITORS,
            struct.pack("<HH7I", 1, 1, 0, 0, SCREEN_WIDTH, SCREEN_HEIGHT, 0, 0, 0),
            nth=2,
        ),
    ),
)
def test_monitors_that_the_driver_sets(bench: Bench) -> None:
    """The guest's driver sets its monitors: with a new primary surface the client gets no others. The driver
    stops: with the next primary surface the client gets the one monitor of that surface."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source)
    source.call("qxl_monitors", heads=HEADS[:1])
    drawn(bench, source)
    bench.until(lambda: len(monitors(display)) == 2, "the guest's monitors")
    for unloads in (False, True):
        if unloads:
            source.call("qxl_driver_unload")
        before, marks = len(monitors(display)), len(display.got(MARK))
        source.call("qxl_reset")
        drawn(bench, source)
        bench.until(lambda n=marks: len(display.got(MARK)) > n, "a new screen")  # type: ignore[misc]
        sizes = [[head[2:4] for head in heads] for _, heads in monitors(display)[before:]]
        due = [[[SCREEN_WIDTH, SCREEN_HEIGHT]]] if unloads else []
        bench.claim(sizes == due, f"monitors {due}", sizes)
