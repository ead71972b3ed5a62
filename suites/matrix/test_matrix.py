# SPDX-License-Identifier: GPL-2.0-only
"""Every state, every message, every call: each place once, with all of its cells.

    pytest suites/matrix --cell 'main: announced / SPICE_MSGC_PONG'

runs one cell alone. A cell with findings is a case of its own in the reports.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from fixtures.bench import Bench
from fixtures.bench.planting import requirement
from fixtures.peer import Pump
from fixtures.system.hosts import Ability
from suites.matrix.board import Board
from suites.matrix.cells import chosen
from suites.matrix.places import Place, places
from suites.matrix.scene import Scene
from suites.matrix.sheet import Sheet

PLACES = list(places())


@requirement("ROBUST-001", "ROBUST-002", "ROBUST-003", "CELL-001")
@pytest.mark.needs(Ability.COPIES, Ability.CALLS, Ability.DEVICES, Ability.VIRTUAL_CLOCK, Ability.STATS)
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_place(bench: Bench, place: Place, cell_glob: str | None, sheet: Sheet) -> None:
    """Whatever happens in this state, the server lives on and does what the state owes."""

    def make() -> tuple[Scene, Mapping[str, int]]:
        pump = Pump()
        host = bench.start(place.label, pump=pump, **place.settings)
        counts = host.stats()
        scene = Scene(pump, host)
        for act in place.path:
            scene.do(act)
        return scene, counts

    board = Board(place, make, copies=place.forks and not bench.relays)
    try:
        for cell in chosen(place, cell_glob):
            if cell.left_out:
                sheet.leave_out(cell)
            else:
                sheet.take(board.play(cell))
    finally:
        board.close()
    sheet.close()
