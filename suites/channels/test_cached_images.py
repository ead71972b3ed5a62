# SPDX-License-Identifier: GPL-2.0-only
"""The guest's images in the client's cache, its off-screen surfaces, and where it draws (server/dcc.cpp,
dcc-send.cpp, pixmap-cache.cpp; spice.proto, DisplayChannel)."""

from __future__ import annotations

import pytest

from dissectors.channels.display import SpiceMsgcDisplayInit, SpiceMsgcDisplayPreferredCompression
from dissectors.channels.image import SpiceBitmap, SpiceImage
from dissectors.framing.events import Message
from dissectors.wire.constants import ChannelType, MsgDisplay
from dissectors.wire.enums import BitmapFlags, ImageCompression, ImageFlags, ImageType, ResourceType
from fixtures.bench import Bench
from fixtures.bench.planting import added, changed, lost, put, requirement, twice
from fixtures.peer import Connection
from fixtures.peer.peer_client import start
from fixtures.system.hosts import Ability, Host
from suites.guest_pictures import drawn, sides

DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
DRAW_COPY, DRAW_FILL = MsgDisplay.SPICE_MSG_DISPLAY_DRAW_COPY, MsgDisplay.SPICE_MSG_DISPLAY_DRAW_FILL
INVAL_LIST = MsgDisplay.SPICE_MSG_DISPLAY_INVAL_LIST
CREATE, DESTROY = (
    MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_CREATE,
    MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_DESTROY,
)
MARK = MsgDisplay.SPICE_MSG_DISPLAY_MARK
WIDTH, HEIGHT = 640, 480  # of the guest's screen
SIDE = 24  # of images and off-screen surfaces, pixels
#: A row of such a surface in the colour 0x123456, and one on which nothing was drawn.
COLOUR, NOTHING = bytes.fromhex("563412") * SIDE, bytes(3 * SIDE)
#: A cache for four images: its size in DISPLAY_INIT counts pixels.
FOUR = 4 * SIDE * SIDE
UNCOMPRESSED = SpiceMsgcDisplayPreferredCompression(
    image_compression=int(ImageCompression.SPICE_IMAGE_COMPRESSION_OFF)
)

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def opened(bench: Bench, source: Host, cache: int | None = None) -> Connection:
    """A display that gets images as they are. `cache`: pixels of its cache, where a test asks for few."""
    client = bench.client(source, channels=(), quick=True)  # a slow line has a window of twice the size
    display = bench.link(source, channel=DISPLAY, connection_id=client.session_id)
    if cache is None:
        start(display)
    else:
        display.send(SpiceMsgcDisplayInit(pixmap_cache_id=1, pixmap_cache_size=cache, glz_dictionary_id=2))
    display.send(UNCOMPRESSED)
    bench.expect(display, MARK)
    drawn(bench, source)
    return display


def images(message: Message) -> list[SpiceImage]:
    """The guest's image that a DRAW_COPY draws; the screen's own has another size."""
    image = message.packet.src_bitmap if message.type == DRAW_COPY else None
    return [image] if isinstance(image, SpiceImage) and int(image.width) == SIDE else []


def _uncached(body: bytes) -> bytes:
    """DRAW_COPY without a clip, whose image lacks the flag CACHE_ME."""
    flags = int.from_bytes(body[21:25], "little") + 9
    return body[:flags] + b"\0" + body[flags + 1 :]


def _cached(body: bytes) -> bytes:
    """DRAW_COPY without a clip, whose image has the flag CACHE_ME."""
    flags = int.from_bytes(body[21:25], "little") + 9
    return body[:flags] + b"\1" + body[flags + 1 :]


@requirement(
    "CHAN-103",
    fault=(
        lost(INVAL_LIST, nth=2),
        changed("another id", INVAL_LIST, lambda b: b[:-1] + bytes([b[-1] ^ 1])),
        changed("not for the cache", DRAW_COPY, _uncached, nth=7),
    ),
)
def test_cache_for_four_images(bench: Bench) -> None:
    """The guest draws more images than the client's cache holds, and some of them again."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source, FOUR)
    numbers = (1, 2, 3, 4, 5, 6, 6, 5, 1, 6, 2)
    for place, number in enumerate(numbers):
        source.call("qxl_image", left=place * 40, top=place, width=SIDE, height=SIDE, seed=number, cache=1)
        drawn(bench, source)
    bench.until(lambda: sum(map(len, map(images, display.messages))) >= len(numbers), "each image")
    kept: set[int] = set()
    most = 0
    for message in display.messages:
        if message.type == INVAL_LIST:
            gone = [(int(r.type), int(r.id)) for r in message.packet.resources]
            wrong = [r for r in gone if r[0] != ResourceType.SPICE_RES_TYPE_PIXMAP or r[1] not in kept]
            bench.claim(not wrong, "INVAL_LIST names images in the cache", wrong)
            kept -= {number for _, number in gone}
        for image in images(message):
            number = int(image.id)
            if image.type == ImageType.SPICE_IMAGE_TYPE_FROM_CACHE:
                bench.claim(number in kept, f"an image in the cache, not {number:#x}", "FROM_CACHE")
            elif int(image.flags) & ImageFlags.SPICE_IMAGE_FLAGS_CACHE_ME:
                kept.add(number)
        most = max(most, len(kept))
    bench.claim(most <= 4, "at most four images in the cache", most)


@requirement("CHAN-103", fault=changed("for the cache", DRAW_COPY, _cached, nth=2))
def test_image_that_is_larger_than_the_cache(bench: Bench) -> None:
    """The guest draws an image that is larger than the client's whole cache, and then a small one."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source, FOUR)
    for number, side in ((1, 4 * SIDE), (2, SIDE)):
        source.call("qxl_image", left=number * 100, width=side, height=side, seed=number, cache=1)
        drawn(bench, source)
    bench.until(lambda: len(of_the_guest(display)) == 2, "both images")
    kept = [bool(int(i.flags) & ImageFlags.SPICE_IMAGE_FLAGS_CACHE_ME) for i in of_the_guest(display)]
    bench.claim(kept == [False, True], "only the small one for the cache", kept)


def of_the_guest(display: Connection) -> list[SpiceImage]:
    """The images that the guest has drawn, of either size."""
    pictures = (m.packet.src_bitmap for m in display.got(DRAW_COPY))
    return [p for p in pictures if isinstance(p, SpiceImage) and int(p.width) in (SIDE, 4 * SIDE)]


def drawings(display: Connection, since: int) -> list[tuple[str, int]]:
    """What happened on each surface: the message's name, without its prefix, and the surface."""
    kinds = (CREATE, DESTROY, DRAW_COPY, DRAW_FILL)
    return [
        (m.name.removeprefix("SPICE_MSG_DISPLAY_"), int(getattr(m.packet, "base", m.packet).surface_id))
        for m in display.messages[since:]
        if m.type in kinds
    ]


def rows(picture: SpiceBitmap) -> list[bytes]:
    """The rows of a bitmap of 32 bits, the topmost first, without each pixel's unused byte."""
    data, stride = bytes(picture.data), int(picture.stride)
    lines = [data[at : at + stride] for at in range(0, len(data), stride)]
    if not int(picture.flags) & BitmapFlags.SPICE_BITMAP_FLAGS_TOP_DOWN:
        lines.reverse()
    return [b"".join(line[at : at + 3] for at in range(0, stride, 4)) for line in lines]


@requirement(
    "CHAN-104",
    fault=(
        put(CREATE, flags=1, nth=2),
        lost(DRAW_COPY, nth=2),
        put(DESTROY, surface_id=1),
        lost(CREATE, nth=4),
        changed("drawn on the screen", DRAW_FILL, lambda b: b"\0" + b[1:]),
        changed("upside down", DRAW_COPY, lambda b: b[:76] + bytes([b[76] ^ 4]) + b[77:], nth=2),
        twice(DESTROY),
        added(DRAW_COPY, DESTROY, bytes(4), nth=2),
    ),
)
def test_surface_that_was_there_before(bench: Bench) -> None:
    """The guest has drawn on one of two off-screen surfaces before the client comes, and does so again; then
    it gives both up, and makes new ones."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    source.call("qxl_surfaces", count=2, side=SIDE)
    upper = {"left": 0, "top": 0, "right": SIDE, "bottom": SIDE // 2, "surface": 2, "color": 0x123456}
    source.call("qxl_draw", **upper)
    drawn(bench, source)
    display = opened(bench, source)
    begun = drawings(display, 0)
    bench.claim(begun == [("SURFACE_CREATE", 0), ("DRAW_COPY", 0)], "the screen alone at first", begun)
    for act, arguments, due in (
        ("qxl_draw", upper, [("SURFACE_CREATE", 2), ("DRAW_COPY", 2), ("DRAW_FILL", 2)]),
        ("qxl_surfaces", {"count": 2, "destroy": 1}, [("SURFACE_DESTROY", 2)]),
        ("qxl_surfaces", {"count": 2, "side": SIDE}, [("SURFACE_CREATE", 1), ("SURFACE_CREATE", 2)]),
        ("qxl_draw", upper, [("DRAW_FILL", 2)]),
    ):
        before = len(display.messages)
        source.call(act, **arguments)
        drawn(bench, source)
        bench.until(lambda n=before, d=due: len(drawings(display, n)) >= len(d), due[-1][0])  # type: ignore[misc]
        seen = drawings(display, before)
        bench.claim(seen == due, f"{due}", seen)
    made = [(int(m.packet.width), int(m.packet.height), int(m.packet.flags)) for m in display.got(CREATE)[1:]]
    bench.claim(made == [(SIDE, SIDE, 0)] * 3, f"surfaces of {SIDE} x {SIDE}, not primary", made)
    picture = display.got(DRAW_COPY)[1].packet.src_bitmap.content
    lines = rows(picture)
    due_lines = [COLOUR] * (SIDE // 2) + [NOTHING] * (SIDE // 2)
    bench.claim(lines == due_lines, "a picture whose upper half is drawn", [line[:4].hex() for line in lines])


@requirement(
    "CHAN-105",
    fault=(
        changed("without its clip", DRAW_FILL, lambda b: b[:20] + b"\0" + b[57:]),
        changed("a clip that is wider", DRAW_FILL, lambda b: b[:33] + bytes([b[33] ^ 1]) + b[34:]),
        changed("a box that is lower", DRAW_FILL, lambda b: b[:4] + bytes([b[4] ^ 1]) + b[5:], nth=2),
        twice(DRAW_FILL, nth=2),
    ),
)
def test_box_and_clip(bench: Bench) -> None:
    """The guest draws inside two rectangles, without a clip, and outside its screen: the first two reach the
    client with box and clip, the others do not."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source)
    clip = [[0x20, 0x31, 0x42, 0x53], [0x82, 0x93, 0xA4, 0xB5]]
    box = {"left": 16, "top": 24, "right": 0x123, "bottom": 0xCD}
    source.call("qxl_draw", clip=clip, **box)
    source.call("qxl_draw", left=WIDTH - 9, top=HEIGHT - 8, right=WIDTH, bottom=HEIGHT)
    for right, bottom in ((WIDTH + 1, HEIGHT), (WIDTH, HEIGHT + 1)):
        source.call("qxl_draw", left=600, top=400, right=right, bottom=bottom)
    drawn(bench, source)
    bench.until(lambda: len(display.got(DRAW_FILL)) >= 2, "the guest's drawings")
    drawn(bench, source)
    seen = []
    for base in (m.packet.base for m in display.got(DRAW_FILL)):
        rects = getattr(base.clip.rects, "rects", []) if int(base.clip.type) else []
        seen.append((sides(base.box), sorted(map(sides, rects))))
    due = [((16, 24, 0x123, 0xCD), sorted(map(tuple, clip))), ((WIDTH - 9, HEIGHT - 8, WIDTH, HEIGHT), [])]
    bench.claim(seen == due, f"box and clip {due}", seen)


@requirement("CHAN-105", fault=lost(DRAW_FILL, nth=41))
def test_drawing_that_a_clip_leaves_visible(bench: Bench) -> None:
    """The client's window is full while the guest draws over its own drawing, within a small part of the same
    box: the client gets both, for the first is still seen beside the clip."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source)
    display.answers.ack = False
    beside, box = 60, {"left": 300, "top": 200, "right": 420, "bottom": 300}
    for place in range(beside):
        source.call("qxl_draw", left=place * 4, right=place * 4 + 3, top=place, bottom=place + 4)
    source.call("qxl_draw", **box)
    source.call("qxl_draw", clip=[[310, 210, 330, 220]], color=0x123456, **box)
    drawn(bench, source)
    early = len(display.got(DRAW_FILL))
    bench.claim(early < beside, "a full window", f"{early} drawings")
    display.answers.ack = True
    display.acknowledge()
    bench.until(lambda: display.got(DRAW_FILL)[-1].packet.base.clip.type, "the drawing with a clip")
    seen = [int(m.packet.base.clip.type) > 0 for m in display.got(DRAW_FILL)[beside:]]
    bench.claim(seen == [False, True], "the first whole, then the second within its clip", seen)
