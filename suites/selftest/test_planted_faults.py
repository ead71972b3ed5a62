# SPDX-License-Identifier: GPL-2.0-only
"""For each requirement that a server owes, a planted fault turns its check red. Prints the table."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dissectors.rules.catalogue import CATALOGUE
from fixtures.faults import FAULTS
from suites.planted import COLUMNS, GREEN, TABLE

ROOT = Path(__file__).parents[2]
SUITES = ("link", "main_channel", "migration", "robust")
SECONDS = 400
#: Waits that tell nothing by themselves when they are in vain.
WAITS = {"expect", "until"}


def table() -> tuple[list[str], str]:
    """The table's rows, and all that the run said."""
    command = [sys.executable, "-m", "pytest", *(f"suites/{name}" for name in SUITES), "--planted-faults"]
    more = ["--record-only", "-q", "-n", "2", "-p", "no:cacheprovider", "--tb=line"]
    run = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    ids = tuple(f"{i} " for i in FAULTS)
    return [line for line in run.stdout.splitlines() if line.startswith(ids)], run.stdout + run.stderr


def test_each_fault_turns_its_check_red(record_property: Callable[[str, object], None]) -> None:
    rows, said = table()
    record_property(TABLE, "\n".join(rows))
    assert Counter(row.split()[0] for row in rows) == {i: len(faults) for i, faults in FAULTS.items()}, said
    assert [row for row in rows if row.split()[1] == GREEN] == []
    assert max(map(len, rows)) <= COLUMNS


def test_each_requirement_has_a_fault() -> None:
    assert FAULTS.keys() == {r.id for r in CATALOGUE.values() if r.duty == "server"}
    for requirement, faults in FAULTS.items():
        assert len({fault.name for fault in faults}) == len(faults), requirement


def bare_waits(tree: ast.AST, allowed: bool = False) -> Iterator[int]:
    """Lines of waits outside `bench.expect`, `bench.until`, and `with bench.owed(...)` or `suppress(...)`."""
    for node in ast.iter_child_nodes(tree):
        inside = allowed
        if isinstance(node, ast.With):
            told = {ast.unparse(item.context_expr).split("(")[0] for item in node.items}
            inside = allowed or bool(told & {"bench.owed", "suppress"})
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WAITS:
            if not inside and ast.unparse(node.func.value) != "bench":
                yield node.lineno
        yield from bare_waits(node, inside)


@pytest.mark.parametrize("suite", SUITES)
def test_each_wait_names_its_requirement(suite: str) -> None:
    """A server that stays silent is a finding on the requirement that the wait was for."""
    files = sorted((ROOT / "suites" / suite).glob("test_*.py"))
    found = {f"{p.name}:{n}" for p in files for n in bare_waits(ast.parse(p.read_text(encoding="utf-8")))}
    assert not found, "use bench.expect, bench.until or bench.owed"
