# SPDX-License-Identifier: GPL-2.0-only
"""The requirement catalogue with the tests that judge each, as pytest itself collects them."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill

import pytest

from dissectors.rules.catalogue import CATALOGUE, citations
from dissectors.rules.unseen_behaviour import UNSEEN
from fixtures.system.hosts import HarnessError, UsageError
from reports.run.environment import ROOT
from reports.views.protocol_page import protocol_page

WIDTH = 100
#: The self-tests that mutate a recorded conversation for a requirement.
SPOILED = ROOT / "suites" / "selftest" / "dissectors" / "rules"


@dataclass(frozen=True)
class MarkedTest:
    """A test's case that must judge a requirement. `title`: the first paragraph of its docstring. `faults`:
    the names of the faults that its marker plants for the requirement."""

    nodeid: str
    title: str
    faults: tuple[str, ...] = ()

    @property
    def function(self) -> str:
        """`file::function`, without the case's parameters."""
        return self.nodeid.split("[")[0]


class _Collector:
    """Notes each test's markers."""

    def __init__(self) -> None:
        self.tests: dict[str, list[MarkedTest]] = {}
        self.spoiled: dict[str, list[MarkedTest]] = {}
        self.trouble = ""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.trouble = f"{report.nodeid} cannot be collected; run pytest --collect-only to see why"

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            title = " ".join((getattr(item, "function", None).__doc__ or "").split("\n\n")[0].split())
            for mark in item.iter_markers("requirement"):
                faults = tuple(fault.name for fault in mark.kwargs.get("fault", ()))
                for identifier in mark.args:
                    self.tests.setdefault(identifier, []).append(MarkedTest(item.nodeid, title, faults))
            if callspec := getattr(item, "callspec", None):
                identifier, _, fault = callspec.id.partition(":")
                if identifier in CATALOGUE and fault:  # a self-test that mutates a recorded conversation
                    found = MarkedTest(item.nodeid, title, (fault.strip(),))
                    self.spoiled.setdefault(identifier, []).append(found)


def _collected() -> _Collector:
    """The tests that pytest collects from the suites. Raises HarnessError if it cannot."""
    collector = _Collector()
    options = ["-c", str(ROOT / "pytest.ini"), "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    # Nothing runs: rewriting the assertions would only cost seconds.
    options += ["--assert=plain", "--collect-only", "-qq", "-m", "slow or not slow"]
    suites = [str(path) for path in sorted((ROOT / "suites").glob("[a-z]*/")) if path.name != "selftest"]
    with redirect_stdout(io.StringIO()):
        pytest.main([*options, *suites, str(SPOILED)], plugins=[collector])
    if collector.trouble:
        raise HarnessError(collector.trouble)
    return collector


def tests_by_requirement() -> dict[str, list[str]]:
    """Requirement id -> test ids. Raises HarnessError if the suites cannot be collected."""
    return {i: [test.nodeid for test in tests] for i, tests in _collected().tests.items()}


def marked_tests(*identifiers: str) -> list[tuple[list[MarkedTest], list[MarkedTest]]]:
    """For each requirement, the cases that must judge it and the self-tests that mutate a recording for it.

    Raises HarnessError if the suites cannot be collected."""
    collector = _collected()
    return [(collector.tests.get(i, []), collector.spoiled.get(i, [])) for i in identifiers]


def as_json() -> str:
    """A list of requirements, each with `tests`, and with `citations`: (part of its source, the document).

    After them come requirements that cannot be judged from outside, with the level UNSEEN, no tests, and the
    `reason`."""
    tests = tests_by_requirement()
    rows = [
        {**asdict(r), "citations": citations(r), "tests": list(dict.fromkeys(tests.get(r.id, ())))}
        for r in CATALOGUE.values()
    ]
    empty = dict.fromkeys(rows[0], "") | {"level": "UNSEEN", "area": "unseen", "citations": [], "tests": []}
    rows += [empty | asdict(unseen) for unseen in UNSEEN.values()]
    return json.dumps(rows, indent=1, ensure_ascii=False)


def write_page(path: Path) -> None:
    """Writes the protocol that the suite checks as one page. Raises UsageError if it cannot be written."""
    try:
        path.write_text(protocol_page(), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def as_text() -> str:
    """The requirements as text, by area, with the number of their tests."""
    tests = tests_by_requirement()
    lines: list[str] = []
    area = ""
    for r in CATALOGUE.values():
        if r.area != area:
            area = r.area
            lines += ["", area.upper()]
        count = len(set(tests.get(r.id, ())))
        head = f"  {r.id:<14} {r.level:<9}"
        indent = " " * len(head)
        words = f"{r.text} [{r.source}; {count} test{'' if count == 1 else 's'}]"
        lines.append(fill(words, WIDTH, initial_indent=head, subsequent_indent=indent))
    lines += ["", "WHAT CANNOT BE SEEN FROM OUTSIDE"]
    for unseen in UNSEEN.values():
        head = f"  {unseen.id:<14} "
        words = f"{unseen.text} {unseen.reason} [{unseen.source}]"
        lines.append(fill(words, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)))
    return "\n".join(lines).lstrip("\n")
