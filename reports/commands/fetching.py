# SPDX-License-Identifier: GPL-2.0-only
"""The progress display while a build is fetched, for every command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from fixtures import builds


@contextmanager
def drawn(title: str) -> Iterator[tuple[builds.Progress, builds.Say]]:
    """Draws progress on a terminal; in a pipe prints a line for each step. Both go to stderr."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        steps: set[str] = set()

        def tell(_done: int, _total: int, what: str) -> None:
            if what not in steps:
                steps.add(what)
                click.echo(f"{title}: {what}", err=True)

        yield tell, lambda line: click.echo(f"{title}: {line}", err=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, visible=False)

        def show(done: int, total: int, what: str) -> None:
            bar.update(
                task, description=f"{title}: {what}", completed=done, total=total or None, visible=True
            )

        yield show, lambda line: bar.console.print(f"{title}: {line}")
