# SPDX-License-Identifier: GPL-2.0-only
"""The results of requirements: what a case shows of one, its verdict on a build, and failures that have one
cause told once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from dissectors.rules.judgement import Finding, Level, Requirement, Verdict
from reports.run.run_events import CaseFinished, Deviation, FixedBug
from reports.run.verdict import WORST_FIRST, applies, weigh, worst

#: General requirements, which a death or a hang on another requirement breaks too, and the beginnings of
#: such findings.
GENERAL: Mapping[str, tuple[str, ...]] = {
    "ROBUST-001": ("it ended by",),
    "ROBUST-002": ("it does not answer", "no answer for"),
}
#: How many cases that happened to keep a requirement are named if no test judges it.
WITNESSES = 5


@dataclass(frozen=True)
class CaseEvidence:
    """What one case shows of one requirement."""

    case: CaseFinished
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    declared: tuple[Deviation, ...] = ()
    #: Bugs that a later release fixed, and whether they explain every undeclared finding.
    causes: tuple[FixedBug, ...] = ()
    explained: bool = False


@dataclass(frozen=True)
class Result:
    """One requirement on one build; `verdict` is None where no case judged it."""

    requirement: Requirement
    server: str
    evidence: tuple[CaseEvidence, ...] = ()

    @cached_property
    def verdict(self) -> Verdict | None:
        """The worst verdict over its cases."""
        return worst(e.verdict for e in self.evidence)

    @property
    def telling(self) -> tuple[CaseEvidence, ...]:
        """The cases that judge it or show it broken; otherwise some that happened to keep it."""
        own = tuple(
            e
            for e in self.evidence
            if e.verdict is not Verdict.PASS or self.requirement.id in e.case.requirements
        )
        return own or self.evidence[:WITNESSES]

    @property
    def blamed(self) -> tuple[CaseEvidence, ...]:
        """The cases that decided the verdict."""
        return tuple(e for e in self.evidence if e.verdict is self.verdict)

    @cached_property
    def causes(self) -> tuple[FixedBug, ...]:
        """The bugs, fixed by a later release, that the deciding cases show."""
        return tuple(dict.fromkeys(bug for e in self.blamed for bug in e.causes))

    @cached_property
    def explained(self) -> bool:
        """Whether these bugs explain every deciding case."""
        return bool(self.causes) and all(e.explained for e in self.blamed)


@dataclass(frozen=True)
class BuildFailure:
    """What a report tells as one failure of a build: a requirement, or a bug that a later release fixed, with
    every requirement that it breaks: the first tells it, the others are its consequences."""

    results: tuple[Result, ...]
    bug: FixedBug | None = None

    @property
    def server(self) -> str:
        """The build."""
        return self.results[0].server

    @property
    def verdict(self) -> Verdict:
        """FAIL if it breaks a binding requirement, otherwise DIFFERS."""
        found = self.results[0].verdict
        assert found is not None
        return found

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its requirements."""
        return tuple(result.requirement.id for result in self.results)

    @property
    def cases(self) -> tuple[CaseEvidence, ...]:
        """The deciding cases of its first requirement that show it."""
        return tuple(e for e in self.results[0].blamed if self.bug is None or self.bug in e.causes)


def findings_of(case: CaseFinished, requirement: str) -> tuple[Finding, ...]:
    """The findings of a case against one requirement. A death that another requirement names also breaks the
    general requirement, which must not read PASS beside it."""
    begins = GENERAL.get(requirement, ())
    return tuple(
        f
        for f in case.findings
        if f.requirement == requirement or (f.level is Level.ROBUST and f.seen.startswith(begins or ("\0",)))
    )


def evidence_of(
    case: CaseFinished,
    requirement: Requirement,
    declared: Sequence[Deviation],
    fixed: Sequence[FixedBug] = (),
) -> CaseEvidence | None:
    """What a case shows of a requirement; None if nothing. UNSUPPORTED: the requirement does not apply to the
    build's version."""
    found = findings_of(case, requirement.id)
    if found:
        weight = weigh(found, case.circumstances, declared, fixed)
        assert weight.verdict is not None
        return CaseEvidence(case, weight.verdict, found, weight.declared, weight.causes, weight.explained)
    marked = requirement.id in case.requirements
    if case.kept.get(requirement.id):
        return CaseEvidence(case, Verdict.PASS)
    if not marked:
        return None
    if not applies(requirement, case.identities.values()):
        return CaseEvidence(case, Verdict.UNSUPPORTED)
    if case.verdict is Verdict.PASS:
        return CaseEvidence(case, Verdict.PASS)
    own = (Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.UNSUPPORTED)
    return CaseEvidence(case, case.verdict if case.verdict in own else Verdict.INCONCLUSIVE)


def failures_of(results: Iterable[Result]) -> tuple[BuildFailure, ...]:
    """Failures of results that are FAIL or DIFFERS: each bug that a later release fixed once, then the
    requirements that no such bug explains; FAIL before DIFFERS."""
    by_bug: dict[tuple[str, FixedBug], list[Result]] = {}
    others: list[BuildFailure] = []
    for result in results:
        for bug in result.causes if result.explained else ():
            by_bug.setdefault((result.server, bug), []).append(result)
        if not result.explained:
            others.append(BuildFailure((result,)))
    bugs = [BuildFailure(_in_telling_order(bug, results), bug) for (_, bug), results in by_bug.items()]
    return tuple(sorted((*bugs, *others), key=lambda f: WORST_FIRST.index(f.verdict)))


def _in_telling_order(bug: FixedBug, results: Iterable[Result]) -> tuple[Result, ...]:
    """The requirements that a bug breaks: failed ones first, in the order of the bug's entry. A general
    requirement does not tell which bug it was."""

    def place(result: Result) -> tuple[bool, bool, int]:
        known = [n for n, s in enumerate(bug.shows) if fnmatchcase(result.requirement.id, s.requirement)]
        named = min(known, default=len(bug.shows))
        return result.verdict is not Verdict.FAIL, result.requirement.id in GENERAL, named

    return tuple(sorted(results, key=place))
