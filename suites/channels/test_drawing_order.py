# SPDX-License-Identifier: GPL-2.0-only
"""What the guest draws over while the client's window is full, and what still needs what was there (server/
display-channel.cpp: the tree of drawings that are still to be sent)."""

from __future__ import annotations

from struct import pack

import pytest

from dissectors.framing.events import Message
from dissectors.wire.constants import MsgDisplay
from fixtures.bench import Bench
from fixtures.bench.planting import added, lost, requirement
from fixtures.relay.relay_rules import Piece as Wired
from fixtures.system.hosts import Ability
from suites.channels.test_cached_images import opened
from suites.guest_drawings import FAR_SIDE, FROM_SURFACE, Qxl
from suites.guest_pictures import drawn
from suites.guest_pieces import HEIGHT, NO_MASK, WIDTH, Piece

M = MsgDisplay
CREATE, DESTROY = M.SPICE_MSG_DISPLAY_SURFACE_CREATE, M.SPICE_MSG_DISPLAY_SURFACE_DESTROY
FILL, COPY, COPY_BITS = (
    M.SPICE_MSG_DISPLAY_DRAW_FILL,
    M.SPICE_MSG_DISPLAY_DRAW_COPY,
    M.SPICE_MSG_DISPLAY_COPY_BITS,
)
#: Drawings that fill the client's window, and the colours before and after.
BESIDE = 45
OLD, NEW = 0x112233, 0x445566
REVERT_ON_DUP = 2  # qxl_dev.h, QXLEffectType: the drawing undoes itself when it comes twice

FIRST = 2  # messages about the screen itself: SURFACE_CREATE and its picture


def _old(piece: Wired) -> bool:
    """The drawing on the screen that is copied."""
    return isinstance(piece, Message) and described(piece)[1:] == (0, OLD)


def _old_beside(piece: Wired) -> bool:
    """The drawing on the off-screen surface that is copied."""
    return isinstance(piece, Message) and described(piece)[1:] == (1, OLD)


pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def described(message: Message) -> tuple[str, int, int]:
    """A message's name, its surface, and the colour with which it fills (else 0)."""
    packet = message.packet
    surface = int(getattr(packet, "base", packet).surface_id)
    return message.name, surface, int(packet.brush.content.color) if message.type == FILL else 0


@requirement(
    "CHAN-168",
    fault=(
        lost(FILL, where=_old),
        lost(FILL, where=_old_beside),
        lost(COPY_BITS),
        added(COPY, DESTROY, b"\1\0\0\0", nth=2),
        added(COPY_BITS, M.SPICE_MSG_DISPLAY_DRAW_INVERS, bytes(21 + 13)),
    ),
)
def test_what_is_copied_is_sent_before_it_is_covered(bench: Bench) -> None:
    """The client's window is full while the guest draws, copies that to another place of the screen, and
    draws over the first place; and while it draws on an off-screen surface, copies that to the screen, draws
    over it and gives it up. It also inverts a place twice: the client gets both or neither."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source)
    display.answers.ack = False
    source.call("qxl_draw", right=200, top=0, bottom=4, times=BESIDE, step=6)
    x, y = 300, 200
    for _ in range(2):
        inverts = Piece(*NO_MASK).parts()
        place = [600, y, 600 + WIDTH, y + HEIGHT]
        source.call("qxl_drawing", kind=int(Qxl.INVERS), box=place, parts=inverts, effect=REVERT_ON_DUP)
    box = {"left": x, "top": y, "right": x + WIDTH, "bottom": y + HEIGHT}
    source.call("qxl_draw", color=OLD, **box)
    point = Piece(pack("<ii", x, y)).parts()
    source.call("qxl_drawing", kind=int(Qxl.COPY_BITS), box=[400, y, 400 + WIDTH, y + HEIGHT], parts=point)
    source.call("qxl_draw", color=NEW, **box)
    source.call("qxl_surfaces", count=1, side=FAR_SIDE)
    whole = {"left": 0, "top": 0, "right": FAR_SIDE, "bottom": FAR_SIDE, "surface": 1}
    source.call("qxl_draw", color=OLD, **whole)
    place, parts = [500, y, 500 + WIDTH, y + HEIGHT], FROM_SURFACE.memory.parts()
    source.call(
        "qxl_drawing",
        kind=int(Qxl.COPY),
        box=place,
        parts=parts,
        depends=[1, 0, 0, FAR_SIDE, FAR_SIDE],
    )
    source.call("qxl_draw", color=NEW, **whole)
    source.call("qxl_surfaces", count=1, destroy=1)
    drawn(bench, source)
    early = len(display.got(FILL))
    bench.claim(early < BESIDE, "a full window", f"{early} drawings")
    display.answers.ack = True
    display.acknowledge()
    bench.until(lambda: display.got(DESTROY), DESTROY.name)
    kinds = (CREATE, DESTROY, FILL, COPY, COPY_BITS)
    late = [described(m) for m in display.messages if m.type in kinds][BESIDE + FIRST :]
    on_screen = [(FILL.name, 0, OLD), (COPY_BITS.name, 0, 0), (FILL.name, 0, NEW)]
    beside = [(CREATE.name, 1, 0), (FILL.name, 1, OLD), (COPY.name, 0, 0), (DESTROY.name, 1, 0)]
    seen = late[: len(on_screen)]
    bench.claim(seen == on_screen, f"{on_screen}", seen)
    # the server may leave out what nobody sees any more
    seen = [m for m in late[len(on_screen) :] if m != (FILL.name, 1, NEW)]
    bench.claim(seen == beside, f"{beside}", seen)
    inverted = len(display.got(M.SPICE_MSG_DISPLAY_DRAW_INVERS))
    bench.claim(inverted in (0, 2), "both inversions or none", inverted)
