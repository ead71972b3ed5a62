# SPDX-License-Identifier: GPL-2.0-only
"""When a server sends PING, and with how much data (server/main-channel-client.cpp, the net test;
server/red-channel-client.cpp, PING_TEST_*)."""

from __future__ import annotations

import time

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
#: The server pings an idle channel after this time; then it repeats this on main and on the others after
#: these times, ms.
IDLE_MS, MAIN_MS, OTHER_MS = 100, 15_000, 300_000
#: Real time that the server subtracts from the wait, because it counts on two clocks, ms.
SLACK_MS = 1_000
#: The step in which time passes, so that main's PINGs are answered in between, ms.
STEP_MS = 5_000
#: A kernel acknowledges within 40 ms, on a busy machine within 200 ms: how many times, and how long, a test
#: waits for it, s.
ACK_TURNS, ACK_S = 40, 0.01
#: PINGs of one measurement: the first only wakes the line, the second is measured.
PAIR = 2
#: The interval at which the server may check again while its last bytes are not acknowledged.
LOOKS = 5

pytestmark = pytest.mark.needs(Ability.VIRTUAL_CLOCK)


def pings_within(bench: Bench, host: Host, channel: Connection, ms: int) -> int:
    """How many PINGs come on a channel within this time. The client's kernel first acknowledges everything: a
    server sends no PING while its last bytes are not acknowledged."""
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
    """How many PINGs come on a channel at the end of this time, counted once the first has come: not before
    the last `SLACK_MS` of it, and the real time that has passed since the channel's last message."""
    passed_s = time.monotonic() - (channel.messages[-1].time if channel.messages else channel.opened.time)
    wait = max(ms - SLACK_MS - round(passed_s * 1_000), IDLE_MS - 1)
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
    """An ordinary session begins with three PINGs, with 0, 0 and 256,000 bytes of data."""
    main = bench.link(bench.start())
    bench.expect(main, INIT, proves="MAIN-001")
    bench.settle()
    sizes = [len(m.body) - PING_BYTES for m in main.got(PING)]
    bench.claim(sizes == NET_TEST, NET_TEST, sizes)


@requirement("TIME-042", fault=(lost(PING, nth=4), lost(PING, nth=7), added(PING, PING, bytes(12), nth=5)))
def test_times_on_main(bench: Bench) -> None:
    """The server pings main 100 ms after the net test, and then every 15 s."""
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
    """The server pings inputs 100 ms after it has opened, no sooner, and then every 5 minutes."""
    source = bench.start()
    client = bench.client(source, channels=(INPUTS,))
    inputs = client.current.channels[INPUTS, 0]
    bench.settle()
    bench.claim(not inputs.got(PING), "no PING at once", len(inputs.got(PING)))
    for ms in (IDLE_MS, OTHER_MS):
        count = asked(bench, source, inputs, ms)
        bench.claim(count == PAIR, f"{PAIR} PINGs after {ms} ms", count)
