# SPDX-License-Identifier: GPL-2.0-only
"""Videos that end by themselves, whose pictures change their size, and that a client cannot decode, or on
which it reports wrongly (server/video-stream.cpp; spice.proto, DisplayChannel, stream_create to
stream_report)."""

from __future__ import annotations

from time import monotonic

import pytest

from dissectors.channels.display import SpiceMsgcDisplayStreamReport
from dissectors.framing.events import DISCONNECTED, Message
from dissectors.wire.constants import DisplayCap, MsgDisplay
from fixtures.bench import Bench
from fixtures.bench.planting import added, changed, closed_after, lost, requirement, stuck_after, twice
from fixtures.system.hosts import Ability
from suites.channels.test_display_capabilities import opened
from suites.channels.test_video_streams import CLIP, DATA, DRAW_COPY, Video
from suites.guest_pictures import BATCH, STREAM_ALL, STREAM_CREATE, STREAM_DESTROY, drawn, open_streams, sides

SIZED = MsgDisplay.SPICE_MSG_DISPLAY_STREAM_DATA_SIZED
FILL = MsgDisplay.SPICE_MSG_DISPLAY_DRAW_FILL
#: A picture that covers the guest's video on all sides (left, top, width, height).
LARGER = {"left": 6, "top": 14, "width": 221, "height": 183}
BOX = (6, 14, 6 + 221, 14 + 183)
#: After so long without a picture the server ends a stream, seconds (server/video-stream.h,
#: RED_STREAM_TIMEOUT), and so late it may be where the machine is busy.
QUIET_S, LATE_S = 1.0, 20.0
#: So many pictures, and as many as come within so many seconds, are not all dropped by the server's limit of
#: pictures a second.
FEW, DROPPED_S = 5, 0.5
#: As many streams as a display can have (server/video-stream.h, NUM_STREAMS).
STREAMS = 50
UNKNOWN = 99  # no SpiceImageCompression

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


@requirement(
    "CHAN-123",
    fault=(
        changed("a pixel less", SIZED, lambda b: b[:8] + bytes([b[8] ^ 1]) + b[9:], case="able"),
        changed("a box beside", SIZED, lambda b: b[:16] + bytes([b[16] ^ 1]) + b[17:], case="able"),
        lost(SIZED, case="able"),
        lost(DRAW_COPY, case="-not able"),
    ),
)
@pytest.mark.parametrize("able", [True, False], ids=["able", "not able"])
def test_picture_that_is_larger_than_its_video(bench: Bench, able: bool) -> None:
    """Pictures of the video cover a larger box: a client with SIZED_STREAM gets them in the stream, with
    their size and box; a client without gets drawings."""
    video = Video(bench, *(() if able else (DisplayCap.SPICE_DISPLAY_CAP_SIZED_STREAM,)))

    def drawn_larger() -> list[Message]:
        """What comes of larger pictures. The server drops some: those that follow too soon."""
        before, began, count = len(video.display.messages), monotonic(), 0
        new: list[Message] = []
        while not new and (count < FEW or monotonic() < began + DROPPED_S):
            video.source.call("qxl_image", seed=100 + count, **LARGER)
            drawn(bench, video.source)
            count += 1
            new = [m for m in video.display.messages[before:] if m.type in (DATA, SIZED, DRAW_COPY)]
        return new

    for _ in range(3):  # the stream may have ended by itself, where the machine stood still
        new = video.undisturbed(drawn_larger)
        if open_streams(video.display):
            break
        video.begin()
    due = SIZED if able else DRAW_COPY
    seen = {m.name for m in new}
    bench.claim(seen == {due.name}, due.name, ", ".join(sorted(seen)) or "nothing")
    if not new:
        return
    packet = new[-1].packet
    box = sides(packet.dest if able else packet.base.box)
    bench.claim(box == BOX, f"the box {BOX}", box)
    if able:
        size = int(packet.width), int(packet.height)
        bench.claim(size == (221, 183), "221 x 183", size)


@requirement("CHAN-124", fault=(lost(STREAM_DESTROY), twice(STREAM_DESTROY), lost(CLIP)))
def test_video_that_stops(bench: Bench) -> None:
    """The guest draws no more pictures of its video: a second after the last one the server sends it whole
    and destroys the stream."""
    video = Video(bench)

    def played() -> tuple[float, int]:
        began = monotonic()
        video.play()
        return began, len(video.display.messages)

    began, before = video.undisturbed(played)
    with bench.pump.in_real_time():
        bench.until(lambda: "STREAM_DESTROY" in video.since(before), "the stream's end", LATE_S)
    quiet = monotonic() - began
    bench.claim(quiet >= QUIET_S, f"{QUIET_S:g} s without a picture", f"{quiet:.2f} s")
    bench.settle()
    seen = [name for name in video.since(before) if name != "STREAM_DATA"]
    due = ["STREAM_CLIP", "DRAW_COPY", "STREAM_DESTROY"]
    bench.claim(seen == due, ", ".join(due), ", ".join(seen))


@requirement("CHAN-125", fault=added(DRAW_COPY, DATA, bytes(12), nth=9))
def test_client_that_decodes_no_codec(bench: Bench) -> None:
    """The client has MULTI_CODEC and no codec: it gets each picture of a video as a drawing."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    source.call("set_streaming_video", value=STREAM_ALL)
    display = opened(bench, source, *(cap for cap in DisplayCap if "_CODEC_" in cap.name))
    for seed in range(0, 2 * BATCH, BATCH):
        source.call("qxl_image", seed=seed, times=BATCH)
        drawn(bench, source)
    source.call("qxl_draw")
    bench.until(lambda: display.got(FILL), "the drawing after the video")
    pictures = [m for m in display.got(DRAW_COPY) if sides(m.packet.base.box) == (16, 24, 216, 184)]
    seen = len(display.got(DATA)), bool(pictures)
    bench.claim(seen == (0, True), "no STREAM_DATA, pictures", f"{seen[0]} STREAM_DATA, {len(pictures)}")


@requirement("CHAN-126", fault=(stuck_after(STREAM_CREATE), closed_after(STREAM_CREATE)))
def test_report_on_another_stream(bench: Bench) -> None:
    """The client reports on a stream that is not open, and on one that was another with the same number: the
    video goes on. It reports on a number that is too high for a stream: the server ends the display."""
    video = Video(bench)

    def reported(number: int) -> None:
        video.display.send(
            SpiceMsgcDisplayStreamReport(stream_id=number, unique_id=0xFFFFFFFF, num_frames=5, num_drops=5)
        )

    def played() -> int:
        reported(STREAMS - 1)
        reported(int(video.display.got(STREAM_CREATE)[-1].packet.id))
        bench.settle()
        before = len(video.display.messages)
        video.play()
        return before

    before = video.undisturbed(played)
    others = [name for name in video.since(before) if name != "STREAM_DATA"]
    goes_on = not others and video.display.ending is None
    bench.claim(goes_on, "the stream goes on", ", ".join(others) or video.display.ending)
    reported(STREAMS)
    ending = video.display.expect_end(deadline=2)
    bench.claim(ending in DISCONNECTED, "the display's end", ending)
    bench.alive("after a report on no stream", video.source)
