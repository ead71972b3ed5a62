# SPDX-License-Identifier: GPL-2.0-only
"""The guest's agent in a seamless migration: client and agent talk at the target as they did at the source
(server/migration-protocol.h, SpiceMigrateDataMain)."""

from __future__ import annotations

import struct

import pytest

from dissectors.wire.constants import MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import changed, lost, requirement
from fixtures.peer import Client
from fixtures.system.hosts import Ability, Host
from suites.guest_agent import agent_message, read_by_guest
from suites.steps import migrated

AGENT_DATA, AGENT_CONNECTED_TOKENS = (
    MsgMain.SPICE_MSG_MAIN_AGENT_DATA,
    MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS,
)
#: VDAgentMessages (protocol 1, clipboard release, no data) that differ in their opaque number, and the
#: VDIChunkHeader that the guest puts before each.
FROM_CLIENT, FROM_GUEST = agent_message(9, opaque=0xC1), agent_message(9, opaque=0x6E57)
CHUNK = struct.pack("<II", 1, len(FROM_GUEST))
WITH_AGENT = ("keyboard", "mouse", "agent")

pytestmark = pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.CALLS, Ability.DEVICES)


def heard(bench: Bench, host: Host) -> int:
    """How many times the guest has read the client's message."""
    return read_by_guest(bench, host).count(FROM_CLIENT)


def talk(bench: Bench, client: Client, host: Host) -> None:
    """The client starts an agent that it was told of; a message passes each way."""
    before = heard(bench, host)
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 10))
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, FROM_CLIENT)
    bench.until(lambda: heard(bench, host) == before + 1, "the client's message at the guest")
    host.call("agent_send", hex=(CHUNK + FROM_GUEST).hex())
    data = bench.expect(client.main, AGENT_DATA)
    bench.claim(data.body == FROM_GUEST, FROM_GUEST.hex(), data.body.hex(), host)


@requirement(
    "MIG-DST-029",
    fault=(
        changed("one bit", AGENT_DATA, lambda b: b[:-1] + bytes([b[-1] ^ 1]), host="target1"),
        lost(AGENT_DATA, host="target1"),
    ),
)
@pytest.mark.parametrize("hops", [1, 2])
def test_agent_is_talked_to_at_the_target(bench: Bench, hops: int) -> None:
    """Messages between client and guest pass at the target without another AGENT_START."""
    source = bench.start("source", seamless=True, devices=WITH_AGENT)
    client = bench.client(source, channels=())
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 10))
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, FROM_CLIENT)
    bench.settle()
    for hop in range(1, hops + 1):
        target = bench.start(f"target{hop}", incoming=True, seamless=True, devices=WITH_AGENT)
        client.steps.clear()
        client.left.clear()
        migrated(bench, source, client, target)
        source = target
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, FROM_CLIENT)
    bench.until(lambda: heard(bench, source) == 1, "the client's message at the guest")
    source.call("agent_send", hex=(CHUNK + FROM_GUEST).hex())
    data = bench.expect(client.main, AGENT_DATA)
    bench.claim(data.body == FROM_GUEST, FROM_GUEST.hex(), data.body.hex())


@requirement(
    "MIG-DST-030",
    fault=(lost(AGENT_CONNECTED_TOKENS, host="target"), lost(AGENT_DATA, host="target")),
)
@pytest.mark.parametrize("gone", [False, True], ids=["never there", "unplugged"])
@pytest.mark.parametrize("plugged", ["before", "after"])
def test_agent_that_only_the_target_has(bench: Bench, plugged: str, gone: bool) -> None:
    """The source never had an agent, or it was unplugged; the target's agent comes before the client does, or
    after it. The target tells the client of it, and client and agent talk."""
    source = bench.start("source", seamless=True, devices=WITH_AGENT if gone else WITH_AGENT[:2])
    devices = WITH_AGENT if plugged == "before" else WITH_AGENT[:2]
    target = bench.start("target", incoming=True, seamless=True, devices=devices)
    client = bench.client(source, channels=())
    if gone:
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 10))
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, FROM_CLIENT)
        bench.settle()
        source.call("agent_detach")
    migrated(bench, source, client, target)
    if plugged == "after":
        target.call("agent_attach")
    bench.expect(client.main, AGENT_CONNECTED_TOKENS)
    talk(bench, client, target)
