# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the matrix tests: the requested cells, and the collection of their outcomes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from fixtures.bench import Bench
from fixtures.bench.planting import Fault
from suites.matrix.acts import Act, CallAct, LeaveAct, LinkAct, SendAct
from suites.matrix.cell_results import CellResults
from suites.matrix.cells import Cell, chosen
from suites.matrix.places import Place

#: The kind of act that shows the planted fault of a requirement.
SHOWN_BY: Mapping[str, type[Act]] = {
    "ROBUST-001": SendAct,
    "CELL-001": SendAct,
    "CELL-002": SendAct,
    "CELL-003": CallAct,
    "CELL-004": LinkAct,
    "CELL-005": LeaveAct,
}


@pytest.fixture
def wanted_cells(
    request: pytest.FixtureRequest, place: Place, planted: tuple[str, Fault] | None
) -> list[Cell]:
    """The cells that `--cell` names; with a planted fault, cells of the kind that shows it."""
    found = list(chosen(place, request.config.getoption("--cell")))
    return [cell for cell in found if planted is None or isinstance(cell.act, SHOWN_BY[planted[0]])]


@pytest.fixture
def results(request: pytest.FixtureRequest, bench: Bench, planted: tuple[str, Fault] | None) -> CellResults:
    """The results of a place; its content goes into the run."""
    node = request.node
    made = CellResults(node.nodeid, bench, request.config.getoption("--out"), node.user_properties)
    made.planted = planted[0] if planted else None
    return made


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--cell`, keeps only the places that have such a cell. A place of which not every cell is played
    judges no requirement: its test loses its markers."""
    glob = config.getoption("--cell")
    if glob:
        items[:] = [item for item in items if (place := _place(item)) and any(chosen(place, glob))]
    for item in items:
        if (place := _place(item)) and (glob or place.left_out):
            item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "requirement"]


def _place(item: pytest.Item) -> Place | None:
    spec = getattr(item, "callspec", None)
    return spec.params.get("place") if spec else None
