# SPDX-License-Identifier: GPL-2.0-only
"""The packets of a run, read back: for ladders, for the frames of findings, and to judge again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from dissectors.capture.reader import events
from dissectors.framing.events import Event
from dissectors.rules.judgement import Finding, Judgement
from dissectors.rules.oracle import judge
from reports.run.run_events import CaseFinished


@dataclass(frozen=True)
class Reading:
    """A recorded conversation, and what the oracle says of its packets alone."""

    events: list[Event] = field(default_factory=list)
    judgement: Judgement = field(default_factory=Judgement)


def read(path: Path) -> Reading:
    """Read a pcapng; nothing in it where the file is missing or is no capture."""
    try:
        found = list(events([path]))
    except (ValueError, OSError):
        return Reading()
    return Reading(found, judge(found))


class Evidence:
    """The recordings of one run, each read once. Paths are relative to `directory`."""

    def __init__(self, directory: Path, reader: Callable[[Path], Reading] = read) -> None:
        self._directory = directory
        self._reader = reader
        self._readings: dict[str, Reading] = {}

    def of(self, case: CaseFinished) -> Reading:
        """What was recorded of a case."""
        path = case.artefacts.get("pcapng")
        if path is None:
            return Reading()
        if path not in self._readings:
            self._readings[path] = self._reader(self._directory / path)
        return self._readings[path]

    def located(self, case: CaseFinished) -> CaseFinished:
        """The case with the frame and time of each finding in its recording; a live run knows no frames."""
        if not case.findings:
            return case
        places = {key(f): f for f in self.of(case).judgement.findings}
        located = (places.get(key(f), f) for f in case.findings)
        return replace(case, findings=tuple(located))


def key(finding: Finding) -> tuple[str, str, str]:
    """What makes a finding of a live run and one of its recording the same."""
    return finding.requirement, finding.expected, finding.seen
