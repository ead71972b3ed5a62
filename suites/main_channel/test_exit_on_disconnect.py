# SPDX-License-Identifier: GPL-2.0-only
"""A server process that exits with its client (spice-server.h, spice_server_set_exit_on_disconnect)."""

from __future__ import annotations

from contextlib import suppress

import pytest

from dissectors.wire.constants import ChannelType, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import requirement, stuck_after
from fixtures.peer import Deadline
from fixtures.system.hosts import Ability

INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
LIST = MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
TICKET = "correct horse"
DEATH_S = 5.0

pytestmark = pytest.mark.needs(Ability.CALLS)


@requirement("MAIN-070", fault=stuck_after(LIST))
def test_exit_on_disconnect(bench: Bench) -> None:
    """A client that is not let in, or a secondary channel that closes, does not end the process; the end of
    main does, with status 0."""
    source = bench.start(ticket=TICKET)
    source.call("set_exit_on_disconnect")
    bench.try_link(bench.connect(source, password="wrong"))
    stranger = bench.connect(source)
    stranger.send_mess()
    stranger.close()
    client = bench.client(source, channels=(INPUTS,), password=TICKET)
    client.current.channels[INPUTS, 0].close()
    bench.alive("while the client is there", source)
    client.main.close()
    with suppress(Deadline):
        bench.pump.until(lambda: not source.life().alive, DEATH_S, "the process' end")
    life = source.life()
    ended = "it lives" if life.alive else f"{life.signal or life.status}"
    bench.claim(ended == "0", "the process ends with status 0", ended, source)
