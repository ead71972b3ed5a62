# SPDX-License-Identifier: GPL-2.0-only
"""The guest's sound from beginning to end: each frame with its time, and the multimedia time after the sound
(spice.proto, PlaybackChannel and RecordChannel; server/sound.cpp)."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest

from dissectors.framing.events import DISCONNECTED
from dissectors.wire.constants import ChannelType, MsgcRecord, MsgMain, MsgPlayback, MsgRecord, PlaybackCap
from dissectors.wire.enums import AudioDataMode, AudioFmt
from fixtures.bench import Bench
from fixtures.bench.planting import changed, later, lost, put, requirement, stuck_after, twice
from fixtures.peer import Connection
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability, Host
from suites.steps import unix_path

PLAYBACK, RECORD = ChannelType.SPICE_CHANNEL_PLAYBACK, ChannelType.SPICE_CHANNEL_RECORD
PLAY_DATA, RECORD_DATA = MsgPlayback.SPICE_MSG_PLAYBACK_DATA, MsgcRecord.SPICE_MSGC_RECORD_DATA
COURSE = {
    "playback": (PLAYBACK, MsgPlayback.SPICE_MSG_PLAYBACK_START, MsgPlayback.SPICE_MSG_PLAYBACK_STOP),
    "record": (RECORD, MsgRecord.SPICE_MSG_RECORD_START, MsgRecord.SPICE_MSG_RECORD_STOP),
}
RECORD_START = COURSE["record"][1]
TIME, INIT = MsgMain.SPICE_MSG_MAIN_MULTI_MEDIA_TIME, MsgMain.SPICE_MSG_MAIN_INIT
WITHOUT_OPUS = EVERYTHING.without(PlaybackCap.SPICE_PLAYBACK_CAP_OPUS)
#: The rate if the guest has set none: in old releases, and in those that support OPUS alone.
HERTZ = (44_100, 48_000)
FRAMES, FRAME = 480, 4  # of one packet; bytes of two channels of 16 bits
RING = 8_192  # frames that the server keeps of what is recorded (server/sound.cpp, RECORD_SAMPLES_SIZE)
WORD = 1 << 32
#: A few packets of sound.
SOME = 5
#: What a UNIX socket holds at most, bytes.
SEND_BUFFER = Path("/proc/sys/net/core/wmem_default")
RAW = AudioDataMode.SPICE_AUDIO_DATA_MODE_RAW

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def opened(bench: Bench, source: Host, channel: ChannelType) -> tuple[Connection, Connection]:
    """Main and a sound channel, for a client that takes uncompressed sound."""
    client = bench.client(source, channels=(channel,), capabilities=WITHOUT_OPUS)
    bench.settle()
    return client.main, client.current.channels[channel, 0]


@requirement(
    "CHAN-073",
    fault=(
        lost(COURSE["playback"][1], case="playback-late"),
        lost(COURSE["record"][2], case="record-early"),
        twice(COURSE["record"][1], case="record-late"),
        put(COURSE["record"][1], channels=1, case="record-early"),
        put(COURSE["record"][1], frequency=0, case="record-early"),
    ),
)
@pytest.mark.parametrize("comes", ["early", "late"])
@pytest.mark.parametrize("device", COURSE)
def test_beginning_and_end(bench: Bench, device: str, comes: str) -> None:
    """The client gets START when the guest begins and STOP when it ends, once each; a client that links while
    the guest plays gets START."""
    channel, start, stop = COURSE[device]
    source = bench.start(devices=("keyboard", "mouse", device))
    if comes == "late":
        source.call(f"{device}_start")
    _, sound = opened(bench, source, channel)
    if comes == "early":
        source.call(f"{device}_start")
    bench.expect(sound, start)
    for _ in range(2):
        bench.settle()
        source.call(f"{device}_stop")
        bench.settle()
        source.call(f"{device}_start")
    bench.settle()
    seen = [int(m.type) for m in sound.messages if m.type in (start, stop)]
    wanted = [start, stop, start, stop, start]
    bench.claim(seen == wanted, [kind.name for kind in wanted], [m.name for m in sound.got(start, stop)])
    for packet in (m.packet for m in sound.got(start)):
        shape = int(packet.channels), int(packet.format)
        wanted_shape = 2, int(AudioFmt.SPICE_AUDIO_FMT_S16)
        bench.claim(shape == wanted_shape, f"channels, format: {wanted_shape}", shape)
        rate = int(packet.frequency)
        bench.claim(rate in HERTZ, f"a rate of {HERTZ}", rate)


@requirement(
    "CHAN-074",
    fault=(
        lost(PLAY_DATA, nth=2),
        twice(PLAY_DATA),
        later("2 s ahead", PLAY_DATA, "multi_media_time", 2_000, nth=2),
        later("2 s behind", PLAY_DATA, "multi_media_time", -2_000, nth=2),
        changed("one bit", PLAY_DATA, lambda b: b[:-1] + bytes([b[-1] ^ 1])),
    ),
)
def test_frames_that_the_guest_plays(bench: Bench) -> None:
    """Each packet of sound comes once and in order, with the frames that the guest has played and the
    multimedia time at which it played them."""
    source = bench.start(devices=("keyboard", "mouse", "playback"))
    began = time.monotonic()
    _, sound = opened(bench, source, PLAYBACK)
    source.call("playback_start")
    start = int(bench.expect(sound, COURSE["playback"][1]).packet.multi_media_time)
    played = 0
    for _ in range(4):
        played += bool(source.call("playback_put", frames=FRAMES))
        bench.settle()
    seen = sound.got(PLAY_DATA)
    bench.claim(len(seen) == played == 4, "4 packets", f"{len(seen)} of {played}")
    tone = b"".join(struct.pack("<I", number * 0x0101) for number in range(FRAMES))
    other = [len(m.body) for m in seen if m.body[4:][: len(tone)] != tone[: len(m.body) - 4]]
    bench.claim(not other, "the frames that were played", f"others, of {other} bytes")
    longest = (time.monotonic() - began) * 1000 + 1
    before = 0
    for stamp in ((int(m.packet.multi_media_time) - start) % WORD for m in seen):
        bench.claim(before <= stamp <= longest, f"{before} to {longest:.0f} ms after START", f"{stamp} ms")
        before = stamp


@requirement("CHAN-152", fault=stuck_after(PLAY_DATA, nth=1))
def test_client_that_reads_no_sound_for_a_while(bench: Bench) -> None:
    """The client reads nothing while the guest plays far more than the line holds; then the client reads
    again: it has missed packets, and gets each of those that follow."""
    source = bench.start(devices=("keyboard", "mouse", "playback"), listen=unix_path(bench))
    _, sound = opened(bench, source, PLAYBACK)
    source.call("playback_start")
    bench.settle()
    held = int(SEND_BUFFER.read_text()) if SEND_BUFFER.exists() else 1 << 18
    many = 2 * held // (FRAMES * FRAME)
    source.call("playback_put", times=many)
    last = source.call("playback_put", frames=FRAMES // 2)
    bench.claim(last == FRAMES // 2, "a guest that plays on", f"{last} frames")
    bench.settle()
    seen = sound.got(PLAY_DATA)
    bench.claim(len(seen) < many, f"fewer than {many} packets", len(seen))
    for _ in range(SOME):
        source.call("playback_put")
        bench.settle()
    more = len(sound.got(PLAY_DATA)) - len(seen)
    bench.claim(more == SOME, f"{SOME} packets after that", more)


@requirement("CHAN-153", fault=(lost(PLAY_DATA, nth=1), twice(PLAY_DATA, nth=1)))
def test_client_leaves_while_the_guest_fills_a_buffer(bench: Bench) -> None:
    """The guest has a buffer of sound to fill when its client leaves, and returns it before or after the next
    client comes: this client gets what the guest plays from then on."""
    source = bench.start(devices=("keyboard", "mouse", "playback"))
    source.call("playback_start")
    for comes in ("before the buffer is returned", "after it"):
        _, sound = opened(bench, source, PLAYBACK)
        held = source.call("playback_hold")
        bench.claim(held == FRAMES, "a buffer", f"{held} frames", source)
        sound.close()
        bench.settle()
        if comes == "after it":
            source.call("playback_let_go")
        _, following = opened(bench, source, PLAYBACK)
        source.call("playback_let_go")
        bench.settle()
        bench.alive(f"after a client that came {comes}", source)
        early = len(following.got(PLAY_DATA))
        for _ in range(SOME):
            source.call("playback_put")
            bench.settle()
        seen = len(following.got(PLAY_DATA))
        bench.claim((early, seen) == (0, SOME), f"0, then {SOME} packets", (early, seen))


@requirement("CHAN-127", fault=stuck_after(RECORD_START))
@pytest.mark.parametrize("mode", [AudioDataMode.SPICE_AUDIO_DATA_MODE_CELT_0_5_1, 99], ids=["CELT", "99"])
def test_mode_that_the_server_can_not_decode(bench: Bench, mode: int) -> None:
    """The client records in a mode that the server cannot decode, or that does not exist: the server ends the
    channel, and the next client can record."""
    source = bench.start(devices=("keyboard", "mouse", "record"))
    _, sound = opened(bench, source, RECORD)
    source.call("record_start")
    bench.expect(sound, RECORD_START, proves="CHAN-073")
    sound.send(MsgcRecord.SPICE_MSGC_RECORD_MODE, struct.pack("<IH", 0, mode))
    ending = sound.expect_end(deadline=2)
    bench.claim(ending in DISCONNECTED, "the channel's end", ending)
    _, following = opened(bench, source, RECORD)
    bench.expect(following, RECORD_START, proves="CHAN-073")


@requirement("CHAN-050", fault=changed("one frame", RECORD_DATA, lambda b: b[:-4] + bytes(4), nth=9))
def test_guest_hears_nothing_of_an_earlier_recording(bench: Bench) -> None:
    """The guest ends a recording that it has not read, and begins another: it gets only the new sound."""
    source = bench.start(devices=("keyboard", "mouse", "record"))
    _, sound = opened(bench, source, RECORD)
    heard = ""
    for content in (0x11111111, 0x22222222):
        source.call("record_start")
        bench.until(lambda: sound.got(COURSE["record"][1]), "RECORD_START")
        bench.settle()
        sound.send(
            MsgcRecord.SPICE_MSGC_RECORD_MODE, struct.pack("<IH", 0, AudioDataMode.SPICE_AUDIO_DATA_MODE_RAW)
        )
        for _ in range(8):
            sound.send(RECORD_DATA, struct.pack("<I", 0) + struct.pack("<I", content) * (RING // 16))
        bench.settle()
        heard = source.call("record_get", frames=RING) if content == 0x22222222 else ""
        source.call("record_stop")
    seen = f"{len(heard) // 8} frames, the first {heard[:8]}"
    bench.claim(heard == "22" * (RING // 2 * FRAME), f"{RING // 2} frames 22222222", seen)


@requirement(
    "MAIN-065",
    fault=(
        lost(TIME, case="stops"),
        lost(TIME, case="leaves"),
        later("2 s ahead", TIME, "multi_media_time", 2_000, case="stops"),
        later("2 s behind", TIME, "multi_media_time", -2_000, case="leaves"),
    ),
)
@pytest.mark.parametrize("end", ["stops", "leaves"])
def test_time_when_the_sound_is_over(bench: Bench, end: str) -> None:
    """While the guest plays, the sound carries the multimedia time; when it stops, or the client closes its
    playback channel, main sends the time again, counted on from INIT's."""
    source = bench.start(devices=("keyboard", "mouse", "playback"))
    began = time.monotonic()
    main, sound = opened(bench, source, PLAYBACK)
    first = int(main.got(INIT)[0].packet.multi_media_time)
    source.call("playback_start")
    bench.settle()
    before = len(main.got(TIME))
    if end == "stops":
        source.call("playback_stop")
    else:
        sound.close()
    bench.until(lambda: len(main.got(TIME)) > before, "MULTI_MEDIA_TIME on main")
    bench.settle()
    seen = [(int(m.packet.multi_media_time) - first) % WORD for m in main.got(TIME)[before:]]
    longest = (time.monotonic() - began) * 1000 + 1
    bench.claim(len(seen) == 1, "MULTI_MEDIA_TIME once", f"{len(seen)} times")
    bench.claim(seen[0] <= longest, f"0 to {longest:.0f} ms after INIT's time", f"{seen[0]} ms")
