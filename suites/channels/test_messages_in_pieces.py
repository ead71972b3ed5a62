# SPDX-License-Identifier: GPL-2.0-only
"""TCP cuts the client's messages anywhere: in their header, in their body, between two of them
(spice.proto, BaseChannel; server/red-channel-client.cpp, handle_incoming)."""

from __future__ import annotations

import struct

import pytest

from dissectors.channels.agent_enums import AgentType
from dissectors.wire.constants import ChannelType, CommonCap, MsgcInputs, MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import changed, lost, requirement
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability
from suites.guest_agent import agent_message, chunk, read_by_guest

INPUTS, SCANCODE = ChannelType.SPICE_CHANNEL_INPUTS, MsgcInputs.SPICE_MSGC_INPUTS_KEY_SCANCODE
START, TO_AGENT = MsgcMain.SPICE_MSGC_MAIN_AGENT_START, MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA
KEYS = bytes.fromhex("1e9e30b0")
SAID = agent_message(AgentType.VD_AGENT_CLIPBOARD, bytes(range(40)))

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


@requirement(
    "CHAN-004",
    fault=(
        lost(SCANCODE, nth=5, case="mini"),
        changed("another key", SCANCODE, KEYS[:-1] + b"\xb1", nth=3, case="full"),
    ),
)
@pytest.mark.parametrize("header", ["mini", "full"])
def test_keys_in_pieces(bench: Bench, header: str) -> None:
    """A message is cut at each place, and the next one begins in the segment in which it ends: the guest's
    keyboard gives the scan codes of each."""
    lacking = () if header == "mini" else (CommonCap.SPICE_COMMON_CAP_MINI_HEADER,)
    client = bench.client(bench.start(), channels=(INPUTS,), capabilities=EVERYTHING.without(*lacking))
    bench.settle()
    inputs = client.current.channels[INPUTS, 0]
    inputs.answers.none()  # a PONG must not come between the pieces
    head = struct.pack("<HI", SCANCODE, len(KEYS))
    message = (head if header == "mini" else struct.pack("<Q", 1) + head + bytes(4)) + KEYS
    rest = b""
    for cut in range(1, len(message)):
        inputs.send_raw(rest + message[:cut])
        bench.settle()
        rest = message[cut:]
    inputs.send_raw(rest)
    bench.settle()
    typed = bytes(e.args["code"] for e in bench.pump.tape.host_events if e.name == "keyboard_scan")
    times = len(message) - 1
    bench.claim(typed == KEYS * times, f"{times} times {KEYS.hex()}", typed.hex() or "nothing")


@requirement(
    "CHAN-004",
    fault=changed("the last byte", TO_AGENT, lambda b: b[:-1] + b"\xff", nth=2),
)
def test_agent_messages_in_pieces(bench: Bench) -> None:
    """Each agent message arrives in three segments: the guest reads it whole."""
    main = bench.link(bench.start(devices=("keyboard", "mouse", "agent")))
    bench.expect(main, MsgMain.SPICE_MSG_MAIN_INIT, proves="MAIN-001")
    main.answers.none()
    main.send(START, struct.pack("<I", 10))
    message = struct.pack("<HI", TO_AGENT, len(SAID)) + SAID
    cuts = (3, 6), (5, 7), (6, 26), (7, 60), (30, len(message) - 1)
    for first, second in cuts:
        for piece in (message[:first], message[first:second], message[second:]):
            main.send_raw(piece)
            bench.settle()
    seen, wanted = read_by_guest(bench), chunk(SAID) * len(cuts)
    bench.claim(seen == wanted, f"{len(cuts)} messages at the guest", seen.hex() or "nothing")
