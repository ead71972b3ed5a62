# SPDX-License-Identifier: GPL-2.0-only
"""The cases in pytest's reports: which tests judge a server; each one's verdict, findings and artefacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dissectors.rules.judgement import Verdict
from reports.run import run_directory as directory
from reports.run import verdict as verdicts
from reports.run.run_events import CaseFinished, Deviation

#: User properties: the bench's entries, a cell of the matrix with findings, the cells of a place.
CELL, MATRIX = "spice-cell", "spice-matrix"
PROPERTIES = frozenset({"spice", CELL, MATRIX})
#: Where pytest's configuration keeps the declared deviations.
DEVIATIONS = pytest.StashKey[Sequence[Deviation]]()


def is_case(report: pytest.TestReport) -> bool:
    """Whether a test judges a server (rather than the project's own code)."""
    if getattr(report, "spice_case", {}).get("requirements"):
        return True
    return any(name == "spice" for name, _ in report.user_properties) or in_suites(report.nodeid)


def in_suites(nodeid: str) -> bool:
    """Whether a test lies in the suites that judge a server."""
    parts = nodeid.partition("::")[0].split("/")
    return parts[0] == "suites" and "selftest" not in parts


def decision_on(
    last: pytest.TestReport, phases: list[pytest.TestReport], declared: Sequence[Deviation]
) -> verdicts.Decision:
    """The verdict of a test from the reports of its phases; `last`: the report that has its properties."""
    described = [case for phase in phases if (case := getattr(phase, "spice_case", None))]
    record = verdicts.case_record(last.user_properties)
    case = verdicts.with_defaults(record, described[0] if described else {})
    wrong = next((d for d in described if d["trouble"]), None)
    if wrong is None and last.failed:  # a worker that crashed describes nothing
        return verdicts.Decision(Verdict.ERROR, str(last.longrepr).splitlines()[0], case.findings)
    trouble = verdicts.Trouble(wrong["trouble"]) if wrong else None
    reason = wrong["reason"] if wrong else ""
    return verdicts.decide(case, trouble, reason, test=last.nodeid, declared=declared)


def cells_of(report: pytest.TestReport, declared: Sequence[Deviation]) -> list[CaseFinished]:
    """The driven cells of a matrix test that have findings, each a case of its own."""
    found: Any = [value for name, value in report.user_properties if name == CELL]
    return [_cell(report.nodeid, value, declared) for value in found]


def _matrix(report: pytest.TestReport) -> Any:
    """The cells of the test's place, if the test belongs to the matrix."""
    return next((value for name, value in report.user_properties if name == MATRIX), {})


def _cell(test: str, evidence: dict[str, Any], declared: Sequence[Deviation]) -> CaseFinished:
    record, nodeid = verdicts.case_record([("spice", evidence)]), f"{test}/{evidence['cell']}"
    decision = verdicts.decide(record, verdicts.Trouble.FINDINGS, "", test=nodeid, declared=declared)
    return replace(_finished(record, decision, nodeid, evidence["title"]), cell=evidence["cell"])


def case_of(
    last: pytest.TestReport, phases: list[pytest.TestReport], declared: Sequence[Deviation], out: Path
) -> CaseFinished:
    """The case of a test; `last`, `phases` as in `decision_on`. `out`: artefacts are named relative to it."""
    described: dict[str, Any] = getattr(phases[0], "spice_case", {})
    record = verdicts.with_defaults(verdicts.case_record(last.user_properties), described)
    decision = decision_on(last, phases, declared)
    return replace(
        _finished(record, decision, last.nodeid, described.get("title", last.nodeid)),
        duration_s=round(sum(phase.duration for phase in phases), 4),
        artefacts={kind: directory.relative(path, out) for kind, path in record.artefacts.items()},
        matrix=_matrix(last),
    )


def _finished(
    record: verdicts.CaseRecord, decision: verdicts.Decision, nodeid: str, title: str
) -> CaseFinished:
    return CaseFinished(
        nodeid=nodeid,
        title=title,
        server=record.server or "system",
        requirements=record.requirements,
        verdict=decision.verdict,
        reason=decision.reason,
        kept=record.kept,
        findings=decision.findings,
        artefacts=record.artefacts,
        identities=record.identities,
        moves=record.moves,
    )
