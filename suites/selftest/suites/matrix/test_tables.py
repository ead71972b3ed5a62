# SPDX-License-Identifier: GPL-2.0-only
"""The tables of the matrix: every cell is covered, and has a name of its own."""

from __future__ import annotations

from collections import Counter

import pytest

from dissectors.conversation import owed_answers
from dissectors.conversation.channel_order import MIGRATING_ORDER, SECONDARY_ORDER
from dissectors.conversation.connection_states import State
from dissectors.conversation.main_order import MAIN_ORDER
from dissectors.rules.catalogue import CATALOGUE
from dissectors.wire.constants import MESSAGE_NAMES, Side
from suites.matrix.acts import MAIN, CallAct, LinkAct, SendAct
from suites.matrix.cells import UNKNOWN_TYPE, cells, messages
from suites.matrix.host_answers import CALLS, CHANNEL_CALLS
from suites.matrix.places import CHANNELS, NOT_HELD, Place, places

PLACES = list(places())


def test_every_state_is_driven_or_says_why() -> None:
    driven = {place.state for place in PLACES}
    tables = (MAIN_ORDER, SECONDARY_ORDER, MIGRATING_ORDER)
    known = {state for table in tables for state, _ in table} | {State.LINKING}
    assert driven | NOT_HELD.keys() == known
    assert not driven & NOT_HELD.keys()


def test_every_channel_that_has_messages_is_driven() -> None:
    having = {channel for channel, side in MESSAGE_NAMES if side is Side.CLIENT}
    assert {MAIN, *CHANNELS} <= having
    assert {place.channel for place in PLACES} == {MAIN, *CHANNELS}


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_cells(place: Place) -> None:
    found = list(cells(place))
    assert max(Counter(cell.name for cell in found).values()) == 1
    sent = [cell.act.type for cell in found if isinstance(cell.act, SendAct)]
    assert sent == messages(place.channel)
    assert set(MESSAGE_NAMES[place.channel, Side.CLIENT]) < set(sent)
    for cell in found:
        assert cell.left_out is None or cell.left_out.startswith(("misuse: ", "cannot be: ", "the display"))


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_an_answer_is_due_in_each_cell(place: Place) -> None:
    for kind in messages(place.channel):
        owed = owed_answers.answer(place.channel, place.answers, kind)
        assert not (owed.free and (owed.says or owed.ends))
        assert owed_answers.requirement(place.channel, place.answers, kind) in CATALOGUE
    table = CALLS if place.channel == MAIN else CHANNEL_CALLS
    for cell in cells(place):
        if (
            isinstance(cell.act, CallAct)
            and not cell.left_out
            and cell.act.name not in ("kbd_leds", "set_ticket")
        ):
            assert any(key.split()[0].rstrip(",") == cell.act.name for key in table)


def test_what_may_be_sent() -> None:
    assert owed_answers.may_send(MAIN, State.READY, 3)
    assert not owed_answers.may_send(MAIN, State.READY, UNKNOWN_TYPE)
    assert not owed_answers.may_send(MAIN, State.READY, 4)  # FLUSH_MARK
    assert owed_answers.may_send(MAIN, State.FLUSH_DUE, 4)
    assert not owed_answers.may_send(5, State.TARGET_RESTORING, 5)  # playback brings no data


def test_the_table_can_be_read() -> None:
    result = list(owed_answers.table())
    assert {(MAIN, 104, None, owed_answers.MAIN[104][None])} <= set(result)
    assert {channel for channel, _, _, _ in result} == {MAIN, *CHANNELS}


def test_links_with_each_id() -> None:
    session = next(place for place in PLACES if place.name == "session")
    links = [cell for cell in cells(session) if isinstance(cell.act, LinkAct)]
    assert len(links) == 60
    assert sum(cell.left_out is not None for cell in links) == 10  # the id of another client
