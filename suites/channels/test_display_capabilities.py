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
from fixtures.bench.planting import added, changed, lost, put, requirement
from fixtures.peer import Connection
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability, Host
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
}
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
    allowed = [int(m.packet.max_allowed) for m in display.got(MONITORS)]
    bench.claim(all(most >= 1 for most in allowed), "max_allowed of at least the one there is", allowed)


@requirement("CHAN-052", fault=lost(PREFERRED, case="OFF"))
@pytest.mark.parametrize("preferred", IMAGES, ids=lambda c: c.name.removeprefix("SPICE_IMAGE_COMPRESSION_"))
def test_preferred_compression(bench: Bench, preferred: ImageCompression) -> None:
    """After PREFERRED_COMPRESSION images have the type that the client prefers."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    display = opened(bench, source)
    display.send(PREFERRED, struct.pack("<B", preferred))
    bench.settle()
    source.call("qxl_sync")
    bench.settle()
    source.call("qxl_image", seed=3, width=SIDE, height=SIDE)
    drawn(bench, source)
    bench.until(lambda: came(display), "an image")
    kinds = came(display)
    bench.claim(kinds == [IMAGES[preferred]], IMAGES[preferred].name, kinds)


def came(display: Connection) -> list[int]:
    """The types of the guest's images, without the screen's own, which has another size and may come late."""
    pictures = (m.packet.src_bitmap for m in display.got(DRAW_COPY))
    return [int(p.type) for p in pictures if isinstance(p, SpiceImage) and p.width == SIDE]


@requirement("CHAN-053", fault=(put(STREAM_CREATE, codec_type=2, case="True"), lost(REPORT, case="True")))
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
