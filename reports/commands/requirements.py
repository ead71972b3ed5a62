# SPDX-License-Identifier: GPL-2.0-only
"""The requirement catalogue with the tests that judge each, as pytest itself collects them."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import asdict
from textwrap import fill

import pytest

from dissectors.rules.catalogue import CATALOGUE
from fixtures.system.hosts import HarnessError
from reports.run.environment import ROOT

WIDTH = 100


class _Collector:
    """Takes each test's markers down."""

    def __init__(self) -> None:
        self.tests: dict[str, list[str]] = {}
        self.trouble = ""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.trouble = f"{report.nodeid} cannot be collected; run pytest --collect-only to see why"

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            for mark in item.iter_markers("requirement"):
                for identifier in mark.args:
                    self.tests.setdefault(identifier, []).append(item.nodeid)


def tests_by_requirement() -> dict[str, list[str]]:
    """Requirement id -> test ids; HarnessError where the suites cannot be collected."""
    collector = _Collector()
    options = ["-c", str(ROOT / "pytest.ini"), "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    with redirect_stdout(io.StringIO()):
        pytest.main([*options, "--collect-only", "-qq", str(ROOT / "suites")], plugins=[collector])
    if collector.trouble:
        raise HarnessError(collector.trouble)
    return collector.tests


def as_json() -> str:
    """A list of requirements, each with `tests`."""
    tests = tests_by_requirement()
    rows = [{**asdict(r), "tests": list(dict.fromkeys(tests.get(r.id, ())))} for r in CATALOGUE.values()]
    return json.dumps(rows, indent=1, ensure_ascii=False)


def as_text() -> str:
    """For people: by area, with the tests' number."""
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
    return "\n".join(lines).lstrip("\n")
