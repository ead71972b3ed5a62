# SPDX-License-Identifier: GPL-2.0-only
"""The run of `spice-conform learn`: the files of a model, its case, and whether these agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from dissectors.rules.judgement import Verdict
from fixtures.system.hosts import HarnessError, Identity, UsageError
from reports.run import deviations
from reports.run.run_directory import LEARNED
from reports.run.run_events import CaseFinished
from reports.run.run_recorder import RunRecorder
from reports.run.verdict import play_verdict
from reports.views.publish import publish
from suites.model import model_picture
from suites.model.comparison import Difference
from suites.model.mealy import NAME, Model, OtherSuite, fatal, read
from suites.model.model_findings import REQUIREMENT, of_difference, write_findings

STATES = "states.txt"
#: Kind of artefact -> file.
FILES = {"model": NAME, "states": STATES, "dot": model_picture.DOT, "picture": model_picture.SVG}
FINDINGS = "findings"


@dataclass(frozen=True)
class LearnRun:
    """A run directory, to which models or differences are added. Raises OSError if the disk is full."""

    results: Path
    recorder: RunRecorder

    @classmethod
    def begin(cls, results: Path, servers: Sequence[str], command: Sequence[str], seed: int) -> LearnRun:
        """Begins the events of a run in a prepared directory."""
        recorder = RunRecorder(
            results,
            kind="learn",
            servers=list(dict.fromkeys(servers)),
            deviations=deviations.load(),
            command=["spice-conform", "learn", *command],
            seed=seed,
        )
        return cls(results, recorder)

    def learned(self, model: Model, build: Identity, server: str, *, alone: bool) -> Path:
        """Writes a model and adds its case. `alone`: it is the run's only one. Returns its directory."""
        place = self.results if alone else self.results / LEARNED / model.subject.role
        try:
            files = write(model, place)
        except OSError as error:
            raise HarnessError(f"{place}: cannot be written: {error.strerror}; answers are kept") from None
        self.recorder.finished(
            CaseFinished(
                nodeid=f"learn::{model.subject}",
                title=title_of(model),
                server=server,
                requirements=(),
                verdict=Verdict.PASS,
                duration_s=float(model.about.get("seconds", 0.0)),
                artefacts={kind: (place / n).relative_to(self.results).as_posix() for kind, n in files},
                identities={model.subject.role: build},
            )
        )
        return place

    def compared(self, left: Model, right: Model, found: Sequence[Difference]) -> list[Path]:
        """Adds a case for each difference of two models, or one for two equal models. Returns the files of
        the differences. Raises HarnessError."""
        server = server_of(right)
        build = Identity(server, "model", version=right.about.get("version"), sha256=right.about.get("build"))
        name = f"learn::{left.name} and {right.name}"
        builds = {right.subject.role: build}
        if not found:
            steps = sum(len(row) for row in right.steps)
            equal = CaseFinished(
                name, "equal models", server, (REQUIREMENT,), Verdict.PASS,
                kept={REQUIREMENT: steps}, identities=builds,
            )  # fmt: skip
            self.recorder.finished(equal)
            return []
        try:
            files = write_findings(left, right, found, self.results / FINDINGS)
        except OSError as error:
            raise HarnessError(f"{self.results}: cannot be written: {error.strerror}") from None
        for difference, file in zip(found, files, strict=True):
            finding = of_difference(left, difference)
            case = CaseFinished(
                nodeid=f"{name}::{finding.name}",
                title="; ".join(difference.word),
                server=server,
                requirements=(REQUIREMENT,),
                verdict=Verdict.FAIL,
                findings=(finding.finding(),),
                artefacts={"finding": file.relative_to(self.results).as_posix()},
                identities=builds,
                moves=tuple(difference.word),
            )
            self.recorder.finished(play_verdict(case, ()))  # a comparison has no declared differences
        return files

    def close(self, interrupted: str | None = None) -> None:
        """Ends the events, writes the reports and seals the directory."""
        self.recorder.close(interrupted)
        publish(self.results)


def server_of(model: Model) -> str:
    """The SPEC of the build that was learned."""
    return str(model.about.get("server") or model.name)


def write(model: Model, place: Path) -> list[tuple[str, str]]:
    """Writes a model's files; returns their kinds and names. Raises OSError."""
    place.mkdir(parents=True, exist_ok=True)
    model.write(place / NAME)
    (place / STATES).write_text(states_text(model), encoding="utf-8")
    drawn = model_picture.write(model, place)
    if not drawn:
        click.echo(f"{model_picture.SVG} is not drawn: it needs Debian's package graphviz", err=True)
    return [(kind, name) for kind, name in FILES.items() if drawn or kind != "picture"]


def title_of(model: Model) -> str:
    """The model in one line, for its case."""
    deaths = sum(fatal(answer) for row in model.steps for answer, _ in row.values())
    return f"{model_picture.title(model)}; {deaths} answers end the process"


def states_text(model: Model) -> str:
    """The text of `states.txt`."""
    return "".join(f"{line}\n" for line in state_lines(model))


def state_lines(model: Model) -> Iterable[str]:
    """The table of states: the shortest way into each, its number of answers, and how much was played."""
    yield model_picture.title(model)
    yield from confidence(model)
    ends = model.ends()
    for number, way in enumerate(model.shortest()):
        said = (
            "the process is gone" if number in ends else f"{len(set(model.steps[number].values()))} answers"
        )
        yield ""
        yield f"state {number}: {said}"
        yield from (f"    {letter}" for letter in way)


def confidence(model: Model) -> Iterable[str]:
    """How much was played, and with which equivalence oracle."""
    asked, oracle = model.about.get("asked", {}), model.about.get("oracle", {})
    yield (
        f"asked {asked.get('letters')} letters in {asked.get('plays')} plays"
        f" ({asked.get('known')} answers are known) in {model.about.get('seconds')} s"
    )
    yield (
        f"confidence: {oracle.get('what')}: {oracle.get('questions')} questions, each asked in"
        f" {oracle.get('orders')} orders (seed {oracle.get('seed')}); no difference in the last of"
        f" {oracle.get('rounds')} rounds"
    )


def disagreeing(directory: Path, case: CaseFinished) -> Iterator[str]:
    """One line for each file of a learned model that does not say what `model.json` says."""
    if "model" not in case.artefacts:
        return
    try:
        model = read(directory / case.artefacts["model"])
    except OtherSuite:
        return  # another version of the suite has other letters
    except UsageError as error:
        yield str(error)
        return
    if title_of(model) != case.title:
        yield f"{case.artefacts['model']}: {title_of(model)}; the events say {case.title}"
    builds = {build.sha256 for build in case.identities.values()}
    if {model.about.get("build")} != builds:
        yield f"{case.artefacts['model']}: is of another build than the events say"
    made = {"states": states_text, "dot": model_picture.dot}
    for kind, make in made.items():
        path = case.artefacts.get(kind, "")
        try:
            same = (directory / path).read_text(encoding="utf-8") == make(model)
        except (OSError, UnicodeDecodeError):
            same = False
        if not same:
            yield f"{path or kind}: is not what {case.artefacts['model']} says"
