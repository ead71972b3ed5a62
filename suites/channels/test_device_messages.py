# SPDX-License-Identifier: GPL-2.0-only
"""Messages of devices in all their kinds and pieces: a smartcard's, compressed data of usbredir, port and
webdav, and recorded sound (server/smartcard.cpp, spicevmc.cpp, sound.cpp)."""

from __future__ import annotations

import random
import struct

import pytest

from dissectors.framing.events import DISCONNECTED
from dissectors.wire.constants import (
    ChannelType,
    MsgcRecord,
    MsgcSpicevmc,
    MsgPlayback,
    MsgRecord,
    MsgSpicevmc,
)
from dissectors.wire.enums import AudioDataMode, DataCompressionType, VscMessageType
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, changed, lost, put, requirement, stuck_after, twice
from fixtures.system.hosts import Ability
from suites.channel_devices import SPICEVMC
from suites.channels.test_device_life import (
    APDU,
    CARD_FROM_GUEST,
    CARD_TO_GUEST,
    ERROR,
    FROM_GUEST,
    GENERAL_ERROR,
    NO_READER,
    READER_ADD,
    READER_REMOVE,
    card,
    of,
    short,
)
from suites.guest_agent import read_by_guest
from suites.steps import migrated

SMARTCARD = ChannelType.SPICE_CHANNEL_SMARTCARD
PLAYBACK, RECORD = ChannelType.SPICE_CHANNEL_PLAYBACK, ChannelType.SPICE_CHANNEL_RECORD
ATR, CARD_REMOVE, CARD_INIT, FLUSH = (
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_ATR,
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_CardRemove,
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_Init,
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_Flush,
)
COMPRESSED = MsgcSpicevmc.SPICE_MSGC_SPICEVMC_COMPRESSED_DATA
PACKED = MsgSpicevmc.SPICE_MSG_SPICEVMC_COMPRESSED_DATA
LZ4 = int(DataCompressionType.SPICE_DATA_COMPRESSION_TYPE_LZ4)
#: Bytes that LZ4 makes longer, and an LZ4 block of the 14 bytes below.
NOISE = random.Random(1).randbytes(4_096)
PLAIN = b"fourteen bytes"
BLOCK = bytes([len(PLAIN) << 4]) + PLAIN
RECORD_DATA, RECORD_MODE = MsgcRecord.SPICE_MSGC_RECORD_DATA, MsgcRecord.SPICE_MSGC_RECORD_MODE
RECORD_START = MsgRecord.SPICE_MSG_RECORD_START
MODE = MsgPlayback.SPICE_MSG_PLAYBACK_MODE
RING = 8_192  # frames that the server keeps of what is recorded (server/sound.cpp, RECORD_SAMPLES_SIZE)
RAW, OPUS = AudioDataMode.SPICE_AUDIO_DATA_MODE_RAW, AudioDataMode.SPICE_AUDIO_DATA_MODE_OPUS
#: An OPUS packet of 10 ms of silence in stereo (RFC 6716, section 3.1), and its frames at 48 kHz.
SILENCE, SILENT_FRAMES = b"\xf4\xff\xfe", 480

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


@requirement(
    "CHAN-116",
    fault=(
        Fault("the guest misses a byte", plant=("clip:smartcard",)),
        lost(CARD_FROM_GUEST, nth=2),
        twice(CARD_FROM_GUEST, nth=3),
        changed("the last byte", CARD_FROM_GUEST, lambda b: b[:-1] + b"\0", nth=3),
    ),
)
def test_messages_of_a_smartcard(bench: Bench) -> None:
    """The client sends each kind of message that a card has, and some that are not for the guest; the guest
    writes two messages at once, one in pieces, and one of the kind that is not for the client."""
    source = bench.start(devices=("keyboard", "mouse", "smartcard"))
    channel = of(bench.client(source), SMARTCARD)
    channel.send(CARD_TO_GUEST, card(READER_ADD, NO_READER, b"r\0"))
    bench.settle()
    before = len(read_by_guest(bench))
    kinds = (ATR, APDU, ERROR, CARD_REMOVE, APDU)
    said = [(kind, bytes([kind, number]) * number) for number, kind in enumerate(kinds)]
    for kind, content in said:
        channel.send(CARD_TO_GUEST, card(CARD_INIT, 0, bytes(12)))  # not for the guest, as a flush
        channel.send(CARD_TO_GUEST, card(FLUSH, 0))
        channel.send(CARD_TO_GUEST, card(kind, 0, content))
    bench.settle()
    read = read_by_guest(bench)[before:]
    due = b"".join(card(kind, 0, content, ">") for kind, content in said)
    bench.claim(read == due, f"at the guest {due.hex()}", read.hex())
    long = bytes(range(200))
    whole = card(APDU, 0, b"first", ">") + card(APDU, 0, b"second", ">")
    for piece in (whole, card(APDU, 0, long, ">")[:100], card(APDU, 0, long, ">")[100:]):
        source.call("chardev_send", device="smartcard", hex=piece.hex())
        bench.settle()
    source.call("chardev_send", device="smartcard", hex=card(CARD_INIT, 0, b"\0" * 12, ">").hex())
    source.call("chardev_send", device="smartcard", hex=card(ERROR, 0, GENERAL_ERROR, ">").hex())
    bench.settle()
    seen = [m.body for m in channel.got(CARD_FROM_GUEST)]
    wanted = [card(APDU, 0, content) for content in (b"first", b"second", long)]
    wanted.append(card(ERROR, 0, GENERAL_ERROR))
    sizes = [len(body) for body in seen]
    bench.claim(seen == wanted, f"messages of {[len(body) for body in wanted]} bytes", f"others: {sizes}")


@requirement("MIG-DST-064", fault=Fault("the guest misses a byte", plant=("clip:smartcard",), on="target"))
@pytest.mark.needs(Ability.SEAMLESS_DATA)
def test_reader_of_a_client_that_has_moved(bench: Bench) -> None:
    """A client with a card migrates seamlessly and leaves the target: the target's guest gets ReaderRemove,
    and no ReaderAdd, which it had at the source."""
    source, target = bench.pair(seamless=True, devices=("keyboard", "mouse", "smartcard"))
    client = bench.client(source)
    of(client, SMARTCARD).send(CARD_TO_GUEST, card(READER_ADD, NO_READER, b"r\0"))
    bench.settle()
    migrated(bench, source, client, target)
    client.close()
    bench.settle()
    read, due = read_by_guest(bench, target), card(READER_REMOVE, 0, order=">")
    bench.claim(read == due, f"ReaderRemove {due.hex()}", read.hex(), target)


@requirement("CHAN-048", fault=lost(FROM_GUEST, case="usbredir"))
@pytest.mark.parametrize("device", SPICEVMC, ids=short)
def test_data_that_can_not_be_compressed(bench: Bench, device: str) -> None:
    """Data that LZ4 would make longer comes as it is."""
    source = bench.start(devices=("keyboard", "mouse", device))
    channel = of(bench.client(source), SPICEVMC[device])
    bench.settle()
    source.call("chardev_send", device=device, hex=NOISE.hex())
    bench.settle()
    seen = [(m.type, m.body) for m in channel.got(FROM_GUEST, PACKED)]
    bench.claim(seen == [(FROM_GUEST, NOISE)], "the data as they are", [len(body) for _, body in seen])


@requirement(
    "CHAN-117",
    fault=stuck_after("result", channel=ChannelType.SPICE_CHANNEL_USBREDIR, case="usbredir-unknown type"),
)
@pytest.mark.parametrize("wrong", ["a byte too few", "a byte too many", "unknown type"])
@pytest.mark.parametrize("device", SPICEVMC, ids=short)
def test_compressed_data_that_are_wrong(bench: Bench, device: str, wrong: str) -> None:
    """The client's compressed data give more or fewer bytes than they state, or are of an unknown kind: the
    channel ends, and the guest gets nothing."""
    source = bench.start(devices=("keyboard", "mouse", device))
    client = bench.client(source)
    channel = of(client, SPICEVMC[device])
    bench.settle()
    offered = channel.reply.channel_caps
    if not offered or not offered[0] & 1:
        pytest.skip("UNSUPPORTED: this build offers no LZ4")
    size = len(PLAIN) + {"a byte too few": -1, "a byte too many": 1}.get(wrong, 0)
    kind = 99 if wrong == "unknown type" else LZ4
    channel.send(COMPRESSED, struct.pack("<BI", kind, size) + BLOCK)
    ending = channel.expect_end(deadline=2)
    bench.claim(ending in DISCONNECTED, "the channel's end", ending)
    read = read_by_guest(bench)
    bench.claim(not read, "nothing at the guest", read.hex())
    bench.claim(client.main.ending is None, "the session goes on", client.main.ending)


@requirement("CHAN-050", fault=lost(RECORD_DATA, nth=20))
def test_recording_that_the_guest_reads_too_late(bench: Bench) -> None:
    """The client records more than the server keeps before the guest reads: the guest gets the latest sound,
    in order."""
    source = bench.start(devices=("keyboard", "mouse", "record"))
    record = of(bench.client(source), RECORD)
    source.call("record_start")
    bench.expect(record, RECORD_START, proves="MAIN-011")
    record.send(RECORD_MODE, struct.pack("<IH", 0, RAW))
    packet = RING // 8
    frames = [struct.pack("<I", number) for number in range(20 * packet)]
    for at in range(0, len(frames), packet):
        record.send(RECORD_DATA, struct.pack("<I", 0) + b"".join(frames[at : at + packet]))
    bench.settle()
    heard = "".join(source.call("record_get", frames=RING) for _ in range(3))
    due = b"".join(frames[-RING:]).hex()
    bench.claim(heard == due, f"the last {RING} frames", f"{len(heard) // 8} frames, the first {heard[:8]}")


@requirement(
    "CHAN-118",
    fault=(lost(RECORD_DATA, nth=2), put(RECORD_START, frequency=44_100)),
)
def test_recording_in_opus(bench: Bench) -> None:
    """The guest records at 48 kHz and the client sends OPUS, then uncompressed sound: START carries the
    guest's rate, and the guest gets each packet decoded."""
    source = bench.start(devices=("keyboard", "mouse", "record"))
    source.call("record_rate", hertz=48_000)
    record = of(bench.client(source), RECORD)
    source.call("record_start")
    start = bench.expect(record, RECORD_START, proves="MAIN-011")
    rate = int(start.packet.frequency)
    bench.claim(rate == 48_000, "a rate of 48000", rate)
    offered = record.reply.channel_caps
    if not offered or not offered[0] >> 2 & 1:
        pytest.skip("UNSUPPORTED: this build offers no OPUS")
    record.send(RECORD_MODE, struct.pack("<IH", 0, OPUS))
    packets = RING // 2 // SILENT_FRAMES + 2
    for _ in range(packets):
        record.send(RECORD_DATA, struct.pack("<I", 0) + SILENCE)
    bench.settle()
    heard = source.call("record_get", frames=RING)
    bench.claim(
        len(heard) // 8 == packets * SILENT_FRAMES, f"{packets * SILENT_FRAMES} frames", len(heard) // 8
    )
    record.send(RECORD_MODE, struct.pack("<IH", 0, RAW))
    plain = struct.pack("<4I", 1, 2, 3, 4)
    record.send(RECORD_DATA, struct.pack("<I", 0) + plain)
    bench.settle()
    heard = source.call("record_get", frames=RING)
    bench.claim(heard == plain.hex(), f"then the frames as they are {plain.hex()}", heard or "nothing")


@requirement("CHAN-042", fault=lost(MODE))
def test_mode_of_sound_that_plays(bench: Bench) -> None:
    """A client comes while the guest plays: it gets MODE once, before START."""
    source = bench.start(devices=("keyboard", "mouse", "playback"))
    source.call("playback_start")
    playback = of(bench.client(source), PLAYBACK)
    bench.until(lambda: playback.got(MsgPlayback.SPICE_MSG_PLAYBACK_START), "PLAYBACK_START")
    seen = [m.name for m in playback.got(MODE, MsgPlayback.SPICE_MSG_PLAYBACK_START)]
    due = [MODE.name, MsgPlayback.SPICE_MSG_PLAYBACK_START.name]
    bench.claim(seen == due, ", ".join(due), ", ".join(seen))
