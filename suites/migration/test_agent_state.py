# SPDX-License-Identifier: GPL-2.0-only
"""Messages between client and agent that are under way when a seamless migration begins: messages that the
migration cuts, messages that the guest has not read, and their tokens (server/migration-protocol.h,
SpiceMigrateDataMain; server/char-device.cpp)."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest

from dissectors.channels.agent_enums import AgentType
from dissectors.framing.events import DISCONNECTED
from dissectors.wire.constants import MsgcBase, MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, added, changed, dies_at, lost, requirement
from fixtures.peer import Client, PeerFailure
from fixtures.peer.duties import DUTIFUL, Duties, MigrationStep
from fixtures.system.hosts import Ability, HarnessError, Host
from suites.guest_agent import CHUNK, HEADER, agent_message, chunk, read_by_guest
from suites.steps import announced, migrated, moved

TO_AGENT = MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA
AGENT_DATA, AGENT_TOKEN = MsgMain.SPICE_MSG_MAIN_AGENT_DATA, MsgMain.SPICE_MSG_MAIN_AGENT_TOKEN
GONE, COME = (
    MsgMain.SPICE_MSG_MAIN_AGENT_DISCONNECTED,
    MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS,
)
PLAIN, WITH_AGENT = ("keyboard", "mouse"), ("keyboard", "mouse", "agent")
#: The tokens that a client grants the server with AGENT_START, and the server the client with INIT
#: (spice.proto; server/reds.h, REDS_AGENT_WINDOW_SIZE).
TOKENS = 10

pytestmark = pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.CALLS, Ability.DEVICES)


def message(number: int, size: int = 0) -> bytes:
    """A VDAgentMessage (protocol 1, clipboard) with this opaque number and data."""
    content = bytes((number + at) & 0xFF for at in range(size))
    return agent_message(AgentType.VD_AGENT_CLIPBOARD, content, opaque=number)


def started(bench: Bench, source: Host, duties: Duties = DUTIFUL) -> Client:
    """A client that has sent AGENT_START."""
    client = bench.client(source, channels=(), duties=duties)
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", TOKENS))
    bench.settle()
    return client


SPOKEN, NEXT = message(0x6E57, 64), message(0x4E58)
WHOLE = chunk(SPOKEN)


@requirement(
    "MIG-DST-040", fault=changed("the last byte", AGENT_DATA, lambda b: b[:-1] + b"\xff", case="29 bytes")
)
@requirement("ROBUST-030", fault=dies_at(MsgcBase.SPICE_MSGC_MIGRATE_DATA, on="target"))
@pytest.mark.parametrize(
    "cut",
    [
        0,
        1,
        CHUNK.size - 1,
        CHUNK.size,
        CHUNK.size + 1,
        CHUNK.size + HEADER.size - 1,
        CHUNK.size + HEADER.size,
        CHUNK.size + HEADER.size + 1,
        len(WHOLE) - 1,
        len(WHOLE),
    ],
    ids=lambda cut: f"{cut} bytes",
)
def test_agent_message_that_the_migration_cuts(bench: Bench, cut: int) -> None:
    """The guest writes the first bytes of a message at the source and the others at the target; the cut is in
    the chunk header, in the message's header, or in its data."""
    source, target = bench.pair(seamless=True, devices=WITH_AGENT)
    client = started(bench, source)
    if cut:
        source.call("agent_send", hex=WHOLE[:cut].hex())
    bench.settle()
    left = client.main
    with suppress(HarnessError, PeerFailure):
        migrated(bench, source, client, target)
        target.call("agent_send", hex=WHOLE[cut:].hex())
        bench.settle()
        target.call("agent_send", hex=chunk(NEXT).hex())
        bench.settle()
    bench.alive("after a migration that cut an agent message", source, target, proves="ROBUST-030")
    if not source.life().alive or not target.life().alive:
        return
    observed = b"".join(m.body for main in (left, client.main) for m in main.got(AGENT_DATA))
    seen = f"{len(observed)} bytes" if observed != SPOKEN + NEXT else "all of it"
    bench.claim(
        observed == SPOKEN + NEXT,
        f"{len(SPOKEN)} bytes, then the next message of {len(NEXT)}",
        seen,
        target,
        proves="MIG-DST-040",
    )


@requirement("MIG-DST-041", fault=Fault("the guest misses a byte", plant=("clip:agent",), on="target"))
@requirement("MIG-DST-043", fault=lost(AGENT_DATA, host="target"))
@pytest.mark.parametrize("attached", ["before", "after"])
@pytest.mark.parametrize("room", [0, 1, CHUNK.size + 5, len(chunk(message(1, 8))) + 3])
def test_messages_that_the_guest_has_not_taken(bench: Bench, room: int, attached: str) -> None:
    """Three messages wait for the guest, the first perhaps partly read; the agent is attached before
    MIGRATE_DATA arrives or after it."""
    source = bench.start("source", seamless=True, devices=WITH_AGENT)
    target = bench.start(
        "target", incoming=True, seamless=True, devices=WITH_AGENT if attached == "before" else PLAIN
    )
    client = started(bench, source)
    source.call("chardev_take", device="agent", room=room)
    sent = [message(number, 8) for number in (1, 2, 3)]
    for one in sent:
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, one)
    bench.settle()
    migrated(bench, source, client, target)
    if attached == "after":
        target.call("agent_attach")
    bench.settle()
    taken, due = read_by_guest(bench, source, target), b"".join(map(chunk, sent))
    bench.claim(taken == due, due.hex(), taken.hex(), target, proves="MIG-DST-041")
    target.call("agent_send", hex=chunk(NEXT).hex())
    bench.until(
        lambda: client.main.got(AGENT_DATA), "what the guest says at the target", proves="MIG-DST-043"
    )


@requirement(
    "MIG-DST-042",
    fault=(
        changed(
            "one fewer",
            AGENT_TOKEN,
            lambda b: struct.pack("<I", int.from_bytes(b, "little") - 1),
            host="target",
        ),
        changed(
            "one more",
            AGENT_TOKEN,
            lambda b: struct.pack("<I", int.from_bytes(b, "little") + 1),
            host="target",
        ),
    ),
)
@pytest.mark.parametrize("waiting", [False, True], ids=["taken", "waiting"])
@pytest.mark.parametrize("before", [0, 1, 4, TOKENS])
def test_tokens_of_both_sides_come_back(bench: Bench, before: int, waiting: bool) -> None:
    """All ten tokens are used, some of them before the migration; once the guest has read everything, all ten
    are back."""
    source, target = bench.pair(seamless=True, devices=WITH_AGENT)
    client = started(bench, source)
    if waiting:
        source.call("chardev_take", device="agent", room=0)
    mains = [client.main]
    for number in range(before):
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, message(number))
    bench.settle()
    migrated(bench, source, client, target)
    mains.append(client.main)
    for number in range(before, TOKENS):
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, message(number))
    bench.settle()
    back = sum(int(m.packet.num_tokens) for main in mains for m in main.got(AGENT_TOKEN))
    bench.claim(back == TOKENS, f"{TOKENS} tokens", back, target)


@requirement(
    "MIG-DST-044",
    fault=(lost(GONE, host="target"), lost(COME, host="target"), lost(AGENT_DATA, host="target")),
)
def test_agent_that_is_replaced_before_the_data(bench: Bench) -> None:
    """The target's agent is unplugged and plugged again while MIGRATE_DATA is on its way: the client hears of
    it, and talks to the new agent once it has started it."""
    source, target = bench.pair(seamless=True, devices=WITH_AGENT)
    client = started(bench, source, DUTIFUL.holding(MigrationStep.MIGRATE_DATA))
    announced(bench, source, client, target)
    source.complete(target)
    bench.settle()
    target.call("agent_detach")
    target.call("agent_attach")
    client.release(MigrationStep.MIGRATE_DATA)
    moved(bench, source, client)
    seen = [m.name for m in client.main.messages if m.type in (GONE, COME)]
    bench.claim(
        seen == [GONE.name, COME.name], f"{GONE.name}, {COME.name}", ", ".join(seen) or "nothing", target
    )
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", TOKENS))
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, SPOKEN)
    target.call("agent_send", hex=chunk(NEXT).hex())
    bench.settle()
    read, came = read_by_guest(bench, target), [m.body for m in client.main.got(AGENT_DATA)]
    bench.claim(
        read == chunk(SPOKEN), "the client's message at the new agent", read.hex() or "nothing", target
    )
    bench.claim(came == [NEXT], "the new agent's message", [body.hex() for body in came], target)


@requirement(
    "MIG-DST-042", fault=(added(AGENT_DATA, AGENT_DATA, NEXT, nth=6, host="target"), lost(AGENT_DATA))
)
def test_tokens_that_the_client_has_granted(bench: Bench) -> None:
    """The client has granted ten tokens, and the agent uses four of them at the source: at the target it can
    use the other six, and no more until the client grants one."""
    source, target = bench.pair(seamless=True, devices=WITH_AGENT)
    client = started(bench, source)
    for _ in range(4):
        source.call("agent_send", hex=chunk(NEXT).hex())
    bench.settle()
    migrated(bench, source, client, target)
    for _ in range(TOKENS):
        target.call("agent_send", hex=chunk(NEXT).hex())
    bench.settle()
    came = [len(client.main.got(AGENT_DATA))]
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_TOKEN, struct.pack("<I", 1))
    bench.settle()
    came.append(len(client.main.got(AGENT_DATA)))
    bench.claim(came == [6, 7], "6 messages, and one more for one token", came, target)


@requirement("MIG-DST-043", fault=lost(AGENT_DATA, host="target"))
def test_agent_that_speaks_before_the_data(bench: Bench) -> None:
    """The target's agent sends a message before MIGRATE_DATA arrives: the client gets it afterwards."""
    source, target = bench.pair(seamless=True, devices=WITH_AGENT)
    client = started(bench, source, DUTIFUL.holding(MigrationStep.MIGRATE_DATA))
    announced(bench, source, client, target)
    source.complete(target)
    bench.settle()
    target.call("agent_send", hex=chunk(NEXT).hex())
    bench.settle()
    client.release(MigrationStep.MIGRATE_DATA)
    moved(bench, source, client)
    came = [m.body for m in client.main.got(AGENT_DATA)]
    bench.claim(came == [NEXT], "the agent's message", [body.hex() for body in came], target)


@requirement("MAIN-060", fault=lost(COME, host="target"))
def test_state_that_no_client_waits_for(bench: Bench) -> None:
    """The client leaves the target before the agent comes there: the next client is told of the agent, and
    talks to it from the beginning."""
    source = bench.start("source", seamless=True, devices=WITH_AGENT)
    target = bench.start("target", incoming=True, seamless=True, devices=PLAIN)
    client = started(bench, source)
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, SPOKEN[:50])
    bench.settle()
    migrated(bench, source, client, target)
    client.close()
    bench.settle()
    following = bench.client(target, channels=()).main
    target.call("agent_attach")
    bench.expect(following, COME)
    following.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", TOKENS))
    following.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, NEXT)
    bench.settle()
    read = read_by_guest(bench, target)
    bench.claim(read == chunk(NEXT), "the next client's message", read.hex() or "nothing", target)


@requirement("ROBUST-060", fault=lost(TO_AGENT, nth=11))
def test_client_that_overruns_its_tokens_after_the_move(bench: Bench) -> None:
    """The client uses all its tokens at the source, and the guest reads nothing there or at the target: with
    one more message the target ends its session."""
    source, target = bench.pair(seamless=True, devices=WITH_AGENT)
    client = started(bench, source, DUTIFUL.holding(MigrationStep.MIGRATE_DATA))
    source.call("chardev_take", device="agent", room=0)
    for number in range(TOKENS):
        client.main.send(TO_AGENT, message(number))
    bench.settle()
    announced(bench, source, client, target)
    source.complete(target)
    bench.settle()
    target.call("chardev_take", device="agent", room=0)
    client.release(MigrationStep.MIGRATE_DATA)
    moved(bench, source, client)
    main = client.main
    bench.claim(main.ending is None, "the session goes on with its window used up", main.ending, target)
    main.send(TO_AGENT, message(TOKENS))
    ending = main.expect_end(deadline=2)
    bench.claim(ending in DISCONNECTED, "the session's end", ending, target)
