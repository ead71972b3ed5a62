# SPDX-License-Identifier: GPL-2.0-only
"""What the guest reads from its own graphics card: the pixels of its screen, and the commands that the server
gives back to it (spice-server's qxl interface; server/display-channel.cpp, red-worker.cpp)."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import ChannelType
from fixtures.bench import Bench
from fixtures.bench.planting import requirement, skipped
from fixtures.system.hosts import Ability, Host
from suites.guest_pictures import SCREEN_HEIGHT, SCREEN_WIDTH, drawn, fill

RED, BLUE = 0xC01020, 0x1020C0
FIRST, SECOND = (30, 40, 130, 60), (300, 200, 310, 260)  # left, top, right, bottom
#: The server may keep the newest drawing, and a cursor that it shows to later clients.
STILL_SHOWN = 2
MANY = 12

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def read(host: Host) -> list[tuple[int, ...]]:
    """The guest reads its whole screen: the rectangles that have changed, sorted."""
    return sorted(map(tuple, host.call("qxl_update_area", right=SCREEN_WIDTH, bottom=SCREEN_HEIGHT) or ()))


@requirement("CHAN-129", fault=skipped("qxl_update_area"))
@pytest.mark.parametrize("clients", [0, 1])
def test_guest_reads_its_screen(bench: Bench, clients: int) -> None:
    """The guest fills two areas and reads its screen at once, then one of them again: its memory holds the
    colours, and it hears each time which areas have changed."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    for _ in range(clients):
        bench.client(source, channels=(ChannelType.SPICE_CHANNEL_DISPLAY,), quick=True)
        bench.settle()
        drawn(bench, source)
    read(source)
    for areas, color in (((FIRST, SECOND), RED), ((FIRST,), BLUE), ((), BLUE)):
        for area in areas:
            fill(source, area, color, wakes=0)
        seen = read(source)
        bench.claim(seen == sorted(areas), f"the guest hears that {areas} changed", seen)
        corners = [[(left, top), (right - 1, bottom - 1)] for left, top, right, bottom in areas]
        inside = {source.call("qxl_pixel", x=x, y=y) for pair in corners for x, y in pair}
        bench.claim(inside <= {color}, f"the guest's memory holds {color:#08x}", inside)


@requirement("CHAN-130", fault=skipped("qxl_reset"))
def test_new_screen_is_black(bench: Bench) -> None:
    """The guest fills an area and makes its primary surface anew: the memory is black."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    fill(source, FIRST, RED)
    read(source)
    before = source.call("qxl_pixel", x=FIRST[0], y=FIRST[1])
    source.call("qxl_reset")
    drawn(bench, source)
    seen = [before, source.call("qxl_pixel", x=FIRST[0], y=FIRST[1])]
    bench.claim(seen == [RED, 0], "the guest's colour, and black in a new surface", list(map(hex, seen)))


@requirement("CHAN-131", fault=skipped("release"))
@pytest.mark.parametrize("command", ["drawing", "cursor"])
@pytest.mark.parametrize("clients", [0, 1])
def test_commands_are_given_back(bench: Bench, command: str, clients: int) -> None:
    """The guest fills one area many times, or changes its cursor many times, with a client and without: it
    gets all commands back but those that are still shown."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    for _ in range(clients):
        bench.client(source, quick=True)
        bench.settle()
    for number in range(MANY):
        if command == "drawing":
            fill(source, FIRST, number)
        else:
            source.call("qxl_cursor", unique=number, x=number)
        drawn(bench, source)
    held = source.call("qxl_held")
    bench.claim(held <= STILL_SHOWN, f"at most {STILL_SHOWN} commands of {MANY} are kept", held)
