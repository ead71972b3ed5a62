# SPDX-License-Identifier: GPL-2.0-only
"""The state of a display when a seamless migration begins: streams, pictures that its window holds back,
surfaces, caches, and the speed of the client's line (server/migration-protocol.h,
SpiceMigrateDataDisplay)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dissectors.channels.encodings import LZ_MAGIC, GlzStream
from dissectors.channels.image import SpiceImage
from dissectors.channels.migration_data import SpiceMsgMigrateDataDisplay
from dissectors.framing.events import Message
from dissectors.rules.version_ranges import version_holds
from dissectors.wire.constants import ChannelType, MsgBase, MsgCursor, MsgDisplay
from dissectors.wire.enums import ImageFlags, ImageType
from fixtures.bench import Bench
from fixtures.bench.planting import (
    before,
    changed,
    closed_after,
    lost,
    message_after_result,
    requirement,
    stuck_after,
    twice,
)
from fixtures.peer import Client, Connection
from fixtures.peer.duties import DUTIFUL, MigrationStep
from fixtures.system.hosts import Ability, Host, Unsupported
from suites.guest_pictures import SINCE, STREAM_CREATE, begin_video, drawn, open_streams
from suites.steps import announced, migrated, moved

DISPLAY, CURSOR = ChannelType.SPICE_CHANNEL_DISPLAY, ChannelType.SPICE_CHANNEL_CURSOR
MIGRATE, DATA = MsgBase.SPICE_MSG_MIGRATE, MsgBase.SPICE_MSG_MIGRATE_DATA
DRAW_COPY, DRAW_FILL = MsgDisplay.SPICE_MSG_DISPLAY_DRAW_COPY, MsgDisplay.SPICE_MSG_DISPLAY_DRAW_FILL
STREAM_DESTROY = MsgDisplay.SPICE_MSG_DISPLAY_STREAM_DESTROY
SURFACE_CREATE, SURFACE_DESTROY = (
    MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_CREATE,
    MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_DESTROY,
)
INVAL_PIXMAPS, INVAL_PALETTES = (
    MsgDisplay.SPICE_MSG_DISPLAY_INVAL_ALL_PIXMAPS,
    MsgDisplay.SPICE_MSG_DISPLAY_INVAL_ALL_PALETTES,
)
DEVICES = ("keyboard", "mouse", "display")
GLZ = 5  # enums.h, SPICE_IMAGE_COMPRESSION_GLZ
#: The data of this many surfaces is longer than 1,024 bytes.
MANY = 300
#: The host's own loop turns this often, so that a display's worker has time for a forbidden act.
TURNS = 20
#: The PONG of the net test names a time that is this much earlier: the 256,000 bytes then take longer than at
#: 10 Mbit/s (server/main-channel-client.cpp, net_test_stage).
SLOW_US = 2_000_000

pytestmark = pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.CALLS, Ability.DEVICES)


def display_of(client: Client) -> Connection:
    return client.current.channels[DISPLAY, 0]


# ---- bodies that planted faults make


def one_surface_fewer(data: bytes) -> bytes:
    """The display's data with a smaller count of surfaces."""
    at = int(SpiceMsgMigrateDataDisplay(data).surfaces_at_client_offset)
    count = int.from_bytes(data[at : at + 4], "little")
    return data[:at] + (count - 1).to_bytes(4, "little") + data[at + 4 :]


def fast_line(data: bytes) -> bytes:
    """The display's data of a client on a fast line."""
    packet = SpiceMsgMigrateDataDisplay(data)
    packet.low_bandwidth_setting = 0
    return bytes(packet)


def uncached(drawing: bytes) -> bytes:
    """DRAW_COPY without a clip, whose image lacks the flag CACHE_ME."""
    flags = int.from_bytes(drawing[21:25], "little") + 9
    return drawing[:flags] + b"\0" + drawing[flags + 1 :]


def numbered_anew(drawing: bytes) -> bytes:
    """DRAW_COPY whose GLZ image has the number 0."""
    at = drawing.find(LZ_MAGIC)
    return drawing if at < 0 else drawing[: at + 21] + bytes(8) + drawing[at + 29 :]


# ---- tests


@requirement("MIG-SRC-060", fault=lost(STREAM_DESTROY))
@requirement("MIG-SRC-041", fault=before(DATA, STREAM_DESTROY, bytes(4), channel=DISPLAY))
def test_video_that_plays(bench: Bench) -> None:
    """A video plays when the display migrates: STREAM_CLIP, DRAW_COPY and STREAM_DESTROY follow
    SPICE_MSG_MIGRATE (c7e81980)."""
    source, target = bench.pair(seamless=True, devices=DEVICES)
    client = bench.client(source)
    display = display_of(client)
    announced(bench, source, client, target)
    begin_video(bench, source, display)
    source.complete(target)
    moved(bench, source, client)
    seen = [m for m in display.messages if m.type in (STREAM_CREATE, STREAM_DESTROY, MIGRATE)]
    left = open_streams(display)
    bench.claim(not left, "STREAM_DESTROY of each stream", f"{len(left)} left open", proves="MIG-SRC-060")
    last = seen[-1].name
    bench.claim(last == MIGRATE.name, "SPICE_MSG_MIGRATE after them", last, proves="MIG-SRC-060")


@requirement("MIG-SRC-061", fault=before(MIGRATE, DRAW_FILL, bytes(60), channel=DISPLAY, case="display"))
@pytest.mark.parametrize("channel", [DISPLAY, CURSOR], ids=lambda c: c.name[14:].lower())
def test_stop_waits_for_the_window(bench: Bench, channel: ChannelType) -> None:
    """The client's window is full when the machine stops: the server sends the queue before vm_stop returns,
    and SPICE_MSG_MIGRATE after it (16b38ec8)."""
    source, target = bench.pair(seamless=True, devices=DEVICES)
    client = bench.client(source, quick=True)  # a slow line has a window of twice the size
    connection = client.current.channels[channel, 0]
    drawn(bench, source)
    announced(bench, source, client, target)
    connection.answers.ack = False
    count, kinds = 60, (DRAW_FILL,) if channel == DISPLAY else (MsgCursor.SPICE_MSG_CURSOR_SET,)
    for place in range(count):
        if channel == DISPLAY:
            source.call("qxl_draw", left=place * 10, right=place * 10 + 9, top=place, color=place)
        else:
            source.call("qxl_cursor", x=place)
    drawn(bench, source)
    queued = count - len(connection.got(*kinds))
    turns = 0

    def acknowledge() -> None:
        nonlocal turns
        turns += 1
        bench.pump.turn()
        if turns >= TURNS:
            connection.acknowledge()

    source.call("migrate_start")
    source.call_meanwhile("vm_stop", acknowledge)  # type: ignore[attr-defined]  # of library hosts
    bench.claim(queued > 0, "a window that holds something back", f"{queued} held back")
    bench.claim(turns >= TURNS, "vm_stop waits until the queue is empty", f"it returned after {turns} turns")
    bench.settle()
    sent = len(connection.got(*kinds))
    target.call("vm_start")
    source.call("migrate_end", completed=1)
    moved(bench, source, client)
    late = len(connection.got(*kinds)) - sent
    bench.claim(late == 0, "all drawn when vm_stop returns", f"{late} of {sent + late} later")


@requirement("MIG-SRC-062", fault=changed("one surface fewer", DATA, one_surface_fewer, channel=DISPLAY))
@requirement(
    "MIG-DST-045", fault=(twice(SURFACE_DESTROY, host="target"), lost(SURFACE_DESTROY, nth=3, host="target"))
)
@pytest.mark.parametrize("count", [3, MANY])
def test_surfaces_move(bench: Bench, count: int) -> None:
    """Off-screen surfaces: the data names each one; the target creates none of them again, and destroys them
    when its guest does. With 300 of them the data is longer than 1,024 bytes (4c1a2ad3)."""
    source, target = bench.pair(seamless=True, devices=DEVICES)
    client = bench.client(source)
    display = display_of(client)
    source.call("qxl_surfaces", count=count, side=4)
    bench.until(
        lambda: len(display.got(SURFACE_CREATE)) == count + 1, "the guest's surfaces", proves="MIG-SRC-062"
    )
    target.call("qxl_load_surfaces", count=count, side=4)
    migrated(bench, source, client, target)
    data = display.got(DATA)[0].packet.surfaces_at_client
    named = sorted(int(getattr(s, "id", s)) for s in data.surfaces)
    due = list(range(count + 1))
    bench.claim(named == due, f"surfaces 0 to {count}", f"{len(named)} of them", proves="MIG-SRC-062")
    display = display_of(client)
    target.call("qxl_surfaces", count=count, destroy=1)
    drawn(bench, target)
    gone = lambda: len(display.got(SURFACE_DESTROY)) >= count or display.ending  # noqa: E731
    bench.until(gone, f"SURFACE_DESTROY of {count} surfaces", proves="MIG-DST-045")
    bench.settle()
    destroyed = sorted(int(m.packet.surface_id) for m in display.got(SURFACE_DESTROY))
    again = len(display.got(SURFACE_CREATE))
    seen = f"{len(destroyed)} destroyed, {again} made again"
    fine = destroyed == due[1:] and not again
    bench.claim(fine, f"surfaces 1 to {count} destroyed once, none made again", seen, proves="MIG-DST-045")


def images(display: Connection) -> Iterator[tuple[Message, SpiceImage]]:
    """Every image that was drawn, in order."""
    for message in display.got(DRAW_COPY):
        image = message.packet.src_bitmap
        if isinstance(image, SpiceImage):
            yield message, image


@requirement("MIG-DST-046", fault=changed("not for the cache", DRAW_COPY, uncached, nth=1, host="target"))
def test_cached_images_at_the_target(bench: Bench) -> None:
    """The target draws an image that the client has cached at the source; it draws it from the cache only if
    it knows the cache's content."""
    source, target = bench.pair(seamless=True, devices=DEVICES)
    client = bench.client(source)
    known: set[int] = set()
    for host in (source, target):
        display = display_of(client)
        for place, seed in enumerate((7, 8, 7)):
            host.call("qxl_image", left=200 * place, seed=seed, cache=1)
            drawn(bench, host)
        bench.until(lambda d=display: len(list(images(d))) >= 3, "three images")  # type: ignore[misc]
        emptied = [m.time for m in display.got(INVAL_PIXMAPS)]
        for message, image in images(display):
            if emptied and message.time >= emptied[0]:
                known.clear()
                emptied.pop(0)
            if image.type == ImageType.SPICE_IMAGE_TYPE_FROM_CACHE:
                bench.claim(image.id in known, f"an image in the cache, not {image.id:#x}", "FROM_CACHE")
            elif image.flags & ImageFlags.SPICE_IMAGE_FLAGS_CACHE_ME:
                known.add(image.id)
        if host is source:
            bench.claim(bool(known), "images for the client's cache", "none")
            migrated(bench, source, client, target)


@requirement(
    "MIG-DST-065",
    fault=(
        lost(INVAL_PIXMAPS, host="target"),
        lost(INVAL_PALETTES, host="target"),
        twice(INVAL_PIXMAPS, host="target"),
    ),
)
def test_caches_are_emptied_at_the_target(bench: Bench) -> None:
    """A client with images in its cache migrates: the target empties its caches of images and palettes before
    it draws."""
    source, target = bench.pair(seamless=True, devices=DEVICES)
    client = bench.client(source)
    source.call("qxl_image", seed=7, cache=1)
    drawn(bench, source)
    migrated(bench, source, client, target)
    target.call("qxl_draw")
    drawn(bench, target)
    bench.until(lambda: display_of(client).got(DRAW_FILL), "what the guest draws")
    kinds = (INVAL_PIXMAPS, INVAL_PALETTES, DRAW_FILL)
    seen = [m.name for m in display_of(client).got(*kinds)]
    due = sorted(kind.name for kind in kinds)
    fine = sorted(seen) == due and seen[-1] == DRAW_FILL.name
    bench.claim(fine, "both caches emptied once, then the drawing", ", ".join(seen), target)


@requirement("MIG-DST-047", fault=changed("numbered anew", DRAW_COPY, numbered_anew, host="target"))
def test_dictionary_goes_on(bench: Bench) -> None:
    """GLZ images before and after the migration: their numbers go up by one."""
    source, target = bench.pair(seamless=True, devices=DEVICES)
    client = bench.client(source, quick=True)
    numbers: list[int] = []
    for host in (source, target):
        host.call("set_image_compression", value=GLZ)
        for place in range(3):
            host.call("qxl_image", left=200 * place, top=100, seed=20 + place)
            drawn(bench, host)
        display = display_of(client)
        due = len(numbers) + 3
        bench.until(lambda d=display: len(list(images(d))) >= 3, "three images")  # type: ignore[misc]
        for _, image in images(display):
            stream = getattr(image.content, "data", None)
            if image.type == ImageType.SPICE_IMAGE_TYPE_GLZ_RGB and isinstance(stream, GlzStream):
                numbers.append(int(stream.image_id))
        if len(numbers) < due - 2:
            raise Unsupported("this build compresses no image with GLZ")
        if host is source:
            migrated(bench, source, client, target)
    due_numbers = list(range(numbers[0], numbers[0] + len(numbers)))
    bench.claim(numbers == due_numbers, due_numbers, numbers, target)


@requirement("MIG-DST-048", fault=changed("a fast line", DATA, fast_line, channel=DISPLAY, host="target1"))
def test_slow_line_after_two_hops(bench: Bench) -> None:
    """A client on a slow line migrates twice: the second source's data says so as the first one's did
    (f50827e5)."""
    source = bench.start("source", seamless=True, devices=DEVICES)
    client = bench.client(source, slow_us=SLOW_US)
    seen = []
    for hop in (1, 2):
        target = bench.start(f"target{hop}", incoming=True, seamless=True, devices=DEVICES)
        client.steps.clear()
        client.left.clear()
        display = display_of(client)
        migrated(bench, source, client, target)
        seen.append(int(display.got(DATA)[0].packet.low_bandwidth_setting))
        source = target
    if not seen[0] and not version_holds(SINCE, source.identity.version):
        raise Unsupported("this build takes the line for a fast one")
    bench.claim(seen == [1, 1], "low_bandwidth_setting 1 from both sources", seen)


def untouched(bench: Bench, target: Host, display: Connection) -> None:
    """Claims that the target has not drawn anything on the client's display yet."""
    drawings = [m.name for m in display.messages if "DRAW" in m.name or "SURFACE" in m.name]
    bench.claim(not drawings, "nothing drawn before MIGRATE_DATA", ", ".join(drawings), target)


@requirement("MIG-DST-049", fault=message_after_result(DRAW_FILL, bytes(60), channel=DISPLAY, host="target"))
@pytest.mark.parametrize("call", ["qxl_sync", "qxl_update_area", "qxl_reset"])
def test_card_is_used_before_the_data(bench: Bench, call: str) -> None:
    """The machine runs at the target and its guest draws while MIGRATE_DATA is still on its way
    (8918664c)."""
    source, target = bench.pair(seamless=True, devices=DEVICES)
    client = bench.client(source, duties=DUTIFUL.holding(MigrationStep.MIGRATE_DATA))
    drawn(bench, source)
    announced(bench, source, client, target)
    source.complete(target)
    bench.until(lambda: display_of(client).got(DATA), "the display's MIGRATE_DATA")
    display = client.target.channels[DISPLAY, 0]  # type: ignore[union-attr]
    untouched(bench, target, display)
    target.call("qxl_draw")
    turns = 0

    def bring() -> None:
        nonlocal turns
        turns += 1
        bench.pump.turn()
        if turns == TURNS:
            untouched(bench, target, display)
            client.release(MigrationStep.MIGRATE_DATA)

    target.call_meanwhile(call, bring)  # type: ignore[attr-defined]  # of library hosts
    bench.claim(turns >= TURNS, f"{call} waits for MIGRATE_DATA", f"it returned after {turns} turns", target)
    moved(bench, source, client)
    bench.until(lambda: display_of(client).got(DRAW_FILL, SURFACE_CREATE), "the display after it")


@requirement(
    "MIG-DST-050",
    fault=(
        closed_after("result", host="target", channel=DISPLAY),
        stuck_after("result", host="target", channel=DISPLAY),
    ),
)
@pytest.mark.slow
def test_data_that_never_comes(bench: Bench) -> None:
    """The client withholds the display's MIGRATE_DATA: after ten real seconds the target disconnects the
    display."""
    source, target = bench.pair(seamless=True, devices=DEVICES)
    client = bench.client(source, duties=DUTIFUL.skipping(MigrationStep.MIGRATE_DATA))
    drawn(bench, source)
    announced(bench, source, client, target)
    display = client.target.channels[DISPLAY, 0]  # type: ignore[union-attr]
    longest = -bench.pump.now()
    source.complete(target)
    waited = -bench.pump.now()
    with bench.pump.in_real_time(), bench.owed():
        bench.pump.until(lambda: display.ending, 15, "the display's end")
    longest, waited = longest + bench.pump.now(), waited + bench.pump.now()
    bench.claim(longest >= 9.5 and waited <= 11.5, "the end after 10 s", f"after {waited:.1f} s")
    target.call("qxl_draw")
    drawn(bench, target)
