# SPDX-License-Identifier: GPL-2.0-only
"""The ladder of one case of a run, drawn from its recorded packets."""

from __future__ import annotations

from pathlib import Path

from reports.ladder.lanes import Ladder, ladder
from reports.run.evidence import sketch
from reports.run.run_events import CaseFinished


def recorded_ladder(directory: Path, case: CaseFinished) -> Ladder | None:
    """A case's ladder with its findings at their messages; None without packets."""
    events = sketch(directory, case)
    return ladder(events, case.findings) if events else None
