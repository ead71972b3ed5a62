# SPDX-License-Identifier: GPL-2.0-only
"""Framing: the same events however the bytes are split; it survives holes, absurd sizes and random bytes."""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectors.framing.events import ConnectionEvent, Event, Gap, Garbage, LinkBytes, Message, Quiet
from dissectors.framing.framer import FULL, MAX_BODY_BYTES, MINI, Framer, Stage
from dissectors.wire.constants import SPICE_MAGIC, ChannelType, CommonCap, MsgBase, MsgDisplay, MsgMain, Side
from dissectors.wire.data_header import encode, own_part, sub_messages
from fixtures.captures.synthetic_capture import draw_copy, link_stage, main_init

DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
MAIN = ChannelType.SPICE_CHANNEL_MAIN
DRAW_COPY = MsgDisplay.SPICE_MSG_DISPLAY_DRAW_COPY
SCANOUT, SCANOUT2 = (
    MsgDisplay.SPICE_MSG_DISPLAY_GL_SCANOUT_UNIX,
    MsgDisplay.SPICE_MSG_DISPLAY_GL_SCANOUT2_UNIX,
)
MARK, RESET = MsgDisplay.SPICE_MSG_DISPLAY_MARK, MsgDisplay.SPICE_MSG_DISPLAY_RESET
QUIET = frozenset({int(DRAW_COPY)})
CAPS_OFFSET = 16 + 18  # of the common capabilities in the link message of `link_stage`

Turn = tuple[Side, bytes]


def stage(channel: int = DISPLAY, mini: bool = True, mechanism: int | None = None) -> list[Turn]:
    """A link stage; on request without MINI_HEADER, or with another mechanism."""
    turns = list(link_stage(channel, 7))
    if not mini:
        mess = bytearray(turns[0][1])
        mess[CAPS_OFFSET] &= ~(1 << CommonCap.SPICE_COMMON_CAP_MINI_HEADER)
        turns[0] = (Side.CLIENT, bytes(mess))
    if mechanism is not None:
        turns[2] = (Side.CLIENT, struct.pack("<I", mechanism))
    return turns


def frames(bodies: Iterable[tuple[int, bytes]], mini: bool) -> bytes:
    return b"".join(
        encode(kind, body, serial=None if mini else number) for number, (kind, body) in enumerate(bodies, 1)
    )


def linked(channel: int = DISPLAY, mini: bool = True, quiet: frozenset[int] = frozenset()) -> Framer:
    framer = Framer(1, lambda _: quiet)
    for side, data in stage(channel, mini):
        framer.feed(side, data, 0.0)
    assert framer.linked
    assert framer.mini is mini
    return framer


def told(events: Iterable[Event]) -> list[Event]:
    """Events without times; successive quiet ones are joined."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, Quiet):
            last = result[-1] if result else None
            if isinstance(last, Quiet) and last.sender is event.sender:
                event = replace(event, count=last.count + event.count, bytes=last.bytes + event.bytes)
                result.pop()
            result.append(replace(event, time=0.0, frame=None))
        else:
            result.append(replace(event, time=0.0, frame=None))
    return result


MESSAGES = st.lists(
    st.tuples(st.sampled_from([int(DRAW_COPY), int(MARK), int(RESET), 4]), st.binary(max_size=300)),
    max_size=30,
)


@given(
    messages=MESSAGES,
    mini=st.booleans(),
    quiet=st.sampled_from([frozenset(), QUIET]),
    sizes=st.lists(st.one_of(st.integers(1, 20), st.integers(1, 1 << 16)), min_size=1, max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_any_split_gives_the_same_events(
    messages: list[tuple[int, bytes]], mini: bool, quiet: frozenset[int], sizes: Sequence[int]
) -> None:
    turns = [*stage(mini=mini), (Side.SERVER, frames(messages, mini))]
    whole, pieces = Framer(1, lambda _: quiet), Framer(1, lambda _: quiet)
    expected: list[ConnectionEvent] = []
    seen: list[ConnectionEvent] = []
    for side, data in turns:
        expected += whole.feed(side, data, 0.0)
        at, index = 0, 0
        while at < len(data):
            seen += pieces.feed(side, data[at : at + sizes[index % len(sizes)]], 0.0)
            at, index = at + sizes[index % len(sizes)], index + 1
    assert told(seen) == told(expected)
    assert pieces.counts(Side.SERVER) == whole.counts(Side.SERVER)
    assert whole.counts(Side.SERVER)[0] == Counter(kind for kind, _ in messages)
    loud = [(m.type, m.body) for m in expected if isinstance(m, Message)]
    assert loud == [(kind, body) for kind, body in messages if kind not in quiet]
    assert pieces.end(0.0) == []


@pytest.mark.parametrize("mini", [True, False])
@pytest.mark.parametrize("carrier", [b"@", b""], ids=["UNIX", "TCP"])
def test_descriptors_travel_beside_a_byte_that_no_header_counts(mini: bool, carrier: bytes) -> None:
    """Only a UNIX socket has that byte, and a header may begin with it too. It is told wherever the bytes are
    split, also where the message need only be counted."""
    kinds = (SCANOUT, SCANOUT, SCANOUT2, MARK, SCANOUT, DRAW_COPY, SCANOUT)
    sizes = {SCANOUT: 20, SCANOUT2: 25, DRAW_COPY: 1}
    messages = [(int(kind), bytes(sizes.get(kind, 0))) for kind in kinds]
    data, begins = b"", []
    for number, (kind, body) in enumerate(messages, ord("@") - 2):  # so that a serial begins with it
        begins.append(len(data))
        data += encode(kind, body, serial=None if mini else number)
        data += carrier * (kind in (SCANOUT, SCANOUT2))
    for cut in range(len(data) + 1) if carrier else begins:
        framer = linked(mini=mini, quiet=frozenset({int(SCANOUT), int(SCANOUT2)}))
        events = [e for part in (data[:cut], data[cut:]) for e in framer.feed(Side.SERVER, part, 0.0)]
        events += framer.end(0.0)
        assert [(e.type, e.body) for e in events if isinstance(e, Message)] == messages
        assert framer.counts(Side.SERVER)[1] == len(data)
        assert not [e for e in events if isinstance(e, Garbage)]


def test_a_ticket_that_is_shown_after_the_result_is_a_ticket() -> None:
    """As a capture may have it. Were it a message, its bytes would be one of any size."""
    mess, reply, mechanism, ticket, result = stage(MAIN)
    framer = Framer(1)
    late = [mess, reply, result, (Side.CLIENT, mechanism[1] + ticket[1] + frames([(104, b"")], mini=True))]
    events = [event for side, data in late for event in framer.feed(side, data, 0.0)]
    assert [e.kind for e in events if isinstance(e, LinkBytes)] == [
        *("mess", "reply", "result", "mechanism", "ticket")
    ]
    assert [e.type for e in events if isinstance(e, Message)] == [104]


def test_each_event_has_the_frame_of_its_last_byte() -> None:
    framer = linked()
    data = frames([(MARK, b""), (RESET, bytes(10)), (MARK, b"")], mini=True)  # ends at 6, 22, 28
    marks = [(0, 1.0, 11), (5, 2.0, 12), (21, 3.0, 13), (22, 4.0, 14)]
    assert [(e.time, e.frame) for e in framer.stream(Side.SERVER, data, marks)] == [
        (2.0, 12),
        (3.0, 13),
        (4.0, 14),
    ]


def test_quiet_is_asked_again_after_each_event() -> None:
    answers = iter([QUIET, QUIET, frozenset()])
    framer = linked()
    framer._quiet = lambda _: next(answers, frozenset())
    events = framer.feed(Side.SERVER, frames([(DRAW_COPY, b"a"), (MARK, b""), (DRAW_COPY, b"b")], True), 0.0)
    assert [type(e) for e in events] == [Quiet, Message, Quiet]


@pytest.mark.parametrize("mini", [True, False])
def test_a_hole_inside_a_body_keeps_the_place(mini: bool) -> None:
    framer, body = linked(mini=mini), bytes(range(100))
    data = frames([(RESET, body), (MARK, b"")], mini)
    assert framer.feed(Side.SERVER, data[:50], 0.0) == []
    (gap,) = framer.gap(Side.SERVER, 30, 1.0)
    assert gap == Gap(time=1.0, connection=1, sender=Side.SERVER, bytes=30, inside=True)
    cut, mark = framer.feed(Side.SERVER, data[80:], 2.0)
    assert isinstance(cut, Message)
    assert isinstance(mark, Message)
    assert (cut.type, cut.whole, cut.size) == (RESET, False, 100)
    assert cut.body == body[: 50 - (6 if mini else 18)]  # what lies behind the hole has no known place in it
    assert (mark.type, mark.whole) == (MARK, True)


@pytest.mark.parametrize(("before", "size"), [(3, 1), (50, 57), (50, None), (106, 1)])
def test_a_hole_over_a_header_loses_the_direction(before: int, size: int | None) -> None:
    framer = linked()
    data = frames([(RESET, bytes(100)), (MARK, b"")], True)
    framer.feed(Side.SERVER, data[:before], 0.0)
    assert [type(e) for e in framer.gap(Side.SERVER, size, 1.0)] == [Gap]
    assert framer.lost(Side.SERVER)
    assert not framer.lost(Side.CLIENT)
    assert framer.feed(Side.SERVER, data, 2.0) == []
    framer.resume(DISPLAY, mini=True, sender=Side.SERVER)
    assert [type(e) for e in framer.feed(Side.SERVER, data, 3.0)] == [Message, Message]


@pytest.mark.parametrize("mini", [True, False])
@pytest.mark.parametrize("quiet", [frozenset(), QUIET])
def test_an_absurd_size_ends_the_framing(mini: bool, quiet: frozenset[int]) -> None:
    framer = linked(mini=mini, quiet=quiet)
    size = MAX_BODY_BYTES + 1
    head = MINI.pack(DRAW_COPY, size) if mini else FULL.pack(1, DRAW_COPY, size, 0)
    (garbage,) = framer.feed(Side.SERVER, head, 0.0)
    assert isinstance(garbage, Garbage)
    assert str(size) in garbage.reason
    assert framer.lost(Side.SERVER)
    assert framer.feed(Side.SERVER, bytes(1 << 20), 0.0) == []


def test_a_large_message_in_small_pieces_is_not_copied_again_and_again() -> None:
    framer = linked()
    piece, pieces = bytes(1 << 14), 2048  # 32 MB
    begun = time.process_time()
    framer.feed(Side.SERVER, MINI.pack(RESET, len(piece) * pieces), 0.0)
    for _ in range(pieces - 1):
        assert framer.feed(Side.SERVER, piece, 0.0) == []
    (message,) = framer.feed(Side.SERVER, piece, 0.0)
    assert isinstance(message, Message)
    assert message.size == len(piece) * pieces
    assert time.process_time() - begun < 3  # 0.05 s; with a copy for each piece 10 s


def in_cut_packets(turns: Iterable[Turn], snap: int) -> tuple[Framer, list[ConnectionEvent]]:
    """A link stage of which the capture has `snap` bytes of each packet."""
    framer, events = Framer(1), []
    for side, data in turns:
        events += framer.feed(side, data[:snap], 0.0)
        if len(data) > snap:
            events += framer.gap(side, len(data) - snap, 0.0, cut=True)
    return framer, events


@pytest.mark.parametrize("snap", [22, 30, 42, 150])
@pytest.mark.parametrize("result", [0, 7])
def test_cut_packets_of_the_link_stage_keep_the_place(snap: int, result: int) -> None:
    """96 bytes of a packet are 42 of its payload, or 30 with TCP timestamps: the channel, the mechanism and
    the result are there."""
    turns = [*stage(MAIN)[:-1], (Side.SERVER, struct.pack("<I", result))]
    framer, events = in_cut_packets(turns, snap)
    link = [event for event in events if isinstance(event, LinkBytes)]
    assert [event.kind for event in link if event.kind not in ("reply", "ticket")] == [
        "mess",
        "mechanism",
        "result",
    ]
    assert link[0].whole is (snap >= len(turns[0][1]))
    assert (framer.channel, link[-1].raw, framer.linked) == (MAIN, struct.pack("<I", result), not result)
    if not result:  # the capabilities are not known: the first message shows the header
        assert all(framer.lost(side) for side in Side)


def test_cut_packets_before_sasl_show_no_result() -> None:
    """The length of the server's list of mechanisms is no link result."""
    sasl = CommonCap.SPICE_COMMON_CAP_AUTH_SASL
    turns = [*stage(MAIN, mechanism=sasl)[:3], (Side.SERVER, struct.pack("<I", 7) + b"GSSAPI,")]
    _, events = in_cut_packets(turns, 42)
    assert [e.kind for e in events if isinstance(e, LinkBytes)] == ["mess", "mechanism", "sasl"]


@pytest.mark.parametrize("at", [1, 2])
def test_a_lost_packet_of_a_cut_link_stage_shows_no_result(at: int) -> None:
    """Without the mechanism the server's next bytes may be SASL."""
    framer = Framer(1)
    turns = stage(MAIN)
    framer.feed(*turns[0], 0.0)
    framer.feed(Side.SERVER, turns[1][1][:42], 0.0)
    framer.gap(Side.SERVER, len(turns[1][1]) - 42 + (at - 1), 0.0)
    events = framer.feed(Side.SERVER, struct.pack("<I", 7), 0.0)
    assert not [event for event in events if isinstance(event, LinkBytes)]


def test_sasl_is_recognised() -> None:
    """Steps: the server's mechanisms; then each way length and bytes, the server's with a flag behind, and
    with the outcome where that was all; the link result comes after it."""
    framer = Framer(1)
    caps = CommonCap.SPICE_COMMON_CAP_AUTH_SASL
    events = [e for side, data in stage(mechanism=caps)[:3] for e in framer.feed(side, data, 0.0)]
    step = struct.Struct("<I").pack
    events += framer.feed(Side.SERVER, step(5) + b"PLAIN", 1.0)
    events += framer.feed(Side.CLIENT, step(5) + b"PLAIN", 1.0)
    events += framer.feed(Side.SERVER, step(3) + b"abc\0", 1.0)
    assert framer.stage(Side.SERVER) is Stage.SASL
    events += framer.feed(Side.SERVER, step(0) + b"\1", 1.0)
    assert framer.stage(Side.SERVER) is Stage.SASL
    events += framer.feed(Side.SERVER, bytes(4), 1.0)
    assert framer.stage(Side.SERVER) is Stage.RESULT
    kinds = [e.kind for e in events if isinstance(e, LinkBytes)]
    assert kinds == ["mess", "reply", "mechanism", "sasl", "sasl", "sasl", "sasl"]
    framer.feed(Side.SERVER, bytes(4), 2.0)
    assert framer.linked


@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_sasl_that_rejects(pieces: int) -> None:
    """The outcome has a text where the client is rejected, and nothing follows it."""
    framer = Framer(1)
    for side, data in stage(mechanism=CommonCap.SPICE_COMMON_CAP_AUTH_SASL)[:3]:
        framer.feed(side, data, 0.0)
    step = struct.Struct("<I").pack
    said = step(5) + b"PLAIN" + step(0) + b"\1" + step(1) + step(7) + b"No way\0"
    parts = [said[at : at + pieces] for at in range(0, len(said), pieces)]
    events = [e for part in parts for e in framer.feed(Side.SERVER, part, 1.0)]
    assert [e.raw for e in events if isinstance(e, LinkBytes)] == [said[:9], said[9:]]
    assert framer.stage(Side.SERVER) is Stage.OVER
    assert not framer.linked


def test_a_second_link_reply_where_the_result_belongs() -> None:
    framer = Framer(1)
    turns = stage()
    for side, data in turns[:4]:
        framer.feed(side, data, 0.0)
    refusal = SPICE_MAGIC + struct.pack("<III", 2, 2, 178) + struct.pack("<I", 3) + bytes(174)
    (reply,) = framer.feed(Side.SERVER, refusal, 1.0)
    assert isinstance(reply, LinkBytes)
    assert (reply.kind, reply.raw) == ("reply", refusal)
    assert framer.stage(Side.CLIENT) is framer.stage(Side.SERVER) is Stage.OVER


def with_list(own: bytes, subs: Sequence[tuple[int, bytes]]) -> tuple[bytes, int]:
    """(body, sub_list) of a message with sub-messages: its own part, the list, then the sub-messages."""
    first = len(own) + 2 + 4 * len(subs)
    offsets, tail = [], b""
    for kind, body in subs:
        offsets.append(first + len(tail))
        tail += MINI.pack(kind, len(body)) + body
    return own + struct.pack(f"<H{len(subs)}I", len(subs), *offsets) + tail, len(own)


def test_sub_messages_are_no_part_of_their_message() -> None:
    own = main_init()[6:]
    subs = [(int(MsgBase.SPICE_MSG_WAIT_FOR_CHANNELS), b"\0"), (int(MsgBase.SPICE_MSG_NOTIFY), bytes(24))]
    body, sub_list = with_list(own, subs)
    framer = linked(MAIN, mini=False)
    raw = FULL.pack(1, MsgMain.SPICE_MSG_MAIN_INIT, len(body), sub_list) + body
    (message,) = framer.feed(Side.SERVER, raw, 0.0)
    assert isinstance(message, Message)
    assert message.body == body
    assert bytes(message.packet) == own
    assert message.packet.problems() == []
    assert sub_messages(body, sub_list) == subs


def test_sub_messages_before_their_list() -> None:
    sub = MINI.pack(5, 3) + b"abc"
    body = b"own!" + sub + struct.pack("<HI", 1, 4)
    assert own_part(body, 4 + len(sub)) == b"own!"
    assert sub_messages(body, 4 + len(sub)) == [(5, b"abc")]


@given(body=st.binary(max_size=60), sub_list=st.integers(0, 70))
def test_any_sub_list_is_survived(body: bytes, sub_list: int) -> None:
    assert body.startswith(own_part(body, sub_list))


def feed_all(framer: Framer, turns: Iterable[Turn]) -> list[ConnectionEvent]:
    events = [event for side, data in turns for event in framer.feed(side, data, 0.0)]
    return events + framer.end(0.0)


@given(turns=st.lists(st.tuples(st.sampled_from(list(Side)), st.binary(max_size=2_000)), max_size=20))
@settings(max_examples=150, deadline=None)
def test_random_bytes_are_survived(turns: list[Turn]) -> None:
    for event in feed_all(Framer(1), turns):
        if isinstance(event, LinkBytes | Message):
            assert event.packet is not None
    for framer in (linked(), linked(mini=False), linked(MAIN)):
        for event in feed_all(framer, turns):
            if isinstance(event, Message):
                assert isinstance(event.packet.problems(), list)


SESSION = [*stage(), (Side.SERVER, b"".join(draw_copy(n) for n in range(50)))]


@given(
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8),
    gaps=st.lists(st.tuples(st.integers(0, 20), st.one_of(st.none(), st.integers(1, 500))), max_size=4),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_sessions_are_survived(
    flips: list[tuple[int, int]], gaps: list[tuple[int, int | None]]
) -> None:
    turns = [(side, bytearray(data)) for side, data in SESSION]
    for where, value in flips:
        _, data = turns[where % len(turns)]
        data[where // len(turns) % len(data)] = value
    framer = Framer(1, lambda _: QUIET)
    pieces = [(side, bytes(data[at : at + 700])) for side, data in turns for at in range(0, len(data), 700)]
    for index, (side, piece) in enumerate(pieces):
        for place, size in gaps:
            if place == index:
                framer.gap(side, size, 0.0)
        for event in framer.feed(side, piece, 0.0):
            if isinstance(event, Message):
                event.packet.problems()
    framer.end(0.0)
    assert all(len(framer._link.direction(side).buffer) <= sum(len(d) for _, d in turns) for side in Side)


def test_a_side_that_never_answers_costs_no_memory() -> None:
    framer = Framer(1)
    framer.feed(Side.CLIENT, stage()[0][1], 0.0)
    events = [e for _ in range(40) for e in framer.feed(Side.CLIENT, bytes(1 << 16), 0.0)]
    assert [type(event) for event in events] == [Garbage]
    assert framer.lost(Side.CLIENT)


@pytest.mark.parametrize("make", [lambda: linked(), lambda: linked(mini=False)])
def test_the_cut_end_of_a_connection_is_reported(make: Callable[[], Framer]) -> None:
    framer = make()
    framer.feed(Side.SERVER, b"\1\0\0", 0.0)
    (garbage,) = framer.end(1.0)
    assert isinstance(garbage, Garbage)
    assert "cut after 3 bytes" in garbage.reason
