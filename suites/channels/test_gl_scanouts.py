# SPDX-License-Identifier: GPL-2.0-only
"""What a guest's graphics processor draws reaches a client on the same machine as a file descriptor, not as
pixels (spice.proto, DisplayChannel, gl_scanout_unix and gl_draw; server/spice-qxl.h, spice_qxl_gl_scanout and
spice_qxl_gl_draw_async)."""

from __future__ import annotations

import os
import struct
from functools import partial
from typing import Any

import pytest

from dissectors.wire.constants import ChannelType, DisplayCap, MsgcDisplay, MsgDisplay
from fixtures.bench import Bench
from fixtures.bench.planting import (
    called_twice,
    lost,
    never,
    put,
    requirement,
    skipped,
    too_early,
    twice,
)
from fixtures.peer import Connection
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import SEVERAL_CLIENTS, Ability, Host
from suites.guest_pictures import drawn
from suites.steps import unix_path

DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
SCANOUT = MsgDisplay.SPICE_MSG_DISPLAY_GL_SCANOUT_UNIX
SCANOUT2 = MsgDisplay.SPICE_MSG_DISPLAY_GL_SCANOUT2_UNIX
MARK = MsgDisplay.SPICE_MSG_DISPLAY_MARK
DRAW, DONE = MsgDisplay.SPICE_MSG_DISPLAY_GL_DRAW, MsgcDisplay.SPICE_MSGC_DISPLAY_GL_DRAW_DONE
ENDED = "async_complete"  # what the hypervisor hears when a GL draw is shown
WIDTH, HEIGHT = 322, 205  # of the guest's buffer, pixels
XR24 = int.from_bytes(b"XR24", "little")  # drm_fourcc.h, DRM_FORMAT_XRGB8888
PLANES = 2
PLACE = {"x": 5, "y": 7, "width": 210, "height": 150}

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def guest(bench: Bench) -> Host:
    """A guest whose clients come through a UNIX socket, several at once."""
    devices = ("keyboard", "mouse", "tablet", "display")
    return bench.start(devices=devices, listen=unix_path(bench), environment=SEVERAL_CLIENTS)


def opened(bench: Bench, source: Host, *, planes: bool = False) -> Connection:
    """The display of a client once it has its first messages: no kernel counts the bytes on a UNIX socket.
    `planes`: it takes buffers of several planes too."""
    able = EVERYTHING if planes else EVERYTHING.without(DisplayCap.SPICE_DISPLAY_CAP_GL_SCANOUT2)
    client = bench.client(source, channels=(DISPLAY,), capabilities=able)
    display = client.current.channels[DISPLAY, 0]
    bench.until(lambda: display.got(MARK), MARK.name, proves="CHAN-065")
    drawn(bench, source)
    return display


def shown(source: Host, **buffer: Any) -> Any:
    """The guest shows a buffer; the device and inode of each plane's file."""
    return source.call(
        "gl_scanout", **{"width": WIDTH, "height": HEIGHT, "form": XR24, "top_down": 1, **buffer}
    )


def scanouts(display: Connection) -> list[tuple[int, ...]]:
    """Width, height, stride, format and flags of each GL_SCANOUT_UNIX."""
    names = ("width", "height", "stride", "drm_fourcc_format", "flags")
    return [tuple(int(m.packet.getfieldval(name)) for name in names) for m in display.got(SCANOUT)]


def passed(display: Connection) -> list[list[int]]:
    """The device and inode of each file whose descriptor the server has passed."""
    return [[status.st_dev, status.st_ino] for status in map(os.fstat, display.descriptors)]


def sizes(bench: Bench) -> list[tuple[int, int]]:
    """The sizes that the guest's tablet was told."""
    return [(e.args["w"], e.args["h"]) for e in bench.pump.tape.host_events if e.name == "tablet_size"]


def ended(bench: Bench) -> list[int]:
    """The cookies of the GL draws that have ended."""
    return [e.args["cookie"] for e in bench.pump.tape.host_events if e.name == ENDED]


@requirement(
    "CHAN-170",
    fault=(
        lost(SCANOUT),
        put(SCANOUT, width=WIDTH - 1),
        put(SCANOUT, height=HEIGHT + 1),
        put(SCANOUT, stride=WIDTH),
        put(SCANOUT, drm_fourcc_format=XR24 + 1),
        put(SCANOUT, flags=0),
        put(SCANOUT, flags=1, nth=2),
        skipped("gl_buffer"),
    ),
)
def test_buffer_of_the_guest(bench: Bench) -> None:
    """The guest shows a buffer, then another one that is stored bottom up."""
    source = guest(bench)
    display = opened(bench, source)
    files = [*shown(source), *shown(source, width=64, top_down=0)]
    due = [(WIDTH, HEIGHT, WIDTH * 4, XR24, 1), (64, HEIGHT, 256, XR24, 0)]
    bench.until(lambda: len(scanouts(display)) >= len(due), "GL_SCANOUT_UNIX for each buffer")
    bench.settle()
    seen = scanouts(display)
    bench.claim(seen == due, f"width, height, stride, format, flags {due}", seen)
    if not bench.relays:  # the relay passes no descriptors
        known = passed(display)
        bench.claim(known == files, f"descriptors of the buffers {files}", known)


@requirement("CHAN-170")
def test_buffer_of_two_planes(bench: Bench) -> None:
    """The guest shows a buffer of two planes to a client that takes them (libraries from 0.16 on)."""
    source = guest(bench)
    display = opened(bench, source, planes=True)
    files = shown(source, planes=PLANES)
    bench.until(lambda: display.got(SCANOUT2), SCANOUT2.name)
    bench.settle()
    told = display.got(SCANOUT2)[-1].packet
    names = ("width", "height", "drm_fourcc_format", "flags", "drm_format_modifier")
    seen = [int(told.getfieldval(name)) for name in names]
    seen += [int(plane.getfieldval(name)) for plane in told.planes for name in ("offset", "stride")]
    due = [WIDTH, HEIGHT, XR24, 1, 0, 0, WIDTH * 4, 1, WIDTH * 4]
    bench.claim(seen == due, f"size, format, flags, modifier, offset and stride of each plane {due}", seen)
    if not bench.relays:
        known = passed(display)
        bench.claim(known == files, f"descriptors of the planes {files}", known)


def draw(bench: Bench, source: Host, displays: list[Connection], cookie: int) -> None:
    """The guest changes a part of its buffer; its clients answer one after the other."""
    before = ended(bench)
    source.call("gl_draw", **PLACE, cookie=cookie)
    for display in displays:
        bench.until(partial(has_draws, display, len(before) + 1), DRAW.name)
        bench.settle()
        seen = ended(bench)
        bench.claim(seen == before, f"ends {before} while a client is still to answer", seen)
        display.send(DONE)
    bench.until(lambda: cookie in ended(bench), f"the end of draw {cookie}")


def has_draws(display: Connection, count: int) -> bool:
    return len(display.got(DRAW)) >= count


@requirement(
    "CHAN-171",
    fault=(
        lost(DRAW),
        put(DRAW, x=0),
        put(DRAW, y=0),
        put(DRAW, w=WIDTH),
        put(DRAW, h=HEIGHT),
        never(ENDED),
        called_twice(ENDED),
        too_early(ENDED),
        lost(DONE),
    ),
)
def test_draw_that_two_clients_show(bench: Bench) -> None:
    """The guest changes a part of its buffer, twice: its two clients show it one after the other, and only
    then does the hypervisor hear of the end."""
    source = guest(bench)
    displays = [opened(bench, source) for _ in range(2)]
    shown(source)
    for cookie in (11, 12):
        draw(bench, source, displays, cookie)
    bench.settle()
    bench.claim(ended(bench) == [11, 12], "one end of each draw", ended(bench))
    due = [list(PLACE.values())] * 2
    for display in displays:
        places = [list(struct.unpack("<4I", m.body)) for m in display.got(DRAW)]
        bench.claim(places == due, f"x, y, width, height {due}", places)


@requirement("CHAN-172", fault=never(ENDED))
def test_draw_whose_client_leaves(bench: Bench) -> None:
    """The client closes its display before it has answered GL_DRAW."""
    source = guest(bench)
    display = opened(bench, source)
    shown(source)
    source.call("gl_draw", **PLACE, cookie=21)
    bench.until(lambda: display.got(DRAW), DRAW.name, proves="CHAN-171")
    bench.claim(not ended(bench), "no end while the client is there", ended(bench))
    display.close()
    bench.until(lambda: ended(bench) == [21], "the draw's end")


@requirement("CHAN-173", fault=(lost(SCANOUT), put(SCANOUT, width=64), twice(SCANOUT)))
def test_client_that_comes_later(bench: Bench) -> None:
    """The guest has shown two buffers when its client comes."""
    source = guest(bench)
    shown(source, width=64)
    files = shown(source)
    later = opened(bench, source)
    due = [(WIDTH, HEIGHT, WIDTH * 4, XR24, 1)]
    bench.until(lambda: later.got(SCANOUT), SCANOUT.name)
    bench.settle()
    seen = scanouts(later)
    bench.claim(seen == due, f"the present buffer alone: {due}", seen)
    if not bench.relays:
        known = passed(later)
        bench.claim(known == files, f"the descriptor of the buffer {files}", known)


@requirement("CHAN-174", fault=(never(ENDED, case="nobody"), never(ENDED, case="no buffer")))
@pytest.mark.parametrize("case", ["nobody", "no buffer"])
def test_draw_that_nobody_shows(bench: Bench, case: str) -> None:
    """The guest changes its buffer while no client is there, or after it has given its buffer up."""
    source = guest(bench)
    if case == "no buffer":
        display = opened(bench, source)
    shown(source)
    if case == "no buffer":
        bench.until(lambda: display.got(SCANOUT), SCANOUT.name, proves="CHAN-170")
        shown(source, planes=0)
    source.call("gl_draw", **PLACE, cookie=31)
    bench.until(lambda: ended(bench) == [31], "the draw's end")
    if case == "no buffer":
        bench.settle()
        bench.claim(not display.got(DRAW), "no GL_DRAW", display.got(DRAW))


@requirement("CHAN-175", fault=never("tablet_size"))
def test_tablet_for_the_buffer(bench: Bench) -> None:
    """The guest shows a buffer that is smaller than its primary surface."""
    source = guest(bench)
    opened(bench, source)
    shown(source)
    bench.until(lambda: sizes(bench)[-1:] == [(WIDTH, HEIGHT)], "the buffer's size for the tablet")
