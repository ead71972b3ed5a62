# SPDX-License-Identifier: GPL-2.0-only
"""Videos of the guest, from the stream's creation until its last picture (server/video-stream.cpp;
spice.proto, DisplayChannel, stream_create to stream_destroy)."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TypeVar

import pytest

from dissectors.channels.display import (
    SpiceMsgcDisplayPreferredVideoCodecType,
    SpiceMsgcDisplayStreamReport,
)
from dissectors.framing.events import Message
from dissectors.wire.constants import ChannelType, DisplayCap, MsgDisplay, MsgMain
from dissectors.wire.enums import ClipType, ImageType, StreamFlags, VideoCodecType
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, added, changed, later, lost, put, requirement, twice
from fixtures.peer import Client, Connection
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.peer.peer_client import start
from fixtures.relay.relay_rules import Piece
from fixtures.system.hosts import Ability, Host
from suites.guest_pictures import BATCH, PATIENCE_S, STREAM_CREATE, STREAM_DESTROY, begin_video, drawn, sides

DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
DATA, CLIP = MsgDisplay.SPICE_MSG_DISPLAY_STREAM_DATA, MsgDisplay.SPICE_MSG_DISPLAY_STREAM_CLIP
REPORT = MsgDisplay.SPICE_MSG_DISPLAY_STREAM_ACTIVATE_REPORT
DESTROY_ALL = MsgDisplay.SPICE_MSG_DISPLAY_STREAM_DESTROY_ALL
SURFACE_CREATE = MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_CREATE
DRAW_COPY, MARK = MsgDisplay.SPICE_MSG_DISPLAY_DRAW_COPY, MsgDisplay.SPICE_MSG_DISPLAY_MARK
#: Where the guest's video is, its size, pixels, and the box (fixtures/library/host/calls.py, _qxl_image).
LEFT, TOP, WIDTH, HEIGHT = 16, 24, 200, 160
BOX = (LEFT, TOP, LEFT + WIDTH, TOP + HEIGHT)
SOME = 10
OFF = 1  # spice-server.h, SPICE_STREAM_VIDEO_OFF
ALL_LOST = 0xFFFFFFFF  # num_drops of a client that cannot play the stream
#: The server destroys a stream that has had no picture for a second (server/video-stream.h,
#: RED_STREAM_TIMEOUT).
TIMEOUT_S = 0.9
WORD = 1 << 32

T = TypeVar("T")

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


class Video:
    """A video that plays at the display of a client without these capabilities, with `pictures` drawn so
    far."""

    def __init__(self, bench: Bench, *without: DisplayCap) -> None:
        self.bench = bench
        self.source: Host = bench.start(devices=("keyboard", "mouse", "display"))
        self.client: Client = bench.client(
            self.source, channels=(DISPLAY,), quick=True, capabilities=EVERYTHING.without(*without)
        )
        bench.settle()
        self.display: Connection = self.client.current.channels[DISPLAY, 0]
        self.begin()

    def begin(self) -> None:
        """The guest draws pictures until a stream of them is open."""
        self.pictures = begin_video(self.bench, self.source, self.display)
        self.last = monotonic()

    def play(self) -> None:
        """The guest draws some more pictures of the video."""
        self.source.call("qxl_image", seed=self.pictures, times=SOME)
        self.pictures += SOME
        drawn(self.bench, self.source)
        self.last = monotonic()

    def undisturbed(self, act: Callable[[], T]) -> T:
        """Makes an act while the stream is open: again, with a new stream, where the machine stood still for
        so long that the stream may have ended by itself. Skips the test (INCONCLUSIVE) if it always does."""
        end = monotonic() + PATIENCE_S
        while monotonic() < end:
            last = self.last
            result = act()
            if monotonic() - last <= TIMEOUT_S:
                return result
            self.begin()
        pytest.skip("INCONCLUSIVE: this machine stands still while a video plays")

    def since(self, before: int) -> list[str]:
        """The messages about streams and pictures from number `before` on, by name."""
        kinds = (STREAM_CREATE, CLIP, DATA, DRAW_COPY, STREAM_DESTROY)
        new = self.display.messages[before:]
        return [m.name.removeprefix("SPICE_MSG_DISPLAY_") for m in new if m.type in kinds]


@requirement(
    "CHAN-106",
    fault=(
        put(STREAM_CREATE, src_height=WIDTH),
        put(STREAM_CREATE, flags=0),
        put(STREAM_CREATE, stream_width=WIDTH - 1),
        changed("a box beside", STREAM_CREATE, lambda b: b[:38] + bytes([b[38] ^ 1]) + b[39:]),
        changed("nothing of the box", STREAM_CREATE, lambda b: b[:50] + b"\1" + bytes(4)),
        changed("the next stream", DATA, lambda b: bytes([b[0] ^ 1]) + b[1:], nth=2),
        changed("no time", DATA, lambda b: b[:4] + bytes(4) + b[8:], nth=2),
        later("the next", REPORT, "stream_id", 1),
    ),
)
def test_stream_and_its_pictures(bench: Bench) -> None:
    """STREAM_CREATE carries the size and place of the guest's pictures; each picture is of a stream that is
    open, and carries the time at which the guest drew it; so do the requests for reports."""
    init_time = monotonic()
    video = Video(bench)
    video.play()
    told = video.display.got(STREAM_CREATE)[0].packet
    size = [int(told.getfieldval(f)) for f in ("stream_width", "stream_height", "src_width", "src_height")]
    bench.claim(size == [WIDTH, HEIGHT] * 2, f"{WIDTH} x {HEIGHT}, twice", size)
    place = int(told.surface_id), sides(told.dest), int(told.flags), int(told.clip.type)
    due = 0, BOX, int(StreamFlags.SPICE_STREAM_FLAGS_TOP_DOWN), int(ClipType.SPICE_CLIP_TYPE_NONE)
    bench.claim(place == due, f"surface, box, flags, clip {due}", place)
    begun = int(video.client.main.got(MsgMain.SPICE_MSG_MAIN_INIT)[0].packet.multi_media_time)
    longest = (monotonic() - init_time) * 1000 + 1_000
    number, before, pictures = -1, 0, 0
    for message in video.display.got(STREAM_CREATE, DATA, REPORT, STREAM_DESTROY):
        if message.type == STREAM_CREATE:
            number = int(message.packet.id)
        elif message.type == STREAM_DESTROY:
            number = -1
        elif message.type == REPORT:
            bench.claim(
                int(message.packet.stream_id) == number, f"of stream {number}", message.packet.stream_id
            )
        else:
            base = message.packet.base
            bench.claim(int(base.id) == number, f"a picture of stream {number}", int(base.id))
            stamp = (int(base.multi_media_time) - begun) % WORD
            bench.claim(before <= stamp <= longest, f"{before} to {longest:.0f} ms after INIT", f"{stamp} ms")
            before, pictures = stamp, pictures + 1
    bench.claim(pictures > 0, "pictures of the stream", pictures)


@requirement("CHAN-107", fault=lost(STREAM_CREATE, nth=2))
def test_display_that_is_opened_while_a_video_plays(bench: Bench) -> None:
    """A client opens its display while the guest plays a video: it gets the stream after the screen, and the
    pictures that follow."""
    video = Video(bench)

    def opened_again() -> Connection:
        video.display.close()
        bench.settle()
        again = bench.link(video.source, channel=DISPLAY, connection_id=video.client.session_id)
        video.display = again
        start(again)
        bench.until(lambda: again.got(MARK), MARK.name)
        drawn(bench, video.source)
        return again

    display = video.undisturbed(opened_again)
    created = [int(m.packet.id) for m in display.got(STREAM_CREATE)]
    bench.claim(len(created) == 1, "STREAM_CREATE after the screen", created)
    video.play()
    ids = {int(m.packet.base.id) for m in display.got(DATA)}
    bench.claim(ids == set(created), f"pictures of stream {created}", ids)


def _clipped(piece: Piece) -> bool:
    """The picture with which a stream ends has a clip; the guest's pictures have none."""
    return isinstance(piece, Message) and int(piece.packet.base.clip.type) != 0


@requirement(
    "CHAN-108",
    fault=(
        lost(CLIP, case="host"),
        lost(DRAW_COPY, where=_clipped, case="host"),
        put(STREAM_DESTROY, id=1, case="host"),
        twice(STREAM_DESTROY, case="client"),
    ),
)
@pytest.mark.parametrize("who", ["host", "client"])
def test_last_picture_of_a_video(bench: Bench, who: str) -> None:
    """The host sets its video codecs anew, or the client its preferred ones, while a video plays: the server
    stops the pictures, sends the last one whole, and destroys the stream."""
    video = Video(bench)
    video.undisturbed(video.play)
    before = len(video.display.messages)
    if who == "host":
        video.source.call("set_video_codecs", codecs="spice:mjpeg")
    else:
        mjpeg = int(VideoCodecType.SPICE_VIDEO_CODEC_TYPE_MJPEG)
        video.display.send(SpiceMsgcDisplayPreferredVideoCodecType(codecs=[mjpeg]))
    bench.until(
        lambda: STREAM_DESTROY in [m.type for m in video.display.messages[before:]], "the stream's end"
    )
    drawn(bench, video.source)
    seen = video.since(before)
    due = ["STREAM_CLIP", "DRAW_COPY", "STREAM_DESTROY"]
    bench.claim(seen == due, ", ".join(due), ", ".join(seen))
    number = int(video.display.got(STREAM_CREATE)[-1].packet.id)
    ends = [int(m.packet.id) for m in video.display.messages[before:] if m.type in (CLIP, STREAM_DESTROY)]
    bench.claim(ends == [number] * 2, f"both of stream {number}", ends)
    last = video.display.got(DRAW_COPY)[-1].packet
    bench.claim(sides(last.base.box) == BOX, f"a picture at {BOX}", sides(last.base.box))
    kind = int(last.src_bitmap.type)
    bench.claim(kind != ImageType.SPICE_IMAGE_TYPE_JPEG, "a picture without loss", "JPEG")


@requirement(
    "CHAN-109", fault=changed("another rectangle", CLIP, lambda b: b[:9] + bytes([b[9] ^ 2]) + b[10:])
)
def test_drawing_over_a_video(bench: Bench) -> None:
    """The guest draws over a part of its video: the client's pictures stay within the rest of it."""
    video = Video(bench)
    over = {"left": LEFT + 50, "top": TOP, "right": LEFT + WIDTH, "bottom": TOP + 64}

    def drawn_over() -> int:
        before = len(video.display.messages)
        video.source.call("qxl_draw", **over)
        drawn(bench, video.source)
        return before

    before = video.undisturbed(drawn_over)
    clips = [m.packet.clip for m in video.display.messages[before:] if m.type == CLIP]
    bench.claim(len(clips) >= 1, CLIP.name, "none")
    rects = sorted(sides(r) for r in clips[-1].rects.rects)
    due = [(LEFT, TOP, LEFT + 50, TOP + 64), (LEFT, TOP + 64, LEFT + WIDTH, TOP + HEIGHT)]
    bench.claim(rects == due, f"the rest of the video: {due}", rects)


@requirement("CHAN-110", fault=lost(DRAW_COPY))
def test_client_that_can_not_play_the_stream(bench: Bench) -> None:
    """The client reports that it cannot play the stream: it gets the pictures as drawings."""
    video = Video(bench)
    bench.until(lambda: video.display.got(REPORT), REPORT.name, proves="CHAN-053")
    asked = video.display.got(REPORT)[-1].packet
    report = SpiceMsgcDisplayStreamReport(
        stream_id=int(asked.stream_id), unique_id=int(asked.unique_id), num_drops=ALL_LOST
    )
    video.display.send(report)
    bench.settle()
    before = len(video.display.messages)
    video.play()
    seen = set(video.since(before))
    bench.claim("DRAW_COPY" in seen and "STREAM_DATA" not in seen, "DRAW_COPY, no STREAM_DATA", sorted(seen))


@requirement("CHAN-133", fault=lost(STREAM_DESTROY))
def test_other_video_codecs(bench: Bench) -> None:
    """The client names the video codecs that it prefers while a video plays: the stream ends."""
    video = Video(bench)
    mjpeg = VideoCodecType.SPICE_VIDEO_CODEC_TYPE_MJPEG

    def prefer() -> int:
        before = len(video.display.messages)
        video.display.send(SpiceMsgcDisplayPreferredVideoCodecType(codecs=[int(mjpeg)]))
        bench.settle()
        drawn(bench, video.source)
        return before

    before = video.undisturbed(prefer)
    seen = video.since(before)
    bench.claim(seen[-1:] == ["STREAM_DESTROY"], "the stream ends", seen)


GOES_ON = Fault("the stream goes on", rules=lost(STREAM_DESTROY).rules + lost(DESTROY_ALL).rules)


@requirement("CHAN-134", fault=GOES_ON)
def test_new_screen_while_a_video_plays(bench: Bench) -> None:
    """The guest makes its primary surface anew while a video plays: first the stream ends."""
    video = Video(bench)

    def reset() -> int:
        before = len(video.display.messages)
        video.source.call("qxl_reset")
        drawn(bench, video.source)
        return before

    before = video.undisturbed(reset)
    kinds = (STREAM_DESTROY, DESTROY_ALL, SURFACE_CREATE)
    seen = [m.name for m in video.display.messages[before:] if m.type in kinds]
    ended = len(seen) > 1 and seen[-1] == SURFACE_CREATE.name
    bench.claim(ended, "the stream's end, then SURFACE_CREATE", seen)


@requirement("CHAN-111", fault=added(DRAW_COPY, STREAM_CREATE, bytes(51), nth=5))
def test_videos_that_are_switched_off(bench: Bench) -> None:
    """With videos off, the guest's pictures come as drawings, however many come in a row."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    source.call("set_streaming_video", value=OFF)
    client = bench.client(source, channels=(DISPLAY,))
    bench.settle()
    display = client.current.channels[DISPLAY, 0]
    for seed in range(0, 2 * BATCH, BATCH):
        source.call("qxl_image", seed=seed, times=BATCH)
        drawn(bench, source)
    bench.until(lambda: display.got(DRAW_COPY), DRAW_COPY.name)
    streams = len(display.got(STREAM_CREATE))
    bench.claim(streams == 0, "no STREAM_CREATE", f"{streams} of them")
