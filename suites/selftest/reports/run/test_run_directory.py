# SPDX-License-Identifier: GPL-2.0-only
"""The directory of a run that names none: each run gets one of its own."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from fixtures.system.hosts import UsageError
from reports.run.environment import ROOT
from reports.run.run_directory import fresh

RUNS = 8


def test_runs_that_start_in_one_second(tmp_path: Path) -> None:
    """Eight processes ask at the same moment, again and again."""
    context = get_context("fork")
    barrier = context.Barrier(RUNS)
    asking = [context.Process(target=_ask, args=(tmp_path, barrier, n)) for n in range(RUNS)]
    for process in asking:
        process.start()
    for process in asking:
        process.join()
    got = [line for n in range(RUNS) for line in (tmp_path / f"{n}").read_text().splitlines()]
    assert len(got) == len(set(got)) == 10 * RUNS
    assert all(Path(line).is_dir() for line in got)


def _ask(base: Path, barrier: Barrier, number: int) -> None:
    found = []
    for _ in range(10):
        barrier.wait(60)
        found.append(f"{fresh(base / 'results')}\n")
    (base / f"{number}").write_text("".join(found))


def test_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "now")
    assert [fresh(tmp_path).name for _ in range(3)] == ["now", "now-2", "now-3"]


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "results").touch()
    with pytest.raises(UsageError, match=r"^cannot write results to .*: Not a directory; name another"):
        fresh(tmp_path / "results")


def test_pytest_without_a_case_leaves_no_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pytest.ini"), "--rootdir", str(ROOT)]
    command += [f"{__file__}::test_name", "-q", "-p", "no:cacheprovider", "--record-only"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert list((tmp_path / "results").iterdir()) == []
