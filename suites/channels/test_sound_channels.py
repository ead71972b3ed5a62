# SPDX-License-Identifier: GPL-2.0-only
"""Playback and record: what the server says about the sound, by the client's capabilities (spice.proto,
PlaybackChannel and RecordChannel; server/sound.cpp)."""

from __future__ import annotations

import struct
import time

import pytest

from dissectors.wire.constants import (
    ChannelType,
    MsgcRecord,
    MsgMain,
    MsgPlayback,
    MsgRecord,
    PlaybackCap,
    RecordCap,
)
from dissectors.wire.enums import AudioDataMode, AudioFmt
from fixtures.bench import Bench
from fixtures.bench.planting import added, changed, closed_after, lost, put, requirement
from fixtures.peer import Connection
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability, Host

PLAYBACK, RECORD = ChannelType.SPICE_CHANNEL_PLAYBACK, ChannelType.SPICE_CHANNEL_RECORD
MODE, START = MsgPlayback.SPICE_MSG_PLAYBACK_MODE, MsgPlayback.SPICE_MSG_PLAYBACK_START
VOLUME, MUTE = MsgPlayback.SPICE_MSG_PLAYBACK_VOLUME, MsgPlayback.SPICE_MSG_PLAYBACK_MUTE
RECORD_DATA = MsgcRecord.SPICE_MSGC_RECORD_DATA
RECORD_START = MsgRecord.SPICE_MSG_RECORD_START
VOLUME_AND_MUTE = {
    "playback": (PLAYBACK, VOLUME, MUTE, PlaybackCap.SPICE_PLAYBACK_CAP_VOLUME),
    "record": (
        RECORD,
        MsgRecord.SPICE_MSG_RECORD_VOLUME,
        MsgRecord.SPICE_MSG_RECORD_MUTE,
        RecordCap.SPICE_RECORD_CAP_VOLUME,
    ),
}
OPUS = PlaybackCap.SPICE_PLAYBACK_CAP_OPUS
RAW_MODE, OPUS_MODE = AudioDataMode.SPICE_AUDIO_DATA_MODE_RAW, AudioDataMode.SPICE_AUDIO_DATA_MODE_OPUS
#: spice-server.h, SPICE_INTERFACE_PLAYBACK_CHAN; server/snd_codec.h, SND_CODEC_OPUS_PLAYBACK_FREQ.
STEREO, HERTZ = 2, 48_000
#: By how much INIT's time may precede the sound's at most, so that pictures wait for the sound, ms
#: (server/reds-private.h, MM_TIME_DELTA).
DELAY_MS = 400
FRAME = 4  # bytes: two channels of 16 bits
RING = 8_192  # frames that the server keeps of what is recorded (server/sound.cpp, RECORD_SAMPLES_SIZE)

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def opened(
    bench: Bench, source: Host, channel: ChannelType, *without: PlaybackCap | RecordCap
) -> tuple[Connection, Connection]:
    """Main, and one sound channel, of a client without these capabilities."""
    client = bench.client(source, channels=(channel,), capabilities=EVERYTHING.without(*without))
    bench.settle()
    return client.main, client.current.channels[channel, 0]


@requirement(
    "CHAN-042",
    fault=(
        put(MODE, mode=OPUS_MODE, case="48000-True-False"),
        put(MODE, mode=RAW_MODE, case="48000-True-True"),
        put(MODE, mode=OPUS_MODE, case="48000-False-True"),
        lost(MODE),
    ),
)
@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("compression", [True, False])
@pytest.mark.parametrize("hertz", [HERTZ, 44_100])
def test_mode_that_the_client_can(bench: Bench, hertz: int, compression: bool, able: bool) -> None:
    """MODE is OPUS for a client that has it, where compression is on and the server offers OPUS at the
    guest's rate, and RAW else; it comes once, before the sound."""
    source = bench.start(devices=("keyboard", "mouse", "playback"))
    source.call("playback_rate", hertz=hertz)
    source.call("set_playback_compression", enable=int(compression))
    _, playback = opened(bench, source, PLAYBACK, *(() if able else (OPUS,)))
    offered = playback.reply.channel_caps
    can = bool(offered and offered[0] >> OPUS & 1)
    wanted = OPUS_MODE if compression and able and can else RAW_MODE
    source.call("playback_start")
    source.call("playback_put")
    bench.expect(playback, MsgPlayback.SPICE_MSG_PLAYBACK_DATA)
    seen = [m for m in playback.messages if m.type in (MODE, MsgPlayback.SPICE_MSG_PLAYBACK_DATA)]
    modes = [int(m.packet.mode) for m in seen if m.type == MODE]
    fine = modes == [wanted] and seen[0].type == MODE
    bench.claim(fine, f"MODE {wanted.name} once, before the sound", modes)


@requirement("CHAN-042", fault=lost(MODE, nth=2))
def test_compression_that_is_switched(bench: Bench) -> None:
    """Compression is switched off and on while the guest plays: MODE announces each change before the first
    data in the new mode."""
    source = bench.start(devices=("keyboard", "mouse", "playback"))
    source.call("playback_rate", hertz=HERTZ)
    source.call("set_playback_compression", enable=1)
    _, playback = opened(bench, source, PLAYBACK)
    offered = playback.reply.channel_caps
    if not offered or not offered[0] >> OPUS & 1:
        pytest.skip("UNSUPPORTED: this build offers no OPUS")
    source.call("playback_start")
    data = MsgPlayback.SPICE_MSG_PLAYBACK_DATA
    for enable in (1, 0, 1):
        source.call("set_playback_compression", enable=enable)
        before = len(playback.got(data))
        source.call("playback_put")
        bench.until(lambda n=before: len(playback.got(data)) > n, "the guest's sound")  # type: ignore[misc]
    seen = [int(m.packet.mode) if m.type == MODE else "data" for m in playback.got(MODE, data)]
    wanted = [int(OPUS_MODE), "data", int(RAW_MODE), "data", int(OPUS_MODE), "data"]
    bench.claim(seen == wanted, f"modes and data: {wanted}", seen)


@requirement(
    "CHAN-043",
    fault=(
        put(START, channels=1),
        put(START, format=0),
        put(START, frequency=HERTZ - 1),
        changed("1 s ahead", START, lambda b: b[:-4] + _later(b[-4:], 1_000)),
        changed("1 s back", START, lambda b: b[:-4] + _later(b[-4:], -1_000)),
    ),
)
@pytest.mark.parametrize("hertz", [HERTZ, 44_100])
def test_start_of_the_sound(bench: Bench, hertz: int) -> None:
    """START names two channels of 16 bits, the guest's rate, and the multimedia time of now."""
    source = bench.start(devices=("keyboard", "mouse", "playback"))
    source.call("playback_rate", hertz=hertz)
    began = time.monotonic()
    main, playback = opened(bench, source, PLAYBACK)
    source.call("playback_start")
    start = bench.expect(playback, START).packet
    shape = int(start.channels), int(start.format), int(start.frequency)
    wanted = STEREO, int(AudioFmt.SPICE_AUDIO_FMT_S16), hertz
    bench.claim(shape == wanted, f"channels, format, frequency: {wanted}", shape)
    init = main.got(MsgMain.SPICE_MSG_MAIN_INIT)[0].packet
    ahead = (int(start.multi_media_time) - int(init.multi_media_time)) & 0xFFFFFFFF
    longest = DELAY_MS + (time.monotonic() - began) * 1000
    bench.claim(ahead <= longest, f"at most {longest:.0f} ms more than INIT's time", f"{ahead} ms more")


def _later(word: bytes, ms: int) -> bytes:
    return struct.pack("<I", (int.from_bytes(word, "little") + ms) & 0xFFFFFFFF)


@requirement(
    "CHAN-044",
    fault=(
        added(MODE, VOLUME, b"\1\0\0", case="playback-False"),
        lost(VOLUME, case="playback-True"),
        lost(MUTE, nth=2, case="playback-True"),
        put(MUTE, mute=0, nth=1, case="playback-True"),
        changed("one less", VOLUME, lambda b: b[:1] + bytes([b[1] - 1]) + b[2:], case="playback-True"),
    ),
)
@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("device", VOLUME_AND_MUTE)
def test_volume_and_mute(bench: Bench, device: str, able: bool) -> None:
    """VOLUME and MUTE carry the guest's settings, when the channel opens and at each change, to clients that
    have the capability, and to no others."""
    channel, volume, mute, cap = VOLUME_AND_MUTE[device]
    source = bench.start(devices=("keyboard", "mouse", device))
    source.call("sound_volume", device=device, volumes=[0x1234, 0xFEDC])
    source.call("sound_mute", device=device, mute=1)
    _, sound = opened(bench, source, channel, *(() if able else (cap,)))
    source.call("sound_volume", device=device, volumes=[0x8001])
    bench.settle()
    source.call("sound_mute", device=device, mute=0)
    bench.settle()
    volumes = [[int(level) for level in m.packet.volume] for m in sound.got(volume)]
    mutes = [int(m.packet.mute) for m in sound.got(mute)]
    wanted = ([[0x1234, 0xFEDC], [0x8001]], [1, 0]) if able else ([], [])
    bench.claim((volumes, mutes) == wanted, f"volumes and mutes {wanted}", (volumes, mutes))


@requirement("CHAN-044", fault=(lost(MUTE, case="playback"), added(MODE, VOLUME, b"\0", case="playback")))
@pytest.mark.parametrize("device", VOLUME_AND_MUTE)
def test_volume_that_is_not_set(bench: Bench, device: str) -> None:
    """The guest has set neither volume nor mute when the channel opens, and then sets mute alone."""
    channel, volume, mute, _ = VOLUME_AND_MUTE[device]
    source = bench.start(devices=("keyboard", "mouse", device))
    _, sound = opened(bench, source, channel)
    told = [m.name for m in sound.got(volume, mute)]
    bench.claim(not told, "neither VOLUME nor MUTE", told)
    source.call("sound_volume", device=device, volumes=[])
    source.call("sound_mute", device=device, mute=1)
    bench.settle()
    bodies = [(m.name, m.body) for m in sound.got(volume, mute)]
    bench.claim(bodies == [(mute.name, b"\1")], "MUTE alone", bodies)


@requirement("ROBUST-065", fault=closed_after(RECORD_START))
@pytest.mark.parametrize(
    "frames", [1, RING // 2, RING - 1, RING, RING + 1, 2 * RING - 2], ids=lambda n: f"{n} frames"
)
@pytest.mark.parametrize("odd", [0, 3], ids=["whole", "odd bytes"])
def test_long_record_packets(bench: Bench, frames: int, odd: int) -> None:
    """The client sends more sound at once than the server keeps; the guest still gets the sound that
    follows."""
    source = bench.start(devices=("keyboard", "mouse", "record"))
    _, record = opened(bench, source, RECORD)
    source.call("record_start")
    bench.expect(record, RECORD_START, proves="MAIN-011")
    record.send(MsgcRecord.SPICE_MSGC_RECORD_MODE, struct.pack("<IH", 0, RAW_MODE))
    record.send(MsgcRecord.SPICE_MSGC_RECORD_START_MARK, struct.pack("<I", 0))
    for _ in range(3):
        record.send(RECORD_DATA, struct.pack("<I", 0) + b"\x55" * (frames * FRAME + odd))
        bench.settle()
    bench.alive("after long packets of recorded sound", source)
    bench.claim(record.ending is None, "the channel goes on", record.ending)
    mark = bytes(range(64)) * 8
    for _ in range(RING * FRAME // len(mark)):
        record.send(RECORD_DATA, struct.pack("<I", 0) + mark)
    bench.settle()
    heard = "".join(source.call("record_get", frames=RING) for _ in range(3))
    bench.claim(mark.hex() in heard, "what comes next at the guest", f"{len(heard) // 2} bytes without it")


@requirement("CHAN-050", fault=changed("one bit", RECORD_DATA, lambda b: b[:-1] + bytes([b[-1] ^ 1]), nth=3))
@pytest.mark.parametrize("frames", [RING // 8, 1_000], ids=["even packets", "uneven packets"])
def test_guest_hears_what_is_recorded(bench: Bench, frames: int) -> None:
    """The guest gets each frame that the client records, in order, even if the server's ring buffer wraps
    within a packet."""
    source = bench.start(devices=("keyboard", "mouse", "record"))
    _, record = opened(bench, source, RECORD)
    source.call("record_start")
    bench.expect(record, RECORD_START, proves="MAIN-011")
    record.send(MsgcRecord.SPICE_MSGC_RECORD_MODE, struct.pack("<IH", 0, RAW_MODE))
    sent, heard = b"", ""
    for _ in range(3 * RING // frames):
        at = len(sent) // FRAME
        data = b"".join(struct.pack("<I", n) for n in range(at, at + frames))
        record.send(RECORD_DATA, struct.pack("<I", 0) + data)
        sent += data
        bench.settle()
        new = source.call("record_get", frames=RING)
        due = len(sent) >= FRAME * RING // 2
        bench.claim(bool(new) == due, f"sound after half of the ring: {due}", f"{len(new) // 8} frames")
        heard += new
    got = bytes.fromhex(heard)
    same = (sent[at : at + FRAME] == got[at : at + FRAME] for at in range(0, len(sent), FRAME))
    other = next((frame for frame, is_same in enumerate(same) if not is_same), "none")
    seen = f"{len(got)} bytes, other ones from frame {other} on"
    bench.claim(heard == sent.hex(), f"{len(sent)} bytes as they were", seen)
