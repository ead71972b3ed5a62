# SPDX-License-Identifier: GPL-2.0-only
"""What main says about the machine is true: its agent, displays, clock, channels and mouse modes
(spice.proto, MainChannel)."""

from __future__ import annotations

import struct

import pytest

from dissectors.wire.constants import ChannelType, MsgcMain, MsgMain
from dissectors.wire.enums import MouseMode
from fixtures.bench import Bench
from fixtures.bench.planting import added, changed, later, lost, put, requirement
from fixtures.system.hosts import Ability

INIT, LIST = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
MODE = MsgMain.SPICE_MSG_MAIN_MOUSE_MODE
ATTACH, REQUEST = MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS, MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST
CLIENT_MODE, SERVER_MODE = MouseMode.SPICE_MOUSE_MODE_CLIENT, MouseMode.SPICE_MOUSE_MODE_SERVER
PORT = ChannelType.SPICE_CHANNEL_PORT
WAIT_MS = 250
CARD_BYTES = 0x3210000  # of the guest's graphics card (fixtures/library/host/qxl_interface.py)

pytestmark = pytest.mark.needs(Ability.DEVICES)


@requirement(
    "MAIN-017",
    fault=(
        put(INIT, display_channels_hint=2),
        put(INIT, display_channels_hint=0),
        put(INIT, agent_connected=0),
        put(INIT, agent_connected=1, case="True-False"),
        put(INIT, supported_mouse_modes=3, case="False-False"),
        put(INIT, agent_tokens=0),
        put(INIT, ram_hint=0),
    ),
)
@pytest.mark.parametrize("agent", [True, False])
@pytest.mark.parametrize("display", [True, False])
def test_init_tells_what_there_is(bench: Bench, agent: bool, display: bool) -> None:
    """INIT says whether an agent is attached, how many displays there are, how much memory the first of them
    has, and how many tokens the client has."""
    devices = ["keyboard", "mouse", *["agent"] * agent, *["display"] * display]
    source = bench.start(devices=tuple(devices))
    main = bench.link(source)
    init = bench.expect(main, INIT, proves="MAIN-001").packet
    seen = int(init.agent_connected), int(init.display_channels_hint)
    bench.claim(seen == (agent, display), f"agent, displays: {(int(agent), int(display))}", seen)
    memory, ours = int(init.ram_hint), Ability.CALLS in source.abilities  # a QEMU chooses it itself
    due = CARD_BYTES * display if ours else memory if display else 0
    bench.claim(memory == due and bool(memory) == display, f"the card's memory, {due} bytes", memory)
    tokens = int(init.agent_tokens)
    bench.claim(tokens > 0, "tokens for the agent", tokens)
    modes = int(init.supported_mouse_modes), int(init.current_mouse_mode)
    fine = modes == (SERVER_MODE, SERVER_MODE)  # there is no tablet, and the agent has not said that it can
    bench.claim(fine or agent, "the server's mouse mode alone", modes)


@requirement(
    "MAIN-018",
    fault=(
        later("1 s ahead", INIT, "multi_media_time", 1_000, nth=2),
        later("1 s behind", INIT, "multi_media_time", -1_000, nth=2),
        put(INIT, multi_media_time=5),
    ),
)
def test_time_goes_on(bench: Bench) -> None:
    """The multimedia time of a later INIT is later by the time that has passed between them."""
    source = bench.start()
    first = bench.link(source)
    before = bench.expect(first, INIT, proves="MAIN-001")
    bench.pump.pass_real_time(WAIT_MS / 1000)
    second = bench.link(source)
    after = bench.expect(second, INIT, proves="MAIN-001")
    shortest = (second.opened.time - before.time) * 1000 - 1
    longest = (after.time - first.opened.time) * 1000 + 1
    seen = (int(after.packet.multi_media_time) - int(before.packet.multi_media_time)) & 0xFFFFFFFF
    expected = f"{shortest:.0f} to {longest:.0f} ms more"
    bench.claim(shortest <= seen <= longest, expected, f"{seen} ms more")


@requirement("MAIN-010", "MAIN-011")
def test_channels_of_one_type(bench: Bench) -> None:
    """Channels of one type have different ids, and each of them can be opened."""
    names = ("port:one.example", "port:two.example", "port:three.example")
    client = bench.client(bench.start(devices=("keyboard", "mouse", *names)))
    ids = sorted(channel_id for kind, channel_id in client.current.channels if kind == PORT)
    bench.claim(ids == [0, 1, 2], "three port channels: 0, 1, 2", ids, proves="MAIN-010")
    bench.settle()
    open_ports = [key for key, c in client.current.channels.items() if key[0] == PORT and not c.ending]
    bench.claim(len(open_ports) == 3, "three open channels", open_ports, proves="MAIN-011")


@requirement(
    "MAIN-019", fault=(lost(LIST, nth=2), changed("another id", LIST, lambda b: b[:-1] + b"\1", nth=2))
)
@requirement("MAIN-008")
@pytest.mark.needs(Ability.CALLS)
@pytest.mark.parametrize("asked", [True, False], ids=["after-the-list", "before-the-list"])
def test_channel_that_comes_later(bench: Bench, asked: bool) -> None:
    """The server announces a channel that the machine gets later to a client that has requested the list, and
    not to one that has not."""
    source = bench.start()
    main = bench.link(source)
    bench.expect(main, INIT, proves="MAIN-001")
    if asked:
        main.send(ATTACH)
        bench.expect(main, LIST, proves="MAIN-008")
    source.call("chardev_attach", device="port:late.example")
    if asked:
        news = bench.expect(main, LIST, proves="MAIN-019").packet
        seen = [(int(c.type), int(c.id)) for c in news.channels]
        bench.claim(seen == [(PORT, 0)], f"the new channel {(int(PORT), 0)}", seen, proves="MAIN-019")
        return
    bench.settle()
    bench.claim(
        not main.got(LIST), "no list before the client requests it", len(main.got(LIST)), proves="MAIN-008"
    )
    main.send(ATTACH)
    kinds = [int(c.type) for c in bench.expect(main, LIST, proves="MAIN-008").packet.channels]
    bench.claim(PORT in kinds, "the new channel in the list", kinds, proves="MAIN-019")


@requirement("MAIN-020", fault=added(LIST, MODE, b"\3\0\2\0"))
@pytest.mark.parametrize("mode", [CLIENT_MODE, 3, 0, 4, 0xFFFF], ids=str)
def test_mouse_mode_that_is_not_supported(bench: Bench, mode: int) -> None:
    """The server does not enter a mouse mode that INIT has not offered; the session goes on."""
    client = bench.client(bench.start(devices=("keyboard", "mouse")), channels=())
    client.main.send(REQUEST, struct.pack("<H", mode))
    bench.settle()
    seen = [int(m.packet.current_mode) for m in client.main.got(MODE)]
    bench.claim(not set(seen) - {int(SERVER_MODE)}, "the server's mode", seen)


@requirement("MAIN-012")
@pytest.mark.needs(Ability.CALLS)
def test_mouse_mode_follows_the_machine(bench: Bench) -> None:
    """When the client's mouse mode becomes possible, the client gets MOUSE_MODE with the supported modes."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    client = bench.client(source)
    bench.settle()
    source.call("chardev_attach", device="tablet")
    seen = bench.expect(client.main, MODE).packet
    modes = int(seen.supported_modes)
    bench.claim(modes == CLIENT_MODE | SERVER_MODE, "both modes supported", modes)
