# SPDX-License-Identifier: GPL-2.0-only
"""The matrix: every message, call, link and leave in every state. A test plays all cells of one place.

    pytest suites/matrix --cell 'main: announced / SPICE_MSGC_PONG'

runs one cell alone. Each cell with findings is a case of its own in the reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dissectors.wire.constants import ChannelType, MsgcMain, MsgInputs, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import dies_at, lost, requirement, stuck_after
from fixtures.peer import Pump
from fixtures.system.hosts import Ability, Unsupported
from suites.matrix.acts import MAIN, LinkAct
from suites.matrix.cell_player import CellPlayer
from suites.matrix.cell_results import CellResults
from suites.matrix.cells import Cell
from suites.matrix.places import Place, places
from suites.matrix.scene import MatrixScene

M, CARD = MsgMain, ChannelType.SPICE_CHANNEL_SMARTCARD
PLACES = {True: [], False: []}  # type: dict[bool, list[Place]]
for found in places():
    PLACES[found.channel == MAIN].append(found)
copied = pytest.mark.needs(
    Ability.COPIES, Ability.CALLS, Ability.DEVICES, Ability.VIRTUAL_CLOCK, Ability.STATS
)


def places_of(main: bool) -> list[Any]:
    """The places of main, or those of all other channels, as parameters."""
    return [pytest.param(p, id=str(p)) for p in PLACES[main]]


@requirement("ROBUST-001", fault=dies_at(MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST, case="main: session"))
@requirement("ROBUST-002", "ROBUST-003")
@requirement("CELL-001", fault=lost(M.SPICE_MSG_MAIN_MIGRATE_CANCEL, case="main: session"))
@requirement("CELL-002", fault=lost(M.SPICE_MSG_MAIN_MIGRATE_CANCEL, case="main: connected"))
@requirement("CELL-003", fault=lost(M.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST, case="main: refused"))
@requirement("CELL-004", fault=lost(MsgInputs.SPICE_MSG_INPUTS_INIT, case="main: session"))
@requirement("CELL-005", fault=stuck_after(M.SPICE_MSG_MAIN_INIT, case="main: session"))
@copied
@pytest.mark.parametrize("place", places_of(True))
def test_main(bench: Bench, place: Place, wanted_cells: list[Cell], results: CellResults) -> None:
    """Whatever happens to a main channel in this state, the server lives on and answers as the tables
    require."""
    play(bench, place, wanted_cells, results)


@requirement("ROBUST-001", "ROBUST-002", "ROBUST-003", "CELL-001", "CELL-002", "CELL-005")
@copied
@pytest.mark.parametrize("place", places_of(False))
def test_other(bench: Bench, place: Place, wanted_cells: list[Cell], results: CellResults) -> None:
    """Whatever happens to another channel in this state, the server lives on and answers as the tables
    require."""
    play(bench, place, wanted_cells, results)


def play(bench: Bench, place: Place, wanted: list[Cell], results: CellResults) -> None:
    """Plays the cells of a place; without smartcards where the build has none."""
    try:
        _play(bench, place, wanted, results)
    except Unsupported:
        devices = place.settings["devices"]
        if place.channel == CARD or "smartcard" not in devices:
            raise
        fewer = tuple(device for device in devices if device != "smartcard")
        place = replace(place, settings={**place.settings, "devices": fewer})
        _play(bench, place, [_without_cards(cell, place) for cell in wanted], results)


def _without_cards(cell: Cell, place: Place) -> Cell:
    """The same cell at a machine without smartcards."""
    concerned = isinstance(cell.act, LinkAct) and cell.act.channel == CARD
    return Cell(place, cell.act, "cannot be: this build has no smartcards" if concerned else cell.left_out)


def _play(bench: Bench, place: Place, wanted: list[Cell], results: CellResults) -> None:
    def make() -> tuple[MatrixScene, Mapping[str, int]]:
        pump = Pump()
        host = bench.start(place.label, pump=pump, **place.settings)
        counts = host.stats()
        scene = MatrixScene(pump, host)
        for act in place.path:
            scene.do(act)
        return scene, counts

    player = CellPlayer(place, make, copies=place.forks and not bench.relays)
    try:
        for cell in wanted:
            if cell.left_out:
                results.leave_out(cell)
            elif not results.proved:
                results.take(player.play(cell))
    finally:
        player.close()
    results.close()
