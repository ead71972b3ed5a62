# SPDX-License-Identifier: GPL-2.0-only
"""How many messages client and agent may send to each other: the tokens of both sides (spice.proto,
agent_token; server/char-device.cpp)."""

from __future__ import annotations

import struct

import pytest

from dissectors.framing.events import DISCONNECTED
from dissectors.wire.constants import MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import (
    added,
    changed,
    closed_instead,
    lost,
    put,
    requirement,
    stuck_after,
    timers,
)
from fixtures.peer import Connection
from fixtures.system.hosts import SEVERAL_CLIENTS, Ability, Host

INIT, AGENT_DATA = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_AGENT_DATA
AGENT_TOKEN = MsgMain.SPICE_MSG_MAIN_AGENT_TOKEN
AGENT_CONNECTED_TOKENS = MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS
TO_AGENT, START = MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, MsgcMain.SPICE_MSGC_MAIN_AGENT_START
GRANT = MsgcMain.SPICE_MSGC_MAIN_AGENT_TOKEN
#: How many messages the server lets a client send to the agent, and how many tokens it gives back at a time
#: (server/reds-private.h, REDS_AGENT_WINDOW_SIZE, REDS_TOKENS_TO_SEND).
WINDOW, BACK = 10, 5
#: How long the server waits for a client's tokens, ms (server/char-device.cpp,
#: SPICE_CHAR_DEVICE_WAIT_TOKENS_TIMEOUT).
WAIT_MS = 30_000
#: A VDAgentMessage without data (protocol 1, clipboard release), and with the header of the guest's chunk.
MESSAGE = struct.pack("<IIQI", 1, 9, 0, 0)
FROM_GUEST = struct.pack("<II", 1, len(MESSAGE)) + MESSAGE

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def talking(bench: Bench, grants: int) -> tuple[Host, Connection]:
    """A host with an agent, and a client that has sent AGENT_START with this many tokens."""
    source = bench.start(devices=("keyboard", "mouse", "agent"))
    main = bench.link(source)
    bench.expect(main, INIT, proves="MAIN-001")
    main.send(START, struct.pack("<I", grants))
    return source, main


@requirement(
    "MAIN-040",
    fault=(
        lost(AGENT_TOKEN, nth=2),
        changed("one fewer", AGENT_TOKEN, lambda b: b"\4\0\0\0"),
        changed("one more", AGENT_TOKEN, lambda b: b"\6\0\0\0", nth=2),
    ),
)
def test_used_tokens_come_back(bench: Bench) -> None:
    """The client uses up its window, message by message: each fifth message brings five tokens back, and none
    is lost."""
    _, main = talking(bench, WINDOW)
    given: list[int] = []
    for _ in range(WINDOW):
        main.send(TO_AGENT, MESSAGE)
        bench.settle()
        given.append(sum(int(m.packet.num_tokens) for m in main.got(AGENT_TOKEN)))
    wanted = [count // BACK * BACK for count in range(1, WINDOW + 1)]
    bench.claim(given == wanted, f"tokens back after each message: {wanted}", given)


@requirement(
    "MAIN-041",
    fault=(
        added(INIT, AGENT_DATA, MESSAGE, case="0"),
        added(AGENT_DATA, AGENT_DATA, MESSAGE, nth=3, case="3"),
        lost(AGENT_DATA, nth=3, case="3"),
        lost(AGENT_DATA, nth=5, case="3"),
    ),
)
@pytest.mark.parametrize("granted", [0, 1, 3, 10])
def test_agent_keeps_to_the_clients_tokens(bench: Bench, granted: int) -> None:
    """The guest sends more messages than the client has granted tokens: exactly the granted number arrives,
    and two more after two tokens."""
    source, main = talking(bench, granted)
    for _ in range(granted + 4):
        source.call("agent_send", hex=FROM_GUEST.hex())
    bench.settle()
    came = len(main.got(AGENT_DATA))
    bench.claim(came == granted, f"{granted} messages for {granted} tokens", came)
    main.send(GRANT, struct.pack("<I", 2))
    bench.settle()
    came = len(main.got(AGENT_DATA))
    bench.claim(came == granted + 2, f"{granted + 2} messages after two tokens more", came)


@requirement("TIME-040", fault=(timers(-1), timers(+1), stuck_after(INIT, nth=2)))
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_client_that_grants_no_tokens_is_dropped(bench: Bench) -> None:
    """Of two clients, one takes what the guest sends; the other grants only one token for 30 s and is
    dropped."""
    source = bench.start(devices=("keyboard", "mouse", "agent"), environment=SEVERAL_CLIENTS)
    takes, does_not = (bench.link(source) for _ in range(2))
    for main, grants in ((takes, WINDOW), (does_not, 1)):
        bench.expect(main, INIT, proves="MAIN-001")
        main.send(START, struct.pack("<I", grants))
    bench.settle()
    for _ in range(2):
        source.call("agent_send", hex=FROM_GUEST.hex())
    bench.settle()
    bench.pass_time(source, WAIT_MS - 1)
    bench.claim(does_not.ending is None, f"the session goes on after {WAIT_MS - 1} ms", does_not.ending)
    bench.pass_time(source, 1)
    bench.claim(does_not.ending in DISCONNECTED, f"the session's end after {WAIT_MS} ms", does_not.ending)
    bench.claim(takes.ending is None, "the other client's session goes on", takes.ending)


@requirement("ROBUST-060", fault=(stuck_after(INIT), closed_instead(AGENT_TOKEN, nth=2, case="guest reads")))
@pytest.mark.parametrize("reads", [False, True], ids=["guest does not read", "guest reads"])
def test_client_that_overruns_its_tokens(bench: Bench, reads: bool) -> None:
    """The client sends as many messages as its window allows, which the server accepts, and one more without
    a token."""
    source, main = talking(bench, WINDOW)
    bench.settle()
    if not reads:
        source.call("chardev_take", device="agent", room=0)
    for _ in range(WINDOW):
        main.send(TO_AGENT, MESSAGE)
    bench.settle()
    bench.claim(main.ending is None, "the session goes on with its window used up", main.ending)
    if reads:
        return
    main.send(TO_AGENT, MESSAGE)
    ending = main.expect_end(deadline=2)
    bench.claim(ending in DISCONNECTED, "the session's end at the message without a token", ending)


@requirement("MAIN-042", fault=(put(INIT, agent_tokens=9), put(INIT, agent_tokens=11)))
def test_window_in_init(bench: Bench) -> None:
    """INIT grants the agent's ten tokens."""
    main = bench.link(bench.start(devices=("keyboard", "mouse", "agent")))
    tokens = int(bench.expect(main, INIT, proves="MAIN-001").packet.agent_tokens)
    bench.claim(tokens == WINDOW, WINDOW, tokens)


@requirement(
    "MAIN-042",
    fault=(
        changed("one fewer", AGENT_CONNECTED_TOKENS, b"\x09\0\0\0"),
        changed("one more", AGENT_CONNECTED_TOKENS, b"\x0b\0\0\0"),
    ),
)
def test_window_of_an_agent_that_comes_later(bench: Bench) -> None:
    """AGENT_CONNECTED_TOKENS grants the window, of a second agent too."""
    source = bench.start()
    main = bench.link(source)
    bench.expect(main, INIT, proves="MAIN-001")
    for _ in range(2):
        source.call("agent_attach")
        tokens = int(bench.expect(main, AGENT_CONNECTED_TOKENS).packet.num_tokens)
        bench.claim(tokens == WINDOW, WINDOW, tokens)
        source.call("agent_detach")
