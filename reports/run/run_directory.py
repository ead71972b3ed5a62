# SPDX-License-Identifier: GPL-2.0-only
"""The directory of a run's results: made, checked, written line by line."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from fixtures.system.hosts import UsageError
from reports.run.run_events import EVENTS

#: Where runs go that are given no directory.
RESULTS = Path("results")
#: Where the packets and logs of tests are.
TESTS = "tests"
#: What a run records: events, packets and logs; what `fuzz` and `replay` write of their own.
EVIDENCE = (EVENTS, TESTS, "findings", "fuzz.json", "replay.json", "conversation.pcapng.gz", "pytest.log")
#: What is made of it.
REPORTS = (
    "certificate.json",
    "certificate.html",
    "summary.md",
    "junit.xml",
    "index.html",
    "matrix.json",
    "campaign.html",
    "allure",
)
#: All that a run writes; an earlier run's is removed from a directory that is used again.
OUTPUTS = (*EVIDENCE, *REPORTS, "manifest.json", "manifest.json.sig")


def fresh(base: Path = RESULTS) -> Path:
    """`results/<time>/` below the current directory, a name that is free. Nothing is made yet."""
    name = time.strftime("%Y-%m-%dT%H-%M-%S")
    names = [name, *(f"{name}-{n}" for n in range(2, 100))]
    return next(path for n in names if not (path := (base / n).absolute()).exists())


def prepare(path: Path) -> Path:
    """Make the directory (absolute) and prove that it can be written; an earlier run in it is removed.
    UsageError with one line if that cannot be."""
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        if (path / EVENTS).exists():
            _clear(path)
    except OSError as error:
        raise UsageError(
            f"cannot write results to {path}: {error.strerror}; name another directory with --out"
        ) from None
    return path


def _clear(path: Path) -> None:
    for name in OUTPUTS:
        old = path / name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)


def relative(path: str, base: Path) -> str:
    """A path as the results name it: from their own directory, so that they can be moved."""
    return os.path.relpath(path, base) if Path(path).is_absolute() else path


class EventFile:
    """`events.ndjson`, each line handed to the system as soon as it is written."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._file = (path / EVENTS).open("w", encoding="utf-8", buffering=1)

    def write(self, line: str) -> None:
        """One event; OSError where the disk is full or gone."""
        self._file.write(line + "\n")

    def close(self) -> None:
        """No more events."""
        self._file.close()
