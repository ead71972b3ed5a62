# SPDX-License-Identifier: GPL-2.0-only
"""Runs one shard of `certify` on a worker of a Dask cluster, and packs its results."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from distributed import get_worker

from fixtures.system.hosts import HarnessError
from reports.run.run_directory import TESTS
from reports.run.run_events import EVENTS
from reports.run.runner import LOG
from suites.dask_process import lines

#: The topic of the lines about tests that are over; one name, so that the scheduler's log is bounded.
TOPIC = "spice-conform-certify"
#: The module that runs a shard in a process of its own.
WORKER = "reports.commands.shard_worker"
#: What a shard's results consist of.
_KEPT = (EVENTS, TESTS, LOG)


def run_shard(order: dict[str, Any], run: str) -> bytes:
    """A tar file of the shard's events, packets and logs. Raises HarnessError."""
    worker = get_worker()
    with tempfile.TemporaryDirectory(prefix="shard-", dir=worker.local_directory) as own:
        out = Path(own) / "out"
        out.mkdir()
        for line in lines(WORKER, {**order, "out": str(out)}):
            if "error" in line:
                raise HarnessError(line["error"])
            worker.log_event(TOPIC, {"run": run, **line})
        return packed(out)


def packed(out: Path) -> bytes:
    """A run's events, packets and logs as a tar file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in _KEPT:
            if (out / name).exists():
                tar.add(out / name, arcname=name)
    return file.getvalue()


def unpack(data: bytes, out: Path) -> None:
    """The inverse of `packed`. Raises OSError."""
    shutil.rmtree(out, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(out, filter="data")
