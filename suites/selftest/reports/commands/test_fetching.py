# SPDX-License-Identifier: GPL-2.0-only
"""Where there is no terminal, a long step of a fetch gives signs of life."""

from __future__ import annotations

import re
from contextlib import closing
from time import monotonic, sleep

import pytest

from reports.commands.fetching import StepLines

DEADLINE_S = 30.0


def test_a_step_that_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    """Its line comes again, with its age and the part that is done, until the fetch is over."""
    told, end = "", monotonic() + DEADLINE_S
    with closing(StepLines("debian:x", every=0.01)) as lines:
        lines.show(0, 0, "reading the index")
        lines.show(1, 4, "downloading")
        while told.count("downloading (25 %), ") < 2 and monotonic() < end:
            sleep(0.01)
            told += capsys.readouterr().err
    told += capsys.readouterr().err
    assert [line for line in told.splitlines() if "," not in line] == [
        "debian:x: reading the index",
        "debian:x: downloading",
    ]
    assert re.search(r"^debian:x: downloading \(25 %\), \d+ s$", told, re.MULTILINE)


def test_a_step_comes_once(capsys: pytest.CaptureFixture[str]) -> None:
    with closing(StepLines("debian:x", every=3600)) as lines:
        for done in range(3):
            lines.show(done, 3, "unpacking")
        lines.say("waits for another process")
    assert capsys.readouterr().err.splitlines() == [
        "debian:x: unpacking",
        "debian:x: waits for another process",
    ]
