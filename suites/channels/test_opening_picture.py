# SPDX-License-Identifier: GPL-2.0-only
"""The first messages of a display and a cursor, and what follows when the guest creates its surface or cursor
again (server/dcc.cpp, dcc_start; server/cursor-channel.cpp)."""

from __future__ import annotations

import struct

import pytest

from dissectors.framing.events import Message
from dissectors.wire.constants import ChannelType, MsgcMain, MsgCursor, MsgDisplay
from dissectors.wire.enums import MouseMode, SurfaceFlags, SurfaceFmt
from fixtures.bench import Bench
from fixtures.bench.planting import added, before, changed, lost, put, requirement, twice
from fixtures.peer import Connection
from fixtures.system.hosts import Ability, Host

DISPLAY, CURSOR = ChannelType.SPICE_CHANNEL_DISPLAY, ChannelType.SPICE_CHANNEL_CURSOR
CREATE, DESTROY = (
    MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_CREATE,
    MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_DESTROY,
)
COPY, MARK = MsgDisplay.SPICE_MSG_DISPLAY_DRAW_COPY, MsgDisplay.SPICE_MSG_DISPLAY_MARK
PALETTES, DESTROY_ALL = (
    MsgDisplay.SPICE_MSG_DISPLAY_INVAL_ALL_PALETTES,
    MsgDisplay.SPICE_MSG_DISPLAY_STREAM_DESTROY_ALL,
)
INIT, SET = MsgCursor.SPICE_MSG_CURSOR_INIT, MsgCursor.SPICE_MSG_CURSOR_SET
MOVE, HIDE = MsgCursor.SPICE_MSG_CURSOR_MOVE, MsgCursor.SPICE_MSG_CURSOR_HIDE
#: The guest's card (fixtures/library/host/qxl_card.py).
WIDTH, HEIGHT, CURSOR_SIDE = 640, 480, 16
PRIMARY = (
    0,
    WIDTH,
    HEIGHT,
    int(SurfaceFmt.SPICE_SURFACE_FMT_32_xRGB),
    int(SurfaceFlags.SPICE_SURFACE_FLAGS_PRIMARY),
)

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def worked(bench: Bench, source: Host) -> None:
    """The card's worker has processed what the guest has drawn."""
    bench.until(lambda: not source.call("qxl_left"), "the display's worker", proves="ROBUST-002")
    source.call("qxl_sync")
    bench.settle()


def opened(bench: Bench, source: Host, channel: ChannelType) -> Connection:
    """A channel of a client that has just linked."""
    client = bench.client(source, channels=(channel,))
    worked(bench, source)
    return client.current.channels[channel, 0]


def surface(message: Message) -> tuple[int, ...]:
    """SURFACE_CREATE: number, width, height, format, flags."""
    p = message.packet
    return tuple(int(v) for v in (p.surface_id, p.width, p.height, p.format, p.flags))


def shown(display: Connection, since: int = 0) -> list[str]:
    """The messages about surfaces, pictures, palettes and streams that a display has received, in order, by
    name."""
    kinds = (CREATE, DESTROY, COPY, MARK, PALETTES, DESTROY_ALL)
    return [m.name.removeprefix("SPICE_MSG_DISPLAY_") for m in display.messages[since:] if m.type in kinds]


@requirement(
    "CHAN-065",
    fault=(
        lost(MARK),
        twice(MARK),
        put(CREATE, flags=0),
        put(CREATE, height=HEIGHT - 1),
        lost(COPY),
        before(CREATE, MARK),
        changed("a line less", COPY, lambda b: b[:12] + bytes([b[12] ^ 1]) + b[13:]),
        lost(MARK, nth=2, case="made anew"),
        lost(PALETTES),
        lost(PALETTES, nth=2, case="made anew"),
        lost(DESTROY_ALL, case="made anew"),
    ),
)
@pytest.mark.parametrize("anew", [False, True], ids=["opened", "made anew"])
def test_display_begins(bench: Bench, anew: bool) -> None:
    """A display begins with its primary surface, the whole picture, and MARK; if the guest creates the
    surface again, the server sends it again, with MARK."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    source.call("qxl_draw")
    worked(bench, source)
    display = opened(bench, source, DISPLAY)
    bench.expect(display, MARK)
    worked(bench, source)
    observed = shown(display)
    due = ["INVAL_ALL_PALETTES", "SURFACE_CREATE", "DRAW_COPY", "MARK"]
    bench.claim(observed == due, ", ".join(due), observed)
    made = [surface(m) for m in display.got(CREATE)]
    bench.claim(made == [PRIMARY], f"number, width, height, format, flags {PRIMARY}", made)
    for box in (m.packet.base.box for m in display.got(COPY)):
        seen = tuple(int(getattr(box, side)) for side in ("left", "top", "right", "bottom"))
        bench.claim(seen == (0, 0, WIDTH, HEIGHT), "a picture of the whole surface", seen)
    if anew:
        count = len(display.messages)
        source.call("qxl_reset")
        worked(bench, source)
        observed = [name for name in shown(display, count) if name != "DRAW_COPY"]
        wanted = ["SURFACE_DESTROY", "INVAL_ALL_PALETTES", "STREAM_DESTROY_ALL", "SURFACE_CREATE", "MARK"]
        bench.claim(observed == wanted, ", ".join(wanted), observed)
        made = [surface(m) for m in display.got(CREATE)[1:]]
        bench.claim(made == [PRIMARY], f"the primary surface {PRIMARY} again", made)


def place(message: Message) -> tuple[int, int]:
    """Where a message puts the cursor."""
    position = message.packet.position
    return int(position.x), int(position.y)


@requirement(
    "CHAN-066",
    fault=(
        put(INIT, visible=1, case="hide"),
        put(INIT, visible=0, case="move"),
        changed("a place beside", INIT, lambda b: bytes([b[0] ^ 1]) + b[1:], case="move"),
        lost(INIT, case="hide"),
    ),
)
@pytest.mark.parametrize("last", ["move", "hide"])
def test_cursor_begins(bench: Bench, last: str) -> None:
    """CURSOR_INIT carries the shape that the guest has set, the place to which it has moved the cursor, and
    whether the cursor is visible."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    for kind in ("set", "move", *["hide"] * (last == "hide")):
        source.call("qxl_cursor", kind=kind, x=0x141, y=0xB2)
    worked(bench, source)
    init = bench.expect(opened(bench, source, CURSOR), INIT)
    bench.claim(place(init) == (0x141, 0xB2), "the place (321, 178)", place(init))
    seen = int(init.packet.visible)
    bench.claim(seen == (last != "hide"), f"visible {int(last != 'hide')}", seen)
    header = init.packet.cursor.header
    size = header and (int(header.width), int(header.height))
    bench.claim(size == (CURSOR_SIDE, CURSOR_SIDE), "the shape that was set", size)


@requirement("CHAN-066", fault=put(INIT, visible=0))
def test_cursor_that_the_card_has_loaded(bench: Bench) -> None:
    """The card of a migration's target gets the cursor that the guest had at the source: CURSOR_INIT carries
    it."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    source.call("qxl_cursor", kind="set", loads=1)
    init = bench.expect(opened(bench, source, CURSOR), INIT)
    header = init.packet.cursor.header
    seen = int(init.packet.visible), header and (int(header.width), int(header.height))
    bench.claim(seen == (1, (CURSOR_SIDE, CURSOR_SIDE)), "the shape that was loaded, visible", seen)


@requirement(
    "CHAN-067",
    fault=(
        lost(MOVE),
        lost(HIDE),
        put(SET, visible=0),
        changed("a place beside", MOVE, lambda b: bytes([b[0] ^ 1]) + b[1:]),
        twice(HIDE),
    ),
)
def test_cursor_changes(bench: Bench) -> None:
    """In the server's mouse mode the client gets each change of the guest's cursor, in order."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    cursor = opened(bench, source, CURSOR)
    bench.expect(cursor, INIT)
    for kind, x, y in (("set", 5, 6), ("move", 0x141, 0xB2), ("hide", 0, 0), ("move", 7, 8), ("set", 1, 2)):
        source.call("qxl_cursor", kind=kind, x=x, y=y)
        worked(bench, source)
    seen = [m for m in cursor.messages if m.type in (SET, MOVE, HIDE)]
    kinds = [int(m.type) for m in seen]
    wanted = [SET, MOVE, HIDE, MOVE, SET]
    names = [m.name for m in seen]
    bench.claim(kinds == wanted, [kind.name for kind in wanted], names)
    places = [place(m) for m in seen if m.type == MOVE]
    bench.claim(places == [(0x141, 0xB2), (7, 8)], "the places of both moves", places)
    visible = [int(m.packet.visible) for m in seen if m.type == SET]
    bench.claim(visible == [1, 1], "a cursor that is seen, twice", visible)


@requirement("CHAN-067", fault=added(HIDE, MOVE, b"\1\0\1\0", channel=CURSOR))
def test_cursor_in_the_clients_mode(bench: Bench) -> None:
    """In the client's mouse mode the server does not send the guest's cursor moves, except a move that shows
    the cursor again; back in the server's mode it sends them."""
    source = bench.start(devices=("keyboard", "mouse", "tablet", "display"))
    client = bench.client(source)
    cursor = client.current.channels[CURSOR, 0]
    bench.expect(cursor, INIT)
    changes = {
        MouseMode.SPICE_MOUSE_MODE_CLIENT: (("set", SET), ("move", None), ("hide", HIDE), ("move", MOVE)),
        MouseMode.SPICE_MOUSE_MODE_SERVER: (("move", MOVE), ("hide", HIDE)),
    }
    for mode, kinds in changes.items():
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST, struct.pack("<H", mode))
        worked(bench, source)
        for kind, wanted in kinds:
            before = len(cursor.got(SET, MOVE, HIDE))
            source.call("qxl_cursor", kind=kind, x=9, y=8)
            worked(bench, source)
            seen = [m.name for m in cursor.got(SET, MOVE, HIDE)[before:]]
            names = [wanted.name] if wanted else []
            bench.claim(seen == names, f"{names} for '{kind}' in mode {int(mode)}", seen)
