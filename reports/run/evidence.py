# SPDX-License-Identifier: GPL-2.0-only
"""The packets of a run, read back: to draw ladders, and to judge them again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dissectors.capture import CaptureError
from dissectors.capture.reader import events
from dissectors.framing.events import Event, Message
from reports.run.run_events import CaseFinished

#: Larger bodies are not kept for a picture, bytes: none of their fields is shown.
LARGE_BODY = 4096


def recorded(directory: Path, case: CaseFinished) -> Iterator[Event]:
    """Every event of a case's recording. Raises CaptureError at the end of what can be read."""
    path = case.artefacts.get("pcapng")
    if path is not None:
        yield from events([directory / path])


def sketch(directory: Path, case: CaseFinished) -> list[Event]:
    """The events of a case's recording without large bodies, as far as they can be read."""
    found: list[Event] = []
    try:
        for event in recorded(directory, case):
            if isinstance(event, Message) and len(event.body) > LARGE_BODY:
                event = replace(event, body=b"", whole=False)
            found.append(event)
    except CaptureError:
        pass
    return found
