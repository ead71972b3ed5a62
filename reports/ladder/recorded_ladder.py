# SPDX-License-Identifier: GPL-2.0-only
"""The ladder of one case of a run, drawn from its recorded packets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from reports.ladder.ladder_svg import svg
from reports.ladder.lanes import ladder
from reports.run.evidence import sketch
from reports.run.run_events import CaseFinished

#: Fewer cases than this are drawn in one process.
MANY = 60
#: How many cases a process gets at a time: those whose packets one archive holds, more or less.
CHUNK = 32


def recorded_ladder(directory: Path, case: CaseFinished) -> str | None:
    """A case's ladder (SVG) with its findings at their messages; None without packets."""
    events = sketch(directory, case)
    drawn = ladder(events, case.findings) if events else None
    return svg(drawn, case.title) if drawn and drawn.rows else None


@contextmanager
def drawing(directory: Path, cases: Sequence[CaseFinished]) -> Iterator[Callable[[CaseFinished], str | None]]:
    """Returns a function that draws each case once, in this order; in several processes if there are many."""
    if len(cases) < MANY:
        yield partial(recorded_ladder, directory)
        return
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:
        drawn = pool.map(partial(recorded_ladder, directory), cases, chunksize=CHUNK)
        yield lambda _: next(drawn)
