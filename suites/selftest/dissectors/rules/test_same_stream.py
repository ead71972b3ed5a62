# SPDX-License-Identifier: GPL-2.0-only
"""Messages that no rule needs are counted and not built: the findings are the same either way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dissectors.conversation.connection_states import State
from dissectors.framing.events import Message, Quiet
from dissectors.framing.framer import Framer
from dissectors.rules.inspector import Inspection
from dissectors.rules.rule_engine import unasked
from dissectors.wire.constants import ChannelType, MsgCursor, MsgDisplay, Side
from dissectors.wire.data_header import encode
from fixtures.captures import DIRECTORY
from suites.selftest.given_captures import given

KEYS = ("findings", "doubtful", "gaps", "migrations", "unjudged")
CAPTURES = [*sorted(DIRECTORY.glob("*.pcapng.gz")), *given("*.pcap*"), *given("rules/*.pcap*")]
DISPLAY, CURSOR = ChannelType.SPICE_CHANNEL_DISPLAY, ChannelType.SPICE_CHANNEL_CURSOR
DRAW = MsgDisplay.SPICE_MSG_DISPLAY_DRAW_COPY


def told(capture: Path, *, everything: bool) -> dict[str, Any]:
    inspection = Inspection([capture], everything=everything)
    inspection.finish()
    return {key: value for key, value in inspection.as_dict().items() if key in KEYS}


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_findings_are_equal_with_and_without_every_message(capture: Path) -> None:
    assert told(capture, everything=False) == told(capture, everything=True)


def test_what_a_target_must_not_say_is_asked_about_while_it_restores() -> None:
    assert DRAW in unasked(DISPLAY, State.OPEN, Side.SERVER)
    assert DRAW not in unasked(DISPLAY, State.TARGET_RESTORING, Side.SERVER)
    assert DRAW not in unasked(DISPLAY, State.TARGET_SILENT, Side.SERVER)
    assert MsgCursor.SPICE_MSG_CURSOR_SET not in unasked(CURSOR, State.GONE, Side.SERVER)


def counting(*serials: int, kind: int = DRAW) -> list[tuple[str, int]]:
    """What a framer that counts DRAW_COPY makes of full headers with these serials."""
    framer = Framer(1, lambda _: frozenset({int(DRAW)}))
    framer.resume(DISPLAY, mini=False, sender=Side.SERVER)
    data = b"".join(encode(kind, bytes(9), serial=serial) for serial in serials)
    events = framer.feed(Side.SERVER, data, 0.0)
    return [("counted", e.count) if isinstance(e, Quiet) else ("shown", e.serial or 0) for e in events
            if isinstance(e, Quiet | Message)]  # fmt: skip


def test_a_counted_message_whose_serial_is_not_due_is_shown() -> None:
    assert counting(7, 8, 9, 9, 10, 12) == [("counted", 3), ("shown", 9), ("counted", 1), ("shown", 12)]


def test_serials_go_on_over_pieces() -> None:
    framer = Framer(1, lambda _: frozenset({int(DRAW)}))
    framer.resume(DISPLAY, mini=False, sender=Side.SERVER)
    data = b"".join(encode(DRAW, bytes(9), serial=serial) for serial in (1, 2, 4))
    events = [event for at in range(len(data)) for event in framer.feed(Side.SERVER, data[at : at + 1], 0.0)]
    assert [e.serial for e in events if isinstance(e, Quiet | Message)] == [1, 2, 4]
    assert [type(e) for e in events] == [Quiet, Quiet, Message]


def test_unchecked_bulk_is_reported(tmp_path: Path) -> None:
    """More messages of one type than are looked at."""
    from suites.selftest.dissectors.rules.test_inspect_planted import copied

    wire = copied("semi-seamless")
    draw = wire.get("source", "DISPLAY_DRAW_COPY", DISPLAY)
    position = wire.said.index(draw)
    draw.data *= 200
    assert wire.said[position] is draw
    wire.write(tmp_path / "bulk.pcap")
    inspection = Inspection([tmp_path / "bulk.pcap"])
    inspection.finish()
    story = inspection.as_dict()
    whys = {one["requirement"]: one["why"] for one in story["unjudged"] if "bulk" in one["why"]}
    assert "bulk messages was not looked at" in whys["CHAN-002"]
    assert {found["requirement"] for found in story["findings"]} == {"CHAN-006"}  # no ACK for the copies
