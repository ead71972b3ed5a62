# SPDX-License-Identifier: GPL-2.0-only
"""The main job: runs the suites against builds and writes the verdicts."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fixtures.builds import is_deployment
from fixtures.system.hosts import HarnessError, UsageError
from reports.run import profiles
from reports.run import run_directory as directory
from reports.run.deviations import SHIPPED, load
from reports.run.environment import ROOT
from reports.run.exit_status import Exit
from reports.run.run_directory import RESULTS
from reports.run.run_events import EVENTS, RunFinished, encode
from reports.run.runner import LOG, pytest_command, run_pytest
from reports.run.selection import failed_last, files_with, shard_of, wanted_ids
from reports.run.tally import BRIEF, Run
from reports.views.job_summary import github_errors
from reports.views.terminal import WIDTH, ProgressLine, summary

#: Beginnings of SPECs whose builds may have to be fetched or built.
FETCHED = ("debian:", "source:")
#: Pytest's exit status if no test was collected, or all were left out.
NOTHING_RAN = 5
#: Exit statuses of a wrong request: pytest's own, and that of conftest.py's check of the builds.
WRONG_USE = (4, 2)
#: The number of files below which several processes are not worth their start.
FEW_FILES = 6


@dataclass(frozen=True)
class Request:
    """The options of `spice-conform certify`."""

    servers: Sequence[str] = ()
    source: str | None = None
    target: str | None = None
    profiles: Sequence[str] = ()
    deviations: Path | None = None
    out: Path | None = None
    allure: Path | None = None
    workers: str | None = None
    seed: int | None = None
    requirements: Sequence[str] = ()
    levels: Sequence[str] = ()
    last_failed: bool = False
    rerun: int = 0
    shard: str | None = None
    version: str | None = None
    more: Sequence[str] = ()
    root: Path = ROOT
    check: bool = True

    def options(self) -> list[str]:
        """The request as pytest's options. Raises UsageError if a name matches nothing."""
        deviations = str((self.deviations or SHIPPED).absolute())
        options = ["-p", "reports.run.plugin", "--deviations", deviations]
        options += [f"--server={spec}" for spec in self.servers]
        options += [f"--requirement={glob}" for glob in self.requirements]
        options += [f"--level={level}" for level in self.levels]
        pairs = {
            "--source": self.source,
            "--target": self.target,
            "--seed": self.seed,
            "--shard": self.shard,
            "--server-version": self.version,
            "--repeat": self.rerun + 1 if self.rerun else None,
        }
        for option, value in pairs.items():
            if value is not None:
                options += [option, str(value)]
        chosen, paths = profiles.options(self.profiles, self.root)
        if self.requirements or self.levels:
            paths = self._files(paths)
        if not any(_draws(path) for path in paths):
            options += ["-p", "no:hypothesispytest"]  # takes a quarter of a second to load
        options += ["--brief"] if self.brief else []
        few = self.brief or (bool(self.requirements or self.last_failed) and len(paths) <= FEW_FILES)
        one_machine = any(map(is_deployment, self.servers))
        worth = 1 if few or one_machine else profiles.processes(self.profiles)
        asked = None if one_machine and self.workers == "auto" else self.workers
        options += ["-n", asked or ("auto" if worth is None else str(worth if worth > 1 else 0))]
        brief = [BRIEF] if self.brief else []
        options += [f"--scope={word}" for word in [*self.left_out, *brief] or [""]]
        options += [f"--again={word}" for word in self.command]
        return [*options, *chosen, *map(str, paths), *self.more]

    def _files(self, paths: Sequence[Path]) -> list[Path]:
        ids = wanted_ids(self.requirements, self.levels)
        if not (found := files_with(ids, paths)):
            raise UsageError(f"no test of this profile is about {', '.join(sorted(ids)[:4])}")
        return found

    @property
    def brief(self) -> bool:
        """Whether one requirement is named: then only its quickest tests run, for an answer in seconds."""
        one = len(self.requirements) == 1 and not set(self.requirements[0]) & set("*?[")
        return one and not (self.profiles or self.levels or self.last_failed or self.shard)

    @property
    def left_out(self) -> list[str]:
        """The options that leave tests out, empty for a full run."""
        named = [name for name in self.profiles if name != profiles.DEFAULT]
        words = [] if len(named) < len(self.profiles) else [f"--profile {name}" for name in named]
        words += [f"--requirement {glob}" for glob in self.requirements]
        words += [f"--level {level}" for level in self.levels]
        words += ["--last-failed"] if self.last_failed else []
        words += [f"--shard {self.shard}"] if self.shard else []
        words += self.more if any(_selects(word) for word in self.more) else []
        return words

    @property
    def command(self) -> list[str]:
        """The command that repeats the run."""
        words = ["spice-conform", "certify"]
        for spec in self.servers:
            words += ["--server", spec]
        for option, value in (
            ("--source", self.source),
            ("--target", self.target),
            ("--version", self.version),
        ):
            words += [option, value] if value else []
        words += [part for word in self.left_out if word not in self.more for part in word.split(" ", 1)]
        if len(self.requirements) == 1 and profiles.DEFAULT in self.profiles:  # all cases of its tests
            words += ["--profile", profiles.DEFAULT]
        words += ["--deviations", str(self.deviations)] if self.deviations else []
        words += ["--rerun", str(self.rerun)] if self.rerun else []
        words += ["--seed", str(self.seed)] if self.seed is not None else []
        return [*words, *(["--", *self.more] if self.more else [])]


def _draws(path: Path) -> bool:
    """Whether tests below a path use Hypothesis."""
    return "fuzz" in path.parts or (path.is_dir() and path.name == "suites")


def _selects(word: str) -> bool:
    """Whether a word for pytest leaves tests out: an option, or a path."""
    if word.startswith("-"):
        return word.startswith(("-k", "-m", "--deselect", "--ignore", "--cell"))
    return "test_" in word or (ROOT / word).exists()


def certify(request: Request) -> Exit:
    """Runs the suites, writes the reports, prints the verdict. UsageError, HarnessError: one line."""
    load(request.deviations or SHIPPED)  # errors in the request are reported before anything starts
    if request.shard:
        shard_of(request.shard)
    failed = failed_last(request.out or RESULTS) if request.last_failed else []
    options = request.options()
    out = directory.prepare(request.out or directory.fresh())
    if request.check:
        options.append("--check-builds")
        fetch(request)
    with ProgressLine() as progress, TemporaryDirectory(prefix=".scratch-", dir=out) as scratch:
        if failed:
            listed = Path(scratch) / "tests"
            listed.write_text("\n".join(failed), encoding="utf-8")
            options.append(f"--tests-from={listed}")
        options.append(f"--basetemp={scratch}/tmp")
        progress.say("collecting tests")
        command = pytest_command(options, out, request.root)
        status = run_pytest(command, out, progress.show, meanwhile=_prepare_reports)
        if not (out / EVENTS).exists() or (out / EVENTS).stat().st_size == 0:
            raise trouble(out, status)
        from reports.views.publish import publish

        mark_end(out, status)
        progress.say("writing reports")
        run = publish(out, request.allure)
    if not run.cases and status == NOTHING_RAN:
        raise UsageError(f"no test matches {' '.join(request.left_out) or 'this profile'}")
    if not run.cases:
        raise trouble(out, status)
    return printed(run, out)


def printed(run: Run, out: Path) -> Exit:
    """Prints the summary; returns the run's exit status."""
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    print(summary(run, out, colour=sys.stdout.isatty(), width=width))
    if os.environ.get("GITHUB_ACTIONS"):
        print("\n".join(github_errors(run)))
    return run.exit


def _prepare_reports() -> None:
    """Loads the code that writes the reports: half a second for which neither the first test nor the user
    waits."""
    from reports.views import publish

    publish.prepare()


def fetch(request: Request) -> None:
    """Fetches missing builds, with visible progress."""
    specs = dict.fromkeys([*request.servers, request.source or "", request.target or ""])
    for spec in [spec for spec in specs if spec.startswith(FETCHED)]:
        from fixtures.bench.launchers import Launchers  # takes half a second
        from reports.commands.fetching import drawn

        with drawn(spec) as (progress, say), closing(Launchers(say, progress, request.version)) as launchers:
            launchers.of(spec)


def mark_end(out: Path, status: int | None) -> None:
    """Adds the missing end to a run that could not record it."""
    run = Run.read(out)
    if run.finished is None:
        why = "interrupted" if status is None else f"pytest ended early with status {status}"
        with (out / EVENTS).open("a", encoding="utf-8") as file:
            file.write(encode(RunFinished(run.started.started, why)) + "\n")


def trouble(out: Path, status: int | None) -> UsageError | HarnessError:
    """Why nothing ran: the most informative line of pytest's output."""
    if status is None:
        return HarnessError("interrupted before the first test; nothing was judged")
    log = out / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    said = [line[len(mark) :].strip() for mark in _TELLING for line in lines if line.startswith(mark)]
    if said and status in WRONG_USE:
        return UsageError(said[0].removeprefix("_pytest.outcomes.Exit: "))
    return HarnessError(f"{said[0] if said else f'pytest ended with status {status}'} (all of it: {log})")


#: Beginnings of pytest's lines that say why nothing ran, the most informative first.
_TELLING = ("E   ", "pytest: error:", "ERROR:", "INTERNALERROR>", "Exit:", "__main__.py: error:")
