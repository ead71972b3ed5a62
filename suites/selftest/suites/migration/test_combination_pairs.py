# SPDX-License-Identifier: GPL-2.0-only
"""The list of combined migrations covers every pair of values, and is the same in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations as pairs_of

import pytest

from suites.combinations import APART, LACKS, PARAMETERS, allowed, called, combinations, made_anew


@pytest.mark.parametrize(
    ("one", "other"), list(pairs_of(PARAMETERS, 2)), ids=lambda name: name if isinstance(name, str) else None
)
def test_every_pair(one: str, other: str) -> None:
    """Each pair of compatible values is in a row."""
    there = {(row[one], row[other]) for row in combinations()}
    wanted = {(x, y) for x in PARAMETERS[one] for y in PARAMETERS[other] if allowed({one: x, other: y})}
    assert wanted == there


def test_rows() -> None:
    """No row has incompatible values; every value is in some row; names are unique."""
    rows = combinations()
    assert all(allowed(row) for row in rows)
    assert {name: {row[name] for row in rows} for name in PARAMETERS} == {
        name: set(values) for name, values in PARAMETERS.items()
    }
    assert len({called(row) for row in rows}) == len(rows)


def test_what_is_left_out() -> None:
    """Each value that is incompatible with another belongs to its parameter, and has a reason."""
    for apart in APART:
        assert apart.why
        for name, values in apart.values.items():
            assert set(values) < set(PARAMETERS[name])
    assert {type(cap).__name__ for cap in LACKS.values() if cap is not None} >= {"MainCap", "DisplayCap"}


def test_the_list_is_up_to_date() -> None:
    """The file equals the table's rows; `python -m suites.combinations` writes it."""
    assert [list(row.values()) for row in combinations()] == made_anew()


def test_same_list_everywhere() -> None:
    """Another process, with other hashes of strings, computes the same list."""
    ask = "from suites.combinations import *; print(*made_anew(), sep='\\n')"
    other = subprocess.run(
        [sys.executable, "-c", ask],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert other.stdout.splitlines() == [str(list(row.values())) for row in combinations()]
