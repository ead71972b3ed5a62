# SPDX-License-Identifier: GPL-2.0-only
"""Drawings and surfaces of the guest that are wrong, and others at the same bounds that are right (server/
red-parse-qxl.cpp, display-channel.cpp)."""

from __future__ import annotations

from struct import pack

import pytest

from dissectors.wire.constants import MsgDisplay
from dissectors.wire.enums import BitmapFmt, Ropd, SurfaceFmt
from fixtures.bench import Bench
from fixtures.bench.planting import lost, requirement, skipped, twice
from fixtures.peer import Connection
from fixtures.system.hosts import Ability, Host
from suites.channels.test_cached_images import opened
from suites.guest_drawings import Qxl
from suites.guest_pictures import SCREEN_HEIGHT, SCREEN_WIDTH, drawn, sides
from suites.guest_pieces import NO_MASK, SIZE, SOURCE, SOURCE_WIDTH, Piece, image

WIDTH, HEIGHT = SIZE
CREATE = MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_CREATE
COPY = MsgDisplay.SPICE_MSG_DISPLAY_DRAW_COPY
PLACE = (32, 48, 32 + WIDTH, 48 + HEIGHT)
WHOLE = (0, 0, WIDTH, HEIGHT)
CORNER = (SCREEN_WIDTH - WIDTH, SCREEN_HEIGHT - HEIGHT, SCREEN_WIDTH, SCREEN_HEIGHT)
PUT = pack("<HB", Ropd.SPICE_ROPD_OP_PUT, 0)  # the operation, and the scale mode
BYTES = bytes(SOURCE_WIDTH * HEIGHT * 4)


def bitmap(form: BitmapFmt, width: int, height: int, stride: int) -> Piece:
    """An image of one colour, whose header may be wrong."""
    return image(20, form, (width, height), stride, Piece(BYTES))


TRUE, EIGHT = BitmapFmt.SPICE_BITMAP_FMT_32BIT, BitmapFmt.SPICE_BITMAP_FMT_8BIT
#: What is wrong -> the box (left, top, right, bottom), the area of the source, the source, and the surfaces
#: that are drawn on and read (-1: none).
WRONG = {
    "left of the screen": ((-1, 48, WIDTH - 1, 48 + HEIGHT), WHOLE, SOURCE, 0, -1),
    "above the screen": ((32, -1, 32 + WIDTH, HEIGHT - 1), WHOLE, SOURCE, 0, -1),
    "right of the screen": ((625, 48, 641, 56), WHOLE, SOURCE, 0, -1),
    "below the screen": ((32, 473, 48, 481), WHOLE, SOURCE, 0, -1),
    "on no surface": (PLACE, WHOLE, SOURCE, 9, -1),
    "from no surface": (PLACE, WHOLE, SOURCE, 0, 9),
    "right of the image": (PLACE, (1, 0, WIDTH + 1, HEIGHT), SOURCE, 0, -1),
    "below the image": (PLACE, (0, 1, WIDTH, HEIGHT + 1), SOURCE, 0, -1),
    "left of the image": (PLACE, (-1, 0, WIDTH - 1, HEIGHT), SOURCE, 0, -1),
    "above the image": (PLACE, (0, -1, WIDTH, HEIGHT - 1), SOURCE, 0, -1),
    "right before left": (PLACE, (WIDTH, 0, 0, HEIGHT), SOURCE, 0, -1),
    "bottom before top": (PLACE, (0, HEIGHT, WIDTH, 0), SOURCE, 0, -1),
    "rows that are too short": (PLACE, WHOLE, bitmap(TRUE, *SIZE, 4 * WIDTH - 1), 0, -1),
    "no palette": (PLACE, WHOLE, bitmap(EIGHT, *SIZE, WIDTH), 0, -1),
    "no columns": (PLACE, (0, 0, 0, HEIGHT), bitmap(TRUE, 0, HEIGHT, 4 * WIDTH), 0, -1),
    "no rows": (PLACE, (0, 0, WIDTH, 0), bitmap(TRUE, WIDTH, 0, 4 * WIDTH), 0, -1),
}
#: What is right, at the same bounds.
RIGHT = (
    ((0, 0, WIDTH, HEIGHT), WHOLE, SOURCE, 0, -1),
    (CORNER, WHOLE, SOURCE, 0, -1),
    (PLACE, WHOLE, bitmap(TRUE, *SIZE, 4 * WIDTH), 0, -1),
)
LAST = 511  # the card has 512 surfaces (fixtures/library/host/qxl_layouts.py)
XRGB, ALPHA = int(SurfaceFmt.SPICE_SURFACE_FMT_32_xRGB), int(SurfaceFmt.SPICE_SURFACE_FMT_8_A)
#: Surfaces: number, width, height, stride (bytes), format.
WRONG_SURFACES = {
    "a number too high": (LAST + 1, 8, 8, 32, XRGB),
    "rows that are too short": (1, 8, 8, 31, XRGB),
    "rows that are too short, from below": (1, 8, 8, -31, XRGB),
    "no format": (1, 8, 8, 32, 7),
    "a number that is taken": (LAST, 16, 16, 64, XRGB),
}
RIGHT_SURFACES = ((LAST, 8, 8, 32, XRGB), (2, 8, 6, 8, ALPHA))

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


@requirement(
    "CHAN-169",
    fault=(
        lost(COPY, nth=3),
        twice(COPY, nth=4),
        lost(CREATE, nth=2),
        twice(CREATE, nth=3),
        skipped("release"),
    ),
)
def test_drawings_and_surfaces_that_are_wrong(bench: Bench) -> None:
    """The guest makes drawings and off-screen surfaces, each wrong in one way, and some that just can be
    made: the client gets only these, and the guest gets the commands of the others back."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source)
    draws(bench, source, display)
    makes_surfaces(bench, source, display)


def draws(bench: Bench, source: Host, display: Connection) -> None:
    """The drawings."""
    count = len(display.got(COPY))
    held = source.call("qxl_held")
    for box, area, picture, surface, depends in (*WRONG.values(), *RIGHT):
        left, top, right, bottom = area
        parts = Piece(picture, pack("<4i", top, left, bottom, right), PUT, *NO_MASK).parts()
        reads = [depends, *WHOLE] if depends >= 0 else None
        source.call("qxl_drawing", kind=int(Qxl.COPY), box=box, parts=parts, surface=surface, depends=reads)
    drawn(bench, source)
    bench.until(lambda: len(display.got(COPY)) >= count + len(RIGHT), "what can be drawn")
    boxes = [sides(m.packet.base.box) for m in display.got(COPY)[count:]]
    due = [box for box, *_ in RIGHT]
    bench.claim(boxes == due, f"drawings at {due}", boxes)
    kept = source.call("qxl_held") - held
    bench.claim(kept <= len(RIGHT), f"at most {len(RIGHT)} drawings are kept", kept)


def makes_surfaces(bench: Bench, source: Host, display: Connection) -> None:
    """The surfaces."""
    held = source.call("qxl_held")
    for number, width, height, stride, form in (*RIGHT_SURFACES, *WRONG_SURFACES.values()):
        source.call("qxl_surface", number=number, width=width, height=height, stride=stride, form=form)
    drawn(bench, source)
    bench.until(lambda: len(display.got(CREATE)) > len(RIGHT_SURFACES), "the right surfaces")
    packets = [m.packet for m in display.got(CREATE)[1:]]
    made = [(int(p.surface_id), int(p.width), int(p.height), int(p.format)) for p in packets]
    due = [(number, width, height, form) for number, width, height, _, form in RIGHT_SURFACES]
    bench.claim(made == due, f"number, width, height, format {due}", made)
    kept = source.call("qxl_held") - held
    bench.claim(kept == len(RIGHT_SURFACES), "only the commands of the right surfaces are kept", kept)
