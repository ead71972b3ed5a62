# SPDX-License-Identifier: GPL-2.0-only
"""The progress display while a build is fetched, for every command."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from time import monotonic

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from fixtures import builds
from reports.views.terminal import EVERY_S


class StepLines:
    """Prints a line for each step of a fetch, and again every `every` seconds while it lasts: its age in
    seconds, and the part that is done where the end is known. Goes to stderr."""

    def __init__(self, title: str, every: float = EVERY_S) -> None:
        self._title, self._every = title, every
        self._told: set[str] = set()
        self._step, self._part = "", ""
        self._since = self._said = monotonic()
        self._over = threading.Event()
        self._repeats = threading.Thread(target=self._repeat, name="step lines", daemon=True)
        self._repeats.start()

    def show(self, done: int, total: int, what: str) -> None:
        """`done` of `total` bytes; 0 in all: nobody knows."""
        self._part = f" ({100 * done // total} %)" if total else ""
        if what != self._step:
            self._step, self._since = what, monotonic()
        if what not in self._told:
            self._told.add(what)
            self.say(what)

    def say(self, line: str) -> None:
        """One line."""
        self._said = monotonic()
        click.echo(f"{self._title}: {line}", err=True)

    def _repeat(self) -> None:
        while not self._over.wait(self._every / 8):
            if self._step and monotonic() - self._said >= self._every:
                self.say(f"{self._step}{self._part}, {monotonic() - self._since:.0f} s")

    def close(self) -> None:
        """No line comes any more."""
        self._over.set()
        self._repeats.join()


@contextmanager
def drawn(title: str) -> Iterator[tuple[builds.Progress, builds.Say]]:
    """Draws progress on a terminal; in a pipe prints lines (`StepLines`). Both go to stderr."""
    if not sys.stderr.isatty():
        with closing(StepLines(title)) as lines:
            yield lines.show, lines.say
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, visible=False)

        def show(done: int, total: int, what: str) -> None:
            bar.update(
                task, description=f"{title}: {what}", completed=done, total=total or None, visible=True
            )

        yield show, lambda line: bar.console.print(f"{title}: {line}")
