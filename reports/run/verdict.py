# SPDX-License-Identifier: GPL-2.0-only
"""The verdict: of findings (`weigh`), and of a case, from its findings and the way its test ended (`decide`).

Pure functions. Every command and every report takes its verdicts from this module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import FAILING, Finding, Requirement, Verdict
from dissectors.rules.version_ranges import version_holds
from fixtures.system.hosts import HarnessError, Identity, UsageError
from reports.run import deviations, fixed_bugs
from reports.run.run_events import CaseFinished, Circumstances, Deviation, FixedBug, finding, identities

#: The worst first: a requirement's verdict is the worst of its cases. A kept requirement stays PASS if
#: another case could not show it (UNSUPPORTED), but not if a test could not make its situation
#: (INCONCLUSIVE).
WORST_FIRST = (
    Verdict.FAIL,
    Verdict.ERROR,
    Verdict.DEVIATES,
    Verdict.DIFFERS,
    Verdict.INCONCLUSIVE,
    Verdict.PASS,
    Verdict.UNSUPPORTED,
)


def worst(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """The worst of some verdicts; None if there is none."""
    present = set(verdicts)
    return next((v for v in WORST_FIRST if v in present), None)


@dataclass(frozen=True)
class Weight:
    """The result of findings: the verdict (None without findings) and the deviations that apply.

    `causes`: the bugs, fixed by later releases, that undeclared findings show. `explained`: every undeclared
    finding shows one of these. Neither changes the verdict: an old bug is a bug."""

    verdict: Verdict | None
    declared: tuple[Deviation, ...] = ()
    causes: tuple[FixedBug, ...] = ()
    explained: bool = False


def weigh(
    findings: Iterable[Finding],
    where: Circumstances,
    declared: Sequence[Deviation],
    fixed: Sequence[FixedBug] = (),
) -> Weight:
    """The verdict of findings: level and deviations decide, and the worst finding counts."""
    verdicts: list[Verdict] = []
    entries: dict[Deviation, None] = {}
    causes: dict[FixedBug | None, None] = {}
    for found in findings:
        entry = deviations.declared(declared, found, where)
        if entry is not None:
            verdicts.append(Verdict.DEVIATES)
            entries[entry] = None
        else:
            verdicts.append(Verdict.FAIL if found.level in FAILING else Verdict.DIFFERS)
            causes[fixed_bugs.cause(fixed, found, where)] = None
    known = tuple(bug for bug in causes if bug)
    return Weight(worst(verdicts), tuple(entries), known, bool(known) and None not in causes)


class Trouble(StrEnum):
    """Why a test did not simply pass."""

    FINDINGS = "findings"  # the oracle's, or a wait's that names its requirement
    ASSERTION = "assertion"  # an assertion of the test's own
    SKIP = "skip"
    UNSUPPORTED = "unsupported"
    HARNESS = "harness"  # anything else: the harness' own


#: Exceptions by name: the bench's own are not imported, so that any code may raise them.
_BY_CLASS = {
    "AssertionError": Trouble.ASSERTION,
    "ConformanceFailure": Trouble.FINDINGS,
    "Skipped": Trouble.SKIP,
    "Unsupported": Trouble.UNSUPPORTED,
}

_SKIPS = {verdict: f"{verdict}:" for verdict in (Verdict.UNSUPPORTED, Verdict.INCONCLUSIVE)}


@dataclass(frozen=True)
class CaseRecord:
    """The `spice` entries of a test's fixture, put together."""

    server: str | None
    identities: Mapping[str, Identity]
    requirements: tuple[str, ...]
    findings: tuple[Finding, ...]
    kept: Mapping[str, int]
    verdict: Verdict | None
    reason: str
    artefacts: Mapping[str, str]
    moves: tuple[str, ...] = ()

    def circumstances(self, test: str) -> Circumstances:
        """The circumstances of its findings; `test`: its id."""
        return Circumstances(self.server or "", self.identities, test, self.moves)


def case_record(properties: Iterable[tuple[str, Any]]) -> CaseRecord:
    """Reads the `spice` entries of a report's user properties; several are added up."""
    entries = [value for name, value in properties if name == "spice"]
    judgements = [entry.get("judgement") or {} for entry in entries]
    kept: Counter[str] = Counter()
    for judgement in judgements:
        kept.update(judgement.get("kept", {}))
    last = {key: value for entry in entries for key, value in entry.items() if value}
    return CaseRecord(
        server=last.get("server"),
        identities=identities(last),
        requirements=tuple(dict.fromkeys(r for entry in entries for r in entry.get("requirements", ()))),
        findings=tuple(
            dict.fromkeys(finding(f) for judgement in judgements for f in judgement.get("findings", ()))
        ),
        kept=dict(kept),
        verdict=Verdict(last["verdict"]) if last.get("verdict") else None,
        reason=last.get("reason", ""),
        artefacts={kind: path for entry in entries for kind, path in (entry.get("artefacts") or {}).items()},
        moves=tuple(move for entry in entries for move in entry.get("moves", ())),
    )


def with_defaults(case: CaseRecord, described: Mapping[str, Any]) -> CaseRecord:
    """Completes a case whose fixture failed early: its markers and the SPEC of the command line."""
    return replace(
        case,
        server=case.server or described.get("server"),
        requirements=case.requirements or tuple(described.get("requirements", ())),
    )


def trouble_of(exception: BaseException) -> Trouble:
    """The kind of trouble of an exception."""
    names = [cls.__name__ for cls in type(exception).__mro__]
    return next((_BY_CLASS[name] for name in names if name in _BY_CLASS), Trouble.HARNESS)


def one_line(exception: BaseException, limit: int = 300) -> str:
    """The first line of an exception's text; its class if the text alone does not say enough."""
    text = next((line.strip() for line in str(exception).splitlines() if line.strip()), "")
    known = trouble_of(exception) is not Trouble.HARNESS or isinstance(exception, HarnessError | UsageError)
    line = text if known and text else f"{type(exception).__name__}: {text}".rstrip(": ")
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def findings_of_assertion(
    reason: str, case: CaseRecord, catalogue: Mapping[str, Requirement]
) -> list[Finding]:
    """A failed assertion of a test concerns the test's requirements: a finding for each of these that the
    oracle did not see kept (for all of them, if it saw all kept)."""
    marked = [catalogue[i] for i in case.requirements if i in catalogue]
    blamed = [r for r in marked if not case.kept.get(r.id)] or marked
    seen = reason or "the test's assertion"
    return [Finding(r.id, r.level, expected=r.text, seen=seen, time=0.0) for r in blamed]


@dataclass(frozen=True)
class Decision:
    """The verdict of a case, the reason (one line, may be empty), and all findings with those of its
    assertion."""

    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...]


def decide(
    case: CaseRecord,
    trouble: Trouble | None,
    reason: str,
    *,
    test: str = "",
    catalogue: Mapping[str, Requirement] = CATALOGUE,
    declared: Sequence[Deviation],
) -> Decision:
    """The verdict of one case. The oracle's findings outrank the way the test ended."""
    findings = [f for f in case.findings if applies_to_build(f, catalogue, case.identities)]
    failing = any(f.level in FAILING for f in findings)
    if trouble is Trouble.ASSERTION and not failing:
        findings += findings_of_assertion(reason, case, catalogue)
        if not findings:  # of a test that names no requirement
            return Decision(Verdict.FAIL, reason, ())
        failing = any(f.level in FAILING for f in findings)
    weight = weigh(findings, case.circumstances(test), declared)
    if weight.verdict and (failing or trouble in (Trouble.FINDINGS, Trouble.ASSERTION)):
        return Decision(weight.verdict, _why(weight, reason, findings), tuple(findings))
    if case.verdict is not None:
        return Decision(case.verdict, case.reason or reason, tuple(findings))
    if trouble is Trouble.SKIP:
        verdict, why = _skip(reason)
        return Decision(verdict, why, tuple(findings))
    if trouble is Trouble.HARNESS and (others := _of_other_releases(case, catalogue)):
        return Decision(Verdict.UNSUPPORTED, others, tuple(findings))
    if trouble not in (None, Trouble.FINDINGS):  # the findings' rules may not apply
        verdict = Verdict.UNSUPPORTED if trouble is Trouble.UNSUPPORTED else Verdict.ERROR
        return Decision(verdict, reason, tuple(findings))
    return Decision(weight.verdict or Verdict.PASS, "", tuple(findings))


def play_verdict(case: CaseFinished, declared: Sequence[Deviation]) -> CaseFinished:
    """A case of a campaign or of a replay with its verdict: no test has ended, so findings alone count."""
    record = CaseRecord(
        case.server, case.identities, case.requirements, case.findings, case.kept, None, "", {}, case.moves
    )
    decision = decide(record, None, case.reason, test=case.nodeid, declared=declared)
    return replace(
        case, verdict=decision.verdict, reason=decision.reason or case.reason, findings=decision.findings
    )


def _why(weight: Weight, reason: str, findings: Sequence[Finding]) -> str:
    if weight.verdict is Verdict.DEVIATES:
        return " ".join(dict.fromkeys(entry.reason for entry in weight.declared))
    if weight.verdict is Verdict.FAIL:
        return reason or next(f.seen for f in findings if f.level in FAILING)
    return reason


def applies_to_build(
    found: Finding, catalogue: Mapping[str, Requirement], builds: Mapping[str, Identity]
) -> bool:
    """Whether the requirement applies to the build at which the finding points, or to any build."""
    own = builds.get(found.host or "")
    known = catalogue.get(found.requirement)
    return known is None or applies(known, [own] if own else builds.values())


def applies(requirement: Requirement, builds: Iterable[Identity]) -> bool:
    """Whether the requirement applies to the version of any of the builds (an unknown version: yes)."""
    known = [build.version for build in builds if build.version]
    return not known or any(version_holds(requirement.versions, version) for version in known)


def _of_other_releases(case: CaseRecord, catalogue: Mapping[str, Requirement]) -> str:
    """Which releases owe the test's requirements, where these builds owe none of them; otherwise empty."""
    marked = [catalogue[i] for i in case.requirements if i in catalogue]
    if any(applies(requirement, case.identities.values()) for requirement in marked):
        return ""
    return "; ".join(f"{r.id} holds for {r.versions}" for r in marked)


def _skip(reason: str) -> tuple[Verdict, str]:
    for verdict, prefix in _SKIPS.items():
        if reason.startswith(prefix):
            return verdict, reason.removeprefix(prefix).strip()
    return Verdict.INCONCLUSIVE, reason
