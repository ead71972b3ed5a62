# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of the matrix hold: which cells are asked for, and what takes their outcomes."""

from __future__ import annotations

import pytest

from fixtures.bench import Bench
from suites.matrix.cells import chosen
from suites.matrix.sheet import Sheet


@pytest.fixture
def cell_glob(request: pytest.FixtureRequest) -> str | None:
    """The glob of `--cell`."""
    glob: str | None = request.config.getoption("--cell")
    return glob


@pytest.fixture
def sheet(request: pytest.FixtureRequest, bench: Bench) -> Sheet:
    """The sheet of a place; what is on it goes into the run."""
    node = request.node
    return Sheet(node.nodeid, bench, request.config.getoption("--out"), node.user_properties)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--cell` only the places that have such a cell."""
    glob = config.getoption("--cell")
    if glob:
        items[:] = [
            item
            for item in items
            if (place := getattr(item, "callspec", None) and item.callspec.params.get("place"))  # type: ignore[attr-defined]
            and any(chosen(place, glob))
        ]
