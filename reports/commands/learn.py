# SPDX-License-Identifier: GPL-2.0-only
"""`spice-conform learn`: learns the state machine of a server into files, or compares two of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from fixtures.bench.launchers import Launchers
from fixtures.system.hosts import HarnessError, UsageError
from reports.commands.fetching import drawn
from reports.run import run_directory as directory
from reports.run.exit_status import Exit
from suites.dask_cluster import DaskCluster
from suites.model import picture
from suites.model.comparison import Difference, differences, worded
from suites.model.findings import write_findings
from suites.model.learning import identify, learn
from suites.model.letters import ROLES
from suites.model.mealy import NAME, Model, read
from suites.model.subject import Subject
from suites.model.walks import Effort

STATES = "states.txt"


def main(
    *,
    server: str | None = None,
    roles: Sequence[str] = (),
    seamless: bool = False,
    seed: int = 0,
    orders: int | None = None,
    alphabet: str = "usual",
    width: int | None = None,
    cluster: str | None = None,
    out: Path | None = None,
    compare: tuple[str, str] | None = None,
) -> Exit:
    """The exit status: 0 learned, or equal; 1 different. Raises UsageError, HarnessError, Unsupported.

    `cluster`: a Dask scheduler's address, or `local`; processes of this machine play otherwise."""
    if compare and server:
        raise UsageError("--compare names its models itself: leave --server out")
    effort = Effort() if orders is None else Effort(orders)
    opened = None if cluster is None else DaskCluster(cluster, width or os.cpu_count() or 1)
    with nullcontext() if opened is None else closing(opened):
        how = How(seed=seed, wide=alphabet == "wide", effort=effort, width=width, cluster=opened)
        if compare:
            return _compare(compare, roles, seamless, how, out)
        return _learn(server or "system", list(roles) or list(ROLES), seamless, how, out)


def _learn(server: str, roles: Sequence[str], seamless: bool, how: How, out: Path | None) -> Exit:
    results = directory.prepare(out or directory.fresh())
    for role in roles:
        model = _learned(server, Subject(role, seamless), how)
        place = results if len(roles) == 1 else results / role
        _write(model, place)
        _tell(model, place)
    return Exit.CONFORMANT


@dataclass(frozen=True)
class How:
    """The options of `suites.model.learning.learn`."""

    seed: int
    wide: bool
    effort: Effort
    width: int | None
    cluster: DaskCluster | None


def _learned(server: str, subject: Subject, how: How) -> Model:
    with drawn(server) as (progress, say):
        launchers = Launchers(say, progress)
        try:
            build = identify(launchers, server)
        finally:
            launchers.close()
    click.echo(f"learning {server} ({build.version}), {subject}, seed {how.seed}")
    return learn(
        server,
        build,
        subject,
        seed=how.seed,
        wide=how.wide,
        effort=how.effort,
        width=how.width,
        cluster=how.cluster,
        say=_say,
    )


def _say(line: str) -> None:
    click.echo(f"    {line}", err=True)


def _write(model: Model, place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
        model.write(place / NAME)
        (place / STATES).write_text("".join(f"{line}\n" for line in state_lines(model)), encoding="utf-8")
        if not picture.write(model, place):
            click.echo("model.svg is not drawn: it needs Debian's package graphviz", err=True)
    except OSError as error:
        raise HarnessError(f"{place}: cannot be written: {error.strerror}; the answers are kept") from None


def state_lines(model: Model) -> Iterable[str]:
    """The table of states: the shortest way into each, its number of answers, and how much was played."""
    yield picture.title(model)
    yield from confidence(model)
    ends = model.ends()
    for number, way in enumerate(model.shortest()):
        told = (
            "the process is gone" if number in ends else f"{len(set(model.steps[number].values()))} answers"
        )
        yield ""
        yield f"state {number}: {told}"
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


def _tell(model: Model, place: Path) -> None:
    click.echo(picture.title(model))
    for line in confidence(model):
        click.echo(f"    {line}")
    click.echo(f"    {place}")


# ---- two models


def _compare(
    named: tuple[str, str],
    roles: Sequence[str],
    seamless: bool,
    how: How,
    out: Path | None,
) -> Exit:
    different = False

    def learned(spec: str, role: str) -> Model:
        return _learned(spec, Subject(role, seamless), how)

    for left, right in list(_pairs(named, roles, learned)):
        found = differences(left, right)
        different |= bool(found)
        _tell_differences(left, right, found)
        if found:
            place = directory.prepare(out or directory.fresh())
            try:
                files = write_findings(left, right, found, place / "findings")
            except OSError as error:
                raise HarnessError(f"{place}: cannot be written: {error.strerror}") from None
            click.echo(f"{len(files)} findings for spice-conform replay: {place / 'findings'}")
    return Exit.NOT_CONFORMANT if different else Exit.CONFORMANT


def _pairs(
    named: tuple[str, str], roles: Sequence[str], learned: Callable[[str, str], Model]
) -> Iterable[tuple[Model, Model]]:
    """The models to compare: those of a path as they are, those of a SPEC learned now."""
    left, right = _models(named[0]), _models(named[1])
    common = [role for role in ROLES if all(found is None or role in found for found in (left, right))]
    for role in [role for role in common if not roles or role in roles]:
        yield (
            left[role] if left is not None else learned(named[0], role),
            right[role] if right is not None else learned(named[1], role),
        )
    if not common:
        raise UsageError(f"{named[0]} and {named[1]}: these are models of two roles")


def _models(name: str) -> dict[str, Model] | None:
    """The models of a path by role; None for a SPEC."""
    path = Path(name)
    if not path.exists():
        return None
    inside = [path / role for role in ROLES if (path / role / NAME).is_file()] if path.is_dir() else []
    models = [read(place) for place in inside or [path]]
    return {model.subject.role: model for model in models}


def _tell_differences(left: Model, right: Model, found: Sequence[Difference]) -> None:
    if not found:
        deaths = worded(left, right)
        more = f" ({deaths} ends of the process are worded differently)" if deaths else ""
        click.echo(f"{left.name} and {right.name}: equal, {len(left)} and {len(right)} states{more}")
        return
    click.echo(f"{left.name} and {right.name}: {len(found)} differences, {len(left)} and {len(right)} states")
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
    for number, difference in enumerate(found, 1):
        console.print(ladder(difference, number, left, right))


def ladder(difference: Difference, number: int, left: Model, right: Model) -> Table:
    """A difference, step by step, with both answers to the last letter side by side."""
    more = f", and from {len(difference.also)} more states" if difference.also else ""
    table = Table(title=f"difference {number}: {difference.letter}{more}", title_justify="left", expand=False)
    table.add_column("step")
    table.add_column(_column(left), overflow="fold")
    table.add_column(_column(right), overflow="fold")
    for letter, answer in zip(difference.word, difference.before, strict=False):
        table.add_row(letter, answer, "the same")
    table.add_row(difference.letter, difference.left, difference.right, style="bold")
    return table


def _column(model: Model) -> str:
    return str(model.about.get("version") or model.about.get("server") or "model")
