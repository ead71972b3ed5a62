# SPDX-License-Identifier: GPL-2.0-only
"""Every way in which a guest can draw, as the client gets it and as the guest reads it from its own screen
(server/red-parse-qxl.cpp, dcc-send.cpp, display-channel.cpp)."""

from __future__ import annotations

import functools
from struct import pack

import pytest
from scapy.packet import Packet

from dissectors.channels.display import SpiceMsgcDisplayPreferredCompression
from dissectors.framing.events import Message
from dissectors.wire.constants import MsgDisplay
from dissectors.wire.enums import BitmapFlags, ImageCompression, ImageType, Ropd
from fixtures.bench import Bench
from fixtures.bench.planting import changed, lost, put, requirement, skipped
from fixtures.peer import Connection
from fixtures.system.hosts import Ability, Host
from suites.channels.test_cached_images import opened
from suites.guest_drawings import ABOVE, BACK, FAR_SIDE, FROM_SURFACE, Drawing, Qxl, drawings
from suites.guest_pictures import SCREEN_HEIGHT, SCREEN_WIDTH, drawn, sides
from suites.guest_pieces import AREA, HEIGHT, NO_MASK, WIDTH, Piece, of_palette

#: The first drawing's box; the next ones are below it.
LEFT, TOP = 40, 24
NAMES = tuple(drawings(LEFT, TOP))
FORGET = MsgDisplay.SPICE_MSG_DISPLAY_INVAL_ALL_PALETTES
PUT_ALL = pack("<HB", Ropd.SPICE_ROPD_OP_PUT, 0)  # the operation, and the scale mode
OWN = 101  # the first message of the channel's own
M = MsgDisplay

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def box(name: str) -> list[int]:
    """Where one drawing goes: left, top, right, bottom."""
    top = TOP + ABOVE * NAMES.index(name)
    return [LEFT, top, LEFT + WIDTH, top + HEIGHT]


@functools.cache
def described(name: str) -> Drawing:
    """The drawing for its own box."""
    return drawings(*box(name)[:2])[name]


def draw(source: Host, name: str) -> None:
    """The guest draws in the drawing's own box."""
    drawing = described(name)
    left, top, right, bottom = box(name)
    area = {"self_area": [left, top - ABOVE, right, bottom - ABOVE]} if drawing.above else {}
    parts = drawing.memory.parts()
    source.call(
        "qxl_drawing", kind=int(drawing.kind), box=box(name), parts=parts, effect=drawing.effect, **area
    )


def own(display: Connection) -> list[Message]:
    """What the display has received, without the PINGs that come at their own times."""
    return [m for m in display.messages if m.type >= OWN]


def value(packet: Packet, path: str) -> object:
    """A field of a packet, as a number, bytes or a list; None where there is none. A number in the path
    counts in a list."""
    at: object = packet
    for step in path.split("."):
        try:
            at = at[int(step)] if step.isdigit() else getattr(at, step)  # type: ignore[index]
        except (AttributeError, IndexError):
            return None
    return at if isinstance(at, (bytes, list)) or at is None else int(at)  # type: ignore[call-overload]


@requirement(
    "CHAN-160",
    fault=(
        put(M.SPICE_MSG_DISPLAY_DRAW_ROP3, rop3=0x97),
        put(M.SPICE_MSG_DISPLAY_DRAW_BLEND, rop_descriptor=8),
        put(M.SPICE_MSG_DISPLAY_DRAW_ALPHA_BLEND, alpha=0x81),
        put(M.SPICE_MSG_DISPLAY_DRAW_TRANSPARENT, true_color=0),
        put(M.SPICE_MSG_DISPLAY_DRAW_STROKE, back_mode=8),
        lost(M.SPICE_MSG_DISPLAY_DRAW_WHITENESS),
        changed("another place", M.SPICE_MSG_DISPLAY_COPY_BITS, lambda b: b[:-1] + bytes([b[-1] ^ 1])),
        changed("another glyph", M.SPICE_MSG_DISPLAY_DRAW_TEXT, lambda b: b[:-1] + bytes([b[-1] ^ 128])),
        changed("not inverted", M.SPICE_MSG_DISPLAY_DRAW_FILL, lambda b: b[:28] + b"\0" + b[29:], nth=2),
        lost(M.SPICE_MSG_DISPLAY_SURFACE_CREATE, nth=2),
        lost(M.SPICE_MSG_DISPLAY_DRAW_COPY, nth=6),
        changed("another surface", M.SPICE_MSG_DISPLAY_DRAW_COPY, lambda b: b[:-4] + b"\2" + b[-3:], nth=7),
    ),
)
def test_drawing_at_the_client(bench: Bench) -> None:
    """The guest draws in each way, at last from an off-screen surface that the client does not know yet: the
    client gets each drawing as the guest has made it."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    source.call("qxl_surfaces", count=1, side=FAR_SIDE)
    display = opened(bench, source)
    before = len(own(display))
    for name in NAMES:
        draw(source, name)
    drawn(bench, source)
    bench.until(lambda: len(own(display)) >= before + len(NAMES), "all drawings")
    kinds = [m.name for m in own(display)[before:]]
    due_kinds = [described(name).message.name for name in NAMES]
    bench.claim(kinds == due_kinds, f"{due_kinds}", kinds)
    for name, message in zip(NAMES, own(display)[before:], strict=False):
        base, due = message.packet.base, described(name).fields
        place = int(base.surface_id), list(sides(base.box)), int(base.clip.type)
        bench.claim(place == (0, box(name), 0), f"{name}: surface, box, clip {0, box(name), 0}", place)
        seen = {path: value(message.packet, path) for path in due}
        wrong = {path: seen[path] for path in due if seen[path] != due[path]}
        bench.claim(not wrong, f"{name}: { ({path: due[path] for path in wrong}) }", wrong)
    copies_a_surface(bench, source, display)


def copies_a_surface(bench: Bench, source: Host, display: Connection) -> None:
    """The guest copies a part of the off-screen surface: the client first gets the surface and its
    picture."""
    before, drawing = len(own(display)), FROM_SURFACE
    source.call(
        "qxl_drawing",
        kind=int(drawing.kind),
        box=[LEFT + ABOVE, TOP, LEFT + ABOVE + WIDTH, TOP + HEIGHT],
        parts=drawing.memory.parts(),
        depends=[1, 0, 0, FAR_SIDE, FAR_SIDE],
    )
    drawn(bench, source)
    bench.until(lambda: len(own(display)) >= before + 3, "the copy")
    seen = [(m.name, int(getattr(m.packet, "base", m.packet).surface_id)) for m in own(display)[before:]]
    due = [(M.SPICE_MSG_DISPLAY_SURFACE_CREATE.name, 1), (drawing.message.name, 1), (drawing.message.name, 0)]
    bench.claim(seen == due, f"{due}", seen)
    packet = display.got(drawing.message)[-1].packet
    fields = {path: value(packet, path) for path in drawing.fields}
    bench.claim(fields == drawing.fields, f"{drawing.fields}", fields)


#: Numbers of palettes, and what happens between the drawings with them.
ONE, OTHER, COMPRESSED, ANEW = 0x8123456789, 0x9ABCDEF012, "compressed", "anew"
STEPS = (ONE, ONE, OTHER, COMPRESSED, ONE, OTHER, ANEW, ONE)


def palettes(display: Connection, since: int) -> list[tuple[str, int]]:
    """What a display has got of palettes: one to keep, one that it keeps, or the word to forget all."""
    found = []
    for message in display.messages[since:]:
        if message.type == FORGET:
            found.append(("forgets", 0))
        elif message.type == M.SPICE_MSG_DISPLAY_DRAW_COPY:
            bitmap = message.packet.src_bitmap.content
            flags = int(getattr(bitmap, "flags", 0))
            if flags & BitmapFlags.SPICE_BITMAP_FLAGS_PAL_FROM_CACHE:
                found.append(("kept", int(bitmap.palette_id)))
            elif getattr(bitmap, "palette", None) is not None:
                keeps = flags & BitmapFlags.SPICE_BITMAP_FLAGS_PAL_CACHE_ME
                found.append(("keeps" if keeps else "has", int(bitmap.palette.unique)))
    return found


def _unkept(body: bytes) -> bytes:
    """DRAW_COPY of an 8-bit image whose palette is not to be kept."""
    eight, top_down, keep = 5, 4, 1
    return body.replace(bytes([eight, top_down | keep, 16, 0]), bytes([eight, top_down, 16, 0]))


@requirement(
    "CHAN-167",
    fault=(
        lost(FORGET, nth=2),
        changed("not to be kept", M.SPICE_MSG_DISPLAY_DRAW_COPY, _unkept),
        changed(
            "another palette",
            M.SPICE_MSG_DISPLAY_DRAW_COPY,
            lambda b: b.replace(ONE.to_bytes(8, "little"), OTHER.to_bytes(8, "little")),
        ),
    ),
)
def test_palettes(bench: Bench) -> None:
    """The guest draws images with two palettes, also images that the client prefers compressed, and a mask;
    it makes its primary surface anew, and draws one again."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source)
    before = len(display.messages)
    for step in STEPS:
        if isinstance(step, int):
            parts = Piece(of_palette(step & 0xFF, step), AREA, PUT_ALL, *NO_MASK).parts()
            source.call("qxl_drawing", kind=int(Qxl.COPY), box=box("blend"), parts=parts)
        elif step == COMPRESSED:
            lz = int(ImageCompression.SPICE_IMAGE_COMPRESSION_LZ)
            display.send(SpiceMsgcDisplayPreferredCompression(image_compression=lz))
            bench.settle()
            draw(source, "blackness")
        else:
            source.call("qxl_reset")
        drawn(bench, source)
    due = [("keeps", ONE), ("kept", ONE), ("keeps", OTHER), ("kept", ONE), ("kept", OTHER)]
    due += [("forgets", 0), ("keeps", ONE)]
    bench.until(lambda: len(palettes(display, before)) >= len(due), "all images")
    seen = palettes(display, before)
    bench.claim(seen == due, f"{due}", seen)
    # masks are not compressed, even so the images that follow are
    kinds = [value(m.packet, "mask.bitmap.type") for m in display.got(M.SPICE_MSG_DISPLAY_DRAW_BLACKNESS)]
    kinds += [value(display.got(M.SPICE_MSG_DISPLAY_DRAW_COPY)[-1].packet, "src_bitmap.type")]
    wanted = [int(ImageType.SPICE_IMAGE_TYPE_BITMAP), int(ImageType.SPICE_IMAGE_TYPE_LZ_PLT)]
    bench.claim(kinds == wanted, f"types of mask and last image {wanted}", kinds, proves="CHAN-160")


def near(seen: int, due: int, by: int) -> bool:
    """Whether no component of a colour differs by more."""
    return all(abs((seen >> n & 255) - (due >> n & 255)) <= by for n in (0, 8, 16))


@requirement("CHAN-161", fault=skipped("qxl_update_area"))
def test_drawing_in_the_guests_memory(bench: Bench) -> None:
    """The guest draws in each way, and reads its screen."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    source.call("qxl_draw", left=0, top=0, right=SCREEN_WIDTH, bottom=SCREEN_HEIGHT, color=BACK)
    for name in NAMES:
        draw(source, name)
    source.call("qxl_update_area", right=SCREEN_WIDTH, bottom=SCREEN_HEIGHT)
    for name in NAMES:
        drawing = described(name)
        if drawing.colours is None:
            continue
        rows = source.call(
            "qxl_pixels", **dict(zip(("left", "top", "right", "bottom"), box(name), strict=True))
        )
        wrong = [
            f"{x}, {y}: {rows[y][x]:06x}, not {drawing.colours(x, y):06x}"
            for y in range(HEIGHT)
            for x in range(WIDTH)
            if not near(rows[y][x], drawing.colours(x, y), drawing.near)
        ]
        bench.claim(not wrong, f"{name}: each pixel of the guest's memory as drawn", wrong[:4])
