# SPDX-License-Identifier: GPL-2.0-only
"""`make survey CAPTURES="DIR..."`: the inspector over each file of directories, for example of the captures
that other projects ship with their tests.

Whatever is in these files, the inspector must not crash, and where nobody speaks SPICE it must see no session
and report no finding. A row of the table is a directory; the lines below it name the files that a reader
should look at. Files that are no captures are read too: each must end in one line.

Exit status: 1 if a file made the inspector crash, 0 otherwise."""

from __future__ import annotations

import io
import os
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console

from dissectors.capture import CaptureError
from dissectors.rules.inspector import Inspection
from dissectors.wire.visible_text import visible
from reports.commands.inspect import Story
from reports.inspection.capture_page import page
from reports.inspection.story_text import print_story


@dataclass
class Survey:
    """What the inspector said of one file. `refusal`: why the file, or the rest of it, was not read."""

    path: Path
    packets: int = 0
    sessions: int = 0
    findings: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    refusal: str | None = None
    crash: str | None = None
    seconds: float = 0.0


def survey(path: Path) -> Survey:
    """Reads a file and makes every view of it."""
    told = Survey(path)
    begun = time.process_time()
    try:
        _inspect(told)
    except CaptureError as error:
        told.refusal = str(error)
    except Exception:  # what is looked for: any exception at all
        told.crash = traceback.format_exc()
    told.seconds = time.process_time() - begun
    return told


def _inspect(told: Survey) -> None:
    inspection = Inspection([told.path])
    story = Story(inspection)
    for event, findings in inspection.run():
        story.take(event, findings)
    told.packets = inspection.source.reader.packets
    told.sessions = len(inspection.oracle.conversation.sessions)
    told.findings = [finding.requirement for finding in inspection.findings]
    told.doubts = [finding.requirement for finding, _ in inspection.doubtful]
    told.refusal = str(inspection.error) if inspection.error else None
    print_story(Console(file=io.StringIO(), width=100), inspection.as_dict(), story.ladders(limit=80))
    page(inspection.as_dict(), story, show_secrets=False)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


HEAD = (
    f"{'files':>6} {'read':>6} {'in part':>7} {'refused':>7} {'packets':>9} {'crashes':>7} {'sessions':>8} \
{'findings':>8} {'doubts':>6} {'CPU s':>6} {'slowest':>7}  directory"
)


def _row(told: list[Survey], folder: Path) -> str:
    part = sum(1 for one in told if one.refusal and one.packets)
    refused = sum(1 for one in told if one.refusal and not one.packets)
    seconds = [one.seconds for one in told]
    doubts = sum(len(one.doubts) for one in told)
    return (
        f"{len(told):6} {len(told) - part - refused:6} {part:7} {refused:7}"
        f" {sum(one.packets for one in told):9} {sum(1 for one in told if one.crash):7}"
        f" {sum(one.sessions for one in told):8} {sum(len(one.findings) for one in told):8}"
        f" {doubts:6} {sum(seconds):6.0f} {max(seconds, default=0):7.1f}  {folder}"
    )


def _worth_a_look(told: Survey) -> Iterator[str]:
    name = visible(str(told.path))
    if told.crash:
        yield f"crash: {name}\n{told.crash}"
    if told.sessions:
        yield f"{told.sessions} SPICE sessions: {name}"
    if told.findings or told.doubts:
        yield f"findings {told.findings}, doubts {told.doubts}: {name}"


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...",
                type=click.Path(path_type=Path, file_okay=False, exists=True))  # fmt: skip
@click.option("-n", "workers", default=os.cpu_count(), show_default=True, help="Processes.")
def main(folders: tuple[Path, ...], workers: int) -> None:
    """Inspect every file of directories: crashes, sessions and findings."""
    click.echo(HEAD)
    notable: list[str] = []
    crashed = False
    with ProcessPoolExecutor(workers) as pool:
        for folder in folders:
            told = list(pool.map(survey, _files(folder), chunksize=4))
            click.echo(_row(told, folder))
            notable += (line for one in told for line in _worth_a_look(one))
            crashed = crashed or any(one.crash for one in told)
    for line in notable:
        click.echo(line)
    raise SystemExit(1 if crashed else 0)


if __name__ == "__main__":
    main()
