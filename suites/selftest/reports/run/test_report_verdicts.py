# SPDX-License-Identifier: GPL-2.0-only
"""From a test's ending and the oracle's findings to verdicts, and from verdicts to an exit status."""

from __future__ import annotations

import gzip
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from dissectors.rules.judgement import Finding, Requirement, Verdict
from fixtures.system.hosts import HarnessError, Unsupported, UsageError
from reports.run import run_events as record
from reports.run.exit_status import Exit
from reports.run.merged_runs import apart, merge
from reports.run.results import evidence_of
from reports.run.run_events import CasesFound, RunEvent, RunFinished, decode, encode
from reports.run.tally import Run
from reports.run.verdict import Trouble, case_record, decide, one_line, trouble_of, worst
from reports.views.titles import parameters
from suites.selftest.reports.run.report_samples import (
    CATALOGUE,
    CRASH,
    DEVIATION,
    MUST,
    OBSERVED,
    ROBUST,
    UNREACHED,
    case,
    found,
    identity,
    run,
)


def _told(*findings: Finding, requirement: Requirement = MUST, **more: Any) -> list[tuple[str, Any]]:
    return [
        ("unrelated", 1),
        (
            "spice",
            {
                "server": "system",
                "identity": asdict(identity()),
                "requirements": [requirement.id],
                "judgement": {"findings": [f.as_dict() for f in findings], "kept": {}},
                **more,
            },
        ),
    ]


@pytest.mark.parametrize(
    ("properties", "trouble", "reason", "verdict"),
    [
        (_told(), None, "", Verdict.PASS),
        (_told(found(MUST)), None, "", Verdict.FAIL),
        (_told(found(MUST)), Trouble.ASSERTION, "broken", Verdict.FAIL),
        (_told(found(MUST)), Trouble.HARNESS, "host is gone", Verdict.FAIL),
        (_told(found(OBSERVED)), None, "", Verdict.DIFFERS),
        (_told(requirement=MUST), Trouble.ASSERTION, "1 == 2", Verdict.FAIL),
        (_told(requirement=OBSERVED), Trouble.ASSERTION, "1 == 2", Verdict.DIFFERS),
        (_told(found(ROBUST, CRASH)), Trouble.ASSERTION, "died", Verdict.DEVIATES),
        (_told(found(ROBUST, CRASH), found(MUST)), Trouble.ASSERTION, "died", Verdict.FAIL),
        (_told(requirement=ROBUST), Trouble.ASSERTION, CRASH, Verdict.DEVIATES),
        (_told(), Trouble.HARNESS, "port in use", Verdict.ERROR),
        (_told(), Trouble.UNSUPPORTED, "no clock", Verdict.UNSUPPORTED),
        (_told(), Trouble.SKIP, "UNSUPPORTED: no clock", Verdict.UNSUPPORTED),
        (_told(), Trouble.SKIP, "INCONCLUSIVE: too late", Verdict.INCONCLUSIVE),
        (_told(), Trouble.SKIP, "no tshark", Verdict.INCONCLUSIVE),
        (_told(verdict="INCONCLUSIVE", reason="too late"), None, "", Verdict.INCONCLUSIVE),
        ([], Trouble.ASSERTION, "1 == 2", Verdict.FAIL),
        ([], Trouble.HARNESS, "no library", Verdict.ERROR),
    ],
)
def test_verdict_of_a_case(
    properties: list[tuple[str, Any]], trouble: Trouble | None, reason: str, verdict: Verdict
) -> None:
    decision = decide(case_record(properties), trouble, reason, catalogue=CATALOGUE, declared=[DEVIATION])
    assert decision.verdict is verdict


def test_skip_reason_loses_its_prefix() -> None:
    decision = decide(
        case_record([]), Trouble.SKIP, "UNSUPPORTED: no virtual clock", catalogue=CATALOGUE, declared=[]
    )
    assert decision.reason == "no virtual clock"


def test_a_requirement_of_other_versions_is_not_broken() -> None:
    newer = Requirement("X-1", MUST.level, "a", "t", "s", versions=">=0.16")
    decision = decide(case_record(_told(found(newer))), None, "", catalogue={"X-1": newer}, declared=[])
    assert (decision.verdict, decision.findings) == (Verdict.PASS, ())


@pytest.mark.parametrize(
    ("versions", "verdict"), [(">=0.16", Verdict.UNSUPPORTED), (">=0.12", Verdict.ERROR), ("", Verdict.ERROR)]
)
def test_a_test_for_other_versions_that_stumbles(versions: str, verdict: Verdict) -> None:
    """A build without a feature may lead its test astray: no error of the suite, if no version like it owes
    what the test asks."""
    asked = Requirement("X-1", MUST.level, "a", "t", "s", versions=versions)
    case = case_record(_told(requirement=asked))
    decision = decide(case, Trouble.HARNESS, "KeyError", catalogue={"X-1": asked}, declared=[])
    assert decision.verdict is verdict
    assert (versions in decision.reason) is (verdict is Verdict.UNSUPPORTED or not versions)


def test_a_requirement_of_other_versions_is_not_kept_by_a_test_that_passed() -> None:
    """The marker of a test that passed counts only on a build to which the requirement applies."""
    newer = Requirement("X-1", MUST.level, "a", "t", "s", versions=">=0.16")
    for version, verdict in (("0.15.1", Verdict.UNSUPPORTED), ("0.16.0", Verdict.PASS), (None, Verdict.PASS)):
        passed = case("a", Verdict.PASS, newer, version=version)
        shown = evidence_of(passed, newer, ())
        assert shown is not None
        assert shown.verdict is verdict


class ConformanceFailure(Exception):
    """Known by its name alone."""


@pytest.mark.parametrize(
    ("exception", "trouble", "line"),
    [
        (AssertionError("first\nsecond"), Trouble.ASSERTION, "first"),
        (ConformanceFailure("MIG-DST-900"), Trouble.FINDINGS, "MIG-DST-900"),
        (Unsupported("no clock"), Trouble.UNSUPPORTED, "no clock"),
        (HarnessError("port 5 in use"), Trouble.HARNESS, "port 5 in use"),
        (ValueError("x"), Trouble.HARNESS, "ValueError: x"),
        (KeyError(), Trouble.HARNESS, "KeyError"),
        (AssertionError(""), Trouble.ASSERTION, "AssertionError"),
    ],
)
def test_trouble(exception: Exception, trouble: Trouble, line: str) -> None:
    assert (trouble_of(exception), one_line(exception)) == (trouble, line)


def test_worst_of_a_requirement() -> None:
    assert worst([Verdict.PASS, Verdict.UNSUPPORTED]) is Verdict.PASS
    assert worst([Verdict.PASS, Verdict.INCONCLUSIVE]) is Verdict.INCONCLUSIVE
    assert worst([Verdict.DEVIATES, Verdict.FAIL, Verdict.ERROR]) is Verdict.FAIL
    assert worst([]) is None


def test_a_requirement_is_kept_only_where_a_case_says_so() -> None:
    """A case that failed for another requirement does not count as keeping its own."""
    broken = case("a", Verdict.FAIL, MUST, [found(ROBUST)])
    assert run(broken).verdict(MUST.id) is Verdict.INCONCLUSIVE
    assert run(broken).verdict(ROBUST.id) is Verdict.FAIL
    assert run(broken).verdict(UNREACHED.id) is None
    assert run(case("b", kept=3)).verdict(MUST.id) is Verdict.PASS


@pytest.mark.parametrize(
    ("cases", "interrupted", "status"),
    [
        ([case("a")], None, Exit.CONFORMANT),
        ([case("a"), case("b", Verdict.DIFFERS, OBSERVED, [found(OBSERVED)])], None, Exit.CONFORMANT),
        ([case("a"), case("b", Verdict.DEVIATES, ROBUST, [found(ROBUST, CRASH)])], None, Exit.CONFORMANT),
        ([case("a"), case("b", Verdict.FAIL, MUST, [found(MUST)])], None, Exit.NOT_CONFORMANT),
        ([case("a", Verdict.ERROR), case("b", Verdict.FAIL, MUST, [found(MUST)])], None, Exit.NOT_CONFORMANT),
        ([case("a"), case("b", Verdict.ERROR)], None, Exit.HARNESS),
        ([case("a", Verdict.UNSUPPORTED)], None, Exit.HARNESS),
        ([], None, Exit.HARNESS),
        ([case("a")], "interrupted (SIGINT)", Exit.HARNESS),
        ([case("a"), case("b", Verdict.PASS, ROBUST, kept=1)], None, Exit.STALE_DEVIATION),
        ([case("a"), case("b", Verdict.PASS, ROBUST, kept=1, version="0.17")], None, Exit.CONFORMANT),
        ([case("a"), case("b", Verdict.UNSUPPORTED, ROBUST)], None, Exit.CONFORMANT),
    ],
)
def test_exit_status(cases: list[record.CaseFinished], interrupted: str | None, status: Exit) -> None:
    assert run(*cases, deviations=[DEVIATION], interrupted=interrupted).exit is status


def test_a_deviation_is_stale_on_each_build_by_itself() -> None:
    shown = case("b", Verdict.DEVIATES, ROBUST, [found(ROBUST, CRASH)], server="old")
    gone = case("b", Verdict.PASS, ROBUST, server="new")
    (occurrence,) = run(shown, gone, deviations=[DEVIATION]).occurrences
    assert (occurrence.cases, occurrence.stale_on) == ((shown,), ("new",))


def test_events_survive_their_file(tmp_path: Path) -> None:
    """Events are read as they were written; a last line that was cut is skipped, any other bad line is an
    error."""
    whole = run(
        case("a"), case("b", Verdict.DEVIATES, ROBUST, [found(ROBUST, CRASH)]), deviations=[DEVIATION]
    )
    events: list[RunEvent] = [whole.started, CasesFound(2), *whole.cases, RunFinished(5.0, "x")]
    assert [decode(encode(event)) for event in events] == events
    lines = [encode(event) for event in events]
    file = tmp_path / record.EVENTS
    file.write_text("\n".join(lines)[:-20])
    again = Run.read(tmp_path)
    assert again.cases == whole.cases
    assert again.interrupted == "the run was killed before its end"
    file.write_text("\n".join([lines[0], "{", lines[2]]))
    with pytest.raises(UsageError, match="line 2: not an event"):
        Run.read(tmp_path)


def test_characters_that_look_like_line_ends(tmp_path: Path) -> None:
    """A server's message may hold them; a kill may cut one in the middle."""
    strange = replace(case("a"), reason="next line \x85, line separator \u2028")
    events: list[RunEvent] = [run().started, strange, strange]
    lines = [encode(event) for event in events]
    whole = "\n".join(lines).encode()
    (tmp_path / record.EVENTS).write_bytes(whole[: whole.rindex("\u2028".encode()) + 1])
    assert Run.read(tmp_path).cases == [strange]


def test_damaged_packed_events(tmp_path: Path) -> None:
    packed = gzip.compress(encode(run().started).encode())
    (tmp_path / record.PACKED_EVENTS).write_bytes(packed)
    assert Run.read(tmp_path).cases == []
    for damaged in (packed[:-9], b"text", packed[:20] + b"\xff" + packed[21:]):
        (tmp_path / record.PACKED_EVENTS).write_bytes(damaged)
        with pytest.raises(UsageError, match=f"^{tmp_path}/{record.PACKED_EVENTS}: damaged: "):
            Run.read(tmp_path)


@pytest.mark.parametrize("content", [None, "", '{"event": "CasesFound", "total": 1}\n'])
def test_not_a_run(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / record.EVENTS).write_text(content)
    with pytest.raises(UsageError):
        Run.read(tmp_path)


def test_two_runs_of_one_build() -> None:
    """Each run has a column of its own, with its time; other builds and shards of one run keep their
    names."""
    old, new = run(case("a[system-x]")), run(case("a[system-x]", Verdict.FAIL, MUST, [found(MUST)]))
    new.started = replace(new.started, started=old.started.started + 60)
    shards = [run(case("ab"[number], server="other")) for number in (0, 1)]
    for number, part in enumerate(shards, 1):
        part.started = replace(part.started, selection=(f"--shard {number}/2",))
    both = merge(apart([old, new, *shards]))
    assert both.servers == ("system (2023-11-14 22:13:20)", "other", "system (2023-11-14 22:14:20)")
    first, last = (both.results[MUST.id, both.servers[at]].verdict for at in (0, 2))
    assert (first, last) == (Verdict.PASS, Verdict.FAIL)
    assert [parameters(c) for c in both.cases if c.server != "other"] == ["x", "x"]
    assert len(apart([shards[0], shards[0]])[1].servers[0]) > len("other")


def test_runs_side_by_side() -> None:
    one, two = run(case("a", server="one")), run(case("a", Verdict.FAIL, MUST, [found(MUST)], server="two"))
    both = merge([one, two])
    assert both.servers == ("one", "two")
    assert both.results[MUST.id, "one"].verdict is Verdict.PASS
    assert both.results[MUST.id, "two"].verdict is Verdict.FAIL
    assert both.exit is Exit.NOT_CONFORMANT
