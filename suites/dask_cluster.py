# SPDX-License-Identifier: GPL-2.0-only
"""Connects to a Dask scheduler, or starts one on this machine, and collects what its workers send.

The scheduler assigns a task again if its worker has gone. Workers need the same version of this suite, and
the build under the same SPEC."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from typing import Any

from dissectors.wire.visible_text import visible
from fixtures.system.hosts import HarnessError, UsageError
from fixtures.system.user_cache import cache_directory

#: In place of an address: start a scheduler and workers on this machine.
LOCAL = "local"
#: How long the scheduler may take to answer, and to confirm that we disconnect, s.
CONNECT_SECONDS, LEAVE_SECONDS = 10, 5


class DaskCluster:
    """A connection. `place`: a scheduler's address, or `local` (`width` workers of its own).

    `threads`: how many tasks the cluster runs at once. Raises UsageError without the extra `cluster` or for
    an invalid address, HarnessError if no scheduler answers or it has no workers."""

    def __init__(self, place: str, width: int) -> None:
        try:
            distributed = import_module("distributed")
        except ImportError:
            raise UsageError("--cluster: install the extra `cluster` (Python package distributed)") from None
        _silence()
        self.place = visible(place)
        self.came: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self._futures: set[Any] = set()
        self._opened = ExitStack()
        try:
            address = self._local(distributed, width) if place == LOCAL else self._checked(place)
            self.client = self._connect(distributed, address)
            self.threads = sum(self.client.nthreads().values())
            if not self.threads:
                raise HarnessError(f"the Dask scheduler {self.place} has no workers")
        except BaseException:
            self.close()
            raise

    def _local(self, distributed: Any, width: int) -> str:
        """Dask deletes there what killed workers have left."""
        scratch = cache_directory() / "dask"
        try:
            scratch.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HarnessError(f"{scratch}: cannot be written: {error.strerror}") from None
        with import_module("dask").config.set({"temporary-directory": str(scratch)}):
            cluster = distributed.LocalCluster(
                n_workers=width,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                local_directory=str(scratch),
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
        self.withdraw()
        with suppress(Exception):
            client.close(timeout=LEAVE_SECONDS)

    def submit(self, tag: Any, task: Callable[..., Any], *arguments: Any) -> None:
        """Starts a task as soon as there is a thread for it; `came` gets the tag and its future at its
        end."""
        future = self.client.submit(task, *arguments, pure=False)
        self._futures.add(future)
        future.add_done_callback(partial(self._done, tag))

    def _done(self, tag: Any, future: Any) -> None:
        self.came.put((tag, future))

    def withdraw(self) -> None:
        """Cancels every task that is not over."""
        with suppress(Exception):  # nothing to cancel if the scheduler has gone
            self.client.cancel(list(self._futures))
        self._futures.clear()

    def result(self, future: Any) -> Any:
        """What a task returned. Raises HarnessError."""
        self._futures.discard(future)
        if future.status == "finished":
            return future.result(timeout=CONNECT_SECONDS)
        if future.status != "error":
            raise self._gone()
        error = future.exception(timeout=CONNECT_SECONDS)
        raise HarnessError(f"a worker of {self.place} cannot play its share: {_line(error)}")

    def check(self) -> None:
        """Raises HarnessError if the scheduler has gone."""
        if self.client.status != "running":
            raise self._gone()

    def _gone(self) -> HarnessError:
        return HarnessError(f"the Dask scheduler {self.place} has gone away")

    def close(self) -> None:
        """Withdraws the tasks that are not over; ends the workers if they are ours. Can be called twice."""
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
