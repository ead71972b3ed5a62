# SPDX-License-Identifier: GPL-2.0-only
"""Plays words on the workers of a Dask scheduler."""

from __future__ import annotations

import queue
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module

from suites.dask_cluster import LEAVE_SECONDS, DaskCluster
from suites.model.answers import Answer
from suites.model.known_answers import Word
from suites.model.subject import Subject

#: The interval at which a wait for answers checks whether the scheduler is still there, s.
LOOK_SECONDS = 1.0


class DaskPlayers:
    """A player for one server and subject; close it after the last word. The cluster stays open."""

    def __init__(self, cluster: DaskCluster, server: str, subject: Subject) -> None:
        self._cluster, self._server, self._subject = cluster, server, subject
        self._run = uuid.uuid4().hex
        from suites.model import dask_words  # it needs the extra `cluster`

        self._tasks = dask_words

    def many(self, words: Sequence[Word]) -> Iterator[tuple[Word, list[Answer]]]:
        """See `Player`. The scheduler gives the word of a killed worker to another one. Raises
        HarnessError."""
        self._cluster.withdraw()  # the words of a question that was given up
        asked = uuid.uuid4().hex
        for number, word in enumerate(words):
            self._cluster.submit(
                (asked, number), self._tasks.play_word, self._run, self._server, self._subject, word
            )
        waiting = len(words)
        while waiting:
            with suppress(queue.Empty):
                (question, number), future = self._cluster.came.get(timeout=LOOK_SECONDS)
                if question != asked:
                    continue
                waiting -= 1
                entries = self._cluster.result(future)
                yield words[number], [Answer.from_list(entry) for entry in entries]
            self._cluster.check()

    def close(self) -> None:
        """Ends the processes that have played, as far as their workers do not play for somebody else."""
        self._cluster.withdraw()
        client = self._cluster.client
        with suppress(Exception):  # the scheduler or a worker has gone: processes end by themselves
            ends = [
                client.submit(self._tasks.end_processes, self._run, workers=[worker], pure=False)
                for worker in client.nthreads()
            ]
            import_module("distributed").wait(ends, timeout=LEAVE_SECONDS)
