# SPDX-License-Identifier: GPL-2.0-only
"""How the server encodes pictures and videos, by the host's settings and the client's capabilities, and how
long sound waits for them (spice-server.h, spice_server_set_image_compression and similar calls; spice.proto,
DisplayChannel)."""

from __future__ import annotations

import struct

import pytest

from dissectors.channels.display import SpiceMsgcDisplayStreamReport
from dissectors.wire.constants import ChannelType, DisplayCap, MsgDisplay, MsgPlayback, PlaybackCap
from dissectors.wire.enums import ImageCompression, ImageType
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, changed, lost, put, requirement
from fixtures.peer import Connection
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability, Host, Unsupported
from suites.channels.test_display_capabilities import SIDE, came, opened
from suites.guest_pictures import STREAM_CREATE, begin_video, drawn

DISPLAY, PLAYBACK = ChannelType.SPICE_CHANNEL_DISPLAY, ChannelType.SPICE_CHANNEL_PLAYBACK
SLOW_US = 50_000  # of the client's line in the net test
ALWAYS, NEVER = 2, 3  # spice_wan_compression_t
LATE_MS = -400  # how late the last frame came
#: A server that has left out many frames, as on a slow machine, tries a lower rate, and ignores reports until
#: it has one (mjpeg_encoder_client_stream_report in server/mjpeg-encoder.c).
REPORTS = 10
REPORT = MsgDisplay.SPICE_MSG_DISPLAY_STREAM_ACTIVATE_REPORT
LATENCY = MsgPlayback.SPICE_MSG_PLAYBACK_LATENCY
TYPE = ImageType

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def image(bench: Bench, source: Host, display: Connection) -> int:
    """The type of an image that the guest draws."""
    source.call("qxl_sync")
    bench.settle()
    source.call("qxl_image", seed=3, width=SIDE, height=SIDE)
    drawn(bench, source)
    bench.until(lambda: came(display), "an image")
    return came(display)[-1]


def retyped(kind: ImageType, case: str) -> Fault:
    """Changes the type in the guest's image; the screen's own image, which has another size, stays as it
    is."""

    def change(body: bytes) -> bytes:
        at = body.rfind(struct.pack("<II", SIDE, SIDE)) - 2  # spice.proto, ImageDescriptor: type, flags, size
        return body if at < 0 else body[:at] + bytes([kind]) + body[at + 1 :]

    return changed(kind.name, MsgDisplay.SPICE_MSG_DISPLAY_DRAW_COPY, change, case=case)


@requirement(
    "CHAN-091",
    fault=(retyped(TYPE.SPICE_IMAGE_TYPE_LZ_RGB, "True"), retyped(TYPE.SPICE_IMAGE_TYPE_LZ4, "False")),
)
@pytest.mark.parametrize("able", [True, False])
def test_lz4_by_capability(bench: Bench, able: bool) -> None:
    """With LZ4 set, a client that has the capability gets LZ4 images."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    lz4 = int(ImageCompression.SPICE_IMAGE_COMPRESSION_LZ4)
    if source.call("set_image_compression", value=lz4):
        raise Unsupported("this build has no LZ4")
    display = opened(bench, source, *(() if able else (DisplayCap.SPICE_DISPLAY_CAP_LZ4_COMPRESSION,)))
    kind = image(bench, source, display)
    wanted = TYPE.SPICE_IMAGE_TYPE_LZ4 if able else TYPE.SPICE_IMAGE_TYPE_LZ_RGB
    bench.claim(kind == wanted, wanted.name, kind)


@requirement(
    "CHAN-092",
    fault=(
        retyped(TYPE.SPICE_IMAGE_TYPE_QUIC, "jpeg-always"),
        retyped(TYPE.SPICE_IMAGE_TYPE_ZLIB_GLZ_RGB, "zlib_glz-never"),
    ),
)
@pytest.mark.parametrize("how", [ALWAYS, NEVER], ids=["always", "never"])
@pytest.mark.parametrize("which", ["jpeg", "zlib_glz"])
def test_compression_for_slow_lines(bench: Bench, which: str, how: int) -> None:
    """JPEG in place of QUIC, and ZLIB around GLZ."""
    source = bench.start(devices=("keyboard", "mouse"))
    source.call(f"set_{which}_compression", value=how)
    base = {"jpeg": "QUIC", "zlib_glz": "GLZ"}[which]
    source.call("set_image_compression", value=int(ImageCompression[f"SPICE_IMAGE_COMPRESSION_{base}"]))
    source.call("chardev_attach", device="display")
    source.call("vm_start")
    display = opened(bench, source)
    kind = image(bench, source, display)
    wanted = {
        ("jpeg", ALWAYS): TYPE.SPICE_IMAGE_TYPE_JPEG,
        ("jpeg", NEVER): TYPE.SPICE_IMAGE_TYPE_QUIC,
        ("zlib_glz", ALWAYS): TYPE.SPICE_IMAGE_TYPE_ZLIB_GLZ_RGB,
        ("zlib_glz", NEVER): TYPE.SPICE_IMAGE_TYPE_GLZ_RGB,
    }
    bench.claim(kind == wanted[which, how], wanted[which, how].name, kind)


@requirement("CHAN-093", fault=put(STREAM_CREATE, codec_type=2))
def test_lists_of_video_codecs(bench: Bench) -> None:
    """A valid list, one with an invalid entry, one of invalid entries alone; the video that follows is
    MJPEG."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    lists = ["spice:mjpeg", "nobody:mjpeg;spice:mjpeg", "spice:nothing", "mjpeg", ""]
    returned = [source.call("set_video_codecs", codecs=codecs) for codecs in lists]
    bench.claim(returned == [0, 0, -1, -1, -1], "0, 0, -1, -1, -1", returned)
    display = opened(bench, source)
    begin_video(bench, source, display)
    codecs = {int(m.packet.codec_type) for m in display.got(STREAM_CREATE)}
    bench.claim(codecs == {1}, "MJPEG", codecs)


def report_late(bench: Bench, source: Host, display: Connection) -> None:
    """The guest plays more of a video, and the client reports that its frames came late."""
    begin_video(bench, source, display)
    bench.until(lambda: display.got(REPORT), "STREAM_ACTIVATE_REPORT", proves="CHAN-053")
    asked = display.got(REPORT)[-1].packet
    report = {"stream_id": int(asked.stream_id), "unique_id": int(asked.unique_id), "num_frames": 5}
    display.send(SpiceMsgcDisplayStreamReport(last_frame_delay=LATE_MS, end_frame_mm_time=100, **report))
    drawn(bench, source)
    bench.settle()


@requirement("CHAN-090", fault=lost(LATENCY, case="True"))
@pytest.mark.parametrize("able", [True, False])
def test_latency_by_capability(bench: Bench, able: bool) -> None:
    """The guest plays sound while a video runs over a slow line, and the client reports that its frames come
    late: again and again until it gets an answer."""
    source = bench.start(devices=("keyboard", "mouse", "display", "playback"))
    without = () if able else (PlaybackCap.SPICE_PLAYBACK_CAP_LATENCY,)
    able_to = EVERYTHING.without(*without)
    client = bench.client(source, channels=(DISPLAY, PLAYBACK), capabilities=able_to, slow_us=SLOW_US)
    bench.settle()
    display, playback = (client.current.channels[channel, 0] for channel in (DISPLAY, PLAYBACK))
    source.call("playback_start")
    source.call("playback_put")
    for _ in range(REPORTS if able else 1):
        report_late(bench, source, display)
        if playback.got(LATENCY):
            break
    if able:
        bench.until(lambda: playback.got(LATENCY), LATENCY.name)
    seen = [int(m.packet.latency_ms) for m in playback.got(LATENCY)]
    bench.claim(bool(seen) == able and all(seen), f"LATENCY of more than 0 ms: {able}", seen)
