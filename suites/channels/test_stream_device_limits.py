# SPDX-License-Identifier: GPL-2.0-only
"""How much a server takes from a stream device: the size of a message, and frames that the client does not
take; and where the device is, for the agent (spice-protocol, spice/stream-device.h;
server/red-stream-device.cpp)."""

from __future__ import annotations

import struct

import pytest

from dissectors.channels.agent_enums import AgentPort, AgentType
from dissectors.wire.constants import ChannelType, MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, changed, lost, never, requirement, twice
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability
from suites.channels.test_stream_device import (
    DEVICE,
    FRAMES,
    MJPEG,
    OPENED,
    SIZES,
    STREAM_CREATE,
    STREAM_DATA,
    Said,
    heard,
    message,
    says,
    watched,
)
from suites.channels.test_stream_device_course import CLOSED, CURSOR_SET, a_format, event
from suites.guest_agent import agent_message, chunk, read_by_guest

DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
CONNECTED = MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS
DISPLAY_INFO = 8  # stream-device.h, STREAM_TYPE_DEVICE_DISPLAY_INFO
#: The longest message of each type, bytes (stream-device.h, STREAM_MSG_CAPABILITIES_MAX_BYTES and
#: STREAM_MSG_CURSOR_SET_MAX_WIDTH; server/red-stream-device.cpp; display-limits.h, MAX_DEVICE_ADDRESS_LEN).
LONGEST = {
    "frame": (Said.DATA, 32 << 20),
    "capabilities": (Said.CAPABILITIES, 1_024),
    "cursor": (CURSOR_SET, 12 + 1_024 * (4 * 1_024 + 1_024 // 8)),
    "place of the device": (DISPLAY_INFO, 12 + 256),
}
#: So many frames that no client's window takes them all.
MANY = 400
#: Where the device is: its stream, its display, and its address.
STREAM, SHOWS, ADDRESS = 0x21, 0x43, b"pci/0000/02.1\0"
ALL_CAPS = 0x3DFFF  # of the agent, GRAPHICS_DEVICE_INFO among them

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


@requirement("CHAN-080", fault=(never("chardev_write"), Fault("twice", plant=("twice:chardev_write",))))
@pytest.mark.parametrize("which", LONGEST)
def test_longest_message_of_the_guest(bench: Bench, which: str) -> None:
    """The guest begins a message of the greatest length, and one that is a byte longer: the server reads on
    in the first and answers the second with one NOTIFY_ERROR."""
    source, _, _ = watched(bench)
    kind, longest = LONGEST[which]
    for size, due in ((longest, 0), (longest + 1, 1)):
        event(bench, source, CLOSED)
        event(bench, source, OPENED)
        source.call("chardev_send", device=DEVICE, hex=message(kind, b"", size).hex())
        bench.settle()
        errors = [text for told, text in heard(bench) if told == Said.NOTIFY_ERROR]
        bench.claim(len(errors) == due, f"NOTIFY_ERROR for {size} bytes: {due}", [e.hex() for e in errors])


@requirement(
    "CHAN-121",
    fault=(
        lost(STREAM_DATA, nth=9),
        twice(STREAM_DATA, nth=9),
        changed("one bit", STREAM_DATA, lambda b: b[:-1] + bytes([b[-1] ^ 1]), nth=9),
    ),
)
def test_frames_that_the_client_does_not_take(bench: Bench) -> None:
    """The client acknowledges no frame: the server soon reads no more of them from the guest. Then the client
    acknowledges: it gets each frame once and in order."""
    source, _, display = watched(bench)
    says(bench, source, Said.FORMAT, a_format(SIZES[0], MJPEG))
    display.answers.ack = False
    frames: list[bytes] = []
    unread = 0
    while not unread and len(frames) < MANY:
        frames.append(FRAMES[0] + struct.pack("<I", len(frames)))
        unread = source.call("chardev_send", device=DEVICE, hex=message(Said.DATA, frames[-1]).hex())
    bench.claim(unread > 0, f"the guest waits before its frame {MANY}", "the server has read them all")
    display.answers.ack = True
    display.acknowledge()
    bench.until(lambda: len(display.got(STREAM_DATA)) >= len(frames), "the frames that were held back")
    bench.settle()
    seen = [bytes(m.packet.data) for m in display.got(STREAM_DATA)]
    bench.claim(seen == frames, f"{len(frames)} frames, each once and in order", f"{len(seen)} frames")


@requirement("CHAN-122", fault=(lost(STREAM_DATA, nth=2), twice(STREAM_DATA, nth=2)))
def test_frames_for_nobody(bench: Bench) -> None:
    """The client leaves while the guest streams, and the guest does not stop at once: the next client gets no
    frame before the guest has stated its format again."""
    source, client, _ = watched(bench)
    says(bench, source, Said.FORMAT, a_format(SIZES[0], MJPEG))
    says(bench, source, Said.DATA, FRAMES[0])
    client.close()
    bench.settle()
    says(bench, source, Said.DATA, FRAMES[0])
    following = bench.client(source, channels=(DISPLAY,), capabilities=EVERYTHING)
    bench.settle()
    display = following.current.channels[DISPLAY, 0]
    says(bench, source, Said.DATA, FRAMES[0])
    early = [m.name for m in display.got(STREAM_CREATE, STREAM_DATA)]
    bench.claim(not early, "no frame yet", early)
    says(bench, source, Said.FORMAT, a_format(SIZES[0], MJPEG))
    says(bench, source, Said.DATA, FRAMES[1])
    seen = [bytes(m.packet.data) for m in display.got(STREAM_DATA)]
    bench.claim(seen == [FRAMES[1]], "the frame after the format", [frame.hex() for frame in seen])


@requirement(
    "MAIN-072",
    fault=(
        Fault("the agent misses a byte", plant=("clip:agent",)),
        Fault("the agent reads it twice", plant=("twice:chardev_write",)),
    ),
)
@pytest.mark.parametrize("agent", ["first", "later"])
def test_agent_learns_where_the_stream_device_is(bench: Bench, agent: str) -> None:
    """The guest states where its stream device is; the agent, which has announced that it takes graphics
    devices or does so later, gets the device's channel, stream, display and address."""
    source = bench.start(devices=("keyboard", "mouse", "display", DEVICE))
    source.call("agent_attach")
    main = bench.client(source, channels=()).main
    main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 100))
    event(bench, source, OPENED)
    announcement = agent_message(AgentType.VD_AGENT_ANNOUNCE_CAPABILITIES, struct.pack("<II", 1, ALL_CAPS))
    known = struct.pack("<III", STREAM, SHOWS, len(ADDRESS)) + ADDRESS
    due = b""
    if agent == "first":
        source.call("agent_send", hex=chunk(announcement).hex())
        due += bytes(4)  # no device yet
    says(bench, source, DISPLAY_INFO, known)
    if agent == "later":
        source.call("agent_send", hex=chunk(announcement).hex())
    bench.settle()
    info = struct.pack("<II", 1, 1) + known  # one device, of the display channel that follows the card's
    told = [due, info] if due else [info]
    wanted = b"".join(
        chunk(agent_message(AgentType.VD_AGENT_GRAPHICS_DEVICE_INFO, one), AgentPort.VDP_SERVER_PORT)
        for one in told
    )
    seen = read_by_guest(bench, device="agent")
    bench.claim(seen == wanted, f"at the agent {wanted.hex()}", seen.hex() or "nothing")
