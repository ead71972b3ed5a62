# SPDX-License-Identifier: GPL-2.0-only
"""The real client, spice-gtk, goes with the machine: each kind of migration, judged on both sides."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import Side
from fixtures.bench import Bench
from fixtures.gtk.gtk_scenarios import CHANNELS, DEVICES, Kind, Scene
from suites.interop.kinds import kinds

pytestmark = pytest.mark.client_duties


@kinds(*Kind)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_migration(bench: Bench, kind: Kind, tls: bool) -> None:
    """The client arrives with its channels, and its session works on the target."""
    scene = Scene(bench, kind, tls=tls)
    scene.ready()
    scene.move()
    scene.alive(scene.target)
    scene.leave()


@kinds(Kind.SEMI_SEAMLESS, Kind.SEAMLESS)
def test_chain(bench: Bench, kind: Kind) -> None:
    """From A to B to C: the client follows twice, under the session id that A gave it."""
    scene = Scene(bench, kind)
    scene.ready()
    scene.move()
    scene.go_on_to("target-2")
    scene.move()
    scene.alive(scene.target)
    scene.leave()


@kinds(Kind.SEMI_SEAMLESS, Kind.SEAMLESS)
def test_with_agent(bench: Bench, kind: Kind) -> None:
    """With a guest's agent attached (on QEMU its port: no guest is there to open it)."""
    scene = Scene(bench, kind, devices=(*DEVICES, "agent"))
    scene.ready()
    if scene.source.identity.kind == "library":
        start = "SPICE_MSGC_MAIN_AGENT_START"
        scene.until(lambda: scene.said(scene.source, Side.CLIENT, start), start)
    scene.move()
    scene.alive(scene.target)
    scene.leave()


@kinds(Kind.SEMI_SEAMLESS, Kind.SEAMLESS)
def test_with_sound(bench: Bench, kind: Kind) -> None:
    """With playback and record channels."""
    channels = (*CHANNELS, "playback", "record")
    devices = (*DEVICES, "playback", "record")
    scene = Scene(bench, kind, channels=channels, devices=devices, client={"features": ["enable-audio"]})
    scene.ready()
    scene.move()
    scene.alive(scene.target)
    scene.leave()
