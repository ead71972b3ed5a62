# SPDX-License-Identifier: GPL-2.0-only
"""Resynchronisation: the framer accepts a boundary only where it is proven."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.framing.resync import KEPT, Found, Resync
from dissectors.wire.constants import ChannelType, MsgcMain, MsgDisplay, MsgMain, Side
from dissectors.wire.data_header import encode
from fixtures.captures.synthetic_capture import draw_copy

DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
COPIES = [draw_copy(n) for n in range(40, 80)]


def full(count: int, first: int = 7) -> bytes:
    kinds = [MsgDisplay.SPICE_MSG_DISPLAY_MARK, MsgDisplay.SPICE_MSG_DISPLAY_DRAW_FILL]
    return b"".join(encode(kinds[n % 2], bytes(n), serial=first + n) for n in range(count))


def test_a_chain_of_mini_headers_at_the_start_of_a_segment() -> None:
    found = Resync(DISPLAY, Side.SERVER, True).feed(b"".join(COPIES[:5]), [0])
    assert found == Found(DISPLAY, True, b"".join(COPIES[:5]))


@given(tail=st.integers(1, 100), count=st.integers(3, 10))
def test_the_tail_of_a_cut_message_is_skipped(tail: int, count: int) -> None:
    rest, messages = COPIES[0][-tail:], b"".join(COPIES[1 : 1 + count])
    found = Resync(DISPLAY, Side.SERVER, True).feed(rest + messages, [0, tail])
    assert found is not None
    assert (rest + messages).endswith(found.data)
    assert found.data == messages


@pytest.mark.parametrize("mini", [False, None])
def test_full_headers_prove_themselves_by_their_serials(mini: bool | None) -> None:
    assert Resync(DISPLAY, Side.SERVER, mini).feed(full(6), [0]) == Found(DISPLAY, False, full(6))
    broken = full(3) + full(3, first=50)
    assert Resync(DISPLAY, Side.SERVER, False).feed(broken, [0]) is None


def test_too_few_messages_without_a_body_prove_nothing_yet() -> None:
    mark = encode(MsgDisplay.SPICE_MSG_DISPLAY_MARK, b"", serial=None)
    resync = Resync(DISPLAY, Side.SERVER, True)
    assert resync.feed(mark, [0]) is None
    assert resync.feed(mark, [0]) is None
    assert resync.feed(mark, [0]) == Found(DISPLAY, True, 3 * mark)


def test_one_message_with_the_layout_of_its_body_proves_itself() -> None:
    assert Resync(DISPLAY, Side.SERVER, True).feed(COPIES[0], [0]) == Found(DISPLAY, True, COPIES[0])


def test_one_message_does_where_the_other_direction_is_known() -> None:
    connected = encode(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED, b"", serial=None)
    main = ChannelType.SPICE_CHANNEL_MAIN
    assert Resync(main, Side.CLIENT, True).feed(connected, [0]) is None
    assert Resync(main, Side.CLIENT, True, trusting=True).feed(connected, [0]) == Found(main, True, connected)


def test_the_other_direction_proves_the_held_bytes() -> None:
    connected = encode(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED, b"", serial=None)
    resync = Resync(0, Side.CLIENT, None)
    assert resync.feed(connected, [0]) is None
    found = resync.narrow(ChannelType.SPICE_CHANNEL_MAIN, mini=True)
    assert found == Found(ChannelType.SPICE_CHANNEL_MAIN, True, connected)


def test_an_announcement_alone_is_known_by_its_layout() -> None:
    begin = bytes.fromhex("65001e0000000c1700000a00000014000000000000000000000031302e312e302e313200")
    found = Resync(0, Side.SERVER, None).feed(begin, [0])
    assert found == Found(ChannelType.SPICE_CHANNEL_MAIN, True, begin)
    assert Resync(0, Side.CLIENT, None).feed(begin, [0]) is None


def test_a_chain_that_ends_in_the_middle_of_a_message_waits_for_its_end() -> None:
    resync = Resync(DISPLAY, Side.SERVER, True)
    assert resync.feed(b"".join(COPIES[:4])[:-1], [0]) is None
    assert resync.feed(COPIES[3][-1:], []) is not None


def test_a_long_chain_need_not_end_where_the_bytes_end() -> None:
    data = b"".join(COPIES[:20])[:-5]
    assert Resync(DISPLAY, Side.SERVER, None).feed(b"rest" + data, [0, 4]) == Found(DISPLAY, True, data)


def test_the_time_is_linear() -> None:
    resync, begun = Resync(0, Side.SERVER, None), time.process_time()
    for _ in range(300):
        assert resync.feed(bytes(1 << 17), range(0, 1 << 17, 1448)) is None
    assert time.process_time() - begun < 2  # 0.2 s for 39 MB


def test_channels_that_cannot_be_told_apart_are_not_guessed() -> None:
    pings = b"".join(encode(4, bytes(12), serial=None) for _ in range(5))
    assert Resync(0, Side.SERVER, None).feed(pings, [0]) is None


def test_random_bytes_prove_nothing_and_are_not_kept() -> None:
    random, resync = Random(7), Resync(0, Side.SERVER, None)
    for _ in range(40):
        assert resync.feed(random.randbytes(1 << 14), range(0, 1 << 14, 1448)) is None
    assert len(resync._data) <= KEPT
    assert len(resync._chains) <= KEPT // 1448 + 12


@given(pieces=st.lists(st.binary(max_size=400), max_size=20), channel=st.integers(0, 12))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_survived(pieces: list[bytes], channel: int) -> None:
    resync = Resync(channel, Side.CLIENT, None)
    for piece in pieces:
        if resync.feed(piece, [0]):
            break


def test_a_main_channel_is_recognised_by_what_only_it_has() -> None:
    names = [MsgMain.SPICE_MSG_MAIN_MULTI_MEDIA_TIME, MsgMain.SPICE_MSG_MAIN_AGENT_TOKEN]
    data = b"".join(encode(names[n % 2], bytes(4), serial=None) for n in range(6))
    found = Resync(ChannelType.SPICE_CHANNEL_MAIN, Side.SERVER, None).feed(data, [0])
    assert found is not None
    assert found.mini
