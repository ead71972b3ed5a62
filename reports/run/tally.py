# SPDX-License-Identifier: GPL-2.0-only
"""A run computed from its events: each requirement's result on each build, and the exit status."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase, translate
from functools import cache, cached_property
from pathlib import Path

from dissectors.rules.judgement import Level, Requirement, Verdict
from fixtures.system.hosts import Identity, UsageError
from reports.run import deviations
from reports.run.exit_status import Exit
from reports.run.results import GENERAL, BuildFailure, CaseEvidence, Result, evidence_of, failures_of
from reports.run.run_events import (
    CaseFinished,
    CasesFound,
    Deviation,
    FixedBug,
    RunEvent,
    RunFinished,
    RunStarted,
    read_events,
)
from reports.run.verdict import weigh, worst

#: The part of a test's id that names its repetition (conftest.py, `--repeat`).
_REPETITION = re.compile(r"\b\d+of\d+-?|-\d+of\d+\b")


def base(nodeid: str) -> str:
    """A test's id without its repetition."""
    return _REPETITION.sub("", nodeid).replace("[]", "")


#: The selection that is recorded if one requirement was named (`reports.run.selection.in_brief`).
BRIEF = "with its quickest tests alone"
#: Beginnings of selections that leave out cases of a test, so that a deviation may belong to a case that did
#: not run.
PARTS = ("--shard", "--last-failed", BRIEF, "half a second of its tests")  # the last: in older runs


@dataclass(frozen=True)
class Occurrence:
    """The outcome of a declared deviation: the cases that showed it, and the builds where it should have
    shown and did not."""

    deviation: Deviation
    cases: tuple[CaseFinished, ...] = ()
    stale_on: tuple[str, ...] = ()


@dataclass
class Run:
    """Every event of a run (or of several runs side by side)."""

    started: RunStarted
    cases: list[CaseFinished] = field(default_factory=list)
    finished: RunFinished | None = None
    total: int | None = None
    seal: str | None = None

    @classmethod
    def of(cls, events: Iterable[RunEvent]) -> Run:
        """Computes the run from a stream of events; UsageError if the stream does not begin with
        RunStarted."""
        stream = iter(events)
        first = next(stream, None)
        if not isinstance(first, RunStarted):
            raise UsageError("not a run: it does not begin with RunStarted; was certify killed at its start?")
        run = cls(first)
        for event in stream:
            match event:
                case CaseFinished():
                    run.cases.append(event)
                case CasesFound(total):
                    run.total = total
                case RunFinished():
                    run.finished = event
                case RunStarted():
                    raise UsageError("two runs in one file; give each run a directory of its own")
        return run

    @classmethod
    def read(cls, directory: Path) -> Run:
        """Reads the run of a directory. Raises UsageError."""
        return cls.of(read_events(directory))

    @cached_property
    def requirements(self) -> Mapping[str, Requirement]:
        """The catalogue at the time of the run."""
        return {r.id: r for r in self.started.requirements}

    @cached_property
    def servers(self) -> tuple[str, ...]:
        """Every SPEC (or `SPEC > SPEC` for a pair), in the order of the command line, then in the order of
        the events."""
        return tuple(dict.fromkeys((*self.started.servers, *(c.server for c in self.cases))))

    @cached_property
    def identities(self) -> Mapping[str, Mapping[str, Identity]]:
        """SPEC -> host label -> build, each side as proved by the first case that could."""
        found: dict[str, dict[str, Identity]] = {}
        for case in self.cases:
            for label, build in case.identities.items():
                side = "target" if label.startswith("target") else "source"
                found.setdefault(case.server, {}).setdefault(side, build)
        return {server: _distinct(builds) for server, builds in found.items()}

    @cached_property
    def results(self) -> Mapping[tuple[str, str], Result]:
        """(requirement id, SPEC) -> result, for every requirement and every build."""
        evidence: dict[tuple[str, str], list[CaseEvidence]] = {}
        for case in self.cases:
            for identifier in dict.fromkeys((*case.requirements, *case.kept, *_broken(case), *GENERAL)):
                requirement = self.requirements.get(identifier)
                if requirement and (
                    said := evidence_of(case, requirement, self.started.deviations, self.started.fixed_bugs)
                ):
                    evidence.setdefault((identifier, case.server), []).append(said)
        return {
            (requirement.id, server): Result(
                requirement, server, tuple(evidence.get((requirement.id, server), ()))
            )
            for requirement in self.requirements.values()
            for server in self.servers
        }

    def verdict(self, requirement: str) -> Verdict | None:
        """The worst over the builds; None if no build judged it."""
        verdicts = (self.results[requirement, server].verdict for server in self.servers)
        return worst(v for v in verdicts if v is not None)

    def counts(self, server: str | None = None) -> Counter[Verdict | None]:
        """How many requirements have which verdict on a build (None: over all builds)."""
        if server is None:
            return Counter(self.verdict(r) for r in self.requirements)
        return Counter(self.results[r, server].verdict for r in self.requirements)

    @cached_property
    def occurrences(self) -> tuple[Occurrence, ...]:
        """The outcome of each declared deviation."""
        return tuple(self._occurrence(entry) for entry in self.started.deviations)

    def _occurrence(self, entry: Deviation) -> Occurrence:
        shown: list[CaseFinished] = []
        reached: dict[str, None] = {}
        for case in self.cases:
            if any(deviations.declares(entry, f, case.circumstances) for f in case.findings):
                shown.append(case)
            elif self._tells_what_is_gone and _reaches(entry, case):
                reached[case.server] = None
        occurred = {case.server for case in shown}
        return Occurrence(entry, tuple(shown), tuple(s for s in reached if s not in occurred))

    @property
    def _tells_what_is_gone(self) -> bool:
        """Whether the run can show that a deviation no longer occurs: random plays, a learned model and a
        part of the cases cannot."""
        return self.started.kind not in ("fuzz", "learn") and not any(
            w.startswith(PARTS) for w in self.started.selection
        )

    @property
    def stale(self) -> tuple[Occurrence, ...]:
        """Declared deviations that no longer occur."""
        return tuple(o for o in self.occurrences if o.stale_on)

    @property
    def interrupted(self) -> str | None:
        """Why the run is not complete; None if it is."""
        return self.finished.interrupted if self.finished else "the run was killed before its end"

    @cached_property
    def flaky(self) -> tuple[str, ...]:
        """Tests whose repetitions (`--rerun`) have different verdicts."""
        verdicts: dict[str, set[Verdict]] = {}
        for case in self.cases:
            verdicts.setdefault(f"{base(case.nodeid)} {case.server}", set()).add(case.verdict)
        return tuple(name.rpartition(" ")[0] for name, seen in verdicts.items() if len(seen) > 1)

    @cached_property
    def failures(self) -> tuple[BuildFailure, ...]:
        """What is not kept and not declared, on each build: each bug that a later release fixed once, then
        the requirements that no such bug explains; FAIL before DIFFERS."""
        return failures_of((*self.results_with(Verdict.FAIL), *self.results_with(Verdict.DIFFERS)))

    @property
    def failed(self) -> list[BuildFailure]:
        """The failures that break a binding requirement."""
        return [failure for failure in self.failures if failure.verdict is Verdict.FAIL]

    def causes(self, case: CaseFinished) -> tuple[FixedBug, ...]:
        """The bugs, fixed by a later release, that a case shows."""
        return weigh(
            case.findings, case.circumstances, self.started.deviations, self.started.fixed_bugs
        ).causes

    @property
    def full(self) -> bool:
        """Whether the run covers every test of the suites."""
        return self.started.kind == "certify" and not self.started.selection

    @property
    def scope(self) -> str:
        """What the verdict covers, in a few words."""
        if self.full:
            return "the full suite"
        if self.started.kind == "certify":
            return f"a selection ({' '.join(self.started.selection)})"
        scopes = {"fuzz": "a fuzz campaign", "replay": "a replay", "learn": "a learned model"}
        return scopes.get(self.started.kind, self.started.kind)

    @property
    def exit(self) -> Exit:
        """The documented exit status."""
        verdicts = {case.verdict for case in self.cases}
        if self.interrupted or not verdicts & {Verdict.PASS, Verdict.FAIL, Verdict.DEVIATES, Verdict.DIFFERS}:
            return Exit.HARNESS
        if Verdict.FAIL in verdicts or self.flaky:
            return Exit.NOT_CONFORMANT
        if Verdict.ERROR in verdicts:
            return Exit.HARNESS
        return Exit.STALE_DEVIATION if self.stale else Exit.CONFORMANT

    @property
    def headline(self) -> str:
        """The verdict in two words or three."""
        if self.interrupted:
            return "NOT COMPLETE"
        if self.exit is Exit.CONFORMANT and not self.full:
            return "NOTHING FAILED"
        return {
            Exit.CONFORMANT: "CONFORMANT",
            Exit.NOT_CONFORMANT: "NOT CONFORMANT",
            Exit.HARNESS: "HARNESS ERROR",
            Exit.STALE_DEVIATION: "DECLARED DEVIATION GONE",
        }[self.exit]

    @property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        if self.interrupted:
            return (
                f"{len(self.cases)} of {self.total or 'an unknown number of'} tests ran: {self.interrupted}."
            )
        counts = self.counts()
        judged = sum(n for v, n in counts.items() if v in (Verdict.PASS, Verdict.FAIL, Verdict.DEVIATES))
        words = [f"{counts[Verdict.PASS]} of {_plural(judged, 'judged requirement')} are kept"]
        words += (
            [f"{n} {'is' if n == 1 else 'are'} not{self._by_bugs()}"] if (n := counts[Verdict.FAIL]) else []
        )
        words += [f"{n} not kept, as declared"] if (n := counts[Verdict.DEVIATES]) else []
        words += [f"{_plural(len(self.stale), 'declared deviation')} no longer seen"] if self.stale else []
        words += [f"{_plural(len(self.flaky), 'test')} with different verdicts"] if self.flaky else []
        words += [] if self.full else [f"covers {self.scope} only"]
        return "; ".join(words) + "."

    def _by_bugs(self) -> str:
        """How many of the failed requirements bugs break that a later release fixed."""
        failed = [failure for failure in self.failed if failure.bug]
        broken = {r.requirement.id for f in failed for r in f.results if r.verdict is Verdict.FAIL}
        bugs = len({f.bug for f in failed})
        return f" ({len(broken)} by {_plural(bugs, 'bug')} that a later release fixed)" if bugs else ""

    def results_with(self, *verdicts: Verdict) -> Iterator[Result]:
        """Every result with one of these verdicts, MUST before SHOULD."""
        levels = list(Level)
        found = [r for r in self.results.values() if r.verdict in verdicts]
        yield from sorted(found, key=lambda r: levels.index(r.requirement.level))


def _broken(case: CaseFinished) -> Iterator[str]:
    return (finding.requirement for finding in case.findings)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _distinct(builds: Mapping[str, Identity]) -> Mapping[str, Identity]:
    """The builds of a pair; one where source and target are the same."""
    found: dict[tuple[str | None, ...], tuple[str, Identity]] = {}
    for label, build in builds.items():
        found.setdefault((build.path, build.version, build.build_id, build.sha256), (label, build))
    return dict(found.values())


@cache
def _any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    """Matches what one of the globs matches: a large run asks for each of its cells."""
    return re.compile("|".join(map(translate, globs)))


def _reaches(entry: Deviation, case: CaseFinished) -> bool:
    """Whether a case would have shown the deviation if the build still had it."""
    if case.verdict in (Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.UNSUPPORTED):
        return False
    if case.awaited is not None:
        return deviations.declares(entry, case.awaited, case.circumstances)
    if not deviations.covers_all(entry, case.circumstances):
        return False
    if entry.tests:
        matches = _any_of(entry.tests).match
        cells = case.matrix.get("driven", ())
        return bool(matches(case.nodeid) or any(matches(f"{case.nodeid}/{cell}") for cell in cells))
    if entry.moves:
        return False  # only a replay can show it
    judged = {*case.kept, *case.requirements, *(f.requirement for f in case.findings)}
    return any(fnmatchcase(requirement, entry.requirement) for requirement in judged)
