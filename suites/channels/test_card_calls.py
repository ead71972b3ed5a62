# SPDX-License-Identifier: GPL-2.0-only
"""The calls of the guest's graphics card, and what the server tells the card about them (spice-server's qxl
interface; server/red-qxl.cpp, red-worker.cpp)."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from dissectors.wire.constants import MsgDisplay
from fixtures.bench import Bench
from fixtures.bench.planting import added, called_twice, never, requirement, skipped
from fixtures.system.hosts import Ability, Host
from suites.channels.test_display_capabilities import HEADS, MONITORS, SURFACE_CREATE, monitors, opened
from suites.guest_pictures import drawn

MARK = MsgDisplay.SPICE_MSG_DISPLAY_MARK
WIDTH, HEIGHT = 640, 480  # of the guest's screen
AREA, COLOUR = (30, 40, 130, 60), 0xC01020  # left, top, right, bottom
SIDES = ("left", "top", "right", "bottom")
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
#: Drawings beside each other, and how many the server gives back at once (server/image-encoders.h,
#: RED_RELEASE_BUNCH_SIZE).
DRAWINGS, BUNCH = 70, 64

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def told(bench: Bench, *names: str) -> list[tuple[str, dict[str, Any]]]:
    """What the server has told the card, of these kinds, in order."""
    return [(e.name, dict(e.args)) for e in bench.pump.tape.host_events if e.name in names]


def fill(source: Host, color: int = COLOUR) -> None:
    """The guest fills an area with a colour, and does not tell the library of it."""
    source.call("qxl_draw", **dict(zip(SIDES, AREA, strict=True)), color=color, wakes=0)


@requirement(
    "CHAN-162",
    fault=(never("async_complete"), called_twice("async_complete"), never("update_area_complete")),
)
def test_asynchronous_calls(bench: Bench) -> None:
    """The guest's card makes each asynchronous call, one of them to read a screen on which the guest has just
    drawn: each ends once and in order, and the guest then has what it has drawn."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    fill(source)
    for number, name in enumerate(CALLS):
        source.call("qxl_async", begins=name, cookie=COOKIE + number)
        if name == "update_area":
            drawn(bench, source)
            left, top, *_ = AREA
            seen = source.call("qxl_pixel", x=left, y=top)
            bench.claim(seen == COLOUR, f"the guest's colour {COLOUR:#08x}", f"{seen:#08x}")
    drawn(bench, source)
    ends = [args["cookie"] for _, args in told(bench, "async_complete")]
    due = [COOKIE + number for number in range(len(CALLS))]
    bench.claim(ends == due, f"{CALLS}: {[hex(n) for n in due]}", [hex(n) for n in ends])
    kinds = [name for name, _ in told(bench, "async_complete", "update_area_complete")][1:3]
    bench.claim(kinds == ["update_area_complete", "async_complete"], "the areas, then the end", kinds)
    areas = [
        (args["surface"], [tuple(a) for a in args["areas"]])
        for _, args in told(bench, "update_area_complete")
    ]
    bench.claim(areas == [(0, [AREA])], f"what has changed: {AREA}", areas)


@requirement("CHAN-162", fault=(never("async_complete"), called_twice("async_complete")))
def test_monitors_that_are_wrong(bench: Bench) -> None:
    """The guest sets its monitors, then none, then more than it allows itself: each call ends."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    for count, most in ((3, 4), (0, 4), (3, 2)):
        before = len(told(bench, "async_complete"))
        source.call("qxl_monitors", heads=HEADS, max_allowed=most, count=count)
        drawn(bench, source)
        ends = [args["cookie"] for _, args in told(bench, "async_complete")[before:]]
        bench.claim(ends == [MONITORS_COOKIE], f"{count} monitors of {most}: one end", ends)


@requirement("CHAN-163", fault=(never("notify_update"), called_twice("notify_update")))
def test_update_command(bench: Bench) -> None:
    """The guest queues drawings and update commands: it hears of each update, and has what it drew before."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    left, top, *_ = AREA
    for number in (0x81234567, 0x9ABCDEF1):
        fill(source, color := number & 0xFFFFFF)
        source.call("qxl_update", box=list(AREA), number=number)
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
    for number in range(DRAWINGS):
        x, y = number % 20 * 30, number // 20 * 30
        source.call("qxl_draw", left=x, top=y, right=x + 20, bottom=y + 20, color=number)
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
        added(SURFACE_CREATE, MONITORS, struct.pack("<HH7I", 1, 1, 0, 0, WIDTH, HEIGHT, 0, 0, 0), nth=2),
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
        due = [[[WIDTH, HEIGHT]]] if unloads else []
        bench.claim(sizes == due, f"monitors {due}", sizes)
