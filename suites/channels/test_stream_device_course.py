# SPDX-License-Identifier: GPL-2.0-only
"""What the client gets from a stream device besides its frames: surfaces, monitors, cursors; and a port that
the guest closes and opens again (server/stream-channel.cpp, red-stream-device.cpp)."""

from __future__ import annotations

import struct

import pytest

from dissectors.framing.events import Message
from dissectors.wire.constants import ChannelType, MsgCursor, MsgDisplay
from dissectors.wire.enums import CursorType, StreamFlags, SurfaceFlags, SurfaceFmt
from fixtures.bench import Bench
from fixtures.bench.planting import changed, lost, never, put, requirement, twice
from fixtures.peer import Connection
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability, Host
from suites.channels.test_stream_device import (
    DEVICE,
    DISPLAY,
    FRAMES,
    MJPEG,
    OPENED,
    SIZES,
    STREAM_CREATE,
    STREAM_DATA,
    STREAM_DESTROY,
    SURFACE_CREATE,
    VP8,
    Said,
    heard,
    message,
    says,
    watched,
)

CURSOR = ChannelType.SPICE_CHANNEL_CURSOR
CLOSED = 1  # spice-char.h, SPICE_PORT_EVENT_CLOSED
MONITORS, MARK = MsgDisplay.SPICE_MSG_DISPLAY_MONITORS_CONFIG, MsgDisplay.SPICE_MSG_DISPLAY_MARK
SURFACE_DESTROY = MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_DESTROY
DRAW_FILL = MsgDisplay.SPICE_MSG_DISPLAY_DRAW_FILL
SET, MOVE = MsgCursor.SPICE_MSG_CURSOR_SET, MsgCursor.SPICE_MSG_CURSOR_MOVE
#: What follows a format of another size than the one before, and one of the same size.
NEW_SIZE = ["SURFACE_CREATE", "MONITORS_CONFIG", "MARK", "STREAM_CREATE", "STREAM_ACTIVATE_REPORT"]
SAME_SIZE = ["STREAM_CREATE", "STREAM_ACTIVATE_REPORT"]
GONE = ["STREAM_DESTROY", "SURFACE_DESTROY"]
#: Messages of the guest about its cursor (stream-device.h, StreamMsgType).
CURSOR_SET, CURSOR_MOVE = 6, 7
WIDTH, HEIGHT, HOT_SPOT = 5, 3, (2, 1)
ALPHA = int(CursorType.SPICE_CURSOR_TYPE_ALPHA)
PIXELS = bytes(range(4 * WIDTH * HEIGHT))

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def a_format(size: tuple[int, int], codec: int) -> bytes:
    """A StreamMsgFormat."""
    return struct.pack("<IIB3x", *size, codec)


def names(messages: list[Message]) -> list[str]:
    return [m.name.removeprefix("SPICE_MSG_DISPLAY_") for m in messages]


def event(bench: Bench, source: Host, kind: int) -> None:
    """The guest opens or closes its port."""
    source.call("port_event", device=DEVICE, event=kind)
    bench.settle()


def checked(bench: Bench, display: Connection, size: tuple[int, int], since: int) -> None:
    """The messages from number `since` on describe surface, monitor and stream of this size."""
    seen: tuple[int, ...]
    due: tuple[int, ...]
    for m in display.messages[since:]:
        p = m.packet
        if m.type == SURFACE_CREATE:
            seen = tuple(int(v) for v in (p.surface_id, p.width, p.height, p.format, p.flags))
            flags = SurfaceFlags.SPICE_SURFACE_FLAGS_PRIMARY | SurfaceFlags.SPICE_SURFACE_FLAGS_STREAMING_MODE
            due = (0, *size, int(SurfaceFmt.SPICE_SURFACE_FMT_32_xRGB), int(flags))
        elif m.type == MONITORS:
            heads = [(h.monitor_id, h.surface_id, h.width, h.height, h.x, h.y) for h in p.heads]
            seen = tuple(int(v) for head in heads for v in head)
            due = (0, 0, *size, 0, 0)
        elif m.type == STREAM_CREATE:
            sizes = (p.stream_width, p.stream_height, p.src_width, p.src_height)
            box = (p.dest.left, p.dest.top, p.dest.right, p.dest.bottom)
            seen = tuple(int(v) for v in (p.surface_id, p.flags, *sizes, *box, p.clip.type))
            due = (0, int(StreamFlags.SPICE_STREAM_FLAGS_TOP_DOWN), *size, *size, 0, 0, *size, 0)
        else:
            continue
        bench.claim(seen == due, f"{m.name} {due}", seen)


@requirement(
    "CHAN-112",
    fault=(
        put(SURFACE_CREATE, flags=1),
        put(STREAM_CREATE, flags=0),
        put(STREAM_CREATE, src_height=SIZES[0][1] - 1),
        lost(MONITORS),
        changed("a narrower monitor", MONITORS, lambda b: b[:12] + bytes([b[12] ^ 1]) + b[13:], nth=2),
        lost(MARK, nth=2),
        lost(SURFACE_DESTROY),
        lost(SURFACE_DESTROY, nth=2),
        lost(STREAM_DESTROY, nth=3),
        twice(SURFACE_CREATE, nth=1),
        changed("the stream before", STREAM_DATA, lambda b: bytes([b[0] ^ 1]) + b[1:], nth=2),
        changed("no time", STREAM_DATA, lambda b: b[:4] + bytes(4) + b[8:], nth=2),
    ),
)
def test_formats_of_the_guest(bench: Bench) -> None:
    """The guest states a format, another codec of the same size, another size, and closes its port."""
    source, _, display = watched(bench)
    course = ((SIZES[0], MJPEG, NEW_SIZE), (SIZES[0], VP8, SAME_SIZE), (SIZES[1], MJPEG, NEW_SIZE))
    for turn, (size, codec, due) in enumerate(course):
        before = len(display.messages)
        says(bench, source, Said.FORMAT, a_format(size, codec))
        seen = names(display.messages[before:])
        ended = GONE[: turn and 1 + (due == NEW_SIZE)]
        bench.claim(seen == [*ended, *due], ", ".join([*ended, *due]), ", ".join(seen))
        checked(bench, display, size, before)
        says(bench, source, Said.DATA, FRAMES[0])
        number = int(display.got(STREAM_CREATE)[-1].packet.id)
        base = display.got(STREAM_DATA)[-1].packet.base
        bench.claim(int(base.id) == number, f"a frame of stream {number}", int(base.id))
        bench.claim(int(base.multi_media_time) > 0, "the time of the frame", 0)
    before = len(display.messages)
    event(bench, source, CLOSED)
    seen = names(display.messages[before:])
    bench.claim(seen == GONE, f"{', '.join(GONE)} when the port is closed", ", ".join(seen))


@requirement(
    "CHAN-113",
    fault=(lost(MARK), lost(DRAW_FILL), lost(MONITORS), put(SURFACE_CREATE, width=SIZES[0][0] - 1)),
)
def test_format_before_the_client(bench: Bench) -> None:
    """The guest has stated its format before the client comes: the client begins with an empty screen of that
    size."""
    source = bench.start(devices=("keyboard", "mouse", DEVICE))
    event(bench, source, OPENED)
    says(bench, source, Said.FORMAT, a_format(SIZES[0], MJPEG))
    client = bench.client(source, channels=(DISPLAY,), capabilities=EVERYTHING)
    bench.settle()
    display = client.current.channels[DISPLAY, 0]
    due = ["SURFACE_CREATE", "MONITORS_CONFIG", "DRAW_FILL", "MARK"]
    seen = [name for name in names(display.messages) if name in due]
    bench.claim(seen == due, ", ".join(due), ", ".join(names(display.messages)))
    checked(bench, display, SIZES[0], 0)
    for base in (m.packet.base for m in display.got(DRAW_FILL)):
        b = base.box
        box = tuple(int(v) for v in (base.surface_id, b.left, b.top, b.right, b.bottom))
        bench.claim(box == (0, 0, 0, *SIZES[0]), "the whole surface filled", box)


@requirement("CHAN-114", fault=(never("chardev_write"), lost(STREAM_CREATE)))
@pytest.mark.parametrize("state", ["within a header", "within a message", "after an error"])
def test_port_that_is_opened_again(bench: Bench, state: str) -> None:
    """The guest closes its port within a message, or after a wrong one whose followers nobody reads, and
    opens it again: the server states its capabilities again, and the next format counts."""
    source, _, display = watched(bench)
    told = [kind for kind, _ in heard(bench)]
    bench.claim(Said.CAPABILITIES in told, "CAPABILITIES when the port is opened", told)
    whole = message(Said.FORMAT, a_format(SIZES[1], MJPEG))
    raw = {"within a header": whole[:5], "within a message": whole[:13]}.get(state, message(99, b"") + whole)
    source.call("chardev_send", device=DEVICE, hex=raw.hex())
    bench.settle()
    seen = len(display.got(STREAM_CREATE))
    bench.claim(seen == 0, "no stream yet", f"{seen} of them")
    event(bench, source, CLOSED)
    event(bench, source, OPENED)
    again = [kind for kind, _ in heard(bench)[len(told) :] if kind == Said.CAPABILITIES]
    bench.claim(len(again) == 1, "CAPABILITIES once when it is opened again", len(again))
    says(bench, source, Said.FORMAT, a_format(SIZES[0], MJPEG))
    sizes = [(int(m.packet.stream_width), int(m.packet.stream_height)) for m in display.got(STREAM_CREATE)]
    bench.claim(sizes == [SIZES[0]], f"one stream of {SIZES[0]}", sizes)


@requirement(
    "CHAN-115",
    fault=(
        lost(SET),
        changed("a hot spot beside", SET, lambda b: b[:21] + bytes([b[21] ^ 1]) + b[22:]),
        changed("another pixel", SET, lambda b: b[:-1] + bytes([b[-1] ^ 1])),
        changed("a place beside", MOVE, lambda b: b[:2] + bytes([b[2] ^ 1]) + b[3:]),
    ),
)
def test_cursor_of_the_guest(bench: Bench) -> None:
    """The guest sets the cursor of its stream and moves it: the client gets shape, hot spot and place."""
    source = bench.start(devices=("keyboard", "mouse", DEVICE))
    event(bench, source, OPENED)
    client = bench.client(source, channels=(DISPLAY, CURSOR))
    bench.settle()
    cursor = client.current.channels[CURSOR, 0]
    shape = struct.pack("<4HB3x", WIDTH, HEIGHT, *HOT_SPOT, ALPHA) + PIXELS
    says(bench, source, CURSOR_SET, shape)
    says(bench, source, CURSOR_MOVE, struct.pack("<ii", 0x141, 0xB2))
    sent = bench.expect(cursor, SET).packet.cursor
    h = sent.header
    seen = tuple(int(v) for v in (h.width, h.height, h.hot_spot_x, h.hot_spot_y, h.type))
    due = (WIDTH, HEIGHT, *HOT_SPOT, ALPHA)
    bench.claim(seen == due, f"width, height, hot spot, type {due}", seen)
    bench.claim(bytes(sent.data) == PIXELS, "the guest's pixels", bytes(sent.data).hex())
    position = bench.expect(cursor, MOVE).packet.position
    place = int(position.x), int(position.y)
    bench.claim(place == (0x141, 0xB2), "the place (321, 178)", place)


@requirement("CHAN-080", fault=never("chardev_write"))
@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (Said.FORMAT, a_format(SIZES[0], MJPEG) + b"\0"),
        (Said.FORMAT, a_format(SIZES[0], MJPEG)[:-1]),
        (CURSOR_MOVE, bytes(9)),
        (CURSOR_SET, struct.pack("<4HB3x", WIDTH, HEIGHT, 0, 0, ALPHA) + PIXELS[:-1]),
        (CURSOR_SET, struct.pack("<4HB3x", 1_025, 1, 0, 0, ALPHA) + bytes(4 * 1_025)),
        (CURSOR_SET, struct.pack("<4HB3x", WIDTH, HEIGHT, 0, 0, 99) + PIXELS),
        (Said.CAPABILITIES, bytes(1_025)),
    ],
    ids=["format+1", "format-1", "move+1", "cursor-1", "cursor too wide", "cursor type", "capabilities"],
)
def test_message_of_a_wrong_size(bench: Bench, kind: int, content: bytes) -> None:
    """A message of the guest whose size does not fit its type: the server answers with one NOTIFY_ERROR."""
    source, _, display = watched(bench)
    shown = len(display.messages)
    says(bench, source, kind, content)
    errors = [text for told, text in heard(bench) if told == Said.NOTIFY_ERROR]
    bench.claim(len(errors) == 1, "one NOTIFY_ERROR", [error.hex() for error in errors])
    more = names(display.messages[shown:])
    bench.claim(not more, "nothing on the display channel", more)
