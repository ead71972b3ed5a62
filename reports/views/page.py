# SPDX-License-Identifier: GPL-2.0-only
"""`index.html`: one self-contained page of a run, or of several builds side by side, which can be passed
on."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from packaging.version import InvalidVersion, Version

from dissectors.rules.judgement import Requirement, Verdict
from reports.ladder import ladder_svg
from reports.run.exit_status import Exit
from reports.run.packed_evidence import file_of
from reports.run.results import Result
from reports.run.run_events import CaseFinished
from reports.run.tally import Run
from reports.run.verdict import WORST_FIRST, applies
from reports.views import known_verdicts
from reports.views.certificate import NOT_JUDGED, counted, timestamp
from reports.views.known_verdicts import Known
from reports.views.matrix_picture import KINDS, Picture, pictures
from reports.views.packed_parts import PackedParts, packed
from reports.views.titles import full_title
from reports.views.version_remarks import UNKNOWN

FILE = "index.html"

#: The tone of a verdict: good, bad, warn, dim.
TONES: dict[Verdict | None, str] = {
    Verdict.PASS: "good",
    Verdict.FAIL: "bad",
    Verdict.ERROR: "bad",
    Verdict.DEVIATES: "warn",
    Verdict.DIFFERS: "warn",
    Verdict.INCONCLUSIVE: "dim",
    Verdict.UNSUPPORTED: "dim",
    None: "dim",
}

MEANINGS = {
    Verdict.PASS: "kept wherever it was judged",
    Verdict.FAIL: "not kept, and not declared",
    Verdict.DEVIATES: "not kept, as declared with a reason",
    Verdict.DIFFERS: "a SHOULD or OBSERVED requirement that is not kept: reported, not failed",
    Verdict.INCONCLUSIVE: "the situation could not be made",
    Verdict.UNSUPPORTED: "this build or its host cannot show it",
    Verdict.ERROR: "the suite's own trouble",
}

#: How many failed tests are open at first.
OPENED = 20
#: How many tests have a row from the start; the page's script builds the other rows when they are needed.
FIRST_ROWS = 60

Draw = Callable[[CaseFinished], str | None]


@dataclass(frozen=True)
class View:
    """The values of the template."""

    run: Run
    draw: Draw
    #: Parts that are drawn from packets, and other parts: `verify` compares the latter.
    parts: PackedParts = field(default_factory=lambda: PackedParts("pack"))
    bodies: PackedParts = field(default_factory=lambda: PackedParts("body"))
    #: The rows of the tests after `FIRST_ROWS`, and the places of their ladders.
    rows: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    drawn: list[str | None] = field(default_factory=list)
    history: Known = field(default_factory=known_verdicts.read)

    @property
    def command(self) -> str:
        """The command that repeats the run."""
        return shlex.join(self.run.started.command)

    @property
    def tone(self) -> str:
        """The page's own tone."""
        if self.run.exit is Exit.CONFORMANT:
            return "good"
        return "bad" if self.run.exit is Exit.NOT_CONFORMANT else "warn"

    @cached_property
    def counts(self) -> list[tuple[str, str, int]]:
        """(verdict, tone, number of requirements), over all builds."""
        names = counted(self.run.counts())
        tones = {str(v) if v else NOT_JUDGED: tone for v, tone in TONES.items()}
        return [(name, tones[name], n) for name, n in names.items()]

    @cached_property
    def areas(self) -> list[tuple[str, list[Requirement]]]:
        """The requirements by area, in the catalogue's order."""
        many = list(self.run.requirements.values())
        order = list(dict.fromkeys(r.area for r in many))
        many.sort(key=lambda r: order.index(r.area))
        return [(area, list(group)) for area, group in groupby(many, key=lambda r: r.area)]

    @cached_property
    def sums(self) -> list[tuple[str, str, list[int]]]:
        """(verdict, tone, number of requirements on each build)."""
        each = [self.run.counts(server) for server in self.run.servers]
        verdicts: list[Verdict | None] = [*Verdict, None]
        return [
            (str(v) if v else NOT_JUDGED, TONES[v], [counts[v] for counts in each])
            for v in verdicts
            if any(counts[v] for counts in each)
        ]

    @cached_property
    def notable(self) -> list[Requirement]:
        """Every requirement that some build does not keep, or that no test judged, the worst first."""
        order: list[Verdict | None] = [*WORST_FIRST, None]
        found = [r for r in self.run.requirements.values() if not self._kept(r)]
        return sorted(found, key=lambda r: order.index(self.run.verdict(r.id)))

    def why(self, requirement: Requirement) -> list[str]:
        """The reason why it is not kept (declared, otherwise seen), or why it was not judged."""
        results = [self.result(requirement, server) for server in self.run.servers]
        evidence = [e for r in results for e in r.evidence if e.verdict is not Verdict.PASS]
        declared = [d.reason for e in evidence for d in e.declared]
        seen = [f"seen: {f.seen}" for e in evidence for f in e.findings]
        missing = [f"not judged: {requirement.needs}"] if not any(r.evidence for r in results) else []
        other = [e for e in evidence if not applies(requirement, e.case.identities.values())]
        missing += [f"not judged: it applies to versions {requirement.versions}"] if other else []
        return list(dict.fromkeys(declared or seen[:1] or missing))

    def agreement(self, requirements: list[Requirement]) -> str:
        """The number of an area's requirements that every build keeps."""
        kept = sum(map(self._kept, requirements))
        return f"{kept} of {len(requirements)} kept by every build"

    def _kept(self, requirement: Requirement) -> bool:
        return all(self.result(requirement, s).verdict is Verdict.PASS for s in self.run.servers)

    def result(self, requirement: Requirement, server: str) -> Result:
        """One requirement on one build."""
        return self.run.results[requirement.id, server]

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {id(case): n for n, case in enumerate(self.run.cases, 1)}

    def anchor(self, case: CaseFinished) -> str:
        """The id of a test's element in the page."""
        return f"t{self._numbers[id(case)]}"

    @cached_property
    def anchors(self) -> dict[tuple[str, str], str]:
        """(test's id, SPEC) -> the id of its element in the page."""
        return {(case.nodeid, case.server): self.anchor(case) for case in self.run.cases}

    @cached_property
    def _opened(self) -> frozenset[int]:
        failed = [id(case) for case in self.run.cases if case.verdict is Verdict.FAIL]
        return frozenset(failed[:OPENED])

    def opened(self, case: CaseFinished) -> bool:
        """Whether a failed test is open at first."""
        return id(case) in self._opened

    @cached_property
    def cases(self) -> list[CaseFinished]:
        """The tests, the worst first, otherwise in the order in which they ran."""
        return in_order(self.run)

    @property
    def first_cases(self) -> list[CaseFinished]:
        """The tests whose rows are in the page from the start."""
        return self.cases[:FIRST_ROWS]

    @property
    def later_cases(self) -> list[CaseFinished]:
        """The tests whose rows the page's script builds."""
        return self.cases[FIRST_ROWS:]

    def words(self, case: CaseFinished) -> str:
        """A test's id and requirements, for the page's filter."""
        return " ".join((case.nodeid, *case.requirements))

    def pack_row(self, case: CaseFinished, row: str) -> str:
        """Stores the row of a later test and draws its ladder; returns "", which the template prints."""
        summary = f"{case.verdict} {full_title(case)} {case.server} {case.duration_s:.2f} s"
        self.rows.append(
            (self.anchor(case), str(case.verdict), self.words(case), summary, " ".join(row.split()))
        )
        self.drawn.append(self.drawing(case))
        return ""

    @property
    def packed_rows(self) -> str:
        """[anchor, verdict, `words`, the summary's text, HTML] of each later test."""
        return packed(self.rows)

    @property
    def packed_places(self) -> str:
        """The place of each later test's ladder among the drawings; null if it has none."""
        return packed(self.drawn)

    def drawing(self, case: CaseFinished) -> str | None:
        """The place of a test's ladder among the packed parts; None if its packets cannot be read."""
        drawn = self.draw(case)
        return self.parts.add(drawn) if drawn else None

    def pack(self, body: str) -> str:
        """The place of a body that is unpacked when it is opened."""
        return self.bodies.add(" ".join(body.split()))

    def over_releases(self, requirement: Requirement) -> list[tuple[str, str]]:
        """(version, verdict) of a requirement, the oldest release first: from the known verdicts, and from
        this run."""
        found = dict(self.history.get(requirement.id, {}))
        for server in self.run.servers:
            versions = {build.version for build in self.run.identities.get(server, {}).values()}
            verdict = self.result(requirement, server).verdict
            if verdict and len(versions) == 1 and (version := versions.pop()):
                found[version] = verdict
        return sorted(found.items(), key=lambda entry: _ordered(entry[0]))

    def verdicts(self, requirement: Requirement) -> str:
        """Each verdict of a requirement once, for the page's filter."""
        results = (self.result(requirement, server).verdict for server in self.run.servers)
        return "|".join(dict.fromkeys(str(v) if v else NOT_JUDGED for v in results))

    @cached_property
    def levels(self) -> list[str]:
        """The levels of the run's requirements."""
        return list(dict.fromkeys(r.level for r in self.run.requirements.values()))

    @cached_property
    def matrices(self) -> list[Picture]:
        """The matrix of states and messages as pictures, one for each build and channel."""
        return pictures(self.run)

    def uneven(self, requirement: Requirement) -> bool:
        """Whether the builds have different verdicts."""
        return len({self.result(requirement, server).verdict for server in self.run.servers}) > 1


def _ordered(version: str) -> tuple[bool, Version | str]:
    try:
        return False, Version(version)
    except InvalidVersion:
        return True, version


def in_order(run: Run) -> list[CaseFinished]:
    """The tests in the page's order, each once: the worst first, otherwise in the order in which they ran."""
    return sorted(run.cases, key=lambda case: WORST_FIRST.index(case.verdict))


def no_ladder(case: CaseFinished) -> str | None:
    """For a page without drawings."""
    return None


def page(run: Run, draw: Draw = no_ladder) -> str:
    """The page's text. `draw`: gives a case's ladder (SVG); called once for each of `in_order`."""
    return (
        environment()
        .get_template("index.html")
        .render(
            view=View(run, draw),
            run=run,
            meanings=MEANINGS,
            title=f"{run.headline}: {', '.join(run.servers)}",
        )
    )


@cache
def environment() -> Environment:
    """Templates with escaping, and with the functions that every page needs."""
    env = Environment(
        loader=PackageLoader("reports.views"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "tone": lambda verdict: TONES[Verdict(verdict) if verdict else None],
        "full_title": full_title,
        "name": lambda verdict: str(verdict) if verdict else NOT_JUDGED,
        "timestamp": lambda seconds: timestamp(seconds).replace("T", " ")[:19] + " UTC",
        "hex": lambda number: "unknown" if number is None else f"{number:#010x}",
        "basename": lambda path: Path(path).name,
        "file_of": file_of,
    }
    env.globals["ladder_style"] = Markup(ladder_svg.style())
    env.globals["kinds"] = KINDS
    env.globals["unknown_version"] = UNKNOWN
    env.globals["include_raw"] = lambda name: Markup(_template(name).read_text(encoding="utf-8"))
    return env


def _template(name: str) -> Path:
    return Path(__file__).with_name("templates") / name
