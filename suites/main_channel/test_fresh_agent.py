# SPDX-License-Identifier: GPL-2.0-only
"""After the agent is plugged again, or another client connects, nothing of an unfinished message is left
(server/reds.cpp, reds_reset_vdp and reds_client_disconnect)."""

from __future__ import annotations

import struct

import pytest

from dissectors.framing.events import DISCONNECTED
from dissectors.wire.constants import MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import (
    Fault,
    added,
    before,
    changed,
    lost,
    requirement,
    timers,
)
from fixtures.peer import Connection
from fixtures.system.hosts import SEVERAL_CLIENTS, Ability, Host
from suites.guest_agent import agent_message, chunk, read_by_guest

INIT, AGENT_DATA = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_AGENT_DATA
BACK_AGAIN = MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS
TO_AGENT, START = MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, MsgcMain.SPICE_MSGC_MAIN_AGENT_START
GRANT = MsgcMain.SPICE_MSGC_MAIN_AGENT_TOKEN
REPLY, WINDOW = 3, 10  # spice/vd_agent.h, VD_AGENT_REPLY; server/reds-private.h, REDS_AGENT_WINDOW_SIZE
WAIT_MS = 30_000  # server/char-device.cpp, RED_CHAR_DEVICE_WAIT_TOKENS_TIMEOUT

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


#: The unfinished message, and the whole one that follows it.
OLD, NEW = agent_message(REPLY, b"old" * 20), agent_message(REPLY, b"new!" * 5)


def talking(bench: Bench, host: Host, grants: int = WINDOW) -> Connection:
    """A client that has sent AGENT_START."""
    main = bench.link(host)
    bench.expect(main, INIT, proves="MAIN-001")
    main.send(START, struct.pack("<I", grants))
    bench.settle()
    return main


def plugged_again(bench: Bench, host: Host, main: Connection) -> None:
    """The agent is unplugged and plugged again, and the client sends AGENT_START again."""
    before = len(main.got(BACK_AGAIN))
    host.call("agent_detach")
    host.call("agent_attach")
    bench.until(lambda: len(main.got(BACK_AGAIN)) > before, "AGENT_CONNECTED_TOKENS", proves="MAIN-009")
    main.send(START, struct.pack("<I", WINDOW))
    bench.settle()


def heard(main: Connection) -> bytes:
    """What the client has received from the agent."""
    return b"".join(m.body for m in main.got(AGENT_DATA))


@requirement("MAIN-060", fault=(lost(AGENT_DATA), changed("old", AGENT_DATA, OLD[:-1])))
@pytest.mark.parametrize("cut", [1, 7, 8, 9, 27, 28, 29, 60])
def test_agent_is_unplugged_within_its_message(bench: Bench, cut: int) -> None:
    """The agent is unplugged after this many bytes of its message: the next agent's message arrives whole and
    alone."""
    source = bench.start(devices=("keyboard", "mouse", "agent"))
    main = talking(bench, source)
    source.call("agent_send", hex=chunk(OLD)[:cut].hex())
    bench.settle()
    plugged_again(bench, source, main)
    source.call("agent_send", hex=chunk(NEW).hex())
    bench.settle()
    bench.claim(heard(main) == NEW, "the next agent's message alone", heard(main).hex() or "nothing")
    bench.claim(main.ending is None, "the session goes on", main.ending)


@requirement("MAIN-060", fault=(lost(AGENT_DATA, nth=2), changed("old", AGENT_DATA, OLD[50:], nth=2)))
def test_agent_is_unplugged_between_its_chunks(bench: Bench) -> None:
    """The agent is unplugged when it has sent the first of two chunks of its message: what the next agent
    sends is a message of its own."""
    source = bench.start(devices=("keyboard", "mouse", "agent"))
    main = talking(bench, source)
    source.call("agent_send", hex=chunk(OLD[:50]).hex())
    bench.settle()
    plugged_again(bench, source, main)
    source.call("agent_send", hex=chunk(NEW).hex())
    bench.settle()
    bench.claim(heard(main) == OLD[:50] + NEW, "the part, then the next agent's message", heard(main).hex())
    bench.claim(main.ending is None, "the session goes on", main.ending)


@requirement("MAIN-060", fault=changed("old", TO_AGENT, OLD, nth=2))
def test_agent_is_unplugged_within_the_clients_message(bench: Bench) -> None:
    """The agent is unplugged when the client has sent half of its message: the other half reaches no
    agent."""
    source = bench.start(devices=("keyboard", "mouse", "agent"))
    main = talking(bench, source)
    main.send(TO_AGENT, OLD[:50])
    bench.settle()
    before = len(read_by_guest(bench))
    plugged_again(bench, source, main)
    main.send(TO_AGENT, OLD[50:])
    main.send(TO_AGENT, NEW)
    bench.settle()
    seen = read_by_guest(bench)[before:]
    bench.claim(seen == chunk(NEW), "the next message alone at the guest", seen.hex() or "nothing")


@requirement("MAIN-060", fault=(before(TO_AGENT, START, struct.pack("<I", 10)), lost(TO_AGENT, nth=2)))
def test_message_to_the_agent_that_has_gone(bench: Bench) -> None:
    """The agent is replaced while the client, which does not know it yet, sends the old one a message: it
    reaches no agent. What the client sends once it has started the new agent does."""
    source = bench.start(devices=("keyboard", "mouse", "agent"))
    main = talking(bench, source)
    source.call("agent_detach")
    source.call("agent_attach")
    main.send(TO_AGENT, OLD)
    bench.settle()
    bench.claim(not read_by_guest(bench), "nothing at the next agent", read_by_guest(bench).hex())
    bench.claim(main.ending is None, "the session goes on", main.ending)
    main.send(START, struct.pack("<I", WINDOW))
    main.send(TO_AGENT, NEW)
    bench.settle()
    seen = read_by_guest(bench)
    bench.claim(seen == chunk(NEW), "the next message alone at the next agent", seen.hex() or "nothing")


@requirement("MAIN-060", fault=(lost(AGENT_DATA, nth=2), added(INIT, AGENT_DATA, OLD[50:], nth=2)))
def test_client_leaves_within_the_agents_message(bench: Bench) -> None:
    """The client leaves when it has received half of a message: the next client does not get the rest."""
    source = bench.start(devices=("keyboard", "mouse", "agent"))
    first = talking(bench, source)
    source.call("agent_send", hex=chunk(OLD[:50]).hex())
    bench.settle()
    first.close()
    bench.settle()
    main = talking(bench, source)
    source.call("agent_send", hex=(chunk(OLD[50:]) + chunk(NEW)).hex())
    bench.settle()
    bench.claim(heard(main) == NEW, "the next message alone", heard(main).hex() or "nothing")


@requirement("MAIN-060", fault=Fault("the guest misses a byte", plant=("clip:agent",)))
@pytest.mark.parametrize("said", [20, 50, 79])
def test_client_leaves_within_its_message(bench: Bench, said: int) -> None:
    """The client leaves when it has sent this much of its message: the next client's message reaches the
    guest."""
    source = bench.start(devices=("keyboard", "mouse", "agent"))
    first = talking(bench, source)
    first.send(TO_AGENT, OLD[:said])
    bench.settle()
    first.close()
    bench.settle()
    main = talking(bench, source)
    main.send(TO_AGENT, NEW)
    bench.settle()
    seen = read_by_guest(bench)
    bench.claim(seen.endswith(chunk(NEW)), "the next client's message at the guest", seen[-60:].hex())
    bench.claim(main.ending is None, "the session goes on", main.ending)


@requirement("MAIN-042", fault=lost(TO_AGENT, nth=11))
@pytest.mark.parametrize("reads", [True, False], ids=["guest reads", "guest does not read"])
@pytest.mark.parametrize("used", [1, 4, 5, 9, 10])
def test_window_of_a_fresh_agent_is_whole(bench: Bench, used: int, reads: bool) -> None:
    """The client has used tokens of an agent that is then unplugged: for the next agent it has all ten
    tokens."""
    source = bench.start(devices=("keyboard", "mouse", "agent"))
    main = talking(bench, source)
    if not reads:
        source.call("chardev_take", device="agent", room=0)
    for _ in range(used):
        main.send(TO_AGENT, OLD)
    bench.settle()
    plugged_again(bench, source, main)
    source.call("chardev_take", device="agent", room=0)  # what is read would bring tokens back
    before = len(read_by_guest(bench))
    for _ in range(WINDOW):
        main.send(TO_AGENT, NEW)
    bench.settle()
    source.call("chardev_take", device="agent")
    bench.settle()
    seen = read_by_guest(bench)[before:].count(chunk(NEW))
    bench.claim(seen == WINDOW, f"{WINDOW} messages at the guest", seen)
    bench.claim(main.ending is None, "the session goes on", main.ending)


@requirement("MAIN-041", fault=(added(AGENT_DATA, AGENT_DATA, NEW, nth=2), lost(AGENT_DATA, nth=2)))
def test_start_counts_anew(bench: Bench) -> None:
    """A second AGENT_START replaces the number of tokens that the client grants; it does not add to it."""
    source = bench.start(devices=("keyboard", "mouse", "agent"))
    main = talking(bench, source, 5)
    main.send(START, struct.pack("<I", 2))
    bench.settle()
    for _ in range(8):
        source.call("agent_send", hex=chunk(NEW).hex())
    bench.settle()
    came = len(main.got(AGENT_DATA))
    bench.claim(came == 2, "2 messages for the 2 tokens of the second AGENT_START", came)


@requirement(
    "TIME-040",
    fault=(lost(GRANT, case="2"), timers(-2, case="2")),
)
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
@pytest.mark.parametrize("grants", [1, 2])
def test_client_that_grants_tokens_in_time_stays(bench: Bench, grants: int) -> None:
    """Of two clients, one grants tokens at the last moment, as many as messages wait or one more: it stays
    connected, and has 30 s again when it grants none the next time."""
    source = bench.start(devices=("keyboard", "mouse", "agent"), environment=SEVERAL_CLIENTS)
    takes = talking(bench, source)
    late = talking(bench, source, 1)
    for _ in range(2):
        source.call("agent_send", hex=chunk(NEW).hex())
    bench.settle()
    bench.pass_time(source, WAIT_MS - 1)
    late.send(GRANT, struct.pack("<I", grants))
    bench.pass_time(source, WAIT_MS - 1)
    bench.claim(late.ending is None, "the session goes on with its tokens granted", late.ending)
    if late.ending:
        return
    for _ in range(grants):
        source.call("agent_send", hex=chunk(NEW).hex())
    bench.settle()
    bench.pass_time(source, WAIT_MS - 1)
    bench.claim(late.ending is None, f"the session goes on {WAIT_MS - 1} ms later", late.ending)
    bench.pass_time(source, 1)
    bench.claim(late.ending in DISCONNECTED, f"the session's end after {WAIT_MS} ms", late.ending)
    bench.claim(takes.ending is None, "the other client's session goes on", takes.ending)
