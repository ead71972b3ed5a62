# SPDX-License-Identifier: GPL-2.0-only
"""Judges a case again from its packets alone: they hold all messages, the hosts' events, and the test's
claims and timed-out waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dissectors.capture import CaptureError
from dissectors.framing.events import HostEvent
from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import Finding, Judgement, Verdict
from dissectors.rules.oracle import Oracle
from reports.run.evidence import recorded
from reports.run.run_events import CaseFinished, Deviation
from reports.run.tally import Run
from reports.run.verdict import CaseRecord, Trouble, applies_to_build, decide, play_verdict

#: Verdicts that come from findings, or from their absence.
JUDGED = (Verdict.PASS, Verdict.FAIL, Verdict.DEVIATES, Verdict.DIFFERS)


class Again:
    """One case's packets, read and judged."""

    broken_in_cells: frozenset[str] = frozenset()  # of a place of the matrix

    def __init__(self, directory: Path, case: CaseFinished) -> None:
        self.case = case
        self.identities: dict[str, dict[str, Any]] = {}
        self.readable = True
        self._oracle = Oracle()
        count = 0
        try:
            for event in recorded(directory, case):
                count += 1
                if isinstance(event, HostEvent) and event.name == "configured":
                    self.identities[event.host] = dict(event.args.get("identity") or {})
                self._oracle.observe(event)
        except CaptureError:
            self.readable = False
        self.readable = self.readable and (count > 0 or case.verdict not in JUDGED)
        self.judgement: Judgement = self._oracle.close()

    @property
    def findings(self) -> list[Finding]:
        """The findings about the build that the packets show; findings about a client only if the case
        lists them."""
        claimed, builds = {key(f) for f in self.case.findings}, self.case.identities
        return [
            f
            for f in self.judgement.findings
            if applies_to_build(f, CATALOGUE, builds)
            and (CATALOGUE[f.requirement].duty == "server" or key(f) in claimed)
        ]

    def differences(self, kind: str, declared: Sequence[Deviation], *, strict: bool) -> Iterator[str]:
        """One line for each difference between packets and run. `kind`: of the run. `strict`: the same
        version of the suite has recorded it, so that the numbers of kept requirements must agree."""
        if not self.readable:
            yield f"{self.case.artefacts['pcapng']} is missing or cannot be read"
            return
        yield from self._builds()
        claimed, found = {key(f) for f in self.case.findings}, {key(f) for f in self.findings}
        for requirement, _, seen in sorted(claimed - found):
            yield f"{requirement} ({seen}) is not in the packets"
        if kind == "fuzz":
            yield from self._failure(found - claimed, declared)
        if kind == "fuzz" or self.case.awaited is not None or self.case.cell:
            return  # a campaign does not count a server's breach after a client has broken the order
        for requirement, _, seen in sorted(found - claimed):
            yield f"the packets break {requirement} ({seen})"
        if strict and Counter(self.case.kept) != self.judgement.kept:
            yield f"the packets keep {_counts(self.judgement.kept, self.case.kept)}"
        if claimed == found:
            yield from self._verdict(declared)

    def _failure(self, missing: set[tuple[str, str, str]], declared: Sequence[Deviation]) -> Iterator[str]:
        """Checks a campaign's failure: it claims the finding that it is named after, with its verdict."""
        case = self.case
        if not case.findings:
            yield "a failure of a campaign that claims no finding"
        for requirement, _, seen in sorted(missing):
            if requirement in case.requirements:
                yield f"the packets break {requirement} ({seen})"
        weighed = play_verdict(case, declared).verdict
        if case.findings and weighed is not case.verdict:
            yield f"the run says {case.verdict}, its findings {weighed}"

    def _verdict(self, declared: Sequence[Deviation]) -> Iterator[str]:
        case = self.case
        record = CaseRecord(
            server=case.server,
            identities=case.identities,
            requirements=case.requirements,
            findings=tuple(self.findings),
            kept=self.judgement.kept,
            verdict=None,
            reason="",
            artefacts={},
            moves=case.moves,
        )
        trouble = Trouble.FINDINGS if _fails(self.findings, case.requirements) else None
        verdict = decide(record, trouble, case.reason, test=case.nodeid, declared=declared).verdict
        judged = self.judgement.kept.keys() | self.judgement.broken | self.broken_in_cells
        if verdict is Verdict.PASS and not judged.issuperset(case.requirements):
            verdict = Verdict.INCONCLUSIVE
        failed = verdict in (Verdict.FAIL, Verdict.DEVIATES)
        if verdict is not case.verdict if case.verdict in JUDGED else failed:
            yield f"the run says {case.verdict}, the packets {verdict}"

    def _builds(self) -> Iterator[str]:
        for label, identity in self.case.identities.items():
            seen = self.identities.get(label)
            if seen is not None and (seen.get("sha256"), seen.get("version")) != (
                identity.sha256,
                identity.version,
            ):
                yield f"the {label}'s build is {seen.get('version')} {seen.get('sha256')} in the packets"


def key(finding: Finding) -> tuple[str, str, str]:
    """Two findings of one recording with one key are the same."""
    return finding.requirement, finding.expected, finding.seen


def differences(directory: Path, run: Run, case: CaseFinished, *, strict: bool) -> list[str]:
    """The differences between a case's packets and the run, for requirements that the run knows; nothing for
    a case without packets."""
    if "pcapng" not in case.artefacts:
        return []
    again = Again(directory, case)
    known = run.requirements
    if case.matrix:  # findings of its cells belong to the cells
        own = (c for c in run.cases if c.cell and c.server == case.server)
        cells = (c for c in own if c.nodeid == f"{case.nodeid}/{c.cell}")
        again.broken_in_cells = frozenset(f.requirement for cell in cells for f in cell.findings)
    again.judgement.findings = [f for f in again.judgement.findings if f.requirement in known]
    return list(again.differences(run.started.kind, run.started.deviations, strict=strict))


def _fails(findings: Iterable[Finding], marked: Sequence[str]) -> bool:
    """Whether a test with these findings failed."""
    return any(f.requirement in marked or f.level in ("MUST", "ROBUST") for f in findings)


def _counts(there: Counter[str], here: Any) -> str:
    ids = sorted(i for i in there.keys() | here.keys() if there[i] != here.get(i, 0))
    return ", ".join(f"{i} {there[i]} times, not {here.get(i, 0)}" for i in ids[:4])
