# SPDX-License-Identifier: GPL-2.0-only
"""A stream device: the guest encodes its screen itself and sends it through a port; the server makes a
display of it (spice-protocol, spice/stream-device.h; server/stream-device.cpp)."""

from __future__ import annotations

import struct
from enum import IntEnum

import pytest

from dissectors.wire.constants import ChannelType, DisplayCap, MsgDisplay
from dissectors.wire.enums import VideoCodecType
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, changed, lost, never, put, requirement
from fixtures.peer import Client, Connection
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability, Host
from suites.guest_agent import read_by_guest

DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
DEVICE = "port:org.spice-space.stream.0"
OPENED = 0  # spice-char.h, SPICE_PORT_EVENT_OPENED
STREAM_CREATE, STREAM_DATA, STREAM_DESTROY, SURFACE_CREATE = (
    MsgDisplay.SPICE_MSG_DISPLAY_STREAM_CREATE,
    MsgDisplay.SPICE_MSG_DISPLAY_STREAM_DATA,
    MsgDisplay.SPICE_MSG_DISPLAY_STREAM_DESTROY,
    MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_CREATE,
)
MJPEG, VP8 = VideoCodecType.SPICE_VIDEO_CODEC_TYPE_MJPEG, VideoCodecType.SPICE_VIDEO_CODEC_TYPE_VP8
#: The codecs that every release passes on, and the client's capability for each.
CODECS = {
    int(codec): DisplayCap[codec.name.replace("VIDEO_CODEC_TYPE", "DISPLAY_CAP_CODEC")]
    for codec in VideoCodecType
    if codec <= VideoCodecType.SPICE_VIDEO_CODEC_TYPE_H265
}
FRAMES = (b"\xff\xd8 the first \xff\xd9", b"\xff\xd8 the second, which is longer \xff\xd9")
SIZES = ((0x281, 0x1E3), (0x143, 0xC5))  # pixels; no byte twice
#: A planted fault of what the server tells the guest.
CLIPPED = Fault("the guest misses a byte", plant=(f"clip:{DEVICE}",))

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


class Said(IntEnum):
    """Types of messages between guest and server (stream-device.h, StreamMsgType)."""

    CAPABILITIES = 1
    FORMAT = 2
    DATA = 3
    START_STOP = 4
    NOTIFY_ERROR = 5


def message(kind: int, content: bytes, size: int | None = None) -> bytes:
    """A message with its header: version 1, a type, a size (default: the content's)."""
    return struct.pack("<BxHI", 1, kind, len(content) if size is None else size) + content


def says(bench: Bench, source: Host, kind: int, content: bytes, *cuts: int) -> None:
    """The guest sends a message, in pieces that begin at its bytes `cuts`."""
    whole = message(kind, content)
    for start, end in zip((0, *cuts), (*cuts, len(whole)), strict=True):
        source.call("chardev_send", device=DEVICE, hex=whole[start:end].hex())
        bench.settle()


def heard(bench: Bench) -> list[tuple[int, bytes]]:
    """Each message that the server has sent to the guest: its type and its content. It is of version 1."""
    raw, found = read_by_guest(bench, device=DEVICE), []
    while len(raw) >= 8:
        version, kind, size = struct.unpack_from("<HHI", raw)  # the second byte is padding
        bench.claim(version == 1, "a message of version 1", version)
        found.append((kind, raw[8 : 8 + size]))
        raw = raw[8 + size :]
    return found


def starts(bench: Bench) -> list[list[int]]:
    """The codecs of each START_STOP; an empty list stops the guest."""
    return [list(content[1 : 1 + content[0]]) for kind, content in heard(bench) if kind == Said.START_STOP]


def watched(bench: Bench, *without: DisplayCap) -> tuple[Host, Client, Connection]:
    """A machine whose guest has opened its stream device, a client without these capabilities, and its
    display."""
    source = bench.start(devices=("keyboard", "mouse", DEVICE))
    source.call("port_event", device=DEVICE, event=OPENED)
    client = bench.client(source, channels=(DISPLAY,), capabilities=EVERYTHING.without(*without))
    bench.settle()
    linked = client.current.channels
    bench.claim((DISPLAY, 0) in linked, "a display for the stream device", "no display is offered")
    return source, client, linked[DISPLAY, 0]


@requirement("CHAN-078", fault=(CLIPPED, never("chardev_write")))
@pytest.mark.parametrize("lacks", [(), (2, 4), (3, 5)], ids=["all", "no VP8, VP9", "no H264, H265"])
def test_guest_begins_with_the_clients_codecs(bench: Bench, lacks: tuple[int, ...]) -> None:
    """START_STOP lists the codecs of the client when its display opens (MJPEG is every client's), and none
    when the client leaves."""
    _, client, _ = watched(bench, *(CODECS[codec] for codec in lacks))
    wanted = [codec for codec in CODECS if codec not in lacks]
    begun = starts(bench)
    bench.claim(begun == [wanted], f"one START_STOP with the codecs {wanted}", begun)
    client.close()
    bench.settle()
    ended = starts(bench)[1:]
    bench.claim(ended == [[]], "one START_STOP without codecs when the client has left", ended)


@requirement(
    "CHAN-079",
    fault=(
        changed("one bit", STREAM_DATA, lambda b: b[:-1] + bytes([b[-1] ^ 1]), nth=2),
        lost(STREAM_DATA, nth=2),
        put(STREAM_CREATE, codec_type=int(VP8), nth=1),
        put(SURFACE_CREATE, height=SIZES[0][1] - 1, nth=1),
        lost(STREAM_DESTROY, nth=1),
    ),
)
@pytest.mark.parametrize("codec", [MJPEG, VP8], ids=lambda codec: codec.name.rpartition("_")[2])
def test_stream_of_the_guest(bench: Bench, codec: VideoCodecType) -> None:
    """The client gets each format as a surface and a stream of its size and codec, and each frame once with
    the guest's bytes, however the guest splits them; a second format ends the stream of the first."""
    source, _, display = watched(bench)
    for width, height in SIZES:
        says(bench, source, Said.FORMAT, struct.pack("<IIB3x", width, height, codec), 3, 9, 19)
        for frame, cuts in zip(FRAMES, ((), (7, 8, 9, 20)), strict=True):
            says(bench, source, Said.DATA, frame, *cuts)
    surfaces = [(int(m.packet.width), int(m.packet.height)) for m in display.got(SURFACE_CREATE)]
    bench.claim(surfaces == list(SIZES), f"surfaces of {SIZES}", surfaces)
    told = [m.packet for m in display.got(STREAM_CREATE)]
    made = [(int(p.codec_type), int(p.stream_width), int(p.stream_height)) for p in told]
    bench.claim(made == [(codec, *size) for size in SIZES], f"streams of {codec.name}, {SIZES}", made)
    frames = [bytes(m.packet.data) for m in display.got(STREAM_DATA)]
    bench.claim(frames == [*FRAMES, *FRAMES], "each frame once and whole", [f.hex() for f in frames])
    course = [m.type for m in display.messages if m.type in (STREAM_CREATE, STREAM_DESTROY)]
    wanted = [STREAM_CREATE, STREAM_DESTROY, STREAM_CREATE]
    bench.claim(course == wanted, "STREAM_DESTROY between the two streams", course)


@requirement("CHAN-080", fault=(CLIPPED, never("chardev_write")))
@pytest.mark.parametrize("kind", [0, Said.START_STOP, Said.NOTIFY_ERROR, 99], ids=str)
def test_wrong_message_of_the_guest(bench: Bench, kind: int) -> None:
    """The server answers a message that no guest may send with one NOTIFY_ERROR and shows nothing of it."""
    source, _, display = watched(bench)
    shown = len(display.messages)
    says(bench, source, kind, b"\1")
    errors = [content for heard_kind, content in heard(bench) if heard_kind == Said.NOTIFY_ERROR]
    fine = len(errors) == 1 and len(errors[0]) > 4 and errors[0][:4] == bytes(4) and errors[0][-1] == 0
    bench.claim(fine, "one NOTIFY_ERROR: code 0, a text with its NUL", [e.hex() for e in errors])
    more = [m.name for m in display.messages[shown:]]
    bench.claim(not more, "nothing on the display channel", more)
