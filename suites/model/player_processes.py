# SPDX-License-Identifier: GPL-2.0-only
"""Plays words in several processes at once, on every processor of this machine.

Each worker is `python -m suites.model.player_processes SPEC ROLE SEAMLESS`: a word is a line of JSON on its
standard input, its answers a line on its standard output. Both carry the question's number, so that late
answers are not taken for those to a later word. A worker ends with its input, so that none outlives this
process."""

from __future__ import annotations

import itertools
import json
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from fixtures.bench.launchers import Launchers
from fixtures.system.hosts import HarnessError, Unsupported, UsageError
from suites import json_process
from suites.model.answers import Answer
from suites.model.known_answers import Word
from suites.model.snapshot_player import SnapshotPlayer
from suites.model.subject import Subject

#: How many workers may be replaced, in all.
REPLACED = 8


class PlayerProcesses:
    """A player of `width` processes for one server and subject; close it after the last word."""

    def __init__(self, server: str, subject: Subject, width: int) -> None:
        self.width = width
        self._argv = ("suites.model.player_processes", server, subject.role, str(int(subject.seamless)))
        self._replaced = 0
        self._numbers = itertools.count(1)
        self._workers = [self._start_worker() for _ in range(width)]

    def _start_worker(self) -> subprocess.Popen[bytes]:
        return json_process.start(*self._argv)

    def many(self, words: Sequence[Word]) -> Iterator[tuple[Word, list[Answer]]]:
        """See `Player`. A worker that somebody killed is replaced and its word played again."""
        waiting = deque(words)
        busy: dict[int, tuple[int, Word]] = {}
        with selectors.DefaultSelector() as selector:
            while waiting or busy:
                for index, worker in enumerate(self._workers):
                    if waiting and index not in busy:
                        busy[index] = (next(self._numbers), waiting.popleft())
                        selector.register(_output(worker), selectors.EVENT_READ, index)
                        self._tell(worker, *busy[index])
                for key, _ in selector.select():
                    index = key.data
                    number, word = busy[index]
                    line = _line(self._workers[index])
                    reply = None if line is None else json.loads(line)
                    if reply is not None and reply[0] != number:
                        continue  # the answer to a question that was given up
                    selector.unregister(key.fileobj)
                    del busy[index]
                    if reply is None:
                        self._replace(index)
                        waiting.appendleft(word)
                    else:
                        yield word, _answers(reply[1])

    @staticmethod
    def _tell(worker: subprocess.Popen[bytes], number: int, word: Word) -> None:
        assert worker.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: its output says so
            worker.stdin.write(json.dumps([number, word]).encode() + b"\n")

    def _replace(self, index: int) -> None:
        self._replaced += 1
        json_process.end(self._workers[index])
        if self._replaced > REPLACED:
            raise HarnessError(f"{self._replaced} workers have ended by themselves: see what they print")
        self._workers[index] = self._start_worker()

    def close(self) -> None:
        """Ends the workers. Can be called twice."""
        for worker in self._workers:
            json_process.end(worker)
        self._workers.clear()


def _output(worker: subprocess.Popen[bytes]) -> int:
    assert worker.stdout is not None
    return worker.stdout.fileno()


def _line(worker: subprocess.Popen[bytes]) -> bytes | None:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    return line if line.endswith(b"\n") else None


def _answers(data: Any) -> list[Answer]:
    """Raises HarnessError if the worker reports that it could not play."""
    if isinstance(data, str):
        raise HarnessError(data)
    return [Answer.from_list(entry) for entry in data]


def main(server: str, role: str, seamless: str, *plant: str) -> int:
    """Plays the words that standard input names, until it ends; returns the exit status."""
    launchers = Launchers()
    player = None
    try:
        for line in sys.stdin:
            number, word = json.loads(line)
            try:
                player = player or SnapshotPlayer(
                    launchers.of(server), Subject(role, seamless == "1", plant=plant)
                )
                reply: object = [answer.as_list() for answer in player.answers(tuple(word))]
            except (HarnessError, UsageError, Unsupported) as error:
                reply = str(error)
            print(json.dumps([number, reply]), flush=True)
    except (KeyboardInterrupt, BrokenPipeError):
        return 3
    finally:
        if player is not None:
            player.close()
        launchers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
