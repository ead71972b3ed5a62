# SPDX-License-Identifier: GPL-2.0-only
"""Runs the suites in a process of their own, follows their events, and ends everything that it started.

The child leads a session of its own, so that a Ctrl-C reaches this process alone, which then ends the child
in order: once with SIGTERM (tests tear down, results are written), then with SIGKILL. If this process is
killed itself, the kernel sends the child SIGTERM."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from fixtures.system.hosts import HarnessError
from reports.run.environment import ROOT
from reports.run.run_events import EVENTS, RunEvent, decode

GRACE = 20.0  # seconds that tests get to tear down
POLL = 0.1  # seconds between two looks at the events
LOG = "pytest.log"
_PR_SET_PDEATHSIG = 1
_ASKED_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Show = Callable[[RunEvent], None]


class Interrupted(HarnessError):
    """A signal has asked this process to end; the text names the signal."""


#: Plugins of pytest and others that a run does not use and that take a tenth of a second to load.
_UNUSED = (
    *("cacheprovider", "doctest", "legacypath", "pastebin", "setuponly", "setupplan", "stepwise"),
    *("subtests", "unittest", "allure_pytest"),
)


def pytest_command(options: Sequence[str], out: Path, root: Path = ROOT) -> list[str]:
    """Pytest over the suites in `root`, from any directory, with its results in `out`."""
    fixed = ["-c", str(root / "pytest.ini"), "--rootdir", str(root)]
    fixed += [word for name in _UNUSED for word in ("-p", f"no:{name}")]
    return [sys.executable, "-P", "-m", "pytest", *fixed, *options, "--out", str(out), "--record-only"]


def run_pytest(
    command: Sequence[str], out: Path, show: Show, meanwhile: Callable[[], None] = lambda: None
) -> int | None:
    """Runs pytest: its output goes to `out/pytest.log`, its events to `show`; `meanwhile` runs while pytest
    starts.

    Returns its exit status, None if it was interrupted (inside `signals`). Leaves no process running."""
    with (out / LOG).open("wb") as sink:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**_environment(), "PYTHONPATH": _path()},
            preexec_fn=_die_with_parent,
        )
        tail = Tail(out / EVENTS)
        try:
            meanwhile()
            status = _wait(child, tail, show)
        except Interrupted:
            status = None
        finally:
            _end(child)
        tail.drain(show)
    return status


def _environment() -> dict[str, str]:
    """Our environment without the variables of an outer pytest (in self-tests). Byte code may be kept:
    rewriting assertions again in each process would cost a second."""
    unwanted = ("PYTEST_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "HYPOTHESIS_NO_PLUGINS": "1"}  # they would load Trio in each process


def _path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(child: subprocess.Popen[bytes], tail: Tail, show: Show) -> int:
    while True:
        tail.drain(show)
        with suppress(subprocess.TimeoutExpired):
            return child.wait(POLL)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends the child in order, then every process left in its session."""
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired, Interrupted):
            child.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


@contextmanager
def signals() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise Interrupted inside this context."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(f"interrupted ({signal.Signals(number).name})")

    old = {number: signal.signal(number, interrupt) for number in _ASKED_TO_END}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class Tail:
    """Reads the events that were written since its last call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def drain(self, show: Show) -> None:
        """Shows every new whole line."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            show(decode(line.decode()))
