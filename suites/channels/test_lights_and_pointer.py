# SPDX-License-Identifier: GPL-2.0-only
"""The keyboard's lights, and a pointer that is moved by absolute positions (spice.proto, InputsChannel;
server/inputs-channel.cpp)."""

from __future__ import annotations

import struct

import pytest

from dissectors.channels.inputs import SpiceMsgcInputsMouseMotion, SpiceMsgcInputsMousePosition
from dissectors.wire.constants import ChannelType, MsgcMain, MsgInputs, MsgMain
from dissectors.wire.enums import MouseMode
from fixtures.bench import Bench
from fixtures.bench.planting import added, lost, put, requirement
from fixtures.system.hosts import Ability

INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
INPUTS_INIT, LIGHTS = MsgInputs.SPICE_MSG_INPUTS_INIT, MsgInputs.SPICE_MSG_INPUTS_KEY_MODIFIERS
MOTION_ACK = MsgInputs.SPICE_MSG_INPUTS_MOUSE_MOTION_ACK
MODE, REQUEST = MsgMain.SPICE_MSG_MAIN_MOUSE_MODE, MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST
SERVER_MODE, CLIENT_MODE = MouseMode.SPICE_MOUSE_MODE_SERVER, MouseMode.SPICE_MOUSE_MODE_CLIENT
BUNCH = 4  # protocol.h, SPICE_INPUT_MOTION_ACK_BUNCH

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


@requirement(
    "CHAN-040",
    fault=(
        put(INPUTS_INIT, keyboard_modifiers=0, case="7"),
        put(INPUTS_INIT, keyboard_modifiers=1, case="0"),
        put(LIGHTS, modifiers=3, case="7"),
        lost(LIGHTS),
    ),
)
@pytest.mark.parametrize("lights", range(8))
def test_lights_of_the_guest(bench: Bench, lights: int) -> None:
    """INPUTS_INIT carries the lights that are on, and KEY_MODIFIERS each change of them."""
    source = bench.start()
    source.call("kbd_leds", leds=lights)
    inputs = bench.client(source, channels=(INPUTS,)).current.channels[INPUTS, 0]
    seen = int(bench.expect(inputs, INPUTS_INIT).packet.keyboard_modifiers)
    bench.claim(seen == lights, f"lights {lights} in INPUTS_INIT", seen)
    for changed in (lights ^ 1, lights ^ 7):
        source.call("kbd_leds", leds=changed)
        seen = int(bench.expect(inputs, LIGHTS).packet.modifiers)
        bench.claim(seen == changed, f"lights {changed} in KEY_MODIFIERS", seen)


@requirement(
    "CHAN-041", fault=(lost(MOTION_ACK, case="0-4"), added(INPUTS_INIT, MOTION_ACK), lost(MOTION_ACK, nth=2))
)
@pytest.mark.parametrize(("motions", "positions"), [(0, 4), (1, 3), (3, 1)])
def test_places_count_as_motions(bench: Bench, motions: int, positions: int) -> None:
    """MOUSE_POSITION counts for MOUSE_MOTION_ACK as MOUSE_MOTION does: three messages bring no ACK, each
    fourth one does."""
    client = bench.client(bench.start(), channels=(INPUTS,))
    inputs = client.current.channels[INPUTS, 0]
    bench.settle()
    moves = [SpiceMsgcInputsMouseMotion(dx=1, dy=2)] * motions
    moves += [SpiceMsgcInputsMousePosition(x=10, y=20)] * positions
    for number, move in enumerate(moves * 2, 1):
        inputs.send(move)
        bench.settle()
        seen = len(inputs.got(MOTION_ACK))
        bench.claim(seen == number // BUNCH, f"{number // BUNCH} after {number} messages", seen)


@requirement("MAIN-050", fault=(lost(MODE, nth=2), put(MODE, supported_modes=3, nth=2)))
def test_tablet_that_is_removed(bench: Bench) -> None:
    """The tablet is removed in the client's mouse mode: the server announces that only its own mode is
    left."""
    source = bench.start(devices=("keyboard", "mouse", "tablet", "display"))
    client = bench.client(source)
    bench.settle()
    client.main.send(REQUEST, struct.pack("<H", CLIENT_MODE))
    bench.settle()
    before = [int(m.packet.current_mode) for m in client.main.got(MODE)]
    bench.claim(before == [CLIENT_MODE], "the client's mode before", before, proves="MAIN-012")
    source.call("chardev_detach", device="tablet")
    bench.settle()
    seen = [(int(m.packet.supported_modes), int(m.packet.current_mode)) for m in client.main.got(MODE)]
    wanted = (int(SERVER_MODE), int(SERVER_MODE))
    bench.claim(seen[-1] == wanted and len(seen) == 2, f"MOUSE_MODE {wanted} once", seen[1:])
