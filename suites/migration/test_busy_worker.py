# SPDX-License-Identifier: GPL-2.0-only
"""The display's worker of a seamless migration's target is busy while the client arrives: it takes up the
client's display link late (server/red-client.cpp, RedClient::add_channel)."""

from __future__ import annotations

from contextlib import suppress

import pytest

from dissectors.wire.constants import ChannelType, MsgBase, MsgcBase, MsgDisplay
from fixtures.bench import Bench
from fixtures.bench.planting import dies_at, lost, requirement
from fixtures.peer import Client, Deadline
from fixtures.peer.duties import DUTIFUL, MigrationStep
from fixtures.system.hosts import Ability, HarnessError, Host
from suites.guest_pictures import fill
from suites.steps import INIT, announced, served

DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
DATA, BRINGS = MsgBase.SPICE_MSG_MIGRATE_DATA, MsgcBase.SPICE_MSGC_MIGRATE_DATA
DRAW_FILL = MsgDisplay.SPICE_MSG_DISPLAY_DRAW_FILL
AREA, COLOUR = (10, 10, 60, 50), 0x204060
COOKIE = 0x51

pytestmark = pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.CALLS, Ability.DEVICES)


def bring(bench: Bench, client: Client, target: Host) -> None:
    """The main channel's MIGRATE_DATA is served before the worker goes on; then the display's comes."""
    left, arrived = client.left[0], client.current
    arrived.main.send(BRINGS, left.main.got(DATA)[0].body)
    bench.settle()
    target.call("qxl_keep_worker", keep=0)
    arrived.channels[DISPLAY, 0].send(BRINGS, left.channels[DISPLAY, 0].got(DATA)[0].body)


@requirement(
    "ROBUST-074",
    fault=(dies_at(BRINGS, on="target", case="idle"), lost(INIT, host="target", case="idle")),
)
@requirement("MIG-DST-068", fault=lost(DRAW_FILL, host="target", case="idle"))
@pytest.mark.parametrize("worker", ["idle", "busy"])
def test_display_link_that_is_taken_up_late(bench: Bench, worker: str) -> None:
    """The worker takes up the display's link at once, or after MIGRATE_DATA of the main channel. The guest
    draws when the display's MIGRATE_DATA has come too."""
    source, target = bench.pair(seamless=True, devices=("keyboard", "mouse", "display"))
    client = bench.client(source, channels=(DISPLAY,), duties=DUTIFUL.skipping(MigrationStep.MIGRATE_DATA))
    if worker == "busy":
        target.call("qxl_keep_worker")
        target.call("qxl_async", begins="flush_surfaces", cookie=COOKIE)
    announced(bench, source, client, target)
    source.complete(target)
    bench.until(lambda: client.left, DATA.name, proves="MIG-SRC-047")
    display = client.current.channels[DISPLAY, 0]
    with suppress(HarnessError, Deadline), bench.pump.in_real_time():
        bring(bench, client, target)
        fill(target, AREA, COLOUR)
        bench.pump.until(lambda: display.got(DRAW_FILL) or display.ending, what=DRAW_FILL.name)
    served(bench, target, "after a display link that was taken up late", proves="ROBUST-074")
    seen = f"its end: {display.ending}" if display.ending else "nothing"
    bench.claim(bool(display.got(DRAW_FILL)), DRAW_FILL.name, seen, target, proves="MIG-DST-068")
