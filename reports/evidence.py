# SPDX-License-Identifier: GPL-2.0-only
"""The packets of a run, read back: for ladders, and to judge again from the packets alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dissectors.events import Event
from reports.ladder import Ladder, ladder
from reports.record import CaseFinished


def events_of(path: Path) -> list[Event]:
    """Every event of a recorded conversation, host events too; [] where the file is missing or is none."""
    if not path.is_file():
        return []
    from dissectors.inspection import events

    try:
        return list(events([path]))
    except ValueError:
        return []


def ladder_reader(directory: Path) -> Callable[[CaseFinished], Ladder | None]:
    """What draws a case's ladder from its pcapng; paths are relative to `directory`."""

    def read(case: CaseFinished) -> Ladder | None:
        path = case.artefacts.get("pcapng")
        if path is None:
            return None
        found = events_of(directory / path)
        return ladder(found, case.findings) if found else None

    return read
