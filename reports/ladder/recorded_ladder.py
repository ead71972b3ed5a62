# SPDX-License-Identifier: GPL-2.0-only
"""The ladder of one case of a run, drawn from its recorded packets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reports.ladder.ladder_svg import svg
from reports.ladder.lanes import ladder
from reports.run.case_pool import answers
from reports.run.evidence import sketch
from reports.run.run_events import CaseFinished


def recorded_ladder(directory: Path, case: CaseFinished) -> str | None:
    """A case's ladder (SVG) with its findings at their messages; None without packets."""
    events = sketch(directory, case)
    drawn = ladder(events, case.findings) if events else None
    return svg(drawn, case.title) if drawn and drawn.rows else None


@contextmanager
def drawing(directory: Path, cases: Sequence[CaseFinished]) -> Iterator[Callable[[CaseFinished], str | None]]:
    """Returns a function that draws each case once, in this order; in several processes if there are many."""
    with answers(lambda number: recorded_ladder(directory, cases[number]), len(cases)) as drawn:
        yield lambda _: next(drawn)
