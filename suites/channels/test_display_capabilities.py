# SPDX-License-Identifier: GPL-2.0-only
"""What a display's client supports and requests: its monitors, its images, its videos (spice.proto,
DisplayChannel; protocol.h, SPICE_DISPLAY_CAP_*)."""

from __future__ import annotations

import struct

import pytest

from dissectors.channels.image import SpiceImage
from dissectors.wire.constants import ChannelType, DisplayCap, MsgcDisplay, MsgDisplay
from dissectors.wire.enums import ImageCompression, ImageType, VideoCodecType
from fixtures.bench import Bench
from fixtures.bench.planting import added, changed, lost, never, put, requirement, twice
from fixtures.peer import Connection
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability, Host, Unsupported
from suites.guest_pictures import STREAM_CREATE, begin_video, drawn

WIDTH, HEIGHT = 640, 480  # of the primary surface
DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
MONITORS = MsgDisplay.SPICE_MSG_DISPLAY_MONITORS_CONFIG
DRAW_COPY = MsgDisplay.SPICE_MSG_DISPLAY_DRAW_COPY
SURFACE_CREATE = MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_CREATE
DRAW_FILL = MsgDisplay.SPICE_MSG_DISPLAY_DRAW_FILL
REPORT = MsgDisplay.SPICE_MSG_DISPLAY_STREAM_ACTIVATE_REPORT
PREFERRED = MsgcDisplay.SPICE_MSGC_DISPLAY_PREFERRED_COMPRESSION
COMPRESSION, TYPE = ImageCompression, ImageType
#: The client's preferred compression -> the type of the images that follow (photographs may be QUIC).
IMAGES = {
    COMPRESSION.SPICE_IMAGE_COMPRESSION_OFF: TYPE.SPICE_IMAGE_TYPE_BITMAP,
    COMPRESSION.SPICE_IMAGE_COMPRESSION_QUIC: TYPE.SPICE_IMAGE_TYPE_QUIC,
    COMPRESSION.SPICE_IMAGE_COMPRESSION_LZ: TYPE.SPICE_IMAGE_TYPE_LZ_RGB,
    COMPRESSION.SPICE_IMAGE_COMPRESSION_GLZ: TYPE.SPICE_IMAGE_TYPE_GLZ_RGB,
    COMPRESSION.SPICE_IMAGE_COMPRESSION_AUTO_LZ: TYPE.SPICE_IMAGE_TYPE_LZ_RGB,
    COMPRESSION.SPICE_IMAGE_COMPRESSION_AUTO_GLZ: TYPE.SPICE_IMAGE_TYPE_GLZ_RGB,
    COMPRESSION.SPICE_IMAGE_COMPRESSION_LZ4: TYPE.SPICE_IMAGE_TYPE_LZ4,
}
#: The capabilities of which the guest hears (server/display-channel.cpp, guest_set_client_capabilities).
FOR_THE_GUEST = (
    DisplayCap.SPICE_DISPLAY_CAP_SIZED_STREAM,
    DisplayCap.SPICE_DISPLAY_CAP_MONITORS_CONFIG,
    DisplayCap.SPICE_DISPLAY_CAP_COMPOSITE,
    DisplayCap.SPICE_DISPLAY_CAP_A8_SURFACE,
)
SIDE = 144  # of an image, pixels

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def opened(bench: Bench, source: Host, *without: DisplayCap) -> Connection:
    """The display of a client without these capabilities, on a quick line."""
    able = EVERYTHING.without(*without)
    client = bench.client(source, channels=(DISPLAY,), capabilities=able, quick=True)
    bench.settle()
    return client.current.channels[DISPLAY, 0]


@requirement(
    "CHAN-051",
    fault=(
        lost(MONITORS, case="True"),
        put(MONITORS, max_allowed=0, case="True"),
        changed("a wider head", MONITORS, lambda b: b[:12] + b"\x81" + b[13:], case="True"),
        added(
            SURFACE_CREATE, MONITORS, struct.pack("<HH7I", 1, 1, 0, 0, WIDTH, HEIGHT, 0, 0, 0), case="False"
        ),
    ),
)
@pytest.mark.parametrize("able", [True, False])
def test_monitors_by_capability(bench: Bench, able: bool) -> None:
    """A client with the capability MONITORS_CONFIG gets the one monitor of the primary surface; a client
    without it gets no MONITORS_CONFIG."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source, *(() if able else (DisplayCap.SPICE_DISPLAY_CAP_MONITORS_CONFIG,)))
    source.call("qxl_draw")  # which follows the channel's first messages
    bench.until(lambda: display.got(DRAW_FILL), "what the guest draws")
    heads = [[(int(h.width), int(h.height)) for h in m.packet.heads] for m in display.got(MONITORS)]
    wanted = [[(WIDTH, HEIGHT)]] if able else []
    bench.claim(heads == wanted, f"monitors {wanted}", heads)
    source.call("qxl_reset")
    drawn(bench, source)
    heads = [[(int(h.width), int(h.height)) for h in m.packet.heads] for m in display.got(MONITORS)]
    bench.claim(heads == wanted * 2, f"after a new primary surface {wanted} again", heads)
    allowed = [int(m.packet.max_allowed) for m in display.got(MONITORS)]
    bench.claim(all(most >= 1 for most in allowed), "max_allowed of at least the one there is", allowed)


@requirement("CHAN-052", fault=(lost(PREFERRED, case="OFF"), lost(PREFERRED, case="AUTO_LZ")))
@pytest.mark.parametrize("preferred", IMAGES, ids=lambda c: c.name.removeprefix("SPICE_IMAGE_COMPRESSION_"))
def test_preferred_compression(bench: Bench, preferred: ImageCompression) -> None:
    """After PREFERRED_COMPRESSION images have the type that the client prefers, whatever the server's own
    setting is."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    if source.call("set_image_compression", value=int(preferred)):
        raise Unsupported(f"this build has no {preferred.name}")
    off, lz = COMPRESSION.SPICE_IMAGE_COMPRESSION_OFF, COMPRESSION.SPICE_IMAGE_COMPRESSION_LZ
    source.call("set_image_compression", value=int(lz if preferred == off else off))
    display = opened(bench, source)
    prefers(bench, source, display, preferred)
    kinds = drawn_images(bench, source, display)
    bench.claim(kinds == [IMAGES[preferred]], IMAGES[preferred].name, kinds)


@requirement(
    "CHAN-132",
    fault=(put(PREFERRED, image_compression=4, nth=2, case="0"), lost(DRAW_COPY, nth=2, case="255")),
)
@pytest.mark.parametrize("unknown", [0, 255])
def test_compression_that_there_is_not(bench: Bench, unknown: int) -> None:
    """The client prefers a compression of an unknown number: it keeps the one that it had preferred."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source)
    prefers(bench, source, display, COMPRESSION.SPICE_IMAGE_COMPRESSION_OFF)
    prefers(bench, source, display, unknown)
    kinds = drawn_images(bench, source, display)
    bench.claim(kinds == [TYPE.SPICE_IMAGE_TYPE_BITMAP], "an image that is not compressed", kinds)


def prefers(bench: Bench, source: Host, display: Connection, compression: int) -> None:
    """The client sends PREFERRED_COMPRESSION, and the display's worker has processed it."""
    display.send(PREFERRED, struct.pack("<B", compression))
    bench.settle()
    source.call("qxl_sync")
    bench.settle()


def drawn_images(bench: Bench, source: Host, display: Connection) -> list[int]:
    """The guest draws an image; the types of the images that the client then has."""
    source.call("qxl_image", seed=3, width=SIDE, height=SIDE)
    drawn(bench, source)
    bench.until(lambda: came(display), "an image")
    return came(display)


#: Monitors of the guest: number, surface, width, height, x, y, flags. The one of no width is no monitor.
HEADS = [[3, 0, 0x123, 0xCD, 5, 6, 0], [9, 0, 0, 7, 1, 1, 0], [4, 0, 0x81, 0x92, 0x141, 0xB2, 0]]


def monitors(display: Connection) -> list[tuple[int, list[list[int]]]]:
    """Each MONITORS_CONFIG: how many monitors are allowed, and the monitors, as in HEADS."""
    names = ("monitor_id", "surface_id", "width", "height", "x", "y", "flags")
    return [
        (int(p.max_allowed), [[int(h.getfieldval(name)) for name in names] for h in p.heads])
        for p in (m.packet for m in display.got(MONITORS))
    ]


@requirement(
    "CHAN-119",
    fault=(
        lost(MONITORS, nth=2),
        changed("another x", MONITORS, lambda b: b[:20] + bytes([b[20] ^ 1]) + b[21:], nth=2),
        changed("number 0", MONITORS, lambda b: b[:4] + bytes(4) + b[8:], nth=2),
        put(MONITORS, max_allowed=3, nth=2),
        lost(MONITORS, nth=3),
        twice(MONITORS, nth=2),
    ),
)
def test_monitors_of_the_guest(bench: Bench) -> None:
    """The guest sets three monitors, one of them without a width, then no monitor, and more than it allows
    itself; another client comes; the hypervisor allows one monitor, and the guest sets three again."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source)
    bench.until(lambda: display.got(MONITORS), MONITORS.name)
    source.call("qxl_monitors", heads=HEADS, max_allowed=4)
    source.call("qxl_monitors", heads=HEADS, max_allowed=4, count=0)
    source.call("qxl_monitors", heads=HEADS, max_allowed=2)
    drawn(bench, source)
    due = [(4, [HEADS[0], HEADS[2]])]
    bench.until(lambda: len(display.got(MONITORS)) > 1, "the guest's monitors")
    seen = monitors(display)[1:]
    bench.claim(seen == due, f"allowed and monitors {due}", seen)
    later = opened(bench, source)
    bench.until(lambda: later.got(MONITORS), "the monitors for the next client")
    seen = monitors(later)
    bench.claim(seen == due, f"allowed and monitors {due}", seen)
    source.call("qxl_max_monitors", most=1)
    source.call("qxl_monitors", heads=HEADS, max_allowed=4)
    drawn(bench, source)
    bench.until(lambda: len(monitors(later)) > 1, "the guest's monitors")
    seen = monitors(later)[1:]
    due = [(1, [HEADS[0]])]
    bench.claim(seen == due, f"allowed and monitors {due}, as the hypervisor limits them", seen)


@requirement("CHAN-120", fault=never("client_capabilities"))
@pytest.mark.parametrize("lacks", [(), FOR_THE_GUEST[::2], FOR_THE_GUEST[1::2]], ids=["all", "even", "odd"])
def test_capabilities_that_the_guest_hears_of(bench: Bench, lacks: tuple[DisplayCap, ...]) -> None:
    """A client opens its display: the guest hears of those capabilities that concern it."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    opened(bench, source, *lacks)
    drawn(bench, source)
    due = sorted(int(cap) for cap in FOR_THE_GUEST if cap not in lacks)
    bench.until(lambda: told(bench), "the guest hears of its client")
    seen = told(bench)[-1]
    bench.claim(seen == (1, due), f"a client with the capabilities {due}", seen)


@requirement("CHAN-120", fault=never("client_capabilities"))
def test_guest_hears_of_its_client_when_it_starts(bench: Bench) -> None:
    """The machine stops and starts with a client, and again when the client has left: each time the guest
    hears whether there is a client."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source)
    drawn(bench, source)
    for due in ((1, sorted(map(int, FOR_THE_GUEST))), (0, [])):
        before = len(told(bench))
        source.call("vm_stop")
        source.call("vm_start")
        bench.settle()
        seen = told(bench)[before:]
        bench.claim(seen == [due], f"the guest hears once of {due}", seen)
        display.close()
        bench.settle()


@requirement("CHAN-128", fault=never("client_capabilities"))
def test_guest_hears_that_its_client_has_left(bench: Bench) -> None:
    """The display's only client closes the channel: the guest hears that it has no client."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source)
    drawn(bench, source)  # by then the display has begun
    bench.until(lambda: told(bench), "the guest hears of its client")
    display.close()
    bench.settle()
    seen = told(bench)[-1]
    bench.claim(seen == (0, []), "the guest hears that there is no client", seen)


def told(bench: Bench) -> list[tuple[int, list[int]]]:
    """What the guest's card was informed of: whether there is a client, and its capabilities."""
    events = [e.args for e in bench.pump.tape.host_events if e.name == "client_capabilities"]
    return [(int(args["present"]), list(args["caps"])) for args in events]


def came(display: Connection) -> list[int]:
    """The types of the guest's images, without the screen's own, which has another size and may come late."""
    pictures = (m.packet.src_bitmap for m in display.got(DRAW_COPY))
    return [int(p.type) for p in pictures if isinstance(p, SpiceImage) and p.width == SIDE]


@requirement(
    "CHAN-053",
    fault=(
        put(STREAM_CREATE, codec_type=2, case="True"),
        lost(STREAM_CREATE, case="True"),
        lost(REPORT, case="True"),
        put(REPORT, max_window_size=0, case="True"),
        put(REPORT, timeout_ms=0, case="True"),
    ),
)
@pytest.mark.parametrize("able", [True, False])
def test_streams_by_capability(bench: Bench, able: bool) -> None:
    """A video reaches a client without codec capabilities as MJPEG; the server requests reports on it only
    from a client that has STREAM_REPORT."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    only = [cap for cap in DisplayCap if "CODEC_" in cap.name and not cap.name.endswith("MJPEG")]
    report = () if able else (DisplayCap.SPICE_DISPLAY_CAP_STREAM_REPORT,)
    display = opened(bench, source, *only, *report)
    begin_video(bench, source, display)
    codecs = {int(m.packet.codec_type) for m in display.got(STREAM_CREATE)}
    mjpeg = int(VideoCodecType.SPICE_VIDEO_CODEC_TYPE_MJPEG)
    bench.claim(codecs == {mjpeg}, VideoCodecType.SPICE_VIDEO_CODEC_TYPE_MJPEG.name, codecs)
    asked = bool(display.got(REPORT))
    bench.claim(asked == able, f"STREAM_ACTIVATE_REPORT: {able}", asked)
    often = [(int(m.packet.max_window_size), int(m.packet.timeout_ms)) for m in display.got(REPORT)]
    fine = all(pictures > 0 and ms > 0 for pictures, ms in often)
    bench.claim(fine, "a report after some pictures, and after some time", often)
