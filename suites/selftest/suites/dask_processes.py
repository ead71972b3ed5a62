# SPDX-License-Identifier: GPL-2.0-only
"""A real Dask scheduler and workers, each a process of its own on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import psutil

from reports.run.environment import ROOT

START_SECONDS, END_SECONDS = 60.0, 60.0
#: What a worker that may import this suite from any directory needs.
HERE: Mapping[str, str] = {"PYTHONPATH": str(ROOT)}


@dataclass
class Cluster:
    """A scheduler and workers of one thread each. `scratch`: for Dask's files."""

    scratch: Path
    address: str
    scheduler: subprocess.Popen[str]
    workers: list[subprocess.Popen[str]] = field(default_factory=list)

    def add_worker(self, directory: Path = ROOT, environment: Mapping[str, str] = HERE) -> None:
        """Starts one more worker in a directory and waits until the scheduler knows it."""
        options = ("dask_worker", self.address, "--nthreads", "1", "--no-nanny")
        worker = _dask(self.scratch, *options, directory=directory, environment=environment)
        self.workers.append(worker)
        _empty(worker)

    def wait(self, count: int) -> None:
        """Waits until the scheduler has so many workers."""
        open_client = import_module("distributed").Client
        with open_client(self.address, timeout=START_SECONDS, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=START_SECONDS)


@contextmanager
def real_cluster(scratch: Path, width: int) -> Iterator[Cluster]:
    """Starts it; all of it is ended afterwards."""
    scheduler = _dask(scratch, "dask_scheduler", "--port", "0")
    made = Cluster(scratch, "", scheduler)
    try:
        made.address = _address(scheduler)
        _empty(scheduler)
        for _ in range(width):
            made.add_worker()
        if width:
            made.wait(width)
        yield made
    finally:
        for process in (scheduler, *made.workers):
            process.kill()
            process.wait()


def _dask(
    scratch: Path,
    module: str,
    *options: str,
    directory: Path = ROOT,
    environment: Mapping[str, str] = HERE,
) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", f"distributed.cli.{module}", "--host", "127.0.0.1", "--no-dashboard"]
    return subprocess.Popen(
        [*program, *options],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "DASK_TEMPORARY_DIRECTORY": str(scratch), **environment},
    )


def _address(scheduler: subprocess.Popen[str]) -> str:
    assert scheduler.stderr is not None
    for line in scheduler.stderr:
        if "Scheduler at:" in line:
            return line.split()[-1]
    raise AssertionError("the scheduler has not said where it is")


def _empty(process: subprocess.Popen[str]) -> None:
    """Reads what a process logs, so that it never waits for a reader."""
    assert process.stderr is not None
    threading.Thread(target=process.stderr.read, daemon=True).start()


def _below(pid: int) -> list[int]:
    """The processes below one, as the kernel lists them. psutil reads all of /proc: on a busy machine
    the middle of the work is over meanwhile."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):  # the process, or a thread of it, has ended
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, listed.read_text().split())
    return [below for child in found for below in (child, *_below(child))]


class Killer(threading.Thread):
    """Kills the first of some Dask workers that is seen in the middle of its work. `module`: what the process
    runs that works for a worker; `busy`: how many processes are below that one then. `killed`: the id of the
    killed worker; `below`: all processes that were below it."""

    def __init__(self, pids: Sequence[int], module: str, busy: int) -> None:
        super().__init__(daemon=True)
        self._workers = [psutil.Process(pid) for pid in pids]
        self._module, self._busy = module, busy
        self.killed: int | None = None
        self.below: list[psutil.Process] = []
        self.given_up = threading.Event()

    def run(self) -> None:
        while self.killed is None and not self.given_up.wait(0.02):
            for worker in self._workers:
                if self._in_the_middle(worker):
                    worker.send_signal(signal.SIGKILL)
                    self.killed = worker.pid
                    return

    def _in_the_middle(self, worker: psutil.Process) -> bool:
        with suppress(psutil.NoSuchProcess):
            self.below = [psutil.Process(pid) for pid in _below(worker.pid)]
        for process in self.below:
            with suppress(psutil.NoSuchProcess):
                if self._module in process.cmdline():
                    return len(_below(process.pid)) >= self._busy
        return False

    def stop(self) -> None:
        """Gives up, if it has not killed yet, and waits for its end."""
        self.given_up.set()
        self.join()
