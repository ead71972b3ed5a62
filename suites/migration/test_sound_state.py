# SPDX-License-Identifier: GPL-2.0-only
"""Sound in a migration: volumes, mutes, and sound that plays or is recorded during it (server/sound.cpp)."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import ChannelType, MsgPlayback, MsgRecord
from fixtures.bench import Bench
from fixtures.bench.planting import added, lost, requirement
from fixtures.system.hosts import Ability, Host
from suites.steps import migrated

PLAYBACK, RECORD = ChannelType.SPICE_CHANNEL_PLAYBACK, ChannelType.SPICE_CHANNEL_RECORD
PLAYBACK_START, PLAYBACK_DATA = MsgPlayback.SPICE_MSG_PLAYBACK_START, MsgPlayback.SPICE_MSG_PLAYBACK_DATA
RECORD_START = MsgRecord.SPICE_MSG_RECORD_START
SET = {
    PLAYBACK: (MsgPlayback.SPICE_MSG_PLAYBACK_VOLUME, MsgPlayback.SPICE_MSG_PLAYBACK_MUTE),
    RECORD: (MsgRecord.SPICE_MSG_RECORD_VOLUME, MsgRecord.SPICE_MSG_RECORD_MUTE),
}
SOUND = ("keyboard", "mouse", "playback", "record")

pytestmark = pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.CALLS, Ability.DEVICES)


def set_volumes(host: Host) -> None:
    """The guest sets volume and mute of both devices."""
    for device in ("playback", "record"):
        host.call("sound_volume", device=device, volumes=[0x1234, 0x4321])
        host.call("sound_mute", device=device, mute=1)


@requirement(
    "MIG-DST-054",
    fault=added(
        "SPICE_MSG_PLAYBACK_START", MsgPlayback.SPICE_MSG_PLAYBACK_MUTE, b"\1", host="target", case="playback"
    ),
)
@pytest.mark.parametrize("channel", [PLAYBACK, RECORD], ids=["playback", "record"])
def test_volumes_at_the_target(bench: Bench, channel: ChannelType) -> None:
    """Volume and mute are set at both machines before the client comes; the target sends neither of them
    again."""
    source, target = bench.pair(seamless=True, devices=SOUND)
    for host in (source, target):
        set_volumes(host)
    client = bench.client(source, channels=(channel,))
    bench.settle()
    seen = [m.name for m in client.current.channels[channel, 0].got(*SET[channel])]
    migrated(bench, source, client, target)
    target.call("playback_start")
    bench.settle()
    again = [m.name for m in client.current.channels[channel, 0].got(*SET[channel])]
    bench.claim(len(seen) == 2, "volume and mute from the source", seen, source)
    bench.claim(not again, "neither again from the target", ", ".join(again), target)


@requirement("MIG-DST-055", fault=(lost(PLAYBACK_DATA, host="target"), lost(RECORD_START, host="target")))
def test_sound_goes_on(bench: Bench) -> None:
    """The guest plays and records when the machine migrates, and goes on at the target."""
    source, target = bench.pair(seamless=True, devices=SOUND)
    client = bench.client(source)
    source.call("playback_start")
    source.call("record_start")
    source.call("playback_put")
    bench.settle()
    migrated(bench, source, client, target)
    target.call("playback_start")
    target.call("record_start")
    target.call("playback_put")
    playback, record = (client.current.channels[channel, 0] for channel in (PLAYBACK, RECORD))
    bench.until(lambda: playback.got(PLAYBACK_START), "PLAYBACK_START from the target")
    bench.until(lambda: playback.got(PLAYBACK_DATA), "the target's sound")
    bench.until(lambda: record.got(RECORD_START), "RECORD_START from the target")
