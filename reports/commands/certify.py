# SPDX-License-Identifier: GPL-2.0-only
"""The main job: run the suites against builds and write what they came to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fixtures.bench.launchers import Launchers, Pairing, pairings
from fixtures.system.hosts import HarnessError
from reports.commands.fetching import drawn
from reports.run import profiles
from reports.run import run_directory as directory
from reports.run.deviations import SHIPPED, load
from reports.run.environment import ROOT
from reports.run.exit_status import Exit
from reports.run.run_events import EVENTS, RunFinished, encode
from reports.run.runner import LOG, pytest_command, run_pytest
from reports.run.tally import Run
from reports.views.terminal import ProgressLine, summary


@dataclass(frozen=True)
class Request:
    """What `spice-conform certify` was asked."""

    servers: Sequence[str] = ()
    source: str | None = None
    target: str | None = None
    profiles: Sequence[str] = ()
    deviations: Path | None = None
    out: Path | None = None
    workers: str | None = None
    seed: int | None = None
    more: Sequence[str] = ()
    root: Path = ROOT
    check: bool = True

    def options(self) -> list[str]:
        """As pytest's options."""
        options = ["-p", "reports.run.plugin", "--deviations", str((self.deviations or SHIPPED).absolute())]
        options += [f"--server={spec}" for spec in self.servers]
        pairs = {"--source": self.source, "--target": self.target, "-n": self.workers, "--seed": self.seed}
        for option, value in pairs.items():
            if value is not None:
                options += [option, str(value)]
        return [*options, *profiles.options(self.profiles, self.root), *self.more]


def certify(request: Request) -> Exit:
    """Run, write the reports, say what came out. UsageError, HarnessError: one line."""
    load(request.deviations or SHIPPED)  # what is wrong with the request is said before anything starts
    options = request.options()
    pairs = pairings(list(request.servers), request.source, request.target)
    out = directory.prepare(request.out or directory.fresh())
    if request.check:
        _check(pairs)
    with ProgressLine() as progress, TemporaryDirectory(prefix=".scratch-", dir=out) as scratch:
        options.append(f"--basetemp={scratch}")
        status = run_pytest(pytest_command(options, out, request.root), out, progress.show)
    if not (out / EVENTS).exists() or (out / EVENTS).stat().st_size == 0:
        raise HarnessError(_why(out, status))
    from reports.views.publish import publish  # a fifth of a second that the first test need not wait for

    _mark_end(out, status)
    run = publish(out)
    if not run.cases:
        raise HarnessError(_why(out, status))
    print(summary(run, out, colour=sys.stdout.isatty()))
    return run.exit


def _check(pairs: Sequence[Pairing]) -> None:
    """Start each build once: one that does not start is said in one line, before any test."""
    for spec in dict.fromkeys(spec for pair in pairs for spec in (pair.source, pair.target)):
        with drawn(spec) as (progress, say), closing(Launchers(say, progress)) as launchers:
            launchers.check(spec)
    with closing(Launchers()) as launchers:
        for pair in pairs:
            launchers.pair(pair)


def _mark_end(out: Path, status: int | None) -> None:
    """A run that could not say its own end gets one."""
    run = Run.read(out)
    if run.finished is None:
        why = "interrupted" if status is None else f"pytest ended early with status {status}"
        with (out / EVENTS).open("a", encoding="utf-8") as file:
            file.write(encode(RunFinished(run.started.started, why)) + "\n")


def _why(out: Path, status: int | None) -> str:
    """The line of pytest's own words that says most."""
    if status is None:
        return "interrupted before the first test; nothing was judged"
    log = out / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    said = [line[len(mark) :].strip() for mark in _TELLING for line in lines if line.startswith(mark)]
    return f"{said[0] if said else f'pytest ended with status {status}'} (all of it: {log})"


#: How lines of pytest begin that say why nothing ran, the most telling first.
_TELLING = ("E   ", "pytest: error:", "ERROR:", "INTERNALERROR>", "Exit:", "__main__.py: error:")
