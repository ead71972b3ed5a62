# SPDX-License-Identifier: GPL-2.0-only
"""The real client, spice-gtk, goes with the machine: each kind of migration, judged on both sides."""

from __future__ import annotations

import pytest

from dissectors.constants import Side
from fixtures.bench import Bench
from fixtures.gtk.scenario import CHANNELS, DEVICES, Kind, Scene

pytestmark = pytest.mark.client_duties

#: What must have been seen of the client in each kind of migration.
DUTIES = {
    Kind.SEMI_SEAMLESS: ("MIG-CLI-001", "MIG-CLI-002", "MIG-CLI-003", "MIG-CLI-004", "MIG-CLI-005"),
    Kind.SEAMLESS: (
        *("MIG-CLI-001", "MIG-CLI-002", "MIG-CLI-003", "MIG-CLI-007", "MIG-CLI-008"),
        *("MIG-CLI-009", "MIG-CLI-010"),
    ),
    Kind.SWITCH_HOST: ("MIG-CLI-002", "MIG-CLI-006"),
    Kind.LATE: ("MIG-CLI-006",),
}
ALWAYS = ("MIG-CLI-013", "MIG-CLI-017", "MIG-CLI-018")


def kinds(*wanted: Kind) -> pytest.MarkDecorator:
    """One case for each kind, marked with the duties that it shows."""
    cases = [
        pytest.param(kind, id=kind, marks=pytest.mark.requirement(*DUTIES[kind], *ALWAYS)) for kind in wanted
    ]
    return pytest.mark.parametrize("kind", cases)


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
