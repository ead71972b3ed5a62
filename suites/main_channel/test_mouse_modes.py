# SPDX-License-Identifier: GPL-2.0-only
"""Which mouse modes the server offers, and to whom it announces a change (server/reds.cpp,
reds_update_mouse_mode)."""

from __future__ import annotations

import struct

import pytest

from dissectors.wire.constants import MsgcMain, MsgMain
from dissectors.wire.enums import MouseMode
from fixtures.bench import Bench
from fixtures.bench.planting import lost, other_result, put, requirement, twice
from fixtures.peer import Connection
from fixtures.system.hosts import Ability

INIT, MODE = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_MOUSE_MODE
REQUEST = MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST
SERVER, CLIENT = MouseMode.SPICE_MOUSE_MODE_SERVER, MouseMode.SPICE_MOUSE_MODE_CLIENT
#: Devices beside keyboard and mouse, whether the agent may move the pointer -> whether the client's mode is
#: offered.
MACHINES: dict[str, tuple[tuple[str, ...], int, bool]] = {
    "tablet": (("tablet",), 1, False),
    "display": (("display",), 1, False),
    "tablet, display": (("tablet", "display"), 1, True),
    "tablet, two displays": (("tablet", "display", "display:1"), 1, False),
    "agent, display": (("display", "agent"), 1, True),
    "agent, two displays": (("display", "display:1", "agent"), 1, True),
    "agent that may not": (("display", "agent"), 0, False),
    "agent that may not, tablet": (("tablet", "display", "agent"), 0, True),
}

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def modes(main: Connection) -> list[tuple[int, int]]:
    """Every MOUSE_MODE so far: the supported modes, and the current one."""
    return [(int(m.packet.supported_modes), int(m.packet.current_mode)) for m in main.got(MODE)]


@requirement(
    "MAIN-061",
    fault=(
        put(INIT, supported_mouse_modes=3, case="two displays"),
        put(INIT, supported_mouse_modes=1, case="agent, display"),
        put(INIT, supported_mouse_modes=3, case="may not"),
    ),
)
@pytest.mark.parametrize(("devices", "by_agent", "able"), MACHINES.values(), ids=MACHINES)
def test_modes_of_a_machine(bench: Bench, devices: tuple[str, ...], by_agent: int, able: bool) -> None:
    """INIT offers the client's mouse mode if an agent may move the pointer, or a tablet can, on one
    display."""
    source = bench.start()
    source.call("set_agent_mouse", enable=by_agent)
    for device in devices:
        source.call("chardev_attach", device=device)
    main = bench.link(source)
    seen = int(bench.expect(main, INIT, proves="MAIN-001").packet.supported_mouse_modes)
    wanted = SERVER | CLIENT if able else SERVER
    bench.claim(seen == wanted, f"supported modes {int(wanted)}", seen)


@requirement("MAIN-061", fault=(lost(MODE, nth=2), put(MODE, supported_modes=3, nth=2)))
def test_agent_that_may_no_longer(bench: Bench) -> None:
    """The agent may no longer move the pointer, and then may again: the server announces each change once,
    and the client's mode ends with the first."""
    source = bench.start(devices=("keyboard", "mouse", "display", "agent"))
    main = bench.link(source)
    bench.expect(main, INIT, proves="MAIN-001")
    main.send(REQUEST, struct.pack("<H", CLIENT))
    bench.settle()
    both, server = int(SERVER | CLIENT), int(SERVER)
    for enable, wanted in ((0, (server, server)), (0, None), (1, (both, server)), (1, None)):
        before = len(modes(main))
        source.call("set_agent_mouse", enable=enable)
        bench.settle()
        seen = modes(main)[before:]
        bench.claim(seen == [wanted] * bool(wanted), f"MOUSE_MODE {wanted or 'not at all'}", seen)


@requirement("MAIN-061", fault=(lost(MODE, nth=3), put(MODE, supported_modes=3, nth=3)))
def test_agent_that_moves_the_pointer_comes_and_goes(bench: Bench) -> None:
    """An agent that may move the pointer comes, goes while the client's mode is in force, and comes again:
    the server announces each change once."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    main = bench.link(source)
    bench.expect(main, INIT, proves="MAIN-001")
    both, server = int(SERVER | CLIENT), int(SERVER)
    source.call("agent_attach")
    bench.settle()
    main.send(REQUEST, struct.pack("<H", CLIENT))
    bench.settle()
    source.call("agent_detach")
    bench.settle()
    source.call("agent_attach")
    bench.settle()
    wanted = [(both, server), (both, int(CLIENT)), (server, server), (both, server)]
    bench.claim(modes(main) == wanted, f"MOUSE_MODE {wanted}", modes(main))


@requirement("MAIN-012", fault=(twice(MODE), lost(MODE, nth=2), other_result("is_server_mouse")))
def test_mode_that_is_in_force(bench: Bench) -> None:
    """A client that requests the current mode gets no message: the server announces changes only, and tells
    its host which mode is in force."""
    source = bench.start(devices=("keyboard", "mouse", "tablet", "display"))
    main = bench.link(source)
    bench.expect(main, INIT, proves="MAIN-001")
    wanted: list[int] = []
    for mode, changes in ((SERVER, False), (CLIENT, True), (CLIENT, False), (SERVER, True), (SERVER, False)):
        main.send(REQUEST, struct.pack("<H", mode))
        bench.settle()
        wanted += [int(mode)] * changes
        seen = [current for _, current in modes(main)]
        bench.claim(seen == wanted, f"modes {wanted}", seen)
        told = source.call("is_server_mouse")
        bench.claim(told == (mode == SERVER), f"the host is told of {mode.name}", told)


@requirement("MAIN-062", fault=other_result("add_another", case="tablet"))
@pytest.mark.parametrize("device", ["keyboard", "mouse", "tablet", "agent", "display"])
def test_another_device_of_a_kind(bench: Bench, device: str) -> None:
    """The server refuses a second keyboard, mouse, tablet, agent or card of one number; the first one still
    works."""
    needed = dict.fromkeys(("keyboard", "mouse", device))
    source = bench.start(devices=tuple(needed))
    main = bench.link(source)
    bench.expect(main, INIT, proves="MAIN-001")
    result = source.call("add_another", device=device)
    bench.claim(result == -1, f"-1 for a second {device}", result)
    bench.settle()
    bench.claim(main.ending is None, "the session goes on", main.ending)
    bench.alive(f"a second {device}", source)


@requirement("MAIN-085", fault=other_result("add_another"))
def test_devices_of_unknown_versions(bench: Bench) -> None:
    """The server refuses each device whose interface has a major version that it does not know, or a minor
    one that is later than its own; it takes the next one of that kind."""
    source = bench.start(devices=())
    for device in ("keyboard", "mouse", "tablet", "playback", "record", "agent", "display"):
        versions = ((1, 0), (-1, 0), (0, 90))
        results = [source.call("add_another", device=device, major=by, minor=more) for by, more in versions]
        bench.claim(results == [-1] * len(versions), f"-1 for each {device}", results)
        source.call("chardev_attach", device=device)
    bench.alive("devices of unknown versions", source)
