# SPDX-License-Identifier: GPL-2.0-only
"""The capabilities that the server offers on each channel: those of every release, and those that depend on
the libraries of its build (protocol.h). A client uses nothing that is not offered."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import ChannelType, DisplayCap, InputsCap, PlaybackCap, RecordCap, SpicevmcCap
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, put, requirement
from fixtures.builds.library_file import is_linked_with
from fixtures.system.hosts import Ability

CT = ChannelType
#: Channel and id -> the capabilities that every release offers. The second display is a stream device's.
OFFERED: dict[tuple[ChannelType, int], set[int]] = {
    (CT.SPICE_CHANNEL_INPUTS, 0): {InputsCap.SPICE_INPUTS_CAP_KEY_SCANCODE},
    (CT.SPICE_CHANNEL_DISPLAY, 0): {
        DisplayCap.SPICE_DISPLAY_CAP_MONITORS_CONFIG,
        DisplayCap.SPICE_DISPLAY_CAP_STREAM_REPORT,
        DisplayCap.SPICE_DISPLAY_CAP_PREF_COMPRESSION,
        DisplayCap.SPICE_DISPLAY_CAP_PREF_VIDEO_CODEC_TYPE,
    },
    (CT.SPICE_CHANNEL_DISPLAY, 1): {
        DisplayCap.SPICE_DISPLAY_CAP_MONITORS_CONFIG,
        DisplayCap.SPICE_DISPLAY_CAP_STREAM_REPORT,
        DisplayCap.SPICE_DISPLAY_CAP_PREF_VIDEO_CODEC_TYPE,
    },
    (CT.SPICE_CHANNEL_PLAYBACK, 0): {PlaybackCap.SPICE_PLAYBACK_CAP_VOLUME},
    (CT.SPICE_CHANNEL_RECORD, 0): {RecordCap.SPICE_RECORD_CAP_VOLUME},
    (CT.SPICE_CHANNEL_USBREDIR, 0): set(),
    (CT.SPICE_CHANNEL_PORT, 0): set(),
    (CT.SPICE_CHANNEL_WEBDAV, 0): set(),
}
LZ4 = SpicevmcCap.SPICE_SPICEVMC_CAP_DATA_COMPRESS_LZ4
#: Library of a build -> what it adds.
ADDED: dict[str, dict[tuple[ChannelType, int], int]] = {
    "liblz4": {
        (CT.SPICE_CHANNEL_USBREDIR, 0): LZ4,
        (CT.SPICE_CHANNEL_PORT, 0): LZ4,
        (CT.SPICE_CHANNEL_WEBDAV, 0): LZ4,
    },
    "libopus": {
        (CT.SPICE_CHANNEL_PLAYBACK, 0): PlaybackCap.SPICE_PLAYBACK_CAP_OPUS,
        (CT.SPICE_CHANNEL_RECORD, 0): RecordCap.SPICE_RECORD_CAP_OPUS,
    },
}
DEVICES = (
    "keyboard",
    "mouse",
    "display",
    "playback",
    "record",
    "usbredir",
    "port:org.example",
    "webdav",
    "port:org.spice-space.stream.0",
)

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def without(channel: ChannelType, caps: int) -> Fault:
    """The server offers these capabilities instead."""
    return put("reply", channel=channel, channel_caps=[caps])


@requirement(
    "CHAN-150",
    fault=(
        without(CT.SPICE_CHANNEL_USBREDIR, 0),
        without(CT.SPICE_CHANNEL_PLAYBACK, 0b10),
        without(CT.SPICE_CHANNEL_RECORD, 0b100),
        without(CT.SPICE_CHANNEL_INPUTS, 0),
        without(CT.SPICE_CHANNEL_DISPLAY, 0x1012),
    ),
)
def test_what_each_channel_offers(bench: Bench) -> None:
    """A machine with every device, whose guest plays and records at the rate that the server likes best; a
    stream device has a display before its guest has opened it."""
    source = bench.start(devices=DEVICES)
    for device in ("playback", "record"):
        source.call(f"{device}_rate", hertz=source.call(f"{device}_best_rate"))
    linked = bench.client(source).current.channels
    wanted = {key: set(caps) for key, caps in OFFERED.items()}
    for library, more in ADDED.items():
        if is_linked_with(source.identity.path, library):
            for key, capability in more.items():
                wanted[key].add(capability)
    for key, caps in wanted.items():
        bench.claim(key in linked, f"the channel {key[0].name} {key[1]}", sorted(linked))
        words = linked[key].reply.channel_caps
        seen = {bit for bit in range(32) if words and words[0] >> bit & 1}
        bench.claim(caps <= seen, f"{key[0].name}: {sorted(caps)} among them", sorted(seen))
