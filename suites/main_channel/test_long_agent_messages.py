# SPDX-License-Identifier: GPL-2.0-only
"""Agent messages that are longer than one AGENT_DATA, and what the agent sends before the client has started
it (spice/vd_agent.h; server/reds.cpp, read_one_msg_from_device)."""

from __future__ import annotations

import struct

import pytest

from dissectors.channels.agent_enums import AgentType
from dissectors.wire.constants import MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, added, changed, lost, requirement
from fixtures.system.hosts import Ability
from suites.guest_agent import CHUNK, agent_message, chunk, read_by_guest

INIT, AGENT_DATA = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_AGENT_DATA
TO_AGENT, START = MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, MsgcMain.SPICE_MSGC_MAIN_AGENT_START
MOST = 2048  # bytes of one AGENT_DATA (spice/vd_agent.h, VD_AGENT_MAX_DATA_SIZE)
LONG = agent_message(AgentType.VD_AGENT_CLIPBOARD, bytes(n * 7 & 0xFF for n in range(5_000)))
NEXT = agent_message(AgentType.VD_AGENT_REPLY, b"the next")
WITH_AGENT = ("keyboard", "mouse", "agent")

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


@requirement(
    "MAIN-013", fault=(lost(AGENT_DATA, nth=3), changed("a byte", AGENT_DATA, lambda b: b[:-1], nth=2))
)
@pytest.mark.parametrize("piece", [len(LONG), MOST + 1], ids=lambda size: f"chunks of {size}")
def test_long_message_of_the_guest(bench: Bench, piece: int) -> None:
    """The agent sends a message of 5,020 bytes in chunks of this size, which its device gives the server in
    parts: the client gets it in several AGENT_DATA, whole, and the next message after it."""
    source = bench.start(devices=WITH_AGENT)
    main = bench.link(source)
    bench.expect(main, INIT, proves="MAIN-001")
    main.send(START, struct.pack("<I", 100))
    bench.settle()
    raw = b"".join(chunk(LONG[at : at + piece]) for at in range(0, len(LONG), piece)) + chunk(NEXT)
    for at in range(0, len(raw), 1_500):
        source.call("agent_send", hex=raw[at : at + 1_500].hex())
    bench.settle()
    came = [m.body for m in main.got(AGENT_DATA)]
    bench.claim(max(map(len, came), default=0) <= MOST, f"at most {MOST} bytes each", list(map(len, came)))
    whole = b"".join(came)
    bench.claim(whole == LONG + NEXT, f"{len(LONG)} bytes, then {len(NEXT)}", list(map(len, came)))


@requirement("MAIN-013", fault=(lost(TO_AGENT, nth=2), Fault("a byte is missed", plant=("clip:agent",))))
def test_long_message_of_the_client(bench: Bench) -> None:
    """The client sends a message of 5,020 bytes in three AGENT_DATA, and the next one: the guest gets both
    whole, each AGENT_DATA in a chunk of its own."""
    main = bench.link(bench.start(devices=WITH_AGENT))
    bench.expect(main, INIT, proves="MAIN-001")
    main.send(START, struct.pack("<I", 10))
    parts = [LONG[at : at + MOST] for at in range(0, len(LONG), MOST)] + [NEXT]
    for part in parts:
        main.send(TO_AGENT, part)
    bench.settle()
    seen, wanted = read_by_guest(bench), b"".join(map(chunk, parts))
    bench.claim(seen == wanted, f"{len(wanted)} bytes in {len(parts)} chunks", f"{len(seen)} bytes")


def heard_when_started(bench: Bench, early: bytes, late: bytes) -> list[bytes]:
    """What reaches a client of an agent that sends the bytes `early` before AGENT_START, and `late` after
    it."""
    source = bench.start(devices=WITH_AGENT)
    main = bench.link(source)
    bench.expect(main, INIT, proves="MAIN-001")
    bench.settle()
    source.call("agent_send", hex=early.hex())
    bench.settle()
    main.send(START, struct.pack("<I", 100))
    bench.settle()
    source.call("agent_send", hex=late.hex())
    bench.settle()
    return [m.body for m in main.got(AGENT_DATA)]


@requirement("MAIN-083", fault=(added(INIT, AGENT_DATA, NEXT), lost(AGENT_DATA)))
def test_agent_that_speaks_too_early(bench: Bench) -> None:
    """The agent sends a message before the client has sent AGENT_START, and another one afterwards."""
    came = heard_when_started(bench, chunk(LONG), chunk(NEXT))
    bench.claim(came == [NEXT], f"the next message, {len(NEXT)} bytes, alone", list(map(len, came)))


@requirement("MAIN-084", fault=lost(AGENT_DATA, nth=2))
def test_message_that_began_too_early(bench: Bench) -> None:
    """The agent sends the beginning of a message before the client has sent AGENT_START, and the rest
    afterwards."""
    raw, early = chunk(LONG) + chunk(NEXT), CHUNK.size + MOST + 10
    came = heard_when_started(bench, raw[:early], raw[early:])
    bench.claim(came[-1:] == [NEXT], "what follows, at last", list(map(len, came)))
    bench.claim(came == [NEXT], f"the next message, {len(NEXT)} bytes, alone", list(map(len, came)))
