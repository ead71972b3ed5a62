# SPDX-License-Identifier: GPL-2.0-only
"""`certify --cluster`: the workers of a Dask scheduler run shards of the tests, the matrix among them; the
merged run equals that of one machine."""

from __future__ import annotations

import os
import queue
import uuid
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fixtures.bench.launchers import pairings
from fixtures.system.hosts import HarnessError, UsageError
from reports.commands.certify import Request, fetch, printed
from reports.run import run_directory as directory
from reports.run.deviations import SHIPPED, load
from reports.run.exit_status import Exit
from reports.run.run_directory import RESULTS
from reports.run.runner import LOG
from reports.run.selection import failed_last
from reports.run.suite_and_builds import alike
from reports.run.tally import Run
from reports.views.publish import publish, side_by_side
from reports.views.terminal import ProgressLine
from suites.dask_cluster import DaskCluster, refuse_deployments

#: Shards for each thread of the cluster: more make a killed worker cost less, but each collects all tests.
SHARDS_EACH = 2
#: The interval at which a wait for shards checks whether the scheduler is still there, s.
LOOK_SECONDS = 1.0


class ClusterRun:
    """Shards under way. Raises UsageError, HarnessError if the cluster cannot be used."""

    def __init__(self, place: str, width: int, specs: Sequence[str], progress: ProgressLine) -> None:
        self._progress = progress
        self._run = uuid.uuid4().hex
        self._tests = 0
        self._cluster = DaskCluster(place, width, alike(specs))
        self.threads = self._cluster.threads
        from reports.commands import dask_shard  # it needs the extra `cluster`

        self._task = dask_shard
        self._cluster.client.subscribe_topic(self._task.TOPIC, self._event)

    def _event(self, event: tuple[float, Any]) -> None:
        if event[1]["run"] == self._run:
            self._tests += 1

    def close(self) -> None:
        """Withdraws the shards that are not over; ends the workers if they are ours."""
        self._cluster.close()

    def run(self, request: Request, tests: Sequence[str], count: int, scratch: Path) -> list[Path]:
        """The directories of all shards' results, below `scratch`. Raises Incomplete."""
        order = {"request": _portable(request), "tests": list(tests)}
        done: dict[int, Path] = {}
        for number in range(1, count + 1):
            shard = {**order, "shard": f"{number}/{count}"}
            self._cluster.submit(number, self._task.run_shard, shard, self._run)
        said = ""
        try:
            while len(done) < count:
                if said != (said := f"{len(done)} of {count} shards, {self._tests} tests"):
                    self._progress.say(said)
                with suppress(queue.Empty):
                    number, future = self._cluster.came.get(timeout=LOOK_SECONDS)
                    data = self._cluster.result(future)
                    self._task.unpack(data, scratch / f"shard-{number}")
                    done[number] = scratch / f"shard-{number}"
                self._cluster.check()
        except HarnessError as error:
            raise Incomplete(str(error), [done[number] for number in sorted(done)]) from None
        return [done[number] for number in sorted(done)]


class Incomplete(HarnessError):
    """The cluster or a shard failed. `shards`: the directories of those that are complete."""

    def __init__(self, text: str, shards: Sequence[Path]) -> None:
        super().__init__(text)
        self.shards = shards


def certify(request: Request, place: str) -> Exit:
    """Runs the suites on a cluster, writes the reports, prints the verdict. UsageError, HarnessError: one
    line; the shards that are complete are kept."""
    load(request.deviations or SHIPPED)  # errors in the request are reported before anything starts
    if request.shard:
        raise UsageError("--cluster makes shards itself: leave --shard out")
    if request.workers is not None and not request.workers.isdecimal():
        raise UsageError(f"-n {request.workers}: with --cluster, the number of shards")
    failed = failed_last(request.out or RESULTS) if request.last_failed else []
    request.options()
    pairs = pairings(list(request.servers), request.source, request.target)
    specs = [spec for pair in pairs for spec in (pair.source, pair.target)]
    refuse_deployments(specs)
    fetch(request)
    asked = int(request.workers or 0)
    with ProgressLine() as progress:
        cluster = ClusterRun(place, asked or os.cpu_count() or 1, specs, progress)
        with closing(cluster):
            out = directory.prepare(request.out or directory.fresh())
            with TemporaryDirectory(prefix=".scratch-", dir=out) as scratch:
                count = asked or cluster.threads * SHARDS_EACH
                try:
                    shards = cluster.run(request, failed, count, Path(scratch))
                except Incomplete as error:
                    if error.shards:
                        merged(error.shards, out, request.allure, str(error))
                    raise
                progress.say("writing reports")
                run = merged(shards, out, request.allure)
    if not run.cases:
        raise UsageError(f"no test matches {' '.join(request.left_out) or 'this profile'}")
    return printed(run, out)


def merged(shards: Sequence[Path], out: Path, allure: Path | None, interrupted: str | None = None) -> Run:
    """Puts shards into one run and writes its reports, also Allure's results if they have a directory.
    Raises UsageError, OSError."""
    side_by_side(list(shards), out, interrupted)
    with (out / LOG).open("wb") as log:
        for shard in shards:
            if (shard / LOG).exists():
                log.write((shard / LOG).read_bytes())
    return publish(out, allure)


def _portable(request: Request) -> dict[str, Any]:
    """The request without what another machine cannot know: paths, and the number of processes."""
    asked = asdict(request)
    for name in ("out", "allure", "workers", "root", "check"):
        del asked[name]
    if request.deviations is not None:
        asked["deviations"] = request.deviations.read_text(encoding="utf-8")
    return asked
