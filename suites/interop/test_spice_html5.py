# SPDX-License-Identifier: GPL-2.0-only
"""A second real client, spice-html5, over the server's WebSocket: its session, and its part in a migration.

It has no SEMI_SEAMLESS_MIGRATE, so the source sends it SWITCH_HOST; what it does not implement is a client's
deviation."""

from __future__ import annotations

import pytest

from fixtures.bench import Bench
from fixtures.bench.planting import requirement
from fixtures.html5.html5_scene import DEVICES, Html5Scene
from fixtures.system.hosts import Ability

STAYS_MS = 10_000
SWITCH, STARTED = "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST", "SPICE_MSGC_MAIN_AGENT_START"

pytestmark = [
    pytest.mark.client_duties,
    pytest.mark.needs(Ability.CALLS, Ability.VIRTUAL_CLOCK),
    requirement("MIG-CLI-013", "MIG-CLI-014", "MIG-CLI-015", "MIG-CLI-017", "MIG-CLI-018"),
]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_session(bench: Bench, tls: bool) -> None:
    """The client opens its channels over the server's WebSocket, and gets what the guest draws."""
    scene = Html5Scene(bench, tls=tls)
    had = len(scene.messages())
    scene.source.call("qxl_draw")
    bench.pump.until(lambda: len(scene.messages()) > had, what="what the guest draws")
    bench.settle()


def test_with_agent(bench: Bench) -> None:
    """The client talks to the guest's agent, in client mouse mode."""
    scene = Html5Scene(bench, devices=(*DEVICES, "agent"))
    bench.pump.until(lambda: scene.said(STARTED), what=STARTED)
    bench.settle()


@requirement("MIG-SRC-018", "MIG-SRC-030", "MIG-CLI-006")
def test_switch_host(bench: Bench) -> None:
    """The client gets SWITCH_HOST when the machine has moved, and is dropped because it does not go."""
    scene = Html5Scene(bench)
    source, target = scene.source, scene.target
    source.announce(target)
    bench.wait(source, "migrate_connect_complete", proves="MIG-SRC-030")
    source.complete(target)
    bench.until(lambda: scene.said(SWITCH), SWITCH, proves="MIG-SRC-018")
    bench.pass_time(source, STAYS_MS)
    bench.pump.until(lambda: scene.left(source), what="the end of its connections")
    came = any(t.opened.host == target.label for t in bench.pump.tape.tracks.values())
    bench.claim(came, "a new session at the target after SWITCH_HOST", "no link", proves="MIG-CLI-006")
