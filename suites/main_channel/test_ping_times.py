# SPDX-License-Identifier: GPL-2.0-only
"""When a server sends PING, and with how much data (server/main-channel-client.cpp, the net test;
server/red-channel-client.cpp, PING_TEST_*)."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import ChannelType, MsgBase, MsgInputs, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import added, changed, lost, requirement
from fixtures.peer import Connection
from fixtures.system.hosts import Ability, Host

INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
PING, INIT = MsgBase.SPICE_MSG_PING, MsgMain.SPICE_MSG_MAIN_INIT
INPUTS_INIT = MsgInputs.SPICE_MSG_INPUTS_INIT
#: How much data the net test's PINGs carry, bytes.
NET_TEST = [0, 0, 256_000]
PING_BYTES = 12
#: A channel that has nothing to send is asked after so long; then main and the others after so long, ms.
IDLE_MS, MAIN_MS, OTHER_MS = 100, 15_000, 300_000
#: Real time that the server takes away from the wait, which it counts on two clocks, ms.
SLACK_MS = 1_000
#: Time passes in such steps, so that main's PINGs are answered meanwhile, ms.
STEP_MS = 5_000
#: A kernel acknowledges within 40 ms at the latest, 200 ms on a busy machine: how often, and how long, that
#: is waited for, s.
ACK_TURNS, ACK_S = 40, 0.01
#: PINGs of one question: the first only wakes the line, the second is measured.
PAIR = 2
#: How often the server may look again, while its last bytes are under way.
LOOKS = 5

pytestmark = pytest.mark.needs(Ability.VIRTUAL_CLOCK)


def pings_within(bench: Bench, host: Host, channel: Connection, ms: int) -> int:
    """How many PINGs come on a channel within so long. Whatever has arrived is acknowledged first: a server
    does not ask while its last bytes are under way."""
    bench.settle()
    channel.acknowledge()
    for _ in range(ACK_TURNS):
        if not any(each.due for each in host.traffic().values()):  # type: ignore[attr-defined]
            break
        bench.pump.pass_real_time(ACK_S)
    before = len(channel.got(PING))
    for at in range(0, ms, STEP_MS):
        bench.pass_time(host, min(STEP_MS, ms - at))
    return len(channel.got(PING)) - before


def asked(bench: Bench, host: Host, channel: Connection, ms: int) -> int:
    """How many PINGs come on a channel at the end of so long, counted once the first has come: not before the
    last `SLACK_MS` of it."""
    wait = max(ms - SLACK_MS, IDLE_MS - 1)
    early = pings_within(bench, host, channel, wait)
    bench.claim(not early, f"no PING on {channel.name} within {wait} ms", early)
    for _ in range((ms - wait) // IDLE_MS + LOOKS):
        if count := pings_within(bench, host, channel, IDLE_MS):
            return count
    return 0


@requirement(
    "TIME-041",
    fault=(
        lost(PING, nth=2),
        changed("a byte fewer", PING, lambda b: b[:-1], nth=3),
        changed("a byte more", PING, lambda b: b + b"\0", nth=1),
    ),
)
def test_net_test(bench: Bench) -> None:
    """An ordinary session begins with three PINGs: of 0, 0 and 256,000 bytes of data."""
    main = bench.link(bench.start())
    bench.expect(main, INIT, proves="MAIN-001")
    bench.settle()
    sizes = [len(m.body) - PING_BYTES for m in main.got(PING)]
    bench.claim(sizes == NET_TEST, NET_TEST, sizes)


@requirement("TIME-042", fault=(lost(PING, nth=4), lost(PING, nth=7), added(PING, PING, bytes(12), nth=5)))
def test_times_on_main(bench: Bench) -> None:
    """Main is asked 100 ms after the net test, and then each 15 s."""
    source = bench.start()
    client = bench.client(source, channels=())
    bench.settle()
    for ms in (IDLE_MS, MAIN_MS, MAIN_MS, MAIN_MS):
        count = asked(bench, source, client.main, ms)
        bench.claim(count == PAIR, f"{PAIR} PINGs after {ms} ms", count)


@requirement(
    "TIME-043",
    fault=(
        lost(PING, channel=INPUTS, nth=1),
        lost(PING, channel=INPUTS, nth=3),
        added(INPUTS_INIT, PING, bytes(12), channel=INPUTS),
    ),
)
def test_times_on_another_channel(bench: Bench) -> None:
    """Inputs is asked 100 ms after it has opened, no sooner, and then each 5 minutes."""
    source = bench.start()
    client = bench.client(source, channels=(INPUTS,))
    inputs = client.current.channels[INPUTS, 0]
    bench.settle()
    bench.claim(not inputs.got(PING), "no PING at once", len(inputs.got(PING)))
    for ms in (IDLE_MS, OTHER_MS):
        count = asked(bench, source, inputs, ms)
        bench.claim(count == PAIR, f"{PAIR} PINGs after {ms} ms", count)
