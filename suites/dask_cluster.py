# SPDX-License-Identifier: GPL-2.0-only
"""Connects to a Dask scheduler, or starts one on this machine, and collects what its workers send.

The scheduler assigns a task again if its worker has gone. Workers need the same version of this suite, and
the build under the same SPEC: each is asked for both before it gets a task, also if it comes late."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from dissectors.wire.visible_text import visible
from fixtures.builds import is_deployment
from fixtures.system.hosts import HarnessError, UsageError
from fixtures.system.user_cache import cache_directory

#: In place of an address: start a scheduler and workers on this machine.
LOCAL = "local"
#: The schemes of addresses whose connections are encrypted.
ENCRYPTED = ("tls", "wss")
#: What our own workers run at their start.
WORKER_SETUP = "suites.dask_worker_interrupt"
#: How long the scheduler may take to answer, and to confirm that we disconnect, s.
CONNECT_SECONDS, LEAVE_SECONDS = 10, 5


#: What a machine says about its suite and builds.
Inventory = Mapping[str, Any]


def refuse_deployments(specs: Sequence[str]) -> None:
    """Raises UsageError for a deployment: its servers are moved by one machine, one test after the other."""
    for spec in specs:
        if is_deployment(spec):
            raise UsageError(
                f"--cluster: the deployment {spec} is tested by one machine: leave --cluster out"
            )


@dataclass(frozen=True)
class Alike:
    """What a machine must have. `ask`: called with `specs` on each worker; `unlike`: called with our answer
    and a worker's, returns the difference in one line, or None. Workers import both functions."""

    ask: Callable[[Sequence[str]], Inventory]
    unlike: Callable[[Inventory, Inventory], str | None]
    specs: Sequence[str]


#: The run, what its workers must have, and what our machine has.
Guard = tuple[str, Alike, Inventory]


class DaskCluster:
    """A connection. `place`: a scheduler's address, or `local` (`width` workers of its own). `alike`: what
    the workers of another scheduler must have.

    `threads`: how many tasks the cluster runs at once. Raises UsageError without the extra `cluster` or for
    an invalid address, HarnessError if no scheduler answers, it has no workers, or one of them differs."""

    def __init__(self, place: str, width: int, alike: Alike | None = None) -> None:
        try:
            distributed = import_module("distributed")
        except ImportError:
            raise UsageError("--cluster: install the extra `cluster` (Python package distributed)") from None
        _silence()
        self.place = visible(place)
        self.came: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self._futures: set[Any] = set()
        self._opened = ExitStack()
        self._guard: Guard | None = None
        try:
            address = self._local(distributed, width) if place == LOCAL else self._checked(place)
            if place != LOCAL:
                self._check_encryption(distributed, encrypted=address.partition("://")[0] in ENCRYPTED)
            self.client = self._connect(distributed, address)
            self.threads = sum(self.client.nthreads().values())
            if not self.threads:
                raise HarnessError(f"the Dask scheduler {self.place} has no workers")
            if alike is not None and place != LOCAL:
                self._compare(alike)
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
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                local_directory=str(scratch),
                preload=[WORKER_SETUP],
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

    def _check_encryption(self, distributed: Any, *, encrypted: bool) -> None:
        """Asks Dask for its certificates before it makes a client: one that fails to start without them
        cannot be closed, and prints a traceback at its end."""
        where = f"--cluster {self.place}: Dask's configuration"
        try:
            asked = distributed.Security().get_connection_args("client")
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise UsageError(f"{where} (distributed.comm.tls): {_line(error)}") from None
        if encrypted and asked["ssl_context"] is None:
            raise UsageError(f"{where} (distributed.comm.tls) names no certificates for a client")
        if asked["require_encryption"] and not encrypted:
            raise UsageError(f"{where} (distributed.comm.require-encryption) asks for tls://")

    def _connect(self, distributed: Any, address: str) -> Any:
        try:
            client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            raise HarnessError(f"no Dask scheduler answers at {self.place}: {_line(error)}") from None
        self._opened.callback(self._leave, client)
        return client

    def _compare(self, alike: Alike) -> None:
        """Asks every worker, before any gets a task."""
        ours = alike.ask(alike.specs)
        self._guard = uuid.uuid4().hex, alike, ours
        try:
            answers = self.client.run(_asked, alike, on_error="return")
        except Exception:
            raise self._gone() from None
        for worker, theirs in answers.items():
            if isinstance(theirs, OSError):
                continue  # it has gone; should it come back, it is asked before its first task
            line = _line(theirs) if isinstance(theirs, BaseException) else alike.unlike(ours, theirs)
            if line is not None:
                raise HarnessError(f"the worker {visible(str(worker))} cannot play: {line}")

    def _leave(self, client: Any) -> None:
        self.withdraw()
        with suppress(Exception):
            client.close(timeout=LEAVE_SECONDS)

    def submit(self, tag: Any, task: Callable[..., Any], *arguments: Any) -> None:
        """Starts a task as soon as there is a thread for it; `came` gets the tag and its future at its
        end."""
        if self._guard is not None:
            task, arguments = guarded, (self._guard, task, arguments)
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


async def _asked(alike: Alike) -> Inventory:
    """A worker's answer, while its event loop goes on."""
    return await asyncio.to_thread(alike.ask, alike.specs)


_lock = threading.Lock()
#: On a worker: the run -> how this worker differs; it is asked once for each run.
_found: dict[str, str | None] = {}


def guarded(guard: Guard, task: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """Runs a task on a worker, unless that has another suite or build: it may have come after the others
    were asked. Raises HarnessError."""
    run, alike, ours = guard
    with _lock:
        if run not in _found:
            _found[run] = alike.unlike(ours, alike.ask(alike.specs))
        line = _found[run]
    if line is not None:
        raise HarnessError(line)
    return task(*arguments)


def _silence() -> None:
    """Silences Dask's tracebacks about lost connections, in loggers that have levels of their own."""
    names = [
        name for name in logging.root.manager.loggerDict if name.startswith(("distributed.", "tornado."))
    ]
    for name in ("distributed", "tornado", *names):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _line(error: BaseException) -> str:
    return visible(" ".join(str(error).split()) or type(error).__name__)
