# SPDX-License-Identifier: GPL-2.0-only
"""Plays words on a worker of a Dask cluster.

A process of its own plays them (`suites.model.crew`), because a Dask worker has threads and hosts are forked.
It is kept for later words. It ends when none has come for a while, or with the Dask worker."""

from __future__ import annotations

import threading
from typing import Any

from distributed import get_worker

from suites.dask_process import wanted
from suites.model.asking import Word
from suites.model.crew import Crew
from suites.model.subject import Subject

#: How long a process is kept that no word needs, s.
IDLE_SECONDS = 10.0

_lock = threading.Lock()
#: The processes that wait for a word, by run, each with the timer that ends it.
_idle: dict[str, list[tuple[Crew, threading.Timer]]] = {}


def play_word(run: str, server: str, subject: Subject, word: Word) -> list[list[Any]]:
    """The answers to a word (`Answer.as_list`). `run`: the name of the run, which shares no process with
    others. Raises HarnessError."""
    worker = get_worker()
    key = worker.get_current_task()
    crew = _taken(run) or Crew(server, subject, 1)
    keep = False
    try:
        ((_, answers),) = crew.many([word])
        keep = wanted(worker, key)
    finally:
        if keep:
            _keep(run, crew)
        else:
            crew.close()
    return [answer.as_list() for answer in answers]


def end_processes(run: str) -> None:
    """Ends the processes of a run that wait for a word."""
    while (crew := _taken(run)) is not None:
        crew.close()


def _taken(run: str) -> Crew | None:
    with _lock:
        waiting = _idle.get(run)
        if not waiting:
            return None
        crew, timer = waiting.pop()
        if not waiting:
            del _idle[run]
    timer.cancel()
    return crew


def _keep(run: str, crew: Crew) -> None:
    timer = threading.Timer(IDLE_SECONDS, end_processes, (run,))
    timer.daemon = True
    with _lock:
        _idle.setdefault(run, []).append((crew, timer))
    timer.start()
