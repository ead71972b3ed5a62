# SPDX-License-Identifier: GPL-2.0-only
"""A client on a slow line migrates seamlessly: which images it gets at the target, and which of those that it
has are only alike (server/dcc.cpp, handle_migrate_data; dcc-send.cpp, red_lossy_marshall_qxl_draw_fill)."""

from __future__ import annotations

import pytest

from dissectors.channels.image import SpiceImage
from dissectors.framing.events import Message
from dissectors.wire.constants import ChannelType, MsgDisplay
from dissectors.wire.enums import ImageCompression, ImageType
from fixtures.bench import Bench
from fixtures.bench.planting import lost, requirement, twice
from fixtures.peer import Client, Connection
from fixtures.system.hosts import Ability, Host, Unsupported
from suites.channels.test_codecs import retyped
from suites.channels.test_display_capabilities import SIDE, came
from suites.guest_pictures import drawn, sides
from suites.steps import migrated

DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
DRAW_COPY, DRAW_FILL = MsgDisplay.SPICE_MSG_DISPLAY_DRAW_COPY, MsgDisplay.SPICE_MSG_DISPLAY_DRAW_FILL
DEVICES = ("keyboard", "mouse", "display")
#: The PONG of the net test names a time that is this much earlier: the 256,000 bytes then take longer than at
#: 10 Mbit/s (server/main-channel-client.cpp, net_test_stage).
SLOW_US = 2_000_000
AUTO = 1  # spice_wan_compression_t: for slow lines alone
PUT, XOR = 8, 64  # spice/enums.h, SpiceRopd
#: What the host sets -> the type of an image on a quick line, and on a slow one.
TYPES = {
    "QUIC": (ImageType.SPICE_IMAGE_TYPE_QUIC, ImageType.SPICE_IMAGE_TYPE_JPEG),
    "GLZ": (ImageType.SPICE_IMAGE_TYPE_GLZ_RGB, ImageType.SPICE_IMAGE_TYPE_ZLIB_GLZ_RGB),
}
#: Where the photograph is, left and top; no two of its sides are alike.
LEFT, TOP = 320, 40

pytestmark = pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.CALLS, Ability.DEVICES)


def display_of(client: Client) -> Connection:
    return client.current.channels[DISPLAY, 0]


def begun(bench: Bench, compression: str, line: str) -> tuple[Host, Host, Client]:
    """Source and target that compress so, JPEG and ZLIB for slow lines alone, and a client on such a line."""
    hosts = bench.pair(seamless=True, devices=("keyboard", "mouse"))
    for host in hosts:
        host.call(
            "set_image_compression", value=int(ImageCompression[f"SPICE_IMAGE_COMPRESSION_{compression}"])
        )
        for what in ("jpeg", "zlib_glz"):
            host.call(f"set_{what}_compression", value=AUTO)
        host.call("chardev_attach", device="display")
    source, target = hosts
    source.call("vm_start")
    slow = line == "slow"
    client = bench.client(source, channels=(DISPLAY,), quick=not slow, slow_us=SLOW_US * slow)
    drawn(bench, source)
    return source, target, client


def photographed(bench: Bench, host: Host, client: Client) -> int:
    """The type of a photograph that the guest draws."""
    before = len(came(display_of(client)))
    host.call("qxl_image", left=LEFT, top=TOP, seed=3, width=SIDE, height=SIDE)
    drawn(bench, host)
    bench.until(lambda: len(came(display_of(client))) > before, "the photograph")
    return came(display_of(client))[-1]


@requirement(
    "MIG-DST-066",
    fault=(
        retyped(ImageType.SPICE_IMAGE_TYPE_QUIC, "slow-QUIC"),
        retyped(ImageType.SPICE_IMAGE_TYPE_GLZ_RGB, "slow-GLZ"),
        retyped(ImageType.SPICE_IMAGE_TYPE_ZLIB_GLZ_RGB, "quick-GLZ"),
    ),
)
@pytest.mark.parametrize("compression", TYPES)
@pytest.mark.parametrize("line", ["quick", "slow"])
def test_images_for_the_line(bench: Bench, line: str, compression: str) -> None:
    """The guest draws a photograph before and after the migration."""
    source, target, client = begun(bench, compression, line)
    due = TYPES[compression][line == "slow"]
    for host in (source, target):
        kind = photographed(bench, host, client)
        bench.claim(kind == due, due.name, ImageType(kind).name, host)
        if host is source:
            migrated(bench, source, client, target)


def drawings(messages: list[Message]) -> list[tuple[str, tuple[int, ...]]]:
    """Each drawing: what it is, and its box. A copy without loss is just a "copy"."""
    found = []
    for m in messages:
        if m.type == DRAW_COPY:
            image = m.packet.src_bitmap
            lossy = isinstance(image, SpiceImage) and image.type == ImageType.SPICE_IMAGE_TYPE_JPEG
            found.append(("lossy copy" if lossy else "copy", sides(m.packet.base.box)))
        elif m.type == DRAW_FILL:
            found.append(("fill", sides(m.packet.base.box)))
    return found


@requirement("MIG-DST-067", fault=(lost(DRAW_COPY, host="target"), twice(DRAW_FILL, host="target")))
def test_drawing_that_needs_exact_pixels(bench: Bench) -> None:
    """The client has got a photograph as JPEG at the source. At the target the guest inverts a place beside
    it, a part of it twice, and a part over which it has drawn: the client first gets the exact pixels of the
    part that it has with loss, once, and of no other."""
    source, target, client = begun(bench, "QUIC", "slow")
    kind = photographed(bench, source, client)
    if kind != ImageType.SPICE_IMAGE_TYPE_JPEG:
        raise Unsupported("this build sends no JPEG")
    migrated(bench, source, client, target)
    drawn(bench, target)
    inside = (LEFT + 8, TOP + 16, LEFT + 40, TOP + 32)
    beside = (TOP + 8, TOP + 16, LEFT - 40, TOP + 32)
    before = len(display_of(client).messages)
    covered = (LEFT + 48, TOP + 16, LEFT + 56, TOP + 24)
    course = ((beside, XOR), (inside, XOR), (inside, XOR), (covered, PUT), (covered, XOR))
    for box, rop in course:
        target.call("qxl_draw", **dict(zip(("left", "top", "right", "bottom"), box, strict=True)), rop=rop)
        drawn(bench, target)

    def fills() -> int:
        return sum(m.type == DRAW_FILL for m in display_of(client).messages[before:])

    bench.until(lambda: fills() == len(course), "all drawings")
    seen = drawings(display_of(client).messages[before:])
    due = [("fill", beside), ("copy", inside), *(("fill", box) for box, _ in course[1:])]
    bench.claim(seen == due, due, seen, target)
