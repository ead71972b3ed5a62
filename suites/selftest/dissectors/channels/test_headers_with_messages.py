# SPDX-License-Identifier: GPL-2.0-only
"""A header and its message as one Scapy packet."""

from __future__ import annotations

import pytest

from dissectors.channels.framed_message import frame_class
from dissectors.channels.inventory import inventory
from dissectors.wire.constants import message_name
from dissectors.wire.data_header import encode
from dissectors.wire.message import SpiceMalformed

ROWS = [row for row in inventory() if row.channel]


@pytest.mark.parametrize("mini", [True, False], ids=["mini", "full"])
def test_every_message_under_its_header(mini: bool) -> None:
    """The header dissects and rebuilds each message of its channel and sender, and shows its name."""
    for row in ROWS:
        raw = encode(row.type, row.example, serial=None if mini else 7)
        packet = frame_class(row.channel, row.sender, mini=mini).parse(raw)
        assert bytes(packet) == raw
        assert type(packet.payload) is row.cls
        assert packet.problems() == []
        assert message_name(row.channel, row.sender, row.type) in packet.show(dump=True)


def test_body_that_is_cut() -> None:
    row = ROWS[0]
    raw = encode(row.type, bytes(40), serial=None)[:-1]
    packet = frame_class(row.channel, row.sender, mini=True).parse(raw)
    assert isinstance(packet.payload, SpiceMalformed)
    assert packet.payload.reason == "the body has 39 of 40 bytes"
