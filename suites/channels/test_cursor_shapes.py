# SPDX-License-Identifier: GPL-2.0-only
"""The guest's cursors: their shapes, the client's cache of them, their trail, and their reset
(server/cursor-channel.cpp; spice.proto, CursorChannel)."""

from __future__ import annotations

import pytest

from dissectors.channels.cursor import SpiceCursor
from dissectors.wire.constants import ChannelType, MsgBase, MsgCursor
from dissectors.wire.enums import CursorFlags
from fixtures.bench import Bench
from fixtures.bench.planting import added, changed, lost, put, requirement, twice
from fixtures.peer import Connection
from fixtures.system.hosts import Ability, Host
from suites.guest_pictures import drawn
from suites.steps import migrated

CURSOR = ChannelType.SPICE_CHANNEL_CURSOR
INIT, SET, HIDE, TRAIL = (
    MsgCursor.SPICE_MSG_CURSOR_INIT,
    MsgCursor.SPICE_MSG_CURSOR_SET,
    MsgCursor.SPICE_MSG_CURSOR_HIDE,
    MsgCursor.SPICE_MSG_CURSOR_TRAIL,
)
RESET, INVAL_ONE, INVAL_ALL = (
    MsgCursor.SPICE_MSG_CURSOR_RESET,
    MsgCursor.SPICE_MSG_CURSOR_INVAL_ONE,
    MsgCursor.SPICE_MSG_CURSOR_INVAL_ALL,
)
NONE, CACHE_ME, FROM_CACHE = (
    CursorFlags.SPICE_CURSOR_FLAGS_NONE,
    CursorFlags.SPICE_CURSOR_FLAGS_CACHE_ME,
    CursorFlags.SPICE_CURSOR_FLAGS_FROM_CACHE,
)
OWN = 101  # the first message of the channel's own
#: How many cursors a client keeps (server/cursor-channel-client.cpp, CLIENT_CURSOR_CACHE_SIZE).
CACHE = 256
SIDE, HOT_SPOT = 16, (3, 12)  # of the guest's cursor (fixtures/library/host/qxl_card.py)

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def opened(bench: Bench, source: Host) -> Connection:
    """The cursor channel of a client that has just linked."""
    client = bench.client(source, channels=(CURSOR,))
    drawn(bench, source)
    return client.current.channels[CURSOR, 0]


def pixels(unique: int) -> bytes:
    """The pixels of the guest's cursor with this number."""
    return (0xFF808080 + unique).to_bytes(4, "little") * (SIDE * SIDE)


def shape(cursor: SpiceCursor) -> tuple[tuple[int, ...], bytes]:
    """A cursor's width, height and hot spot, and its pixels."""
    header = cursor.header
    sizes = (header.width, header.height, header.hot_spot_x, header.hot_spot_y) if header else ()
    return tuple(int(size) for size in sizes), bytes(cursor.data)


@requirement(
    "CHAN-100",
    fault=(
        changed("not for the cache", SET, lambda b: b[:5] + b"\0" + b[6:], nth=7),
        lost(INVAL_ONE, nth=3),
        changed("another's pixels", SET, lambda b: b[:-1] + bytes([b[-1] ^ 1]), nth=2),
    ),
)
def test_cache_of_cursors(bench: Bench) -> None:
    """The guest sets more cursors than the client's cache holds, then some of them again."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    cursor = opened(bench, source)
    bench.expect(cursor, INIT)
    numbers = [*range(1, CACHE + 6), 7, CACHE, 1, 2, 5]
    for number in numbers:
        source.call("qxl_cursor", unique=number)
    drawn(bench, source)
    bench.until(lambda: len(cursor.got(SET)) >= len(numbers), "each cursor")
    drawn(bench, source)
    kept: dict[int, bytes] = {}
    wanted = iter(numbers)
    for message in cursor.got(SET, INVAL_ONE, INVAL_ALL):
        if message.type == INVAL_ALL:
            kept.clear()
            continue
        if message.type == INVAL_ONE:
            kept.pop(int(message.packet.id), None)
            continue
        sent, number = message.packet.cursor, next(wanted)
        unique, flags = int(sent.header.unique), int(sent.flags)
        content = kept.get(unique, b"nothing") if flags & FROM_CACHE else shape(sent)[1]
        fine = unique == number and content == pixels(number)
        bench.claim(fine, f"cursor {number} and its pixels", f"{unique}, {flags=}, {content[:8].hex()}")
        if flags & CACHE_ME:
            kept[unique] = content
    bench.claim(len(kept) <= CACHE, f"at most {CACHE} cursors in the cache", len(kept))


@requirement(
    "CHAN-067",
    fault=(
        put(SET, visible=1, nth=2),
        changed("a place beside", SET, lambda b: b[:2] + bytes([b[2] ^ 1]) + b[3:], nth=1),
        changed("a hot spot beside", SET, lambda b: b[:21] + bytes([b[21] ^ 1]) + b[22:], nth=1),
    ),
)
def test_shape_of_the_cursor(bench: Bench) -> None:
    """The guest sets a cursor at a place, and a hidden one: SET carries place, visibility, size, hot spot and
    pixels."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    cursor = opened(bench, source)
    bench.expect(cursor, INIT)
    for number, visible in ((0x11, 1), (0x12, 0)):
        source.call("qxl_cursor", x=0x141, y=0xB2, unique=number, visible=visible)
        drawn(bench, source)
        sent = bench.expect(cursor, SET).packet
        seen = (int(sent.position.x), int(sent.position.y), int(sent.visible))
        bench.claim(seen == (0x141, 0xB2, visible), f"place and visibility {(0x141, 0xB2, visible)}", seen)
        sizes, content = shape(sent.cursor)
        due = (SIDE, SIDE, *HOT_SPOT)
        bench.claim(sizes == due, f"width, height and hot spot {due}", sizes)
        bench.claim(content == pixels(number), "the guest's pixels", f"{len(content)} bytes")


@requirement(
    "CHAN-101",
    fault=(
        lost(TRAIL),
        put(TRAIL, length=0x1301),
        put(INIT, trail_frequency=1, nth=2),
        put(INIT, trail_length=0, nth=2),
    ),
)
def test_trail_of_the_cursor(bench: Bench) -> None:
    """The guest gives its cursor a trail: the client gets TRAIL, and the next client gets it in INIT."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    cursor = opened(bench, source)
    bench.expect(cursor, INIT)
    source.call("qxl_cursor", kind="trail", x=0x1302, y=0x2403)
    drawn(bench, source)
    sent = [(int(m.packet.length), int(m.packet.frequency)) for m in cursor.got(TRAIL)]
    bench.claim(sent == [(0x1302, 0x2403)], "TRAIL once: length 4866, frequency 9219", sent)
    begun = bench.expect(opened(bench, source), INIT).packet
    trail = (int(begun.trail_length), int(begun.trail_frequency))
    bench.claim(trail == (0x1302, 0x2403), "the same trail in the next client's INIT", trail)


def _shown_again(body: bytes) -> bytes:
    """INIT with a cursor's position that is one pixel beside."""
    return bytes([body[0] ^ 1]) + body[1:]


@requirement(
    "CHAN-102",
    fault=(
        lost(RESET, case="qxl_reset_cursor"),
        lost(INVAL_ALL, case="qxl_reset_cursor"),
        twice(RESET, case="qxl_reset"),
        lost(INIT, nth=2, case="qxl_reset"),
        changed("a place beside", INIT, _shown_again, nth=2, case="qxl_reset_cursor"),
    ),
)
@pytest.mark.parametrize("call", ["qxl_reset_cursor", "qxl_reset"])
def test_cursor_is_reset(bench: Bench, call: str) -> None:
    """The guest resets its cursor, or its whole card: the client forgets the cursor and its cache; the next
    client begins without a cursor."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    cursor = opened(bench, source)
    bench.expect(cursor, INIT)
    for kind, x, y in (("set", 5, 6), ("trail", 7, 8), ("move", 0x141, 0xB2), ("hide", 0, 0)):
        source.call("qxl_cursor", kind=kind, x=x, y=y, unique=9)
    drawn(bench, source)
    before = len(cursor.messages)
    source.call(call)
    drawn(bench, source)
    bench.until(lambda: cursor.got(RESET), RESET.name)
    drawn(bench, source)
    seen = [m.name for m in cursor.messages[before:] if m.type >= OWN]
    due = [INVAL_ALL.name, RESET.name, *[INIT.name] * (call == "qxl_reset")]
    bench.claim(seen == due, ", ".join(due), ", ".join(seen))
    begun = [m.packet for m in cursor.got(INIT)[1:]] or [bench.expect(opened(bench, source), INIT).packet]
    place = (int(begun[0].position.x), int(begun[0].position.y), int(begun[0].visible))
    bench.claim(place == (0, 0, 1), "INIT with place (0, 0), visible", place)
    rest = (int(begun[0].trail_length), int(begun[0].trail_frequency), int(begun[0].cursor.flags))
    bench.claim(rest == (0, 0, int(NONE)), "INIT without trail and cursor", rest)


@requirement("MIG-SRC-072", fault=(lost(INVAL_ALL), added(INVAL_ALL, HIDE, channel=CURSOR)))
@pytest.mark.needs(Ability.SEAMLESS_DATA)
def test_cursors_when_the_client_moves(bench: Bench) -> None:
    """A client with a cursor in its cache migrates seamlessly: the source empties the cache at last."""
    source, target = bench.pair(seamless=True, devices=("keyboard", "mouse", "display"))
    client = bench.client(source)
    cursor = client.current.channels[CURSOR, 0]
    source.call("qxl_cursor", unique=9)
    drawn(bench, source)
    migrated(bench, source, client, target)
    seen = [m.name for m in cursor.messages if m.type >= OWN or m.type == MsgBase.SPICE_MSG_MIGRATE]
    due = [INVAL_ALL.name, MsgBase.SPICE_MSG_MIGRATE.name]
    bench.claim(seen[-2:] == due, f"at last {', '.join(due)}", ", ".join(seen))


@requirement("CHAN-102", fault=(lost(RESET, host="target"), lost(INIT, host="target")))
@pytest.mark.needs(Ability.SEAMLESS_DATA)
def test_cursor_is_reset_at_the_target(bench: Bench) -> None:
    """The guest resets its card after a seamless migration: the client hears of it as at the source."""
    source, target = bench.pair(seamless=True, devices=("keyboard", "mouse", "display"))
    client = bench.client(source)
    drawn(bench, source)
    migrated(bench, source, client, target)
    target.call("qxl_reset")
    drawn(bench, target)
    cursor = client.current.channels[CURSOR, 0]
    bench.until(lambda: cursor.got(INIT), INIT.name)
    seen = [m.name for m in cursor.messages if m.type >= OWN]
    due = [INVAL_ALL.name, RESET.name, INIT.name]
    bench.claim(seen == due, ", ".join(due), ", ".join(seen), target)
