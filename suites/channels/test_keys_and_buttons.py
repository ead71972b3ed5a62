# SPDX-License-Identifier: GPL-2.0-only
"""Keys, motions and buttons of the client reach the guest (spice.proto, InputsChannel;
server/inputs-channel.cpp)."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from dissectors.channels.agent_enums import AgentPort, AgentType
from dissectors.channels.inputs import (
    SpiceMsgcInputsKeyDown,
    SpiceMsgcInputsKeyModifiers,
    SpiceMsgcInputsKeyScancode,
    SpiceMsgcInputsKeyUp,
    SpiceMsgcInputsMouseMotion,
    SpiceMsgcInputsMousePosition,
    SpiceMsgcInputsMousePress,
    SpiceMsgcInputsMouseRelease,
)
from dissectors.wire.constants import ChannelType, MsgcInputs, MsgcMain, MsgInputs, MsgMain
from dissectors.wire.enums import MouseMode
from dissectors.wire.message import SpiceMessage
from fixtures.bench import Bench
from fixtures.bench.planting import changed, lost, never, put, requirement, stuck_after, timers, twice
from fixtures.peer import Client, Connection
from fixtures.system.hosts import Ability, Host
from suites.guest_agent import agent_message, chunk, read_by_guest

INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
KEY_DOWN, KEY_UP = MsgcInputs.SPICE_MSGC_INPUTS_KEY_DOWN, MsgcInputs.SPICE_MSGC_INPUTS_KEY_UP
SCANCODE, WISH = MsgcInputs.SPICE_MSGC_INPUTS_KEY_SCANCODE, MsgcInputs.SPICE_MSGC_INPUTS_KEY_MODIFIERS
MOTION, POSITION = MsgcInputs.SPICE_MSGC_INPUTS_MOUSE_MOTION, MsgcInputs.SPICE_MSGC_INPUTS_MOUSE_POSITION
PRESS, RELEASE = MsgcInputs.SPICE_MSGC_INPUTS_MOUSE_PRESS, MsgcInputs.SPICE_MSGC_INPUTS_MOUSE_RELEASE
LIGHTS = MsgInputs.SPICE_MSG_INPUTS_KEY_MODIFIERS
REQUEST, MODE = MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST, MsgMain.SPICE_MSG_MAIN_MOUSE_MODE
#: What a client sends, and the scan codes of set 1 that the guest's keyboard gives: 0xe0 precedes a key of
#: the second block, the highest bit marks a released key.
KEYS: dict[str, tuple[list[SpiceMessage], str]] = {
    "pressed": ([SpiceMsgcInputsKeyDown(code=0x1E)], "1e"),
    "released": ([SpiceMsgcInputsKeyUp(code=0x9E)], "9e"),
    "second block": ([SpiceMsgcInputsKeyDown(code=0x48E0), SpiceMsgcInputsKeyUp(code=0xC8E0)], "e048e0c8"),
    "four codes": ([SpiceMsgcInputsKeyDown(code=0x459D1DE1)], "e11d9d45"),
    "one scan code": ([SpiceMsgcInputsKeyScancode(data=b"\x1e")], "1e"),
    "many scan codes": (
        [SpiceMsgcInputsKeyScancode(data=b"\x1e\x30\xe0\x48\xe0\xc8\xb0\x9e")],
        "1e30e048e0c8b09e",
    ),
    "mixed": (
        [
            SpiceMsgcInputsKeyDown(code=0x2A),
            SpiceMsgcInputsKeyScancode(data=b"\x1e\x9e"),
            SpiceMsgcInputsKeyUp(code=0xAA),
        ],
        "2a1e9eaa",
    ),
}
#: A button of the protocol -> its bit there (enums.h, MouseButtonMask), and its bit at the guest's mouse and
#: tablet, where the right button precedes the middle one (spice-input.h).
BUTTONS = {"left": (1, 1, 1), "middle": (2, 2, 4), "right": (3, 4, 2)}
#: What moves the guest's pointer, and the client's button.
POINTERS = [
    *((device, button) for device in ("mouse", "tablet") for button in BUTTONS),
    ("tablet beside an agent", "left"),
]
UP, DOWN, LEFT, SIDE = 4, 5, 1, 6
#: The buttons from SIDE on, here and at the guest: one bit higher there.
FURTHER, FURTHER_THERE = 0xFFE0, 0x1FFC0
AGENT_UP, AGENT_DOWN = 1 << 4, 1 << 5  # vd_agent.h, VD_AGENT_UBUTTON_MASK and VD_AGENT_DBUTTON_MASK
MOVES = 9  # of a client whose agent does not read
SCREEN = 640, 480  # of the guest's card (fixtures/library/host/qxl_card.py)
#: Lights (enums.h, KeyboardModifierFlags) -> the scan code of their key, in the order in which it is pressed.
LOCKS = {1: 0x46, 2: 0x45, 4: 0x3A}
#: How long after the client's KEY_MODIFIERS the server sends the guest's lights again, ms
#: (KEY_MODIFIERS_TTL).
LIGHTS_MS = 2_000
#: What turns on num lock alone: the scan codes also press and release caps lock twice.
TURNS_ON_NUM_LOCK: dict[str, SpiceMessage] = {
    "wish": SpiceMsgcInputsKeyModifiers(modifiers=2),
    "key": SpiceMsgcInputsKeyDown(code=0x45),
    "scan codes": SpiceMsgcInputsKeyScancode(data=b"\x45\x45\xc5\x3a\xba\x3a\xba"),
}

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def opened(bench: Bench, *devices: str) -> tuple[Host, Client, Connection]:
    """A machine with a keyboard, a mouse and these devices, its client, and the client's inputs channel."""
    source = bench.start(devices=("keyboard", "mouse", *devices))
    client = bench.client(source)
    bench.settle()
    return source, client, client.current.channels[INPUTS, 0]


def typed(bench: Bench) -> str:
    """The scan codes that the guest's keyboard has given so far, as hex."""
    return bytes(e.args["code"] for e in bench.pump.tape.host_events if e.name == "keyboard_scan").hex()


def moved(bench: Bench) -> list[tuple[str, dict[str, int]]]:
    """Every act of the guest's mouse and tablet so far."""
    names = ("mouse_motion", "mouse_buttons", "tablet_position", "tablet_wheel", "tablet_buttons")
    return [(e.name, dict(e.args)) for e in bench.pump.tape.host_events if e.name in names]


def client_mode(bench: Bench, client: Client) -> None:
    """Switches to the client's mouse mode."""
    client.main.send(REQUEST, struct.pack("<H", MouseMode.SPICE_MOUSE_MODE_CLIENT))
    bench.until(lambda: client.main.got(MODE), "the client's mouse mode", proves="MAIN-012")


@requirement(
    "CHAN-060",
    fault=(
        lost(KEY_UP, case="mixed"),
        changed("its last code", SCANCODE, lambda b: b[:-1], case="many scan codes"),
        twice(KEY_DOWN, case="pressed"),
        changed("three codes", KEY_DOWN, lambda b: b[:3] + b"\0", case="four codes"),
    ),
)
@pytest.mark.parametrize(("messages", "codes"), KEYS.values(), ids=KEYS)
def test_keys_reach_the_guest(bench: Bench, messages: list[SpiceMessage], codes: str) -> None:
    """The guest's keyboard gives the scan codes of KEY_DOWN, KEY_UP and KEY_SCANCODE, each once, in order."""
    _, _, inputs = opened(bench)
    for message in messages:
        inputs.send(message)
    bench.settle()
    bench.claim(typed(bench) == codes, f"scan codes {codes}", typed(bench) or "none")


@requirement(
    "CHAN-061",
    fault=(
        put(MOTION, dx=-30, case="mouse-left"),
        put(PRESS, button=DOWN, nth=2, case="mouse-left"),
        lost(PRESS, nth=1, case="tablet beside an agent-left"),
        put(RELEASE, buttons_state=2, case="mouse-right"),
        put(POSITION, x=222, case="tablet-left"),
        put(PRESS, buttons_state=0, nth=1, case="tablet-middle"),
        lost(RELEASE, case="tablet-right"),
        lost(MOTION, case="mouse-middle"),
    ),
)
@pytest.mark.parametrize(("pointer", "button"), POINTERS)
def test_mouse_reaches_the_guest(bench: Bench, pointer: str, button: str) -> None:
    """Motions, buttons and the wheel reach the guest's mouse in the server's mouse mode, and its tablet in
    the client's, also where there is an agent that may not move the pointer; messages of the other mode have
    no effect."""
    number, mask, bit = BUTTONS[button]
    device, _, agent = pointer.partition(" beside an ")
    source, client, inputs = opened(bench, "tablet", "display", *filter(None, [agent]))
    if agent:
        source.call("set_agent_mouse", enable=0)
    if device == "tablet":
        client_mode(bench, client)
    inputs.send(SpiceMsgcInputsMouseMotion(dx=-3, dy=300, buttons_state=mask))
    inputs.send(SpiceMsgcInputsMousePosition(x=17, y=222, buttons_state=mask))
    inputs.send(SpiceMsgcInputsMousePress(button=number, buttons_state=mask))
    inputs.send(SpiceMsgcInputsMousePress(button=UP, buttons_state=mask))
    inputs.send(SpiceMsgcInputsMousePress(button=DOWN, buttons_state=mask))
    inputs.send(SpiceMsgcInputsMouseRelease(button=number, buttons_state=0))
    inputs.send(SpiceMsgcInputsMouseRelease(button=LEFT, buttons_state=mask))
    bench.settle()
    wheel: Callable[[int], tuple[str, dict[str, int]]]
    if device == "mouse":
        first = "mouse_motion", {"dx": -3, "dy": 300, "dz": 0, "buttons": bit}
        wheel = lambda dz: ("mouse_motion", {"dx": 0, "dy": 0, "dz": dz, "buttons": bit})  # noqa: E731
    else:
        first = "tablet_position", {"x": 17, "y": 222, "buttons": bit}
        wheel = lambda dz: ("tablet_wheel", {"dz": dz, "buttons": bit})  # noqa: E731
    rest = [(f"{device}_buttons", {"buttons": state}) for state in (0, bit)]
    wanted = [first, wheel(0), wheel(-1), wheel(1), *rest]
    for expected, seen in zip(wanted, [*moved(bench), *[None] * 6], strict=False):
        bench.claim(seen == expected, expected, seen)
    bench.claim(len(moved(bench)) == len(wanted), f"{len(wanted)} doings", len(moved(bench)))
    bench.claim(not read_by_guest(bench), "nothing at the agent", read_by_guest(bench).hex())


def leaves_inputs(bench: Bench, client: Client, source: Host) -> None:
    client.current.channels[INPUTS, 0].close()


def leaves(bench: Bench, client: Client, source: Host) -> None:
    client.close()


def is_taken_over(bench: Bench, client: Client, source: Host) -> None:
    bench.client(source, channels=())


def breaks(bench: Bench, client: Client, source: Host) -> None:
    client.current.channels[INPUTS, 0].send(0x7FFF, b"\xa5")


@requirement("CHAN-062", fault=(stuck_after(KEY_UP, case="leaves_inputs"), lost(KEY_UP), lost(SCANCODE)))
@pytest.mark.parametrize("end", [leaves_inputs, leaves, is_taken_over, breaks], ids=lambda f: f.__name__)
def test_keys_that_are_held(bench: Bench, end: Callable[[Bench, Client, Host], None]) -> None:
    """However the inputs channel ends, the server releases in the guest the keys that the client holds, and
    no others."""
    source, client, inputs = opened(bench)
    inputs.send(SpiceMsgcInputsKeyDown(code=0x1E))
    inputs.send(SpiceMsgcInputsKeyScancode(data=b"\x30\xe0\x48"))
    inputs.send(SpiceMsgcInputsKeyDown(code=0x2E))
    inputs.send(SpiceMsgcInputsKeyUp(code=0xAE))
    bench.settle()
    before = len(typed(bench))
    end(bench, client, source)
    bench.settle()
    seen = typed(bench)[before:]
    codes = sorted(seen.replace("e0c8", "").replace("9e", "9e ").replace("b0", "b0 ").split())
    wanted = codes == ["9e", "b0"] and seen.count("e0c8") == 1
    bench.claim(wanted, "9e, b0 and e0c8, the releases of what was held", seen or "nothing")


@requirement(
    "CHAN-063",
    fault=(put(WISH, modifiers=0, case="0-7"), put(WISH, modifiers=1, case="7-7"), lost(WISH, case="5-2")),
)
@pytest.mark.parametrize("wish", [0, 1, 2, 4, 7])
@pytest.mark.parametrize("lights", [0, 5, 7])
def test_lights_that_the_client_wishes(bench: Bench, lights: int, wish: int) -> None:
    """The server presses and releases those lock keys of the guest whose lights differ from the client's
    KEY_MODIFIERS, and no others; the same message again presses nothing."""
    source, _, inputs = opened(bench)
    source.call("kbd_leds", leds=lights)
    bench.settle()
    inputs.send(SpiceMsgcInputsKeyModifiers(modifiers=wish))
    bench.settle()
    differ = [key for light, key in LOCKS.items() if (lights ^ wish) & light]
    wanted = sorted(bytes([key, key | 0x80]).hex() for key in differ)
    seen = sorted(typed(bench)[at : at + 4] for at in range(0, len(typed(bench)), 4))
    bench.claim(seen == wanted, f"pressed and released: {wanted}", seen)
    inputs.send(SpiceMsgcInputsKeyModifiers(modifiers=wish))
    bench.settle()
    more = len(typed(bench)) // 4 - len(wanted)
    bench.claim(more == 0, "nothing for the same wish", f"{more} more keys")


@requirement("CHAN-063", fault=(lost(KEY_UP, case="caps"), lost(WISH, nth=2, case="num")))
@pytest.mark.parametrize("key", LOCKS.values(), ids=["scroll", "num", "caps"])
def test_lock_key_that_is_held(bench: Bench, key: int) -> None:
    """The client holds a lock key while it asks for other lights: the server leaves that key alone, until it
    is released and the client asks again."""
    _, _, inputs = opened(bench)
    inputs.send(SpiceMsgcInputsKeyDown(code=key))
    inputs.send(SpiceMsgcInputsKeyModifiers(modifiers=0))
    bench.settle()
    held = bytes([key]).hex()
    bench.claim(typed(bench) == held, f"{held} alone while it is held", typed(bench))
    inputs.send(SpiceMsgcInputsKeyUp(code=key | 0x80))
    inputs.send(SpiceMsgcInputsKeyModifiers(modifiers=0))
    bench.settle()
    wanted = bytes([key, key | 0x80, key, key | 0x80]).hex()
    bench.claim(typed(bench) == wanted, f"{wanted}: released, then pressed once", typed(bench))


@requirement(
    "CHAN-064",
    fault=(
        timers(+1, case="wish"),
        timers(-1, case="key"),
        lost(LIGHTS, case="wish"),
        changed("a key that stays down", SCANCODE, lambda b: b.replace(b"\xba", b"\x3a"), case="scan codes"),
    ),
)
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
@pytest.mark.parametrize("by", TURNS_ON_NUM_LOCK)
def test_lights_are_told_again(bench: Bench, by: str) -> None:
    """2,000 ms after the client has sent its lights, or pressed a lock key, the server sends the guest's. A
    key that repeats while it is held counts once."""
    _, _, inputs = opened(bench)
    inputs.send(TURNS_ON_NUM_LOCK[by])
    bench.settle()
    source = bench.hosts[0]
    bench.pass_time(source, LIGHTS_MS - 1)
    seen = [int(m.packet.modifiers) for m in inputs.got(LIGHTS)]
    bench.claim(not seen, f"nothing before {LIGHTS_MS} ms", seen)
    bench.pass_time(source, 1)
    seen = [int(m.packet.modifiers) for m in inputs.got(LIGHTS)]
    bench.claim(seen == [2], f"num lock in KEY_MODIFIERS after {LIGHTS_MS} ms", seen)


def agent_state(x: int, y: int, buttons: int, display: int) -> bytes:
    """VD_AGENT_MOUSE_STATE as the guest's agent reads it: VDIChunkHeader (the server's port), VDAgentMessage,
    VDAgentMouseState."""
    state = struct.pack("<IIIB", x, y, buttons, display)
    return chunk(agent_message(AgentType.VD_AGENT_MOUSE_STATE, state), AgentPort.VDP_SERVER_PORT)


@requirement(
    "CHAN-075",
    fault=(
        put(POSITION, display_id=0, case="left"),
        put(POSITION, x=222, case="left"),
        put(PRESS, buttons_state=0, nth=1, case="middle"),
        put(PRESS, button=DOWN, nth=2, case="right"),
        lost(RELEASE, case="left"),
    ),
)
@pytest.mark.parametrize("button", BUTTONS)
def test_mouse_reaches_the_agent(bench: Bench, button: str) -> None:
    """If the agent moves the pointer, it gets place, display, buttons and wheel; the guest's mouse and tablet
    get nothing."""
    number, mask, _ = BUTTONS[button]
    _, client, inputs = opened(bench, "tablet", "display", "agent")
    client_mode(bench, client)
    inputs.send(SpiceMsgcInputsMousePosition(x=17, y=222, buttons_state=mask, display_id=3))
    inputs.send(SpiceMsgcInputsMousePress(button=number, buttons_state=mask))
    inputs.send(SpiceMsgcInputsMousePress(button=UP, buttons_state=mask))
    inputs.send(SpiceMsgcInputsMousePress(button=DOWN, buttons_state=mask))
    inputs.send(SpiceMsgcInputsMouseRelease(button=number, buttons_state=0))
    bench.settle()
    read = read_by_guest(bench)
    held = mask << 1  # vd_agent.h, VD_AGENT_*BUTTON_MASK: one bit above the protocol's
    states = (held, held, held | AGENT_UP, held | AGENT_DOWN, 0)
    wanted = b"".join(agent_state(17, 222, buttons, 3) for buttons in states)
    bench.claim(read == wanted, f"at the agent {wanted.hex()}", read.hex() or "nothing")
    bench.claim(not moved(bench), "nothing at mouse and tablet", moved(bench))


@requirement(
    "CHAN-141",
    fault=(
        put(MOTION, buttons_state=0xFFC0, case="mouse"),
        put(POSITION, buttons_state=0x7FE0, case="agent"),
        lost(RELEASE, case="mouse"),
    ),
)
@pytest.mark.parametrize("pointer", ["mouse", "agent"])
def test_further_buttons(bench: Bench, pointer: str) -> None:
    """The client presses all further buttons and releases one: mouse or agent get each state."""
    _, client, inputs = opened(bench, *["display", "agent"] * (pointer == "agent"))
    if pointer == "agent":
        client_mode(bench, client)
    inputs.send(SpiceMsgcInputsMouseMotion(dx=1, dy=2, buttons_state=FURTHER))
    inputs.send(SpiceMsgcInputsMousePosition(x=17, y=222, buttons_state=FURTHER, display_id=0))
    inputs.send(SpiceMsgcInputsMousePress(button=SIDE, buttons_state=FURTHER))
    inputs.send(SpiceMsgcInputsMouseRelease(button=SIDE, buttons_state=FURTHER & ~0x20))
    bench.settle()
    states = FURTHER_THERE, FURTHER_THERE, FURTHER_THERE & ~0x40
    if pointer == "agent":
        read, due = read_by_guest(bench), b"".join(agent_state(17, 222, state, 0) for state in states)
        bench.claim(read == due, f"at the agent {due.hex()}", read.hex() or "nothing")
        return
    seen = [arguments["buttons"] for _, arguments in moved(bench)]
    bench.claim(seen == list(states), f"buttons {list(map(hex, states))}", list(map(hex, seen)))


@requirement("CHAN-140", fault=(lost(POSITION, nth=MOVES), put(POSITION, x=MOVES + 1, nth=MOVES)))
def test_agent_that_is_slow_to_read(bench: Bench) -> None:
    """The agent moves the pointer and does not read while the client moves: once the agent reads again, it
    gets the first place and the last one, which it had missed."""
    source, client, inputs = opened(bench, "display", "agent")
    client_mode(bench, client)
    source.call("chardev_take", device="agent", room=0)
    for number in range(1, MOVES + 1):
        inputs.send(SpiceMsgcInputsMousePosition(x=number, y=2 * number, buttons_state=1, display_id=0))
    inputs.send(SpiceMsgcInputsMouseRelease(button=LEFT, buttons_state=0))
    bench.settle()
    source.call("chardev_take", device="agent")
    bench.settle()
    read = read_by_guest(bench)
    wanted = agent_state(1, 2, 2, 0) + agent_state(MOVES, 2 * MOVES, 0, 0)
    bench.claim(read == wanted, f"at the agent {wanted.hex()}", read.hex() or "nothing")


@requirement("CHAN-076", fault=(never("tablet_size"), never("tablet_size", case="display")))
@pytest.mark.parametrize("later", ["tablet", "display"])
def test_tablet_is_told_the_screen(bench: Bench, later: str) -> None:
    """A tablet that is plugged into a machine with a screen gets the screen's size, and so does a tablet
    whose machine gets its screen later."""
    first = {"tablet": "display", "display": "tablet"}[later]
    source = bench.start(devices=("keyboard", "mouse", first))
    bench.client(source)
    bench.settle()
    source.call("chardev_attach", device=later)
    bench.settle()
    seen = [(e.args["w"], e.args["h"]) for e in bench.pump.tape.host_events if e.name == "tablet_size"]
    bench.claim(seen[-1:] == [SCREEN], f"the size {SCREEN}", seen)
