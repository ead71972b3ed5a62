# SPDX-License-Identifier: GPL-2.0-only
"""A seamless migration cuts a message of client or agent in two; the server passes both parts on or drops
both (server/migration-protocol.h, SpiceMigrateDataMain, msg_remaining and msg_filter_result)."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest

from dissectors.wire.constants import MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import added, changed, lost, requirement
from fixtures.peer import Client, PeerFailure
from fixtures.system.hosts import Ability, HarnessError, Host
from suites.guest_agent import agent_message, chunk, read_by_guest
from suites.steps import migrated

AGENT_DATA, TO_AGENT = MsgMain.SPICE_MSG_MAIN_AGENT_DATA, MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA
START = MsgcMain.SPICE_MSGC_MAIN_AGENT_START
DEVICES = ("keyboard", "mouse", "agent")
CLIPBOARD, REPLY = 4, 3  # spice/vd_agent.h, VD_AGENT_CLIPBOARD and VD_AGENT_REPLY

pytestmark = pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.CALLS, Ability.DEVICES)


#: A message in two parts, and the message that follows it.
CUT, NEXT = agent_message(CLIPBOARD, bytes(range(100))), agent_message(REPLY, b"the next")
FIRST, SECOND = CUT[:60], CUT[60:]


def machines(bench: Bench, copypaste: int) -> tuple[Host, Host, Client]:
    """A pair of hosts whose agent passes clipboards or not, and a client that talks to the agent."""
    source, target = bench.pair(seamless=True, devices=DEVICES)
    for host in (source, target):
        host.call("set_agent_copypaste", enable=copypaste)
    client = bench.client(source, channels=())
    client.main.send(START, struct.pack("<I", 10))
    bench.settle()
    return source, target, client


@requirement("MIG-DST-063", fault=(lost(TO_AGENT, nth=2, case="1"), added(TO_AGENT, TO_AGENT, NEXT, nth=3)))
@pytest.mark.parametrize("copypaste", [1, 0])
def test_clients_message_in_two_parts(bench: Bench, copypaste: int) -> None:
    """The client sends one part of a clipboard at the source and the other at the target. The guest gets both
    parts, or neither where clipboards are switched off; it gets the next message in any case."""
    source, target, client = machines(bench, copypaste)
    client.main.send(TO_AGENT, FIRST)
    bench.settle()
    migrated(bench, source, client, target)
    client.main.send(TO_AGENT, SECOND)
    client.main.send(TO_AGENT, NEXT)
    bench.settle()
    seen = read_by_guest(bench)
    wanted = (chunk(FIRST) + chunk(SECOND)) * copypaste + chunk(NEXT)
    bench.claim(seen == wanted, f"at the guest {wanted.hex()}", seen.hex() or "nothing", target)
    bench.claim(client.main.ending is None, "the session goes on", client.main.ending, target)


def agents_parts(bench: Bench, copypaste: int, parts: tuple[bytes, bytes]) -> None:
    """The agent sends one part of a clipboard message at the source and the other at the target. The client
    gets both parts, or neither where clipboards are switched off; it gets the next message in any case."""
    source, target, client = machines(bench, copypaste)
    source.call("agent_send", hex=parts[0].hex())
    bench.settle()
    left = client.main
    with suppress(HarnessError, PeerFailure):
        migrated(bench, source, client, target)
        target.call("agent_send", hex=(parts[1] + chunk(NEXT)).hex())
        bench.settle()
    bench.alive("after a migration that cut an agent message", source, target, proves="ROBUST-030")
    if not source.life().alive or not target.life().alive:
        return
    observed = b"".join(m.body for main in (left, client.main) for m in main.got(AGENT_DATA))
    wanted = CUT * copypaste + NEXT
    seen = observed.hex() or "nothing"
    bench.claim(observed == wanted, f"at the client {wanted.hex()}", seen, target, proves="MIG-DST-063")
    ending = client.main.ending
    bench.claim(ending is None, "the session goes on", ending, target, proves="MIG-DST-063")


@requirement(
    "MIG-DST-063",
    fault=(
        lost(AGENT_DATA, host="target", case="1"),
        changed("the rest", AGENT_DATA, SECOND, host="target", case="0"),
    ),
)
@requirement("ROBUST-030")
@pytest.mark.parametrize("copypaste", [1, 0])
def test_agents_message_cut_within_a_chunk(bench: Bench, copypaste: int) -> None:
    """The migration cuts a message of the agent inside a chunk of its device."""
    whole, said = chunk(CUT), len(chunk(FIRST))
    agents_parts(bench, copypaste, (whole[:said], whole[said:]))


@requirement("ROBUST-030")
@pytest.mark.parametrize("copypaste", [1, 0])
def test_agents_message_cut_between_chunks(bench: Bench, copypaste: int) -> None:
    """The migration cuts a message of the agent between two chunks of its device."""
    agents_parts(bench, copypaste, (chunk(FIRST), chunk(SECOND)))
