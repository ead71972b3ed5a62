# SPDX-License-Identifier: GPL-2.0-only
"""Which tests run: requirements and levels, shards, earlier failures; and the name of a selection."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import Verdict
from fixtures.system.hosts import UsageError
from reports.run.environment import ROOT
from reports.run.exit_status import Exit
from reports.run.merged_runs import merge
from reports.run.run_events import RunEvent, RunFinished, encode
from reports.run.selection import failed_last, files_with, in_brief, in_shard, is_long, shard_of, wanted_ids
from reports.run.tally import BRIEF, Run
from suites.selftest.reports.run.report_samples import CRASH, DEVIATION, MUST, ROBUST, case, found, run


def test_globs_and_levels() -> None:
    assert wanted_ids(["LINK-001"], []) == {"LINK-001"}
    assert wanted_ids(["LINK-*"], ["robust", "MUST"]) <= {i for i in CATALOGUE if i.startswith("LINK")}
    assert wanted_ids([], ["OBSERVED"]) == {r.id for r in CATALOGUE.values() if r.level == "OBSERVED"}


@pytest.mark.parametrize(
    ("globs", "levels", "why"),
    [
        (["NOPE-*"], [], "no requirement 'NOPE"),
        ([], ["MAY"], "no level 'MAY'"),
        (["ROBUST-*"], ["SHOULD"], "no re"),
    ],
)
def test_what_names_nothing(globs: list[str], levels: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        wanted_ids(globs, levels)
    assert "\n" not in str(caught.value)


def test_files_that_matter() -> None:
    found = files_with(["MIG-SRC-018"], [ROOT / "suites" / "migration"])
    assert ROOT / "suites" / "migration" / "test_switch_host.py" in found
    assert len(found) < len(list((ROOT / "suites" / "migration").glob("test_*.py")))


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "a/b", "1/0"])
def test_no_such_shard(text: str) -> None:
    with pytest.raises(UsageError, match="write I/N"):
        shard_of(text)


def test_shards_hold_each_test_once_and_are_even() -> None:
    """Shards are balanced by the known seconds of the tests."""
    seconds = json.loads((ROOT / "reports" / "run" / "test_seconds.json").read_text())
    many = [f"{test}[{n}]" for test in seconds for n in range(2)]
    parts = [in_shard(many, index, 4) for index in (1, 2, 3, 4)]
    assert sorted(test for part in parts for test in part) == sorted(many)
    loads = [sum(seconds[test.partition("[")[0]] for test in part) for part in parts]
    assert max(loads) - min(loads) <= max(seconds.values())


def test_what_is_long() -> None:
    """A test that waits in real time is long, whatever its parameters are; one without a measure is not."""
    waits = "suites/migration/test_migrate_callbacks.py::test_wait_for_the_client_times_out_in_real_time"
    assert is_long(waits)
    assert is_long(f"{waits}[system]")
    assert not is_long("suites/link/test_link_message.py::test_link[system]")
    assert not is_long("suites/link/test_new.py::test_new")


def test_in_brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quickest tests come first, with one case each; the rest of the time goes to more cases. There is
    always one case, however long it takes."""
    known = {"quick": 0.1, "usual": 0.2, "long": 9.0}
    monkeypatch.setattr("reports.run.selection.known_seconds", lambda: known)
    tests = {"long": ["l"], "usual": ["u1", "u2", "u3"], "quick": ["q1", "q2"]}
    assert in_brief(tests) == ["u1", "q1", "q2"]
    assert in_brief({"long": ["l1", "l2"]}) == ["l1"]
    assert in_brief({"quick": [str(n) for n in range(100)]}) == ["0", "25", "50", "74", "99"]
    assert in_brief({}) == []


def _part(whole: Run, selection: tuple[str, ...], *names: str) -> Run:
    cases = [c for c in whole.cases if c.nodeid.partition("::")[2] in names]
    return Run(replace(whole.started, selection=selection), cases, whole.finished, len(cases))


def test_all_shards_are_the_run() -> None:
    whole = run(
        case("a"), case("b", Verdict.DEVIATES, ROBUST, [found(ROBUST, CRASH)]), deviations=[DEVIATION]
    )
    first, second = _part(whole, ("--shard 1/2",), "a"), _part(whole, ("--shard 2/2",), "b")
    both = merge([first, second])
    assert both.full
    assert (both.headline, both.counts(), both.exit) == (whole.headline, whole.counts(), whole.exit)
    assert not merge([first]).full
    assert merge([first]).scope == "a selection (--shard 1/2)"


@pytest.mark.parametrize("selection", ["--shard 1/2", "--last-failed", BRIEF])
def test_a_part_does_not_say_that_a_deviation_is_gone(selection: str) -> None:
    """The deviation may show in the cases that were left out. The whole test proves it, and so do all shards
    together."""
    whole = run(case("b", Verdict.PASS, ROBUST, kept=1), deviations=[DEVIATION])
    assert (whole.exit, len(whole.stale)) == (Exit.STALE_DEVIATION, 1)
    part = _part(whole, (selection,), "b")
    assert (part.exit, part.stale) == (Exit.CONFORMANT, ())
    if selection.startswith("--shard"):
        assert merge([part, _part(whole, ("--shard 2/2",))]).exit is Exit.STALE_DEVIATION


def test_only_a_full_run_is_called_conformant() -> None:
    whole = run(case("a"))
    assert whole.headline == "CONFORMANT"
    part = _part(whole, ("--profile smoke",), "a")
    assert (part.headline, part.exit) == ("NOTHING FAILED", Exit.CONFORMANT)
    assert "--profile smoke" in part.sentence


def test_what_failed_last(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no earlier run"):
        failed_last(tmp_path)
    whole = run(case("a"), case("b", Verdict.FAIL, MUST, [found(MUST)]), case("c", Verdict.ERROR))
    own = tmp_path / "2026-01-01"
    own.mkdir()
    events: list[RunEvent] = [whole.started, *whole.cases, RunFinished(1.0)]
    (own / "events.ndjson").write_text("".join(f"{encode(event)}\n" for event in events))
    names = [nodeid.partition("::")[2] for nodeid in failed_last(tmp_path)]
    assert names == ["b", "c"]
    assert failed_last(own) == failed_last(tmp_path)


def test_a_verdict_that_changes_is_flaky() -> None:
    good, bad = case("t[system-1of2]"), case("t[system-2of2]", Verdict.INCONCLUSIVE)
    assert run(good, case("t[system-2of2]")).flaky == ()
    assert run(good, bad).flaky == ("suites/migration/test_x.py::t[system]",)
    assert run(good, bad).exit is Exit.NOT_CONFORMANT


def test_no_general_pass_beside_a_declared_death() -> None:
    """ROBUST-001 says that nothing ends the process: another requirement's finding shows that it ended."""
    general = CATALOGUE["ROBUST-001"]
    died = case("b", Verdict.DEVIATES, ROBUST, [found(ROBUST, f"it ended by SIGTRAP: {CRASH}")])
    kept = case("a", requirement=general, kept=1)
    both = run(kept, replace(died, requirements=(ROBUST.id,)), deviations=[DEVIATION])
    both.started = replace(both.started, requirements=(*both.started.requirements, general))
    assert both.verdict(general.id) is Verdict.DEVIATES
