# SPDX-License-Identifier: GPL-2.0-only
"""`spice-conform report`: writes the reports of one run again, or of several runs as one (shards, a
matrix)."""

from __future__ import annotations

import sys
from pathlib import Path

from reports.run import run_directory as directory
from reports.run.exit_status import Exit
from reports.run.tally import Run
from reports.views.publish import publish, side_by_side
from reports.views.terminal import ProgressLine, summary


def report(runs: list[Path], out: Path | None, allure: Path | None = None) -> Exit:
    """Writes the reports and prints the summary; the exit status is 0, whatever the verdict. `allure`: a
    directory for Allure's results.

    Raises UsageError if a directory holds no run, or cannot be written."""
    for run_directory in runs:
        Run.read(run_directory)  # directories without a run are reported before anything is written
    target = runs[0]
    with ProgressLine() as progress:
        if len(runs) > 1 or out is not None:
            target = directory.prepare(out or directory.fresh())
            progress.say("putting the runs together")
            side_by_side(runs, target)
        progress.say("writing reports")
        run = publish(target, allure)
    print(summary(run, target, colour=sys.stdout.isatty()))
    return Exit.CONFORMANT
