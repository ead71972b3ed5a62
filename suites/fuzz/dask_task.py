# SPDX-License-Identifier: GPL-2.0-only
"""Plays a share of a campaign on a worker of a Dask cluster."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from distributed import get_worker

from suites.dask_process import Unwanted, lines
from suites.fuzz.campaign import FINDINGS
from suites.fuzz.finding_file import packed
from suites.fuzz.local_workers import WORKER
from suites.fuzz.shares import Share

#: Subscribers of this topic get the lines; it has one name, so that the scheduler's log of it is bounded.
TOPIC = "spice-conform-fuzz"


def play_share(share: Share, campaign: str) -> list[str]:
    """Plays a share to its end; sends each line while the share is played. Returns the last line of figures,
    and each line with a failure or an error."""
    worker = get_worker()
    lasting: list[str] = []
    figures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="share-", dir=worker.local_directory) as own, suppress(Unwanted):
        for line in lines(WORKER, replace(share, out=own).order()):
            if "failure" in line:
                line["files"] = packed(Path(own) / FINDINGS / line["failure"])
            text = json.dumps(line)
            worker.log_event(TOPIC, {"campaign": campaign, "number": share.number, "line": text})
            if line.keys() & {"failure", "error"}:
                lasting.append(text)
            else:
                figures = [text]
    return lasting + figures
