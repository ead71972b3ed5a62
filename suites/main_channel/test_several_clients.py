# SPDX-License-Identifier: GPL-2.0-only
"""Several clients at once, where the server allows them (SPICE_DEBUG_ALLOW_MC), and hosts that start one
after the other (server/reds.cpp)."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import ChannelType, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import changed, closed_after, put, requirement
from fixtures.system.hosts import Ability

INIT, LIST = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
SHARED = {
    ChannelType.SPICE_CHANNEL_DISPLAY,
    ChannelType.SPICE_CHANNEL_CURSOR,
    ChannelType.SPICE_CHANNEL_INPUTS,
}
ALLOWED = {"SPICE_DEBUG_ALLOW_MC": "1"}
DEVICES = ("keyboard", "mouse", "display", "playback", "record", "smartcard", "usbredir", "webdav")


@requirement(
    "MAIN-051",
    fault=(
        changed("one more", LIST, lambda b: bytes([b[0] + 1]) + b[1:] + b"\5\0", nth=2),
        changed("one fewer", LIST, lambda b: bytes([b[0] - 1]) + b[1:-2], nth=2),
        closed_after(LIST, nth=1),
    ),
)
@pytest.mark.needs(Ability.DEVICES, Ability.CALLS)
def test_channels_of_a_second_client(bench: Bench) -> None:
    """The server offers every channel to the first client, which stays; the second gets only the channels
    that two clients can share (display, cursor and inputs) and can open them."""
    source = bench.start(devices=DEVICES, spare=("smartcard",), environment=ALLOWED)
    first = bench.client(source, channels=())
    second = bench.client(source)
    bench.settle()
    seen = [
        {int(entry.type) for entry in client.main.got(LIST)[0].packet.channels} for client in (first, second)
    ]
    bench.claim(seen[0] > SHARED, "every channel to the first", sorted(seen[0]))
    bench.claim(seen[1] == SHARED, f"channels {sorted(SHARED)} to the second", sorted(seen[1]))
    ended = [c.ending for client in (first, second) for c in client.current if c.ending]
    bench.claim(not ended, "both clients stay", ended)


@requirement("CONNID-016", fault=put(INIT, session_id=0x6B8B4567))
def test_ids_of_two_starts(bench: Bench) -> None:
    """The first session of a machine has another id each time its process starts."""
    ids = []
    for number in range(3):
        main = bench.link(bench.start(f"start {number}"))
        ids.append(int(bench.expect(main, INIT, proves="MAIN-001").packet.session_id))
    shown = " ".join(f"{i:08x}" for i in ids)
    bench.claim(len(set(ids)) == len(ids), "three ids", shown)
