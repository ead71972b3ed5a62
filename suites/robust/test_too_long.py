# SPDX-License-Identifier: GPL-2.0-only
"""The server does not accept messages longer than any channel's: it ends their connection, and nothing else
(CVE-2016-9577)."""

from __future__ import annotations

import struct

import pytest

from dissectors.framing.events import DISCONNECTED
from dissectors.wire.constants import ChannelType, MsgcBase, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import requirement

INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
PONG = MsgcBase.SPICE_MSGC_PONG


@requirement("ROBUST-010")
@pytest.mark.parametrize("channel", ["main", "inputs"])
@pytest.mark.parametrize("size", [256 << 10, 1 << 20])
def test_message_longer_than_any(bench: Bench, channel: str, size: int) -> None:
    """The client sends the whole message: the server ends the connection, lives, and serves the next
    client."""
    source = bench.start()
    client = bench.client(source, channels=(INPUTS,))
    connection = client.main if channel == "main" else client.current.channels[INPUTS, 0]
    connection.send_raw(struct.pack("<HI", PONG, size) + b"\xa5" * size)
    ending = connection.expect_end()
    bench.claim(ending in DISCONNECTED, "the connection's end", ending)
    client.close()
    bench.alive(f"after a message of {size} bytes", source)
    bench.expect(bench.link(source), MsgMain.SPICE_MSG_MAIN_INIT, proves="MAIN-001")
