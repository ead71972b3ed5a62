# SPDX-License-Identifier: GPL-2.0-only
"""Plays a share of a campaign on a worker of a Dask cluster.

A process of its own plays the share, as on one machine, because a Dask worker has threads and hosts are
forked. That process ends when the share is no longer wanted, or with the Dask worker, whatever ends the
worker."""

from __future__ import annotations

import json
import selectors
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed import Worker, get_worker
from distributed.core import Status

from suites.fuzz.campaign import FINDINGS
from suites.fuzz.finding_file import packed
from suites.fuzz.local_workers import end_worker, start_worker
from suites.fuzz.shares import Line, Share

#: Subscribers of this topic get the lines; it has one name, so that the scheduler's log of it is bounded.
TOPIC = "spice-conform-fuzz"
#: The interval at which a worker checks whether its share is still wanted, s.
LOOK_SECONDS = 1.0


def play_share(share: Share, campaign: str) -> list[str]:
    """Plays a share to its end; sends each line while the share is played. Returns the last line of figures,
    and each line with a failure or an error."""
    worker = get_worker()
    lasting: list[str] = []
    figures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="share-", dir=worker.local_directory) as own:
        for line in _lines(worker, replace(share, out=own)):
            if "failure" in line:
                line["files"] = packed(Path(own) / FINDINGS / line["failure"])
            text = json.dumps(line)
            worker.log_event(TOPIC, {"campaign": campaign, "number": share.number, "line": text})
            if line.keys() & {"failure", "error"}:
                lasting.append(text)
            else:
                figures = [text]
    return lasting + figures


def _lines(worker: Worker, share: Share) -> Iterator[Line]:
    key = worker.get_current_task()
    process = start_worker(share)
    try:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while wanted(worker, key):
                if selector.select(LOOK_SECONDS):
                    line = process.stdout.readline()
                    if not line.endswith(b"\n"):
                        break
                    yield json.loads(line)
            else:
                return
            if status := process.wait():
                raise RuntimeError(f"the process that played it has ended with status {status}")
    finally:
        end_worker(process)


def wanted(worker: Worker, key: Any) -> bool:
    """Whether a task of this key is still to be done; not if its client has gone."""
    task = worker.state.tasks.get(key)
    return (
        task is not None
        and task.state in ("executing", "long-running")
        and worker.status in (Status.running, Status.paused, Status.closing_gracefully)
    )
