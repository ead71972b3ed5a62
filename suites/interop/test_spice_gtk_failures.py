# SPDX-License-Identifier: GPL-2.0-only
"""The real client, spice-gtk, when a migration fails: cancelled, refused, the target lost."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import ChannelType, Side
from fixtures.bench import Bench
from fixtures.bench.planting import requirement, stuck_after
from fixtures.gtk.gtk_scenarios import CANCEL, REFUSES, SWITCH, ArrivalKind, GtkScene

INPUTS = ChannelType.SPICE_CHANNEL_INPUTS

pytestmark = pytest.mark.client_duties
both_schemes = pytest.mark.parametrize("kind", [ArrivalKind.SEMI_SEAMLESS, ArrivalKind.SEAMLESS])
connected = requirement("MIG-CLI-001", "MIG-CLI-002", "MIG-CLI-003")
refused = requirement("MIG-CLI-002")


@requirement("MIG-CLI-023", fault=stuck_after("result", host="target", channel=INPUTS, case="semi-seamless"))
@both_schemes
@connected
def test_cancelled(bench: Bench, kind: ArrivalKind) -> None:
    """Cancelled once the client is connected to the target: its session goes on, and migrates the next
    time."""
    scene = GtkScene(bench, kind)
    scene.ready()
    cancelled, over = scene.more(scene.source, Side.SERVER, CANCEL), scene.idle()
    scene.announce()
    scene.source.cancel(scene.target)
    cancelled()
    over()
    scene.gone(scene.target, proves="MIG-CLI-023")
    scene.alive(scene.source)
    scene.retarget("target-2")
    scene.move()
    scene.alive(scene.target)
    scene.leave()


@both_schemes
@connected
def test_target_lost(bench: Bench, kind: ArrivalKind) -> None:
    """The target ends when the client is connected to it, and the migration is cancelled."""
    scene = GtkScene(bench, kind)
    scene.ready()
    cancelled, over = scene.more(scene.source, Side.SERVER, CANCEL), scene.idle()
    scene.announce()
    scene.target.stop()
    scene.source.cancel(scene.target)
    cancelled()
    over()
    scene.alive(scene.source)
    scene.leave()


@both_schemes
@refused
def test_target_refuses_the_ticket(bench: Bench, kind: ArrivalKind) -> None:
    """The target has another ticket: the client sends CONNECT_ERROR, and stays at the source as long as it
    may."""
    scene = GtkScene(bench, kind, ticket="sesame")
    scene.ready()
    scene.retarget("target-2", ticket="sesame street")
    scene.announce(REFUSES)
    scene.alive(scene.source)
    switched, kept_out = scene.more(scene.source, Side.SERVER, SWITCH), scene.reported("error-auth")
    scene.source.complete(scene.target)
    switched()
    kept_out()
    bench.settle()


@both_schemes
@refused
def test_target_with_another_certificate(bench: Bench, kind: ArrivalKind) -> None:
    """The target's certificate is not the announced one: the client does not link there."""
    scene = GtkScene(bench, kind, tls=True)
    scene.ready()
    scene.announce(REFUSES, subject="CN=somebody else")
    scene.alive(scene.source)
    scene.leave()
