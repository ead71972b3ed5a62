# SPDX-License-Identifier: GPL-2.0-only
"""What main tells of the machine is so: its agent, its displays, its clock, its channels, its mouse modes
(spice.proto, MainChannel)."""

from __future__ import annotations

import struct

import pytest

from dissectors.wire.constants import ChannelType, MsgcMain, MsgMain
from dissectors.wire.enums import MouseMode
from fixtures.bench import Bench
from fixtures.system.hosts import Ability

INIT, LIST = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
MODE = MsgMain.SPICE_MSG_MAIN_MOUSE_MODE
ATTACH, REQUEST = MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS, MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST
CLIENT_MODE, SERVER_MODE = MouseMode.SPICE_MOUSE_MODE_CLIENT, MouseMode.SPICE_MOUSE_MODE_SERVER
PORT = ChannelType.SPICE_CHANNEL_PORT
WAIT_MS = 250

pytestmark = pytest.mark.needs(Ability.DEVICES)


@pytest.mark.requirement("MAIN-017")
@pytest.mark.parametrize("agent", [True, False])
@pytest.mark.parametrize("display", [True, False])
def test_init_tells_what_there_is(bench: Bench, agent: bool, display: bool) -> None:
    """INIT tells whether an agent is there, how many displays there are, and tokens to talk with."""
    devices = ["keyboard", "mouse", *["agent"] * agent, *["display"] * display]
    main = bench.link(bench.start(devices=tuple(devices)))
    init = bench.expect("MAIN-001", main, INIT).packet
    seen = int(init.agent_connected), int(init.display_channels_hint)
    bench.claim("MAIN-017", seen == (agent, display), f"agent, displays: {(int(agent), int(display))}", seen)
    tokens = int(init.agent_tokens)
    bench.claim("MAIN-017", tokens > 0, "tokens for the agent", tokens)
    modes = int(init.supported_mouse_modes), int(init.current_mouse_mode)
    fine = modes == (SERVER_MODE, SERVER_MODE)  # there is no tablet, and the agent has not said that it can
    bench.claim("MAIN-017", fine or agent, "the server's mouse mode alone", modes)


@pytest.mark.requirement("MAIN-018")
def test_time_goes_on(bench: Bench) -> None:
    """The multimedia time of a later INIT is later by as much as time has passed between them."""
    source = bench.start()
    first = bench.link(source)
    before = bench.expect("MAIN-001", first, INIT)
    bench.pump.pass_real_time(WAIT_MS / 1000)
    after = bench.expect("MAIN-001", bench.link(source), INIT)
    longest = (after.time - first.opened.time) * 1000 + 1
    told = (int(after.packet.multi_media_time) - int(before.packet.multi_media_time)) & 0xFFFFFFFF
    expected = f"{WAIT_MS} to {longest:.0f} ms more"
    bench.claim("MAIN-018", WAIT_MS - 1 <= told <= longest, expected, f"{told} ms more")


@pytest.mark.requirement("MAIN-010", "MAIN-011")
def test_channels_of_one_type(bench: Bench) -> None:
    """Channels of one type have ids of their own, and each of them can be opened."""
    names = ("port:one.example", "port:two.example", "port:three.example")
    client = bench.client(bench.start(devices=("keyboard", "mouse", *names)))
    ids = sorted(channel_id for kind, channel_id in client.current.channels if kind == PORT)
    bench.claim("MAIN-010", ids == [0, 1, 2], "three port channels: 0, 1, 2", ids)
    bench.settle()
    open_ports = [key for key, c in client.current.channels.items() if key[0] == PORT and not c.ending]
    bench.claim("MAIN-011", len(open_ports) == 3, "three open channels", open_ports)


@pytest.mark.requirement("MAIN-019", "MAIN-008")
@pytest.mark.needs(Ability.CALLS)
@pytest.mark.parametrize("asked", [True, False], ids=["after-the-list", "before-the-list"])
def test_channel_that_comes_later(bench: Bench, asked: bool) -> None:
    """A channel that the machine gets later is told to a client that has asked for the list; to one that has
    not, nothing is told unasked."""
    source = bench.start()
    main = bench.link(source)
    bench.expect("MAIN-001", main, INIT)
    if asked:
        main.send(ATTACH)
        bench.expect("MAIN-008", main, LIST)
    source.call("chardev_attach", device="port:late.example")
    if asked:
        news = bench.expect("MAIN-019", main, LIST).packet
        told = [(int(c.type), int(c.id)) for c in news.channels]
        bench.claim("MAIN-019", told == [(PORT, 0)], f"the new channel {(int(PORT), 0)}", told)
        return
    bench.settle()
    bench.claim("MAIN-008", not main.got(LIST), "no list before it is asked for", len(main.got(LIST)))
    main.send(ATTACH)
    kinds = [int(c.type) for c in bench.expect("MAIN-008", main, LIST).packet.channels]
    bench.claim("MAIN-019", PORT in kinds, "the new channel in the list", kinds)


@pytest.mark.requirement("MAIN-020")
@pytest.mark.parametrize("mode", [CLIENT_MODE, 3, 0, 4, 0xFFFF], ids=str)
def test_mouse_mode_that_is_not_supported(bench: Bench, mode: int) -> None:
    """A mouse mode that INIT has not offered is not entered; the session goes on."""
    client = bench.client(bench.start(devices=("keyboard", "mouse")), channels=())
    client.main.send(REQUEST, struct.pack("<H", mode))
    bench.settle()
    told = [int(m.packet.current_mode) for m in client.main.got(MODE)]
    bench.claim("MAIN-020", not set(told) - {int(SERVER_MODE)}, "the server's mode", told)


@pytest.mark.requirement("MAIN-012")
@pytest.mark.needs(Ability.CALLS)
def test_mouse_mode_follows_the_machine(bench: Bench) -> None:
    """When the client's mouse mode becomes possible, the client is told, with the modes that there are."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    client = bench.client(source)
    bench.settle()
    source.call("chardev_attach", device="tablet")
    told = bench.expect("MAIN-012", client.main, MODE).packet
    modes = int(told.supported_modes)
    bench.claim("MAIN-012", modes == CLIENT_MODE | SERVER_MODE, "both modes supported", modes)
