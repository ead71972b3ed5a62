# SPDX-License-Identifier: GPL-2.0-only
"""A client that answers PING stays connected for any time; one that stops answering is dropped
(server/red-channel-client.cpp, connectivity_timer)."""

from __future__ import annotations

import pytest

from dissectors.framing.events import Ending
from dissectors.wire.constants import MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import closed_after, lost, requirement, stuck_after, timers
from fixtures.system.hosts import Ability

LIST = MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
#: The interval at which a server checks whether its client is alive, ms. It drops a client that was silent
#: for a whole interval at the end of the next.
LOOKS_MS = 30_000
STEP_MS, FINE_MS, LATEST_MS = 5_000, 500, 3 * LOOKS_MS
#: By how much the answer to the net test's long PING is late, µs: the server then has a result of its test.
SLOW_US = 2_000_000

pytestmark = pytest.mark.needs(Ability.VIRTUAL_CLOCK)


@requirement("TIME-004", fault=(lost(LIST, nth=2), closed_after("SPICE_MSG_PING", nth=9)))
def test_client_that_answers_stays(bench: Bench) -> None:
    """Minutes with nothing but PING and PONG end no session."""
    source = bench.start()
    client = bench.client(source)
    for _ in range(0, 6 * LOOKS_MS, STEP_MS):
        bench.pass_time(source, STEP_MS)
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    before = len(client.main.got(LIST))
    bench.until(lambda: len(client.main.got(LIST)) > before, "an answer after three minutes")
    endings = [c.ending for c in client.current if c.ending]
    bench.claim(not endings, "the session goes on", endings)


@requirement(
    "TIME-005",  # no early timer here: PINGs run on the real clock, so that it shows on slow machines only
    fault=(stuck_after(LIST), closed_after(LIST), timers(20_000)),
)
@pytest.mark.parametrize("line", ["quick", "slow"])
def test_client_that_does_not_answer_is_dropped(bench: Bench, line: str) -> None:
    """A client that no longer answers PING is dropped, but not before it was silent for 30 s: one on a quick
    line, for which the net test has no result, and one on a slow line."""
    source = bench.start()
    slow = line == "slow"
    client = bench.client(source, channels=(), quick=not slow, slow_us=SLOW_US * slow)
    bench.pass_time(source, 1_000)
    client.main.answers.none()
    silent = 0
    while client.main.ending is None and silent < LATEST_MS:
        bench.pass_time(source, FINE_MS)
        silent += FINE_MS
    ending = client.main.ending
    bench.claim(ending not in (None, Ending.DIED), f"the connection's end within {LATEST_MS} ms", ending)
    bench.claim(silent >= LOOKS_MS, f"no end before {LOOKS_MS} ms", f"after {silent} ms")
