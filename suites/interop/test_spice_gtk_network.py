# SPDX-License-Identifier: GPL-2.0-only
"""The real client, spice-gtk, in a network: other addresses, slow and lossy lines, a cut line."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import Side
from fixtures.bench import Bench
from fixtures.bench.namespace_bench import LineQuality, Spread, spread
from fixtures.gtk.gtk_scenarios import END, ArrivalKind, GtkScene
from fixtures.system.namespaces import Called
from suites.interop.client_requirements import kinds

pytestmark = pytest.mark.client_duties
both_schemes = kinds(ArrivalKind.SEMI_SEAMLESS, ArrivalKind.SEAMLESS)
POOR = LineQuality(delay_ms=20, loss_percent=3)


def away(bench: Bench, kind: ArrivalKind, made: Spread) -> GtkScene:
    """The client in a network namespace of its own, with the relay that records it."""
    recorder = {"place": made.place(), "rules": made.rules}
    client = {"prefix": made.network.prefix("client")}
    return GtkScene(bench, kind, relay=recorder, client=client, deadline=20.0)


@kinds(ArrivalKind.SEMI_SEAMLESS)
@pytest.mark.parametrize("called", list(Called))
def test_another_address(bench: Bench, kind: ArrivalKind, called: Called) -> None:
    """BEGIN names the target as IPv4, as IPv6, or by host name."""
    scene = away(bench, kind, spread(bench, called))
    scene.ready()
    scene.move()
    scene.alive(scene.target)
    scene.leave()


@both_schemes
def test_slow_and_lossy_lines(bench: Bench, kind: ArrivalKind) -> None:
    """The lines delay packets by 20 ms each way and lose some."""
    scene = away(bench, kind, spread(bench, line=POOR))
    scene.ready()
    arrived = scene.arrival()
    scene.announce()
    scene.heard()
    scene.source.complete(scene.target)
    arrived()
    scene.alive(scene.target)
    scene.leave()


@both_schemes
def test_line_to_the_target_is_cut_for_a_while(bench: Bench, kind: ArrivalKind) -> None:
    """After the client's answer the line to the target is cut, and restored when the machine has moved."""
    made = spread(bench)
    scene = away(bench, kind, made)
    scene.ready()
    arrived, left = scene.arrival(), scene.more(scene.source, Side.SERVER, END[kind])
    scene.announce()
    made.network.cut("client", "target")
    scene.source.complete(scene.target)
    left()
    made.network.mend("client", "target")
    arrived()
    scene.alive(scene.target)
    scene.leave()
