# SPDX-License-Identifier: GPL-2.0-only
"""`pytest --prove` (`make prove`): runs each planted fault once, in the test whose marker carries it. The
requirement must turn red. Prints what turned red with each fault. With `--old-bugs` (`make prove SOURCE=1`)
it does the same for bugs of the past and small changes of the source, each in a library built with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dissectors.rules.judgement import FAILING, Finding, Verdict
from dissectors.wire.visible_text import visible
from fixtures.bench import Bench
from fixtures.bench.launchers import Pairing
from fixtures.bench.planting import Fault
from fixtures.builds.old_bugs import load

PLANTED, TABLE = "planted", "table"  # user properties of a report: a row, and a whole table to print
GREEN = "GREEN"
COLUMNS = 100
Planted = tuple[str, Fault]  # the requirement that the fault must break, and the fault
#: Requirement, size of the change (`Fault.weight`), its name, the verdict, what else turned red, the test.
Row = tuple[str, int, str, str, list[str], str]


def faults_of(marks: Iterable[pytest.Mark]) -> Iterator[Planted]:
    """The faults that the markers of a test carry."""
    for mark in marks:
        if mark.name == "requirement":
            yield from ((mark.args[0], fault) for fault in mark.kwargs.get("fault", ()))


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Runs a test once for each fault that its markers carry."""
    planted = list(faults_of(metafunc.definition.iter_markers()))
    metafunc.parametrize("planted", planted, ids=[f"{i}:{fault.name}" for i, fault in planted])


def parametrize_old_bugs(metafunc: pytest.Metafunc, libraries: Mapping[str, Path]) -> None:
    """Runs a test once for each old bug that names it, on the library built with the bug."""
    here = f"{metafunc.definition.path.name}::{metafunc.function.__name__}"
    bugs = [bug for bug in load().values() if bug.tests == here]
    cases = [
        (Pairing.read(f"lib:{libraries[bug.fix]}"), (bug.broken, Fault(bug.title, case=bug.case)))
        for bug in bugs
    ]
    metafunc.parametrize(("pairing", "planted"), cases, ids=[f"{b.broken}:{b.title}" for b in bugs])


def one_of_each(items: list[pytest.Item]) -> list[pytest.Item]:
    """Each fault once: in the case that it names, or in the first case. Raises UsageError if the test has no
    such case."""
    found: dict[tuple[str, ...], pytest.Item] = {}
    declared: dict[tuple[str, ...], Fault] = {}
    for item in items:
        if planted := planted_in(item):
            key: tuple[str, ...] = (item.nodeid.split("[")[0], planted[0], planted[1].name, planted[1].case)
            declared[key] = planted[1]
            if item.name.endswith(f"{planted[1].case}]"):
                found.setdefault(key, item)
    for key, fault in declared.items():
        if key not in found:
            test, identifier, *_ = key
            raise pytest.UsageError(
                f"{test}: no case ends with {fault.case!r}, named by a fault of {identifier}"
            )
    chosen = set(map(id, found.values()))
    return [item for item in items if id(item) in chosen]


def planted_in(item: pytest.Item) -> Planted | None:
    """The fault that is planted for a test."""
    planted = getattr(item, "callspec", None) and item.callspec.params.get("planted")  # type: ignore[attr-defined]
    return planted if isinstance(planted, tuple) else None


def must_be_red(item: pytest.Item, bench: Bench, failure: BaseException | None) -> None:
    """Checks that a planted fault leads to a finding on its own requirement. Raises AssertionError."""
    __tracebackhide__ = True
    planted = planted_in(item)
    assert planted is not None
    identifier, fault = planted
    item.user_properties.append((PLANTED, row(identifier, fault, bench.judgement.findings, item)))
    if identifier not in bench.judgement.broken:
        broken = ", ".join(sorted({broken_by(f) for f in bench.judgement.findings})) or "nothing"
        raise AssertionError(f"{identifier} stays green with '{fault.name}'; broken: {broken}") from failure


def broken_by(finding: Finding) -> str:
    """A broken requirement, where, and what was seen."""
    where = f"{finding.host}: " if finding.host else ""
    return f"{finding.requirement} ({where}{visible(finding.seen)})"


def row(identifier: str, fault: Fault, findings: Sequence[Finding], test: pytest.Item) -> Row:
    """What one fault turned red in a test."""
    own = [f for f in findings if f.requirement == identifier]
    verdict = GREEN
    if own:
        verdict = (Verdict.FAIL if own[0].level in FAILING else Verdict.DIFFERS).value
    others = sorted({f.requirement for f in findings} - {identifier})
    name = f"{fault.name} [{fault.case.lstrip('-')}]" if fault.case else fault.name
    return identifier, fault.weight, name, verdict, others, test.name.split("[")[0]


def table(rows: list[Any]) -> str:
    """The rows as text, at most `COLUMNS` wide: requirement, verdict, fault, its test where several plant it,
    what else turned red."""
    lines = []
    planted = Counter((identifier, name) for identifier, _, name, *_ in rows)
    for identifier, _, name, verdict, others, test in sorted(map(tuple, rows)):
        where = f" in {test}" if planted[identifier, name] > 1 else ""
        more = f"  also red: {', '.join(others)}" if others else ""
        lines.append(f"{identifier:11} {verdict:7} {name}{where}{more}")
    return "\n".join(line if len(line) <= COLUMNS else f"{line[: COLUMNS - 3]}..." for line in lines)


def summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the table of this run, or a table that a self-test has made."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, ())]
    properties = [(name, value) for r in reports if r.when == "call" for name, value in r.user_properties]
    if rows := [value for name, value in properties if name == PLANTED]:
        terminalreporter.write_line(f"\n{table(rows)}")
        verdicts = Counter(value[3] for value in rows)
        red = len(rows) - verdicts[GREEN]
        proven = len({value[0] for value in rows if value[3] != GREEN})
        terminalreporter.write_line(
            f"{red} of {len(rows)} planted faults turn their requirement red; {proven} requirements"
        )
    for text in [value for name, value in properties if name == TABLE]:
        terminalreporter.write_line(f"\n{text}")
