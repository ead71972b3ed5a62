# SPDX-License-Identifier: GPL-2.0-only
"""`spice-conform learn`: learns the state machine of a server into files, or compares two of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from fixtures.bench.launchers import Launchers
from fixtures.system.hosts import HarnessError, Identity, Unsupported, UsageError
from reports.commands.fetching import drawn
from reports.commands.learned_run import FINDINGS, LearnRun, confidence, server_of
from reports.run import run_directory as directory
from reports.run.exit_status import Exit
from reports.run.suite_and_builds import alike
from suites.dask_cluster import DaskCluster, refuse_deployments
from suites.model import model_picture
from suites.model.comparison import Difference, differences, worded
from suites.model.equivalence_oracle import USUAL, Effort
from suites.model.learning import identify, learn
from suites.model.letters import ROLES, names
from suites.model.mealy import NAME, Model, read
from suites.model.subject import Subject


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
    specs = [name for name in compare if not Path(name).exists()] if compare else [server or "system"]
    if cluster is not None:
        refuse_deployments(specs)
    opened = None if cluster is None else DaskCluster(cluster, width or os.cpu_count() or 1, alike(specs))
    with nullcontext() if opened is None else closing(opened):
        how = LearnOptions(seed=seed, wide=alphabet == "wide", effort=effort, width=width, cluster=opened)
        if compare:
            return _compare(compare, roles, seamless, how, out)
        return _learn(server or "system", list(roles) or list(ROLES), seamless, how, out)


def _learn(server: str, roles: Sequence[str], seamless: bool, how: LearnOptions, out: Path | None) -> Exit:
    build = _identified(server)
    results = directory.prepare(out or directory.fresh())
    options = [word for role in roles for word in ("--role", role)] + how.options(seamless)
    run = LearnRun.begin(results, [server], ["--server", server, *options], how.seed)
    try:
        for role in roles:
            model = _learned(server, build, Subject(role, seamless), how)
            _tell(model, run.learned(model, build, server, alone=len(roles) == 1))
    except (HarnessError, UsageError, Unsupported, KeyboardInterrupt) as error:
        run.close(str(error) or "interrupted")
        raise
    run.close()
    return Exit.CONFORMANT


@dataclass(frozen=True)
class LearnOptions:
    """The options of `suites.model.learning.learn`."""

    seed: int
    wide: bool
    effort: Effort
    width: int | None
    cluster: DaskCluster | None

    def options(self, seamless: bool) -> list[str]:
        """The words that repeat the run. The number of processes changes no model."""
        words = ["--seed", str(self.seed)]
        words += ["--seamless"] if seamless else []
        words += ["--alphabet", "wide"] if self.wide else []
        return words if self.effort == USUAL else [*words, "--orders", str(self.effort.orders)]


def _identified(server: str) -> Identity:
    with drawn(server) as (progress, say):
        launchers = Launchers(say, progress)
        try:
            return identify(launchers, server)
        finally:
            launchers.close()


def _learned(server: str, build: Identity, subject: Subject, how: LearnOptions) -> Model:
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


def _tell(model: Model, place: Path) -> None:
    click.echo(model_picture.title(model))
    for line in confidence(model):
        click.echo(f"    {line}")
    click.echo(f"    {place}")


# ---- two models


def _compare(
    named: tuple[str, str],
    roles: Sequence[str],
    seamless: bool,
    how: LearnOptions,
    out: Path | None,
) -> Exit:
    def learned(spec: str, role: str, other: Model | None) -> Model:
        if other is None:
            return _learned(spec, _identified(spec), Subject(role, seamless), how)
        if seamless and not other.subject.seamless:
            raise UsageError(f"{other.name}: a model of another scheme: leave --seamless out")
        return _learned(spec, _identified(spec), other.subject, replace(how, wide=_wide(other)))

    compared = [(left, right, differences(left, right)) for left, right in _pairs(named, roles, learned)]
    different = any(found for _, _, found in compared)
    for left, right, found in compared:
        _tell_differences(left, right, found)
    if different or out is not None:
        results = directory.prepare(out or directory.fresh())
        options = [word for role in roles for word in ("--role", role)] + how.options(seamless)
        servers = [server_of(right) for _, right, _ in compared]
        run = LearnRun.begin(results, servers, ["--compare", *named, *options], how.seed)
        files = [file for pair in compared for file in run.compared(*pair)]
        run.close()
        if files:
            click.echo(f"{len(files)} findings for spice-conform replay: {results / FINDINGS}")
    return Exit.NOT_CONFORMANT if different else Exit.CONFORMANT


def _pairs(
    named: tuple[str, str], roles: Sequence[str], learned: Callable[[str, str, Model | None], Model]
) -> Iterable[tuple[Model, Model]]:
    """The models to compare: a path's as they are; a SPEC's are learned now, with the path's role, scheme and
    inputs."""
    left, right = _models(named[0]), _models(named[1])
    common = [role for role in ROLES if all(found is None or role in found for found in (left, right))]
    if not common:
        raise UsageError(f"{named[0]} and {named[1]}: one is the model of a source, the other of a target")
    asked = [role for role in common if not roles or role in roles]
    if not asked:
        raise UsageError(f"{named[0]} and {named[1]}: these are models of the {common[0]} only")
    for role in asked:
        one, other = (left or {}).get(role), (right or {}).get(role)
        yield one or learned(named[0], role, other), other or learned(named[1], role, one)


def _wide(model: Model) -> bool:
    """Whether a model has the wide alphabet. Raises UsageError if its alphabet is no longer in use."""
    subject = model.subject
    for wide in (False, True):
        if subject.role in ROLES and tuple(model.alphabet) == names(
            subject.role, subject.seamless, wide=wide
        ):
            return wide
    raise UsageError(f"{model.name}: a model with other letters than this version plays: learn it again")


def _models(name: str) -> dict[str, Model] | None:
    """The models of a path by role; None for a SPEC."""
    path = Path(name)
    if not path.exists():
        return None
    several = path / directory.LEARNED
    inside = [several / role for role in ROLES if (several / role / NAME).is_file()]
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
    table.add_column(_column(left, right), overflow="fold")
    table.add_column(_column(right, left), overflow="fold")
    for letter, answer in zip(difference.word, difference.before, strict=False):
        table.add_row(letter, answer, "the same")
    table.add_row(difference.letter, difference.left, difference.right, style="bold")
    return table


def _column(model: Model, other: Model) -> str:
    """A model's version; its build too if both are of one version."""
    version, server = model.about.get("version"), str(model.about.get("server") or "model")
    if not version:
        return server
    return f"{version} ({server})" if version == other.about.get("version") else str(version)
