# SPDX-License-Identifier: GPL-2.0-only
"""The directory of a run's results: created, checked, written line by line."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from fixtures.system.hosts import UsageError
from reports.run.run_events import EVENTS, PACKED_EVENTS

#: The parent directory of runs that are given no directory.
RESULTS = Path("results")
#: The directory of the tests' packets and logs.
TESTS = "tests"
#: The directory of the models of a `learn` run with several roles.
LEARNED = "learned"
#: The evidence of a run: events, packets and logs; the files that `fuzz`, `replay` and `learn` add.
EVIDENCE = (
    *(EVENTS, PACKED_EVENTS, TESTS),
    *("findings", "fuzz.json", "replay.json", "conversation.pcapng.gz", "pytest.log"),
    *("model.json", "states.txt", "model.dot", "model.svg", LEARNED),
)
#: The reports, which are made from the evidence.
REPORTS = (
    "certificate.json",
    "certificate.html",
    "summary.md",
    "junit.xml",
    "index.html",
    "matrix.json",
    "campaign.html",
    "differences.html",
    "allure",
)
#: All files of a run; those of an earlier run are removed from a directory that is used again.
OUTPUTS = (*EVIDENCE, *REPORTS, "manifest.json", "manifest.json.sig")


def fresh(base: Path = RESULTS) -> Path:
    """Creates `results/<time>/` (absolute) below the current directory. A run that starts in the same second
    gets `results/<time>-2/`. UsageError with one line if this fails."""
    name = time.strftime("%Y-%m-%dT%H-%M-%S")
    path, number = base.absolute() / name, 1
    while True:
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
            path = path.with_name(f"{name}-{number}")
        except OSError as error:
            raise _unwritable(path, error) from None
        else:
            return path


def prepare(path: Path) -> Path:
    """Creates the directory (absolute) and checks that it can be written; removes an earlier run from it.
    UsageError with one line if this fails."""
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        if (path / EVENTS).exists() or (path / PACKED_EVENTS).exists():
            _clear(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    return path


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot write results to {path}: {error.strerror}; name another directory with --out")


def _clear(path: Path) -> None:
    for name in OUTPUTS:
        old = path / name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)


def relative(path: str, base: Path) -> str:
    """A path relative to the results' own directory, so that they can be moved."""
    return os.path.relpath(path, base) if Path(path).is_absolute() else path


class EventFile:
    """`events.ndjson`; each line is passed to the system as soon as it is written."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._file = (path / EVENTS).open("w", encoding="utf-8", buffering=1)

    def write(self, line: str) -> None:
        """Writes one event. Raises OSError if the disk is full or gone."""
        self._file.write(line + "\n")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
