# SPDX-License-Identifier: GPL-2.0-only
"""Agent messages: layouts, those that depend on capabilities, and joining the pieces of AGENT_DATA."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.channels import agent_messages as messages
from dissectors.channels.agent import AgentStream, VDAgentMessage, agent_message, chunks
from dissectors.channels.agent_enums import AgentCap, AgentType
from dissectors.channels.agent_messages import BODIES, WITH_SELECTION
from dissectors.channels.inventory import sample
from dissectors.wire.fields import cap_words
from dissectors.wire.structs import Struct

SELECTION = {AgentCap.VD_AGENT_CAP_CLIPBOARD_SELECTION}
SERIAL = SELECTION | {AgentCap.VD_AGENT_CAP_CLIPBOARD_GRAB_SERIAL}
QUICK = settings(max_examples=60, deadline=None, derandomize=True)


def _raw(kind: int, data: bytes, protocol: int = 1) -> bytes:
    return struct.pack("<IIQI", protocol, kind, 0, len(data)) + data


def _announce(*caps: int) -> bytes:
    words = cap_words(caps)
    return _raw(AgentType.VD_AGENT_ANNOUNCE_CAPABILITIES, struct.pack(f"<I{len(words)}I", 1, *words))


def test_every_type_has_a_layout() -> None:
    """Of the enumeration."""
    assert set(BODIES) == set(AgentType)


@pytest.mark.parametrize("kind", list(AgentType), ids=lambda kind: kind.name)
def test_round_trip(kind: AgentType) -> None:
    """Agent messages that are built and dissected are rebuilt from their fields."""
    for variant in range(8):
        raw = bytes(VDAgentMessage(type=kind, opaque=7, body=sample(BODIES[kind], variant)))
        packet = agent_message(raw, caps=())
        assert packet.problems() == []
        assert packet.type == kind
        body = packet.fields["body"]
        assert type(body) is BODIES[kind] or (body is None and packet.size == 0)
        packet.clear_cache()
        assert bytes(packet) == raw


@pytest.mark.parametrize("details", [None, *messages.DETAILS.items()])
def test_details_of_a_file_transfer_status(details: tuple[int, type[Struct]] | None) -> None:
    """Present or left out."""
    result, cls = details or (2, None)
    body = messages.VDAgentFileXferStatusMessage(id=1, result=result, details=cls and sample(cls))
    raw = bytes(VDAgentMessage(type=AgentType.VD_AGENT_FILE_XFER_STATUS, body=body))
    seen = agent_message(raw)
    assert seen.problems() == []
    assert type(seen.body.details) is (cls or type(None))


CLIPBOARD = [
    (AgentType.VD_AGENT_CLIPBOARD, b"\x01\0\0\0text", None, messages.VDAgentClipboard),
    (
        AgentType.VD_AGENT_CLIPBOARD,
        b"\x01\0\0\0\x02\0\0\0png",
        None,
        messages.VDAgentClipboardWithSelection,
    ),
    (AgentType.VD_AGENT_CLIPBOARD, b"\x01\0\0\0\x02\0\0\0png", (), messages.VDAgentClipboard),
    (AgentType.VD_AGENT_CLIPBOARD_REQUEST, b"\x01\0\0\0", None, messages.VDAgentClipboardRequest),
    (
        AgentType.VD_AGENT_CLIPBOARD_REQUEST,
        b"\0\0\0\0\x01\0\0\0",
        None,
        messages.VDAgentClipboardRequestWithSelection,
    ),
    (AgentType.VD_AGENT_CLIPBOARD_RELEASE, b"", None, type(None)),
    (
        AgentType.VD_AGENT_CLIPBOARD_RELEASE,
        b"\x02\0\0\0",
        None,
        messages.VDAgentClipboardReleaseWithSelection,
    ),
    (AgentType.VD_AGENT_CLIPBOARD_GRAB, b"\x01\0\0\0", None, messages.VDAgentClipboardGrab),
    (
        AgentType.VD_AGENT_CLIPBOARD_GRAB,
        b"\0\0\0\0\x01\0\0\0",
        SELECTION,
        messages.VDAgentClipboardGrabWithSelection,
    ),
    (
        AgentType.VD_AGENT_CLIPBOARD_GRAB,
        b"\0\0\0\0\0\0\0\0\x01\0\0\0",
        None,
        messages.VDAgentClipboardGrabWithSerial,
    ),
    (
        AgentType.VD_AGENT_CLIPBOARD_GRAB,
        b"\0\0\0\0\x01\0\0\0\x01\0\0\0",
        SERIAL,
        messages.VDAgentClipboardGrabWithSerial,
    ),
]


@pytest.mark.parametrize(("kind", "data", "caps", "cls"), CLIPBOARD)
def test_clipboard_layouts(kind: int, data: bytes, caps: set[int] | None, cls: type) -> None:
    """By the capabilities, or by the bytes where there are none."""
    packet = agent_message(_raw(kind, data), caps)
    assert packet.problems() == []
    assert type(packet.body) is cls
    packet.clear_cache()
    assert bytes(packet) == _raw(kind, data)


@pytest.mark.parametrize("kind", list(WITH_SELECTION))
def test_layouts_with_selection_round_trip(kind: int) -> None:
    """With the capability agreed."""
    raw = bytes(VDAgentMessage(type=kind, body=sample(WITH_SELECTION[kind], 1)))
    packet = agent_message(raw, SELECTION)
    assert packet.problems() == []
    assert type(packet.body) is WITH_SELECTION[kind]


def test_streams_learn_the_capabilities_of_both_sides() -> None:
    """The selection counts once both sides have announced it."""
    client = AgentStream()
    server = AgentStream(other=client)
    assert AgentStream().caps is None
    (seen,) = client.feed(_announce(*SERIAL))
    assert "VD_AGENT_CAP_CLIPBOARD_GRAB_SERIAL" in seen.show(dump=True)
    server.feed(_announce(*SELECTION))
    assert {*(client.caps or ())} == {*(server.caps or ())} == SELECTION
    (grab,) = client.feed(_raw(AgentType.VD_AGENT_CLIPBOARD_GRAB, b"\0\0\0\0\0\0\0\0\x01\0\0\0"))
    assert type(grab.body) is messages.VDAgentClipboardGrabWithSelection


@QUICK
@given(cuts=st.lists(st.integers(1, 40), min_size=1))
def test_pieces_are_joined(cuts: list[int]) -> None:
    """However the stream is cut, the messages are the same, byte for byte."""
    whole = [_announce(0, 5), _raw(4, b"\x01\0\0\0" + b"x" * 50), _raw(13, b""), _raw(99, b"later")]
    stream = AgentStream()
    data, at, found, turn = b"".join(whole), 0, [], 0
    while at < len(data):
        cut = cuts[turn % len(cuts)]
        found += stream.feed(data[at : at + cut])
        at, turn = at + cut, turn + 1
    assert [bytes(packet) for packet in found] == whole
    assert stream.pending == 0
    assert stream.close() == []


def test_chunks_and_back() -> None:
    """A long message becomes pieces of 2048 bytes, and one message again."""
    packet = VDAgentMessage(
        type=AgentType.VD_AGENT_CLIPBOARD, body=messages.VDAgentClipboard(type=1, data=b"y" * 5000)
    )
    pieces = chunks([packet])
    assert [len(piece) for piece in pieces] == [2048, 2048, 928]
    stream = AgentStream()
    assert [len(stream.feed(piece)) for piece in pieces] == [0, 0, 1]


def test_problems_are_named() -> None:
    """Another protocol, a body too short, an end in the middle."""
    assert agent_message(_raw(3, b"\0" * 8, protocol=9)).problems() == ["protocol is 9, not 1"]
    (short,) = AgentStream().feed(_raw(AgentType.VD_AGENT_REPLY, b"\0" * 5))
    assert short.problems()
    stream = AgentStream()
    assert stream.feed(_raw(3, b"\0" * 8)[:-1]) == []
    (rest,) = stream.close()
    assert rest.problems()
    assert stream.pending == 0
    assert agent_message(b"").problems() == ["empty"]


def test_a_message_over_the_limit_is_passed_over() -> None:
    """Memory stays bounded, and later messages are read."""
    stream = AgentStream(limit=100)
    big = _raw(4, bytes(1000))
    found = stream.feed(big[:300]) + stream.feed(big[300:1010])
    assert len(found) == 1
    assert found[0].problems()
    assert stream.pending == 0
    (last,) = stream.feed(big[1010:] + _raw(13, b""))
    assert last.type == 13
    (header, after) = AgentStream(limit=100).feed(big + _raw(13, b""))
    assert (header.type, after.type) == (4, 13)


@QUICK
@given(pieces=st.lists(st.binary(max_size=60), max_size=8))
def test_random_pieces(pieces: list[bytes]) -> None:
    """Random bytes never raise; no unneeded data is kept."""
    stream = AgentStream(limit=1000)
    for piece in pieces:
        for packet in stream.feed(piece):
            packet.show(dump=True)
            packet.problems()
    assert stream.pending <= 1020
    stream.close()
