# SPDX-License-Identifier: GPL-2.0-only
"""The real client, spice-gtk, migrates with the machine: each kind of migration, judged on both sides."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import ChannelType, MsgInputs, Side
from fixtures.bench import Bench
from fixtures.bench.planting import requirement, stuck_after
from fixtures.gtk.gtk_scenarios import CHANNELS, DEVICES, ArrivalKind, GtkScene
from fixtures.system.hosts import Ability
from suites.interop.client_requirements import kinds

INPUTS, INPUTS_INIT = ChannelType.SPICE_CHANNEL_INPUTS, MsgInputs.SPICE_MSG_INPUTS_INIT

pytestmark = pytest.mark.client_duties


@requirement(
    "MIG-CLI-022",
    fault=stuck_after(INPUTS_INIT, host="source", channel=INPUTS, case="plain-semi-seamless"),
)
@kinds(*ArrivalKind)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_migration(bench: Bench, kind: ArrivalKind, tls: bool) -> None:
    """The client arrives with its channels, and its session works at the target."""
    scene = GtkScene(bench, kind, tls=tls)
    scene.ready()
    scene.move()
    scene.gone(scene.source, proves="MIG-CLI-022")
    scene.alive(scene.target)
    scene.leave()


@kinds(ArrivalKind.SEMI_SEAMLESS, ArrivalKind.SEAMLESS)
def test_chain(bench: Bench, kind: ArrivalKind) -> None:
    """From A to B to C: the client migrates twice, with the session id that A gave it."""
    scene = GtkScene(bench, kind)
    scene.ready()
    scene.move()
    scene.go_on_to("target-2")
    scene.move()
    scene.alive(scene.target)
    scene.leave()


@kinds(ArrivalKind.SEMI_SEAMLESS, ArrivalKind.SEAMLESS)
@requirement("MIG-CLI-019")
@pytest.mark.needs(Ability.CALLS)
def test_with_agent(bench: Bench, kind: ArrivalKind) -> None:
    """The client has sent AGENT_START to the guest's agent."""
    scene = GtkScene(bench, kind, devices=(*DEVICES, "agent"))
    scene.ready()
    data = "SPICE_MSGC_MAIN_AGENT_DATA"
    scene.until(lambda: scene.said(scene.source, Side.CLIENT, data), data)
    scene.move()
    scene.alive(scene.target)
    scene.leave()


@kinds(ArrivalKind.SEMI_SEAMLESS, ArrivalKind.SEAMLESS)
def test_with_agent_that_is_not_there(bench: Bench, kind: ArrivalKind) -> None:
    """The machine has a port for the agent, and no process in the guest has opened it."""
    scene = GtkScene(bench, kind, devices=(*DEVICES, "agent"))
    scene.ready()
    scene.move()
    scene.alive(scene.target)
    scene.leave()


@kinds(ArrivalKind.SEMI_SEAMLESS, ArrivalKind.SEAMLESS)
def test_with_sound(bench: Bench, kind: ArrivalKind) -> None:
    """With playback and record channels."""
    channels = (*CHANNELS, "playback", "record")
    devices = (*DEVICES, "playback", "record")
    scene = GtkScene(bench, kind, channels=channels, devices=devices, client={"features": ["enable-audio"]})
    scene.ready()
    scene.move()
    scene.alive(scene.target)
    scene.leave()
