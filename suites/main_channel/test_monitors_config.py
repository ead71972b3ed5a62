# SPDX-License-Identifier: GPL-2.0-only
"""The monitors that a client requests go to the graphics card if its driver takes them itself, otherwise to
the guest's agent (vd_agent.h, VDAgentMonitorsConfig)."""

from __future__ import annotations

import struct

import pytest

from dissectors.wire.constants import ChannelType, MsgcMain
from fixtures.bench import Bench
from fixtures.bench.planting import changed, lost, requirement
from fixtures.peer import Client
from fixtures.system.hosts import Ability, Host
from suites.guest_agent import agent_message, read_by_guest

AGENT_START, AGENT_DATA = MsgcMain.SPICE_MSGC_MAIN_AGENT_START, MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA
DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
MONITORS_CONFIG, USE_POSITION = 2, 1  # VD_AGENT_MONITORS_CONFIG, VD_AGENT_CONFIG_MONITORS_FLAG_USE_POS
#: Width, height, depth, x and y of each monitor.
ONE = [[1441, 905, 32, 0, 0]]
SEVERAL = [[1920, 1080, 32, 0, 0], [1024, 769, 24, -1024, 17], [0, 0, 0, 0, 0], [3840, 2161, 32, 1920, -3]]
MANY = [[800 + n, 600 + n, 32, 7 * n, -n] for n in range(64)]
#: Which of two cards have drivers that take configurations.
TAKING: dict[str, tuple[int, int]] = {"both": (1, 1), "second": (0, 1)}
#: The most bytes in one AGENT_DATA (SPICE_AGENT_MAX_DATA_SIZE).
MOST = 2048

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def configuration(monitors: list[list[int]]) -> bytes:
    """The agent's message with its header."""
    body = struct.pack("<II", len(monitors), USE_POSITION)
    body += b"".join(struct.pack("<IIIii", h, w, d, x, y) for w, h, d, x, y in monitors)
    return agent_message(MONITORS_CONFIG, body)


def wishing(bench: Bench, takes: bool) -> tuple[Host, Client]:
    """A host with a card whose driver takes configurations or not, an agent, and a client that has sent
    AGENT_START."""
    source = bench.start(devices=("keyboard", "mouse", "agent", "display"))
    source.call("qxl_takes_monitors", takes=int(takes))
    client = bench.client(source, channels=(DISPLAY,))
    client.main.send(AGENT_START, struct.pack("<I", 10))
    bench.settle()
    return source, client


def at_card(bench: Bench) -> list[list[list[int]]]:
    """The configurations that the card has been given."""
    seen = [e.args for e in bench.pump.tape.host_events if e.name == "client_monitors_config"]
    return [args["monitors"] for args in seen if args["flags"] == USE_POSITION]


def at_agent(bench: Bench) -> str:
    """What the agent has read, in hex, without the server's chunk headers (port and size, 8 bytes)."""
    raw = read_by_guest(bench)
    content = b""
    while len(raw) >= 8:
        (size,) = struct.unpack_from("<I", raw, 4)
        content, raw = content + raw[8 : 8 + size], raw[8 + size :]
    return content.hex()


def asks(bench: Bench, client: Client, said: bytes) -> None:
    client.main.send(AGENT_DATA, said)
    bench.settle()


def wider(body: bytes) -> bytes:
    """The first monitor one pixel wider."""
    return body[:32] + bytes([body[32] ^ 1]) + body[33:]


@requirement(
    "MAIN-071",
    fault=(
        changed("a pixel wider", AGENT_DATA, wider, nth=1, case="card-one-whole"),
        changed("a pixel narrower", AGENT_DATA, wider, nth=1, case="agent-one-whole"),
    ),
)
@pytest.mark.parametrize("piece", [MOST, 100], ids=["whole", "pieces"])
@pytest.mark.parametrize("monitors", [ONE, SEVERAL, MANY], ids=["one", "several", "many"])
@pytest.mark.parametrize("takes", [True, False], ids=["card", "agent"])
def test_wish(bench: Bench, takes: bool, monitors: list[list[int]], piece: int) -> None:
    """The same numbers arrive at card or agent, however the message is cut; the other of the two gets
    nothing."""
    _, client = wishing(bench, takes)
    said = configuration(monitors)
    for at in range(0, len(said), piece):
        client.main.send(AGENT_DATA, said[at : at + piece])
        bench.settle()
    cards, agents = at_card(bench), at_agent(bench)
    bench.claim(cards == ([monitors] if takes else []), "the card's: as it was said, or none", cards)
    bench.claim(agents == ("" if takes else said.hex()), "the agent's: as it was said, or none", agents)


@requirement("MAIN-071")
def test_wishes_in_a_row(bench: Bench) -> None:
    """Each of three requests arrives, in order."""
    _, client = wishing(bench, takes=True)
    for monitors in (ONE, SEVERAL, ONE):
        asks(bench, client, configuration(monitors))
    cards = at_card(bench)
    bench.claim(cards == [ONE, SEVERAL, ONE], "three configurations as requested", cards)


@requirement("MAIN-071", fault=(lost(AGENT_DATA, case="both"), lost(AGENT_DATA, case="second")))
@pytest.mark.parametrize("takes", TAKING.values(), ids=TAKING)
def test_wish_for_two_cards(bench: Bench, takes: tuple[int, int]) -> None:
    """Of two cards, the drivers of both take configurations: each gets it. If one does not, the agent gets
    it."""
    source = bench.start(devices=("keyboard", "mouse", "agent", "display", "display:1"))
    for card, able in zip(("display", "display:1"), takes, strict=True):
        source.call("qxl_takes_monitors", device=card, takes=able)
    client = bench.client(source, channels=())
    client.main.send(AGENT_START, struct.pack("<I", 10))
    bench.settle()
    said = configuration(SEVERAL)
    asks(bench, client, said)
    cards, agents = at_card(bench), at_agent(bench)
    bench.claim(cards == [SEVERAL] * 2 * all(takes), "each card's: as it was said, or none", cards)
    bench.claim(agents == said.hex() * (not all(takes)), "the agent's: as it was said, or none", agents)


@requirement("MAIN-080", fault=(lost(AGENT_DATA, nth=2), changed("wider", AGENT_DATA, wider, nth=2)))
def test_wish_after_half_a_wish(bench: Bench) -> None:
    """The client leaves when it has sent the beginning of a configuration: the card gets the next client's,
    whole and alone."""
    source, first = wishing(bench, takes=True)
    asks(bench, first, configuration(SEVERAL)[:60])
    first.close()
    bench.settle()
    client = bench.client(source, channels=())
    client.main.send(AGENT_START, struct.pack("<I", 10))
    bench.settle()
    asks(bench, client, configuration(ONE))
    cards = at_card(bench)
    bench.claim(cards == [ONE], f"the card's {[ONE]}", cards)
    bench.claim(client.main.ending is None, "the session goes on", client.main.ending)
