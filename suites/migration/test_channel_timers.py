# SPDX-License-Identifier: GPL-2.0-only
"""The channels' own timers in a seamless migration: no timer makes a channel send anything after
SPICE_MSG_MIGRATE (server/red-channel-client.cpp; df260365)."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import ChannelType, MsgBase
from fixtures.bench import Bench
from fixtures.bench.planting import added, message_after_result, requirement
from fixtures.peer.duties import DUTIFUL, MigrationStep
from fixtures.system.hosts import Ability
from suites.channel_devices import DEVICES as CHANNEL_DEVICES
from suites.steps import announced, moved

MIGRATE, PING, DATA = MsgBase.SPICE_MSG_MIGRATE, MsgBase.SPICE_MSG_PING, MsgBase.SPICE_MSG_MIGRATE_DATA
MAIN = ChannelType.SPICE_CHANNEL_MAIN
#: An agent would talk on main.
DEVICES = {**CHANNEL_DEVICES, MAIN: ()}
OF_A_WORKER = (ChannelType.SPICE_CHANNEL_DISPLAY, ChannelType.SPICE_CHANNEL_CURSOR)
#: The first PING of a channel is due 100 ms after its link. Where a host has its own clock, the tests let
#: much more time pass, but less than the 10 s for which a source waits for its clients; a display's worker
#: has a clock of its own. A server puts a PING off until the peer's TCP has acknowledged the bytes before it,
#: within 40 ms.
IDLE_MS, WORKER_S, TCP_S = 9_000, 0.15, 0.05

pytestmark = pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.CALLS, Ability.DEVICES, Ability.VIRTUAL_CLOCK)


@requirement("MIG-SRC-041", fault=added(MIGRATE, PING, bytes(12), channel=4, case="cursor-stays"))
@pytest.mark.parametrize(
    "held", [MigrationStep.FLUSH_MARK, MigrationStep.LEAVE_SOURCE], ids=["no flush mark", "stays"]
)
@pytest.mark.parametrize("channel", list(DEVICES), ids=lambda c: c.name[14:].lower())
def test_timers_after_migrate(bench: Bench, channel: ChannelType, held: MigrationStep) -> None:
    """The machine migrates as soon as the channel is linked; the client waits before it sends its flush mark,
    or after it has the data."""
    source, target = bench.pair(seamless=True, devices=DEVICES[channel])
    client = bench.client(source, duties=DUTIFUL.holding(held))
    announced(bench, source, client, target)
    connection = client.main if channel == MAIN else client.current.channels[channel, 0]
    source.complete(target)
    bench.expect(connection, MIGRATE)
    bench.pump.pass_real_time(WORKER_S if channel in OF_A_WORKER else TCP_S)
    bench.pass_time(source, IDLE_MS)
    kinds = [m.type for m in connection.messages]
    after = [m.name for m in connection.messages[kinds.index(MIGRATE) + 1 :] if m.type != DATA]
    bench.claim(not after, "nothing but MIGRATE_DATA", ", ".join(after), source)
    client.release(held)
    moved(bench, source, client)


@requirement(
    "MIG-DST-062", fault=message_after_result(PING, bytes(12), host="target", channel=MAIN, case="main")
)
@pytest.mark.parametrize("channel", list(DEVICES), ids=lambda c: c.name[14:].lower())
def test_timers_before_the_arrival(bench: Bench, channel: ChannelType) -> None:
    """The client has linked the channel at the target, and the migration takes long (b71ccec8)."""
    source, target = bench.pair(seamless=True, devices=DEVICES[channel])
    client = bench.client(source)
    announced(bench, source, client, target)
    waiting = [c for c in client.target or () if c.wanted.channel == channel]
    bench.pump.pass_real_time(WORKER_S if channel in OF_A_WORKER else TCP_S)
    bench.pass_time(target, IDLE_MS)
    pings = sum(len(c.got(PING)) for c in waiting)
    bench.claim(len(waiting) == 1 and not pings, f"no PING on {len(waiting)} connection", f"{pings}", target)
    source.complete(target)
    moved(bench, source, client)
