# SPDX-License-Identifier: GPL-2.0-only
"""Writes a run's events into its directory as they happen, for every command."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from dissectors.rules.catalogue import CATALOGUE
from reports.run import fixed_bugs
from reports.run.environment import environment, suite_version
from reports.run.run_directory import EventFile
from reports.run.run_events import CaseFinished, CasesFound, Deviation, RunFinished, RunStarted, encode


class RunRecorder:
    """Begins with `RunStarted`. Every method raises OSError if the disk is full or gone."""

    def __init__(
        self,
        directory: Path,
        *,
        kind: str,
        servers: Sequence[str],
        deviations: Sequence[Deviation],
        seed: int | None = None,
        selection: Sequence[str] = (),
        command: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self._file = EventFile(directory)
        started = RunStarted(
            suite=suite_version(),
            started=time.time(),
            environment=environment(),
            seed=seed,
            servers=tuple(servers),
            requirements=tuple(CATALOGUE.values()),
            deviations=tuple(deviations),
            kind=kind,
            selection=tuple(selection),
            command=tuple(command),
            fixed_bugs=fixed_bugs.load(),
        )
        self._file.write(encode(started))

    def found(self, total: int) -> None:
        """Records the number of cases of the run."""
        self._file.write(encode(CasesFound(total)))

    def finished(self, case: CaseFinished) -> None:
        """Records a finished case."""
        self._file.write(encode(case))

    def close(self, interrupted: str | None = None) -> None:
        """Records the run's end; `interrupted`: why it came early."""
        self._file.write(encode(RunFinished(time.time(), interrupted)))
        self._file.close()
