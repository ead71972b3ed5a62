# SPDX-License-Identifier: GPL-2.0-only
"""The inputs channel of a source after MIGRATE_DATA, while the client is still connected; spice-gtk on a slow
line met this case (server/inputs-channel.cpp, src_during_migrate, KEY_MODIFIERS_TTL)."""

from __future__ import annotations

import struct

import pytest

from dissectors.wire.constants import ChannelType, MsgBase, MsgcInputs
from fixtures.bench import Bench
from fixtures.bench.planting import requirement
from fixtures.peer.duties import DUTIFUL, MigrationStep
from fixtures.system.hosts import Ability
from suites.steps import announced

#: How long after the client's KEY_MODIFIERS the server sends the guest's lights, ms.
LIGHTS_MS = 2_000


@requirement("MIG-SRC-041")
@pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.VIRTUAL_CLOCK)
def test_lights_are_not_told_after_the_data(bench: Bench) -> None:
    """The timer for the keyboard's lights expires when the client has the channel's data already."""
    source, target = bench.pair(seamless=True)
    client = bench.client(source, duties=DUTIFUL.holding(MigrationStep.LEAVE_SOURCE))
    inputs = client.current.channels[ChannelType.SPICE_CHANNEL_INPUTS, 0]
    inputs.send(MsgcInputs.SPICE_MSGC_INPUTS_KEY_MODIFIERS, struct.pack("<H", 0))
    announced(bench, source, client, target)
    source.complete(target)
    bench.expect(inputs, MsgBase.SPICE_MSG_MIGRATE_DATA, proves="MIG-SRC-047")
    bench.pass_time(source, LIGHTS_MS)
    client.release(MigrationStep.LEAVE_SOURCE)
    bench.until(lambda: client.left, "the end of the migration", proves="MIG-SRC-047")
    bench.settle()
