# SPDX-License-Identifier: GPL-2.0-only
"""What a guest draws: single pictures, and videos, of which the server makes streams."""

from __future__ import annotations

from time import monotonic

import pytest
from scapy.packet import Packet

from dissectors.rules.version_ranges import version_holds
from dissectors.wire.constants import MsgDisplay
from fixtures.bench import Bench
from fixtures.peer import Connection
from fixtures.system.hosts import Host, Unsupported

STREAM_CREATE = MsgDisplay.SPICE_MSG_DISPLAY_STREAM_CREATE
STREAM_DESTROY = MsgDisplay.SPICE_MSG_DISPLAY_STREAM_DESTROY
STREAM_ALL = 2  # spice-server.h, SPICE_STREAM_VIDEO_ALL
SCREEN_WIDTH, SCREEN_HEIGHT = 640, 480  # of the guest's card (fixtures/library/host/qxl_card.py)
#: The 20th picture at one place begins a stream, if each came within 200 ms of the one before
#: (server/video-stream.h). A build that makes none of so many in a row makes none at all.
ENOUGH = 60
BATCH = 30
#: The versions that are known to make them, and to measure a client's line.
SINCE = ">=0.14.3"
#: A machine that does not draw so many in a row within this time, seconds, cannot show a video.
PATIENCE_S = 60.0


def drawn(bench: Bench, host: Host) -> None:
    """Waits until the display's worker has processed what the guest has drawn."""
    bench.until(lambda: not host.call("qxl_left"), "the display's worker", proves="ROBUST-002")
    host.call("qxl_sync")
    bench.settle()


def fill(host: Host, area: tuple[int, ...], color: int, wakes: int = 1) -> None:
    """The guest fills an area (left, top, right, bottom) with a colour, 0xRRGGBB. `wakes`: it tells the
    library of it at once."""
    left, top, right, bottom = area
    host.call("qxl_draw", left=left, top=top, right=right, bottom=bottom, color=color, wakes=wakes)


def open_streams(display: Connection) -> set[bytes]:
    """The ids (4 bytes) of the streams that the server has created and not destroyed."""
    left = set()
    for message in display.got(STREAM_CREATE, STREAM_DESTROY):
        if message.type == STREAM_CREATE:
            left.add(message.body[4:8])
        else:
            left.discard(message.body[:4])
    return left


def begin_video(bench: Bench, host: Host, display: Connection) -> int:
    """The guest draws pictures at one place until a stream of them is open. Returns their number.

    A machine that stands still between two pictures begins a new row, and the server destroys a stream that
    has had no picture for a second (RED_STREAM_TIMEOUT in server/video-stream.h). A build that makes no
    stream of a whole row is Unsupported, or breaks CHAN-053 if its version makes them. Skips the test
    (INCONCLUSIVE) if the machine never draws such a row."""
    host.call("set_streaming_video", value=STREAM_ALL)
    count, end = 0, monotonic() + PATIENCE_S
    while monotonic() < end:
        host.call("qxl_image", seed=count, times=BATCH)
        count += BATCH
        drawn(bench, host)
        if open_streams(display):
            return count
        if host.call("qxl_row") >= ENOUGH and not display.got(STREAM_CREATE):
            if not version_holds(SINCE, host.identity.version):
                raise Unsupported(f"this build makes no stream of {ENOUGH} pictures at one place")
            bench.until(lambda: open_streams(display), f"a stream of {ENOUGH} pictures", proves="CHAN-053")
    pytest.skip(f"INCONCLUSIVE: this machine is too slow to draw {ENOUGH} pictures in a row")


def sides(rect: Packet) -> tuple[int, ...]:
    """A SpiceRect's left, top, right and bottom, pixels."""
    return tuple(int(getattr(rect, side)) for side in ("left", "top", "right", "bottom"))
