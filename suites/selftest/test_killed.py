# SPDX-License-Identifier: GPL-2.0-only
"""A run that is killed at any moment leaves no process, no temporary directory and a whole cache."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from reports.record import EVENTS

PATIENCE = 60.0  # seconds for the last process to end; tests get `runner.GRACE` to tear down
MARK = "SPICE_CONFORM_KILLED"
CERTIFY = ("certify", "--profile", "migration", "-n", "2")
SELECTION = ("--", "-k", "test_semi_seamless")


class Run:
    """`spice-conform certify` on real servers; its family is known by a mark in the environment, which
    also whoever lost its parent has."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        self.scratch = folder / "tmp"
        self.scratch.mkdir()
        environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
        self.process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("spice-conform")),
                *CERTIFY,
                "--out",
                str(folder / "out"),
                *SELECTION,
            ],
            env=environment | {MARK: self.mark, "TMPDIR": str(self.scratch)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def family(self) -> list[psutil.Process]:
        """Every process that lives and bears the mark."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def tests_ended(self) -> int:
        """How many tests have told how they ended."""
        events = self.folder / "out" / EVENTS
        return events.read_text().count("\n") if events.exists() else 0

    def wait_for_tests(self, number: int) -> None:
        """Until so many tests have ended."""
        deadline = time.monotonic() + PATIENCE
        while self.tests_ended() < number and time.monotonic() < deadline:
            assert self.process.poll() is None, "certify ended by itself"
            time.sleep(0.01)

    def all_gone(self) -> bool:
        """True as soon as nobody is left."""
        deadline = time.monotonic() + PATIENCE
        while self.family():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.process.kill()
    run.process.wait()
    for process in run.family():
        with suppress(psutil.Error):
            process.kill()


@pytest.mark.parametrize("moment", range(3))
def test_certify_is_killed_at_a_random_moment(run: Run, moment: int) -> None:
    run.wait_for_tests(random.Random(moment).randrange(1, 40))
    assert len(run.family()) >= 4, "certify, pytest and its workers"
    run.process.send_signal(signal.SIGKILL)
    run.process.wait()
    assert run.all_gone(), [process.cmdline() for process in run.family()]
    assert list(run.scratch.iterdir()) == []


@pytest.mark.parametrize("victim", ["pytest", "worker", "server"])
def test_somebody_below_is_killed(run: Run, victim: str) -> None:
    """Certify goes on to its documented end; when it is over nobody is left."""
    run.wait_for_tests(5)
    (controller,) = psutil.Process(run.process.pid).children()
    workers = controller.children()
    servers = [server for worker in workers for server in worker.children(recursive=True)]
    {"pytest": controller, "worker": workers[0], "server": servers[-1]}[victim].kill()
    assert run.process.wait(PATIENCE) in range(5)
    assert run.all_gone(), [process.cmdline() for process in run.family()]
    assert list(run.scratch.iterdir()) == []
