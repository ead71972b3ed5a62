# SPDX-License-Identifier: GPL-2.0-only
"""The ladder of one case of a run, drawn from its recorded packets."""

from __future__ import annotations

from reports.ladder.lanes import Ladder, ladder
from reports.run.evidence import Evidence, key
from reports.run.run_events import CaseFinished


def recorded_ladder(evidence: Evidence, case: CaseFinished) -> Ladder | None:
    """A case's ladder with its findings at their messages; None without packets."""
    reading = evidence.of(case)
    if not reading.events:
        return None
    told = set(map(key, case.findings))
    return ladder(reading.events, [f for f in reading.judgement.findings if key(f) in told])
