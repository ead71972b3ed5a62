# SPDX-License-Identifier: GPL-2.0-only
"""Bugs that a later release fixed: one cause is told once, by every report, and excuses nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from packaging.version import Version

from dissectors.rules.catalogue import CATALOGUE as SHIPPED_CATALOGUE
from dissectors.rules.judgement import Verdict
from reports.commands.compare import comparison
from reports.run import fixed_bugs
from reports.run.exit_status import Exit
from reports.run.run_events import CaseFinished, Deviation, FixedBug, decode, encode
from reports.run.tally import Run
from reports.views import certificate, job_summary, junit, page
from reports.views.terminal import summary
from suites.selftest.reports.run.report_samples import DEVIATION, MUST, OBSERVED, ROBUST, case, found, run

WHAT = "A channel that has ended stays in its session."
GONE = "the connection ended (closed)"
BUG = FixedBug(
    "0a1b2c3d",
    "0.14.3",
    WHAT,
    (
        Deviation(MUST.id, GONE, WHAT, versions="<0.14.3", tests=("*relinked*",)),
        Deviation("ROBUST-*", GONE, WHAT, versions="<0.14.3", tests=("*relinked*", "*again*")),
        Deviation(OBSERVED.id, GONE, WHAT, versions="<0.14.3", tests=("*observed*",)),
    ),
)


def _broken(version: str | None, *more: CaseFinished) -> Run:
    """A run of a build of this version that shows the bug in three requirements."""
    old = run(
        case("again", Verdict.FAIL, ROBUST, [found(ROBUST, GONE)], version=version),
        case("relinked", Verdict.FAIL, MUST, [found(MUST, GONE)], version=version),
        case("observed", Verdict.DIFFERS, OBSERVED, [found(OBSERVED, GONE)], version=version),
        *more,
    )
    return replace(old, started=replace(old.started, fixed_bugs=(BUG,)))


def test_one_cause_is_one_failure() -> None:
    """The requirement that the bug names first tells it; the others are its consequences."""
    told = _broken("0.14.1")
    (failure,) = told.failures
    assert (failure.bug, failure.ids) == (BUG, (MUST.id, ROBUST.id, OBSERVED.id))
    assert [e.case.nodeid.rpartition("::")[2] for e in failure.cases] == ["relinked"]


def test_an_old_bug_is_no_excuse() -> None:
    """Verdicts and exit status are the same as without the table."""
    told = _broken("0.14.1")
    bare = replace(told, started=replace(told.started, fixed_bugs=()))
    assert told.exit is bare.exit is Exit.NOT_CONFORMANT
    assert told.counts() == bare.counts()
    assert [f.bug for f in bare.failures] == [None] * 3
    assert "2 are not (2 by 1 bug that a later release fixed)" in told.sentence


@pytest.mark.parametrize("version", ["0.14.3", "0.15.1", None])
def test_a_build_with_the_fix_has_another_bug(version: str | None) -> None:
    """A build that has the fix, or may have it, shows a fault of its own."""
    assert [f.bug for f in _broken(version).failures] == [None] * 3


def test_another_finding_is_told_beside_the_cause() -> None:
    """A requirement that breaks in another way too is a failure of its own: the bug does not hide it."""
    other = case("elsewhere", Verdict.FAIL, MUST, [found(MUST, GONE)], version="0.14.1")
    told = _broken("0.14.1", other)
    assert [(f.bug, f.ids) for f in told.failures] == [(BUG, (ROBUST.id, OBSERVED.id)), (None, (MUST.id,))]


def test_a_declared_finding_needs_no_cause() -> None:
    """A deviation is told as a deviation."""
    told = _broken("0.14.1")
    declared = replace(DEVIATION, requirement="*", symptom=GONE)
    told = replace(told, started=replace(told.started, deviations=(declared,)))
    assert told.failures == ()


def test_every_report_tells_the_cause_once() -> None:
    """The certificate, terminal, page, JUnit and job summary name fix and consequences."""
    told = _broken("0.14.1")
    (cause,) = json.loads(certificate.text(told))["causes"]
    assert (cause["commit"], cause["fixed_in"], cause["requirement"]) == (BUG.commit, "0.14.3", MUST.id)
    assert cause["consequences"] == [ROBUST.id, OBSERVED.id]
    assert len(cause["tests"]) == 3
    for text in (summary(told, Path("out"), colour=False), job_summary.markdown(told)):
        assert text.count(BUG.fix) == 1
    assert "".join(job_summary.github_errors(told)).count("::error") == 1
    assert f"One cause, {BUG.fix}:" in page.page(told)
    failures = [e.attrib["message"] for e in ET.fromstring(junit.junit(told)).iter("failure")]
    assert len(failures) == 2
    assert all(BUG.fix in message for message in failures)


def test_compared_builds_name_the_cause_once() -> None:
    """Of the requirements that a bug breaks, one names the fix and the others only its commit."""
    sound = run(case("again", requirement=ROBUST), case("relinked"), case("observed", requirement=OBSERVED))
    text, worse = comparison(_broken("0.14.1"), sound)
    assert not worse
    assert text.splitlines()[1:] == [
        f"  other  {MUST.id:<14} FAIL -> PASS ({BUG.fix}: {WHAT})",
        f"  other  {ROBUST.id:<14} FAIL -> PASS ({BUG.commit} too)",
        f"  other  {OBSERVED.id:<14} DIFFERS -> PASS ({BUG.commit} too)",
    ]


def test_the_run_records_the_table() -> None:
    """The events hold the bugs with which the run was judged; a run from before has none."""
    started = _broken("0.14.1").started
    assert decode(encode(started)) == started
    old = json.loads(encode(started))
    del old["fixed_bugs"]
    assert decode(json.dumps(old)) == replace(started, fixed_bugs=())


@pytest.mark.parametrize("bug", fixed_bugs.load(), ids=lambda bug: bug.commit)
def test_shipped_entry(bug: FixedBug) -> None:
    """An entry names a commit, a release, and for each requirement its symptom and its tests."""
    assert int(bug.commit, 16) >= 0
    assert len(bug.commit) == 8
    assert Version("0.12.8") < Version(bug.fixed_in) < Version("0.16.1")
    assert bug.what.endswith(".")
    for show in bug.shows:
        assert any(fnmatchcase(identifier, show.requirement) for identifier in SHIPPED_CATALOGUE)
        assert show.tests
        assert show.symptom.strip("*"), "a symptom that every finding has"
