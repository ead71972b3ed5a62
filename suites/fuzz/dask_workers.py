# SPDX-License-Identifier: GPL-2.0-only
"""Plays the shares of a campaign on the workers of a Dask scheduler.

The scheduler assigns a share again if its worker has gone. Workers need the same version of this suite, and
the build under the same SPEC."""

from __future__ import annotations

import json
import logging
import queue
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from typing import Any

from dissectors.wire.visible_text import visible
from fixtures.system.hosts import HarnessError, UsageError
from suites.fuzz.shares import Over, Share, Told

#: In place of an address: start a scheduler and workers on this machine.
LOCAL = "local"
#: How long the scheduler may take to answer, and to confirm that we disconnect, s.
CONNECT_SECONDS, LEAVE_SECONDS = 10, 5


class DaskWorkers:
    """Implements `Workers`. `place`: a scheduler's address, or `local` (`width` workers of its own).

    Raises UsageError without the extra `cluster` or for an invalid address, HarnessError if no scheduler
    answers or it has no workers. `threads`: how many shares the cluster plays at once."""

    one_machine = False

    def __init__(self, place: str, width: int) -> None:
        try:
            distributed = import_module("distributed")
        except ImportError:
            raise UsageError("--cluster: install the extra `cluster` (Python package distributed)") from None
        _silence()
        self.place = visible(place)
        self._campaign = uuid.uuid4().hex
        self._came: queue.Queue[tuple[int, Any]] = queue.Queue()
        self._futures: dict[int, Any] = {}
        self._opened = ExitStack()
        try:
            address = self._local(distributed, width) if place == LOCAL else self._checked(place)
            self._client = self._connect(distributed, address)
            self.threads = sum(self._client.nthreads().values())
            if not self.threads:
                raise HarnessError(f"the Dask scheduler {self.place} has no workers")
            self._client.subscribe_topic(import_module("suites.fuzz.dask_task").TOPIC, self._event)
        except BaseException:
            self.close()
            raise

    def _local(self, distributed: Any, width: int) -> str:
        scratch = self._opened.enter_context(tempfile.TemporaryDirectory(prefix="spice-conform-dask-"))
        with import_module("dask").config.set({"temporary-directory": scratch}):
            cluster = distributed.LocalCluster(
                n_workers=width,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                local_directory=scratch,
                silence_logs=logging.CRITICAL + 1,
            )
        self._opened.callback(cluster.close, timeout=LEAVE_SECONDS)
        return str(cluster.scheduler_address)

    def _checked(self, address: str) -> str:
        try:
            import_module("distributed.comm.addressing").get_address_host_port(address)
        except ValueError as error:
            raise UsageError(f"--cluster {self.place}: not a scheduler's address: {_line(error)}") from None
        return address

    def _connect(self, distributed: Any, address: str) -> Any:
        try:
            client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            raise HarnessError(f"no Dask scheduler answers at {self.place}: {_line(error)}") from None
        self._opened.callback(self._leave, client)
        return client

    def _leave(self, client: Any) -> None:
        with suppress(Exception):  # nothing to close if the scheduler has gone
            client.cancel(list(self._futures.values()))
        with suppress(Exception):
            client.close(timeout=LEAVE_SECONDS)

    def give(self, share: Share) -> None:
        """Submits it."""
        task = import_module("suites.fuzz.dask_task").play_share
        self._futures[share.number] = future = self._client.submit(task, share, self._campaign, pure=False)
        future.add_done_callback(partial(self._done, share.number))

    def _event(self, event: tuple[float, Any]) -> None:
        if event[1]["campaign"] == self._campaign:
            self._came.put((event[1]["number"], event[1]["line"]))

    def _done(self, number: int, future: Any) -> None:
        self._came.put((number, future))

    def listen(self, seconds: float) -> Iterator[Told | Over]:
        """Handles what the scheduler has sent."""
        with suppress(queue.Empty):
            number, what = self._came.get(timeout=seconds)
            if isinstance(what, str):
                yield Told(number, json.loads(what))
            else:
                yield from (Told(number, json.loads(line)) for line in self._result(what))
                yield Over(number)
        if self._client.status != "running":
            raise self._gone()

    def _result(self, future: Any) -> list[str]:
        if future.status == "finished":
            found: list[str] = future.result(timeout=CONNECT_SECONDS)
            return found
        if future.status != "error":
            raise self._gone()
        error = future.exception(timeout=CONNECT_SECONDS)
        raise HarnessError(f"a worker of {self.place} cannot play its share: {_line(error)}")

    def _gone(self) -> HarnessError:
        return HarnessError(f"the Dask scheduler {self.place} has gone away")

    def close(self) -> None:
        """Withdraws the shares that are not played yet; ends the workers if they are ours."""
        self._opened.close()


def _silence() -> None:
    """Silences Dask's tracebacks about lost connections, in loggers that have levels of their own."""
    names = [
        name for name in logging.root.manager.loggerDict if name.startswith(("distributed.", "tornado."))
    ]
    for name in ("distributed", "tornado", *names):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _line(error: BaseException) -> str:
    return visible(" ".join(str(error).split()) or type(error).__name__)
