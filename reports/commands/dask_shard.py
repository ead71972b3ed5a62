# SPDX-License-Identifier: GPL-2.0-only
"""Runs one shard of `certify` on a worker of a Dask cluster, and packs its results."""

from __future__ import annotations

import io
import json
import selectors
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distributed import Worker, get_worker

from fixtures.system.hosts import HarnessError
from reports.run.run_directory import TESTS
from reports.run.run_events import EVENTS
from reports.run.runner import LOG
from suites.fuzz.dask_task import wanted
from suites.fuzz.local_workers import end_worker

#: The topic of the lines about tests that are over; one name, so that the scheduler's log is bounded.
TOPIC = "spice-conform-certify"
#: The interval at which a worker checks whether its shard is still wanted, s.
LOOK_SECONDS = 1.0
#: What a shard's results consist of.
_KEPT = (EVENTS, TESTS, LOG)


def run_shard(order: dict[str, Any], run: str) -> bytes:
    """A tar file of the shard's events, packets and logs. Raises HarnessError."""
    worker = get_worker()
    with tempfile.TemporaryDirectory(prefix="shard-", dir=worker.local_directory) as own:
        out = Path(own) / "out"
        out.mkdir()
        for line in _lines(worker, {**order, "out": str(out)}):
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


def _lines(worker: Worker, order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    key = worker.get_current_task()
    process = subprocess.Popen(
        [sys.executable, "-m", "reports.commands.shard_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,
        bufsize=0,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while wanted(worker, key):
                if selector.select(LOOK_SECONDS):
                    line = process.stdout.readline()
                    if not line.endswith(b"\n"):
                        break
                    yield json.loads(line)
            else:
                raise HarnessError("the shard is no longer wanted")
        if status := process.wait():
            raise HarnessError(f"the process of a shard has ended with status {status}")
    finally:
        end_worker(process)
