# SPDX-License-Identifier: GPL-2.0-only
"""A stream device whose client comes before its guest, or can do little, and what its hypervisor hears
(server/red-stream-device.cpp, stream-channel.cpp)."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import DisplayCap
from dissectors.wire.enums import SurfaceFlags
from fixtures.bench import Bench
from fixtures.bench.planting import added, called_twice, lost, never, put, requirement
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability
from suites.channels.test_device_life import states
from suites.channels.test_stream_device import (
    CODECS,
    DEVICE,
    DISPLAY,
    FRAMES,
    MJPEG,
    OPENED,
    SIZES,
    STREAM_CREATE,
    STREAM_DATA,
    SURFACE_CREATE,
    Said,
    heard,
    says,
    starts,
    watched,
)
from suites.channels.test_stream_device_course import CLOSED, MONITORS, a_format, event, names

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


@requirement("CHAN-154", fault=(lost(STREAM_DATA), never("chardev_write"), called_twice("chardev_write")))
def test_client_before_the_guest(bench: Bench) -> None:
    """The client opens its display while the machine still boots; then the guest opens its port, closes it
    and opens it again: each time it is told its client's codecs, and the client gets its frames."""
    source = bench.start(devices=("keyboard", "mouse", DEVICE))
    client = bench.client(source, channels=(DISPLAY,), capabilities=EVERYTHING)
    bench.settle()
    linked = client.current.channels
    bench.claim((DISPLAY, 0) in linked, "a display for the stream device", sorted(linked))
    bench.claim(not heard(bench), "nothing at a guest that has not opened its port", heard(bench))
    for turn in (1, 2):
        event(bench, source, OPENED)
        told = starts(bench)
        bench.claim(told == [list(CODECS)] * turn, f"START_STOP with {list(CODECS)}, {turn} times", told)
        said = [content for kind, content in heard(bench) if kind == Said.CAPABILITIES]
        bench.claim(said == [b"\0"] * turn, "CAPABILITIES without any, before that", said)
        says(bench, source, Said.FORMAT, a_format(SIZES[0], MJPEG))
        says(bench, source, Said.DATA, FRAMES[0])
        seen = len(linked[DISPLAY, 0].got(STREAM_DATA))
        bench.claim(seen == turn, f"{turn} frames", seen)
        event(bench, source, CLOSED)


@requirement(
    "CHAN-155",
    fault=(
        added(SURFACE_CREATE, MONITORS, bytes(4)),
        put(SURFACE_CREATE, flags=3),
        lost(STREAM_CREATE),
    ),
)
def test_client_that_can_do_little(bench: Bench) -> None:
    """A client that takes no monitors, makes no reports and has MJPEG alone gets a surface for drawings and
    the stream."""
    source, _, display = watched(
        bench,
        DisplayCap.SPICE_DISPLAY_CAP_MONITORS_CONFIG,
        DisplayCap.SPICE_DISPLAY_CAP_STREAM_REPORT,
        DisplayCap.SPICE_DISPLAY_CAP_MULTI_CODEC,
    )
    before = len(display.messages)
    says(bench, source, Said.FORMAT, a_format(SIZES[0], MJPEG))
    seen, due = names(display.messages[before:]), ["SURFACE_CREATE", "MARK", "STREAM_CREATE"]
    bench.claim(seen == due, ", ".join(due), ", ".join(seen))
    flags = [int(m.packet.flags) for m in display.got(SURFACE_CREATE)]
    bench.claim(flags == [SurfaceFlags.SPICE_SURFACE_FLAGS_PRIMARY], "the flag PRIMARY alone", flags)


@requirement("CHAN-156", fault=(never("chardev_state"), called_twice("chardev_state")))
def test_hypervisor_hears_of_an_error(bench: Bench) -> None:
    """The device is connected when it is plugged; after a wrong message it is disconnected, and it is
    connected again when the guest closes and opens its port."""
    source = bench.start(devices=("keyboard", "mouse", DEVICE))
    bench.settle()
    wanted = [True]
    bench.claim(states(bench) == wanted, "connected", states(bench))
    for error in (True, False):
        event(bench, source, OPENED)
        wanted.append(True)
        if error:
            says(bench, source, 99, b"")
            wanted.append(False)
        bench.claim(states(bench) == wanted, wanted, states(bench))
        event(bench, source, CLOSED)
        wanted.append(True)
        bench.claim(states(bench) == wanted, wanted, states(bench))
