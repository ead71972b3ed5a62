# SPDX-License-Identifier: GPL-2.0-only
"""`certificate.html`: a run on one printed page, with a second page of details.

The first page holds the verdict in plain words, the builds, the scope, the risks and the seal. The annex
lists each risk, the requirements by area and the machine. A browser prints it on two pages of A4.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from dissectors.rules.judgement import Level, Verdict
from reports.run.exit_status import Exit
from reports.run.results import BuildFailure, Result
from reports.run.tally import Occurrence, Run
from reports.views.certificate import counted
from reports.views.page import environment

FILE = "certificate.html"

#: How many rows fit; the others are counted, and the page (index.html) has all.
FAILURES_SHOWN = 6
RISKS_SHOWN = 32
BUILDS_SHOWN = 5

#: What a requirement of a level guards against, in the words of a certificate's reader.
GUARDS = {
    Level.ROBUST: "A peer can end, stall or exhaust the server",
    Level.MUST: "A client or a migration can go wrong",
    Level.SHOULD: "A recommendation is not followed",
    Level.OBSERVED: "The build behaves unlike other releases",
}


@dataclass(frozen=True)
class Risk:
    """A declared deviation that showed, as a risk of the build."""

    requirements: str
    reason: str
    versions: str
    tests: int


@dataclass(frozen=True)
class Certificate:
    """The values of the template."""

    run: Run

    @property
    def tone(self) -> str:
        """The tone of the verdict."""
        return {Exit.CONFORMANT: "good", Exit.NOT_CONFORMANT: "bad"}.get(self.run.exit, "warn")

    @property
    def command(self) -> str:
        """The command that repeats the run."""
        return shlex.join(self.run.started.command)

    @property
    def counts(self) -> list[tuple[str, int]]:
        """(verdict, number of requirements)."""
        return list(counted(self.run.counts()).items())

    @property
    def sentences(self) -> list[str]:
        """The verdict for a reader who has never seen the suite."""
        run, counts = self.run, self.run.counts()
        if run.interrupted:
            return [f"The run did not come to its end: {run.interrupted}. It proves nothing."]
        judged = sum(n for verdict, n in counts.items() if verdict in _JUDGED)
        kept, failed, declared = (counts[v] for v in (Verdict.PASS, Verdict.FAIL, Verdict.DEVIATES))
        build = "These builds keep" if len(run.servers) > 1 else "This build keeps"
        sentences = [f"{build} {kept} of the {judged} requirements that were judged."]
        if failed:
            sentences.append(
                f"{failed} {'is' if failed == 1 else 'are'} broken in a way that nobody declared."
            )
        if declared:
            sentences.append(
                f"{declared} {'is' if declared == 1 else 'are'} broken as was declared beforehand, with a"
                " reason: the risks below."
            )
        if run.exit is Exit.HARNESS:
            sentences.append("The suite itself failed, so this is no verdict on the build.")
        if run.exit is Exit.STALE_DEVIATION:
            sentences.append("A declared deviation no longer shows: the declaration has to be narrowed.")
        if not run.full:
            sentences.append(f"This is not the full suite but {run.scope}: it certifies no more than that.")
        return sentences

    @property
    def failures(self) -> list[BuildFailure]:
        """What failed, each cause once."""
        return self.run.failed

    @property
    def guarded(self) -> list[tuple[str, list[str]]]:
        """(possible harm, the broken requirements), from the declared risks."""
        found: dict[Level, dict[str, None]] = {}
        for result in self.run.results_with(Verdict.DEVIATES):
            found.setdefault(result.requirement.level, {})[result.requirement.id] = None
        return [(GUARDS[level], list(ids)) for level, ids in found.items()]

    @property
    def risks(self) -> list[Risk]:
        """Every declared deviation that showed; those with one reason together."""
        grouped: dict[tuple[str, str], list[Occurrence]] = {}
        for occurrence in self.run.occurrences:
            if occurrence.cases:
                entry = occurrence.deviation
                grouped.setdefault((entry.reason, entry.versions), []).append(occurrence)
        return [
            Risk(
                ", ".join(dict.fromkeys(i for o in many for i in _shown_by(o))),
                reason,
                versions,
                len({case.nodeid for o in many for case in o.cases}),
            )
            for (reason, versions), many in grouped.items()
        ]

    @property
    def differing(self) -> list[Result]:
        """Requirements whose breach is reported without failing the build."""
        return list(self.run.results_with(Verdict.DIFFERS))

    @property
    def areas(self) -> list[tuple[str, dict[str, int]]]:
        """(area, verdict -> number of requirements)."""
        found: dict[str, Counter[Verdict | None]] = {}
        for requirement in self.run.requirements.values():
            found.setdefault(requirement.area, Counter())[self.run.verdict(requirement.id)] += 1
        return [(area, counted(counts)) for area, counts in found.items()]

    @property
    def gone(self) -> list[str]:
        """Declarations of deviations that no longer occur."""
        return [f"{o.deviation.requirement}: {o.deviation.reason}" for o in self.run.stale]


_JUDGED = (Verdict.PASS, Verdict.FAIL, Verdict.DEVIATES)


def _shown_by(occurrence: Occurrence) -> Iterator[str]:
    """The requirements that a deviation's tests judge and that its glob names."""
    entry = occurrence.deviation
    if "*" not in entry.requirement:
        yield entry.requirement
        return
    for case in occurrence.cases:
        yield from (f.requirement for f in case.findings if f.requirement.startswith(entry.requirement[:-1]))


def certificate_page(run: Run) -> str:
    """The page's text, self-contained."""
    return (
        environment()
        .get_template("certificate.html")
        .render(
            view=Certificate(run),
            run=run,
            title=f"Certificate: {run.headline}, {', '.join(run.servers)}",
            failures_shown=FAILURES_SHOWN,
            risks_shown=RISKS_SHOWN,
            builds_shown=BUILDS_SHOWN,
        )
    )
