# SPDX-License-Identifier: GPL-2.0-only
"""Plays the shares of a campaign on the workers of a Dask scheduler."""

from __future__ import annotations

import json
import queue
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from suites.dask_cluster import Alike, DaskCluster
from suites.fuzz.shares import Over, Share, WorkerLine


class DaskWorkers:
    """Implements `Workers`. `place`, `width`, `alike` and errors: see `DaskCluster`.

    `threads`: how many shares the cluster plays at once."""

    one_machine = False

    def __init__(self, place: str, width: int, alike: Alike | None = None) -> None:
        self._cluster = DaskCluster(place, width, alike)
        self.threads = self._cluster.threads
        self._campaign = uuid.uuid4().hex
        try:
            from suites.fuzz import dask_task  # it needs the extra `cluster`

            self._task = dask_task
            self._cluster.client.subscribe_topic(self._task.TOPIC, self._event)
        except BaseException:
            self.close()
            raise

    def give(self, share: Share) -> None:
        """Submits a share to the cluster."""
        self._cluster.submit(share.number, self._task.play_share, share, self._campaign)

    def _event(self, event: tuple[float, Any]) -> None:
        if event[1]["campaign"] == self._campaign:
            self._cluster.came.put((event[1]["number"], event[1]["line"]))

    def listen(self, seconds: float) -> Iterator[WorkerLine | Over]:
        """Handles what the scheduler has sent."""
        with suppress(queue.Empty):
            number, what = self._cluster.came.get(timeout=seconds)
            if isinstance(what, str):
                yield WorkerLine(number, json.loads(what))
            else:
                yield from (WorkerLine(number, json.loads(line)) for line in self._cluster.result(what))
                yield Over(number)
        self._cluster.check()

    def close(self) -> None:
        """Withdraws the shares that are not played yet; ends the workers if they are ours."""
        self._cluster.close()
