# SPDX-License-Identifier: GPL-2.0-only
"""Does the work of a Dask task in a process of its own, because a Dask worker has threads and hosts are
forked. The process ends when the task is no longer wanted, or with the worker, whatever ends that."""

from __future__ import annotations

import json
import selectors
from collections.abc import Iterator, Mapping
from typing import Any

from distributed import Worker, get_worker
from distributed.core import Status

from fixtures.system.hosts import HarnessError
from suites import json_process

#: The interval at which a worker checks whether its task is still wanted, s.
LOOK_SECONDS = 1.0


class Unwanted(HarnessError):
    """Nobody waits for the result any more."""


def lines(module: str, order: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines of `python -m module` after an order. Raises Unwanted, and HarnessError if the process has
    ended with another status than 0."""
    worker = get_worker()
    key = worker.get_current_task()
    process = json_process.start(module)
    try:
        json_process.order(process, order)
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
                raise Unwanted(f"{module} is no longer wanted")
        if status := process.wait():
            raise HarnessError(f"{module} has ended with status {status}")
    finally:
        json_process.end(process)


def wanted(worker: Worker, key: Any) -> bool:
    """Whether a task of this key is still to be done; not if its client has gone."""
    task = worker.state.tasks.get(key)
    return (
        task is not None
        and task.state in ("executing", "long-running")
        and worker.status in (Status.running, Status.paused, Status.closing_gracefully)
    )
