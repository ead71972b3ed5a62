# SPDX-License-Identifier: GPL-2.0-only
"""`--planted-faults`: each fault once, with one test of its requirement that must turn red; the table."""

from __future__ import annotations

from typing import Any

import pytest

from dissectors.rules.judgement import FAILING, Finding, Verdict
from fixtures.bench import Bench
from fixtures.bench.fault import Fault
from fixtures.bench.faults import FAULTS

PLANTED, TABLE = "planted", "table"  # user properties of a report: a row, and a whole table to print
GREEN = "GREEN"
#: Where faults that name no test are planted first, so that a new test does not take them over.
HOMES = (
    "test_authentication",
    "test_connection_id",
    "test_link_message",
    "test_session",
    "test_seamless",
    "test_semi_seamless",
    "test_switch_host",
    "test_survival",
)
COLUMNS = 100


def parametrize(metafunc: pytest.Metafunc) -> None:
    """A test runs once for each fault that is planted for a requirement of its own."""
    ids = [i for mark in metafunc.definition.iter_markers("requirement") for i in mark.args]
    name = f"{metafunc.definition.path.name}::{metafunc.function.__name__}"
    planted = [(i, fault) for i in ids for fault in FAULTS.get(i, ()) if name.endswith(fault.test)]
    metafunc.parametrize("planted", planted, ids=[f"{i}:{fault.name}" for i, fault in planted])


def one_of_each(items: list[pytest.Item]) -> list[pytest.Item]:
    """The first test of each fault, in its case if it names one: first in the files of `HOMES`."""
    found: dict[tuple[str, str], pytest.Item] = {}
    for item in sorted(items, key=lambda i: HOMES.index(i.path.stem) if i.path.stem in HOMES else len(HOMES)):
        planted = planted_in(item)
        if planted and item.name.endswith(f"{planted[1].case}]"):
            found.setdefault((planted[0], planted[1].name), item)
    chosen = set(map(id, found.values()))
    return [item for item in items if id(item) in chosen]


def planted_in(item: pytest.Item) -> tuple[str, Fault] | None:
    """What is planted for a test: the requirement that is to be broken, and the fault."""
    planted = getattr(item, "callspec", None) and item.callspec.params.get("planted")  # type: ignore[attr-defined]
    return planted if isinstance(planted, tuple) else None


def must_be_red(item: pytest.Item, bench: Bench, failure: BaseException | None) -> None:
    """With a fault planted there has to be a finding on the requirement itself."""
    __tracebackhide__ = True
    planted = planted_in(item)
    assert planted is not None
    requirement, fault = planted
    found = next((f for f in bench.judgement.findings if f.requirement == requirement), None)
    item.user_properties.append((PLANTED, row(requirement, fault, found)))
    if found is None:
        broken = ", ".join(sorted(bench.judgement.broken)) or "nothing"
        raise AssertionError(f"{requirement} stays green with '{fault.name}'; broken: {broken}") from failure


def row(requirement: str, fault: Fault, found: Finding | None) -> tuple[str, str, str, str]:
    """Requirement, fault, verdict, and what was seen in place of what."""
    if found is None:
        return requirement, fault.name, GREEN, ""
    verdict = Verdict.FAIL if found.level in FAILING else Verdict.DIFFERS
    return requirement, fault.name, verdict.value, f"{found.seen} (expected: {found.expected})"


def table(rows: list[Any]) -> str:
    """The rows as text, at most `COLUMNS` wide."""
    lines = [f"{i:11} {verdict:7} {fault:31} {seen}"[:COLUMNS] for i, fault, verdict, seen in sorted(rows)]
    return "\n".join(line.rstrip() for line in lines)


def summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the table: of this run, or of one that a self-test has made."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, ())]
    told = [(name, value) for r in reports if r.when == "call" for name, value in r.user_properties]
    if rows := [tuple(value) for name, value in told if name == PLANTED]:
        terminalreporter.write_line(f"\n{table(rows)}")
        red = sum(verdict != GREEN for _, _, verdict, _ in rows)
        terminalreporter.write_line(f"planted faults: {red} of {len(rows)} turn their requirement red")
    for text in [value for name, value in told if name == TABLE]:
        terminalreporter.write_line(f"\n{text}")
