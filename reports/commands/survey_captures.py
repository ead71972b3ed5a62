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
from reports.commands.inspect import InspectedStory
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
    result = Survey(path)
    begun = time.process_time()
    try:
        _inspect(result)
    except CaptureError as error:
        result.refusal = str(error)
    except Exception:  # what is looked for: any exception at all
        result.crash = traceback.format_exc()
    result.seconds = time.process_time() - begun
    return result


def _inspect(result: Survey) -> None:
    inspection = Inspection([result.path])
    story = InspectedStory(inspection)
    for event, findings in inspection.run():
        story.take(event, findings)
    result.packets = inspection.source.reader.packets
    result.sessions = len(inspection.oracle.conversation.sessions)
    result.findings = [finding.requirement for finding in inspection.findings]
    result.doubts = [finding.requirement for finding, _ in inspection.doubtful]
    result.refusal = str(inspection.error) if inspection.error else None
    print_story(Console(file=io.StringIO(), width=100), inspection.as_dict(), story.ladders(limit=80))
    page(inspection.as_dict(), story, show_secrets=False)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


HEAD = (
    f"{'files':>6} {'read':>6} {'in part':>7} {'refused':>7} {'packets':>9} {'crashes':>7} {'sessions':>8} \
{'findings':>8} {'doubts':>6} {'CPU s':>6} {'slowest':>7}  directory"
)


def _row(surveys: list[Survey], folder: Path) -> str:
    part = sum(1 for one in surveys if one.refusal and one.packets)
    refused = sum(1 for one in surveys if one.refusal and not one.packets)
    seconds = [one.seconds for one in surveys]
    doubts = sum(len(one.doubts) for one in surveys)
    return (
        f"{len(surveys):6} {len(surveys) - part - refused:6} {part:7} {refused:7}"
        f" {sum(one.packets for one in surveys):9} {sum(1 for one in surveys if one.crash):7}"
        f" {sum(one.sessions for one in surveys):8} {sum(len(one.findings) for one in surveys):8}"
        f" {doubts:6} {sum(seconds):6.0f} {max(seconds, default=0):7.1f}  {folder}"
    )


def _worth_a_look(result: Survey) -> Iterator[str]:
    name = visible(str(result.path))
    if result.crash:
        yield f"crash: {name}\n{result.crash}"
    if result.sessions:
        yield f"{result.sessions} SPICE sessions: {name}"
    if result.findings or result.doubts:
        yield f"findings {result.findings}, doubts {result.doubts}: {name}"


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
            surveys = list(pool.map(survey, _files(folder), chunksize=4))
            click.echo(_row(surveys, folder))
            notable += (line for one in surveys for line in _worth_a_look(one))
            crashed = crashed or any(one.crash for one in surveys)
    for line in notable:
        click.echo(line)
    raise SystemExit(1 if crashed else 0)


if __name__ == "__main__":
    main()
