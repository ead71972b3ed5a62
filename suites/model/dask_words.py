# SPDX-License-Identifier: GPL-2.0-only
"""Plays words on a worker of a Dask cluster.

A process of its own plays them (`suites.model.player_processes`), because a Dask worker has threads and hosts
are forked. It is kept for later words. It ends when none has come for a while, or with the Dask worker."""

from __future__ import annotations

import threading
from typing import Any

from distributed import get_worker

from suites.dask_process import wanted
from suites.model.known_answers import Word
from suites.model.player_processes import PlayerProcesses
from suites.model.subject import Subject

#: How long a process is kept that no word needs, s.
IDLE_SECONDS = 10.0

_lock = threading.Lock()
#: The processes that wait for a word, by run, each with the timer that ends it.
_idle: dict[str, list[tuple[PlayerProcesses, threading.Timer]]] = {}


def play_word(run: str, server: str, subject: Subject, word: Word) -> list[list[Any]]:
    """The answers to a word (`Answer.as_list`). `run`: the name of the run, which shares no process with
    others. Raises HarnessError."""
    worker = get_worker()
    key = worker.get_current_task()
    players = _taken(run) or PlayerProcesses(server, subject, 1)
    keep = False
    try:
        ((_, answers),) = players.many([word])
        keep = wanted(worker, key)
    finally:
        if keep:
            _keep(run, players)
        else:
            players.close()
    return [answer.as_list() for answer in answers]


def end_processes(run: str) -> None:
    """Ends the processes of a run that wait for a word."""
    while (players := _taken(run)) is not None:
        players.close()


def _taken(run: str) -> PlayerProcesses | None:
    with _lock:
        waiting = _idle.get(run)
        if not waiting:
            return None
        players, timer = waiting.pop()
        if not waiting:
            del _idle[run]
    timer.cancel()
    return players


def _keep(run: str, players: PlayerProcesses) -> None:
    timer = threading.Timer(IDLE_SECONDS, end_processes, (run,))
    timer.daemon = True
    with _lock:
        _idle.setdefault(run, []).append((players, timer))
    timer.start()
