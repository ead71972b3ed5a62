# SPDX-License-Identifier: GPL-2.0-only
"""The line of progress: what it says about a test that fails, with and without a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dissectors.rules.judgement import Verdict
from reports.run.run_events import CaseFinished
from reports.views.terminal import WIDTH, ProgressLine

REASON = "LINK-055 (ROBUST): expected " + "a" * WIDTH + "; seen this\nLINK-016 (MUST): expected that"


@pytest.mark.parametrize("terminal", [False, True], ids=["CI log", "terminal"])
def test_line_of_a_failure(terminal: bool) -> None:
    """A CI log has the whole reason in one line; a terminal as much of it as fits."""
    console = Console(file=io.StringIO(), width=WIDTH, force_terminal=terminal, color_system=None)
    case = CaseFinished("t.py::t", "A title", "system", ("LINK-055",), Verdict.FAIL, REASON)
    ProgressLine(console).show(case)
    line, *more = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    whole = f"FAIL      A title: {REASON.splitlines()[0]}; {REASON.splitlines()[1]}"
    assert (line, more) == ((whole[: WIDTH - 1] + "…", []) if terminal else (whole, []))
