# SPDX-License-Identifier: GPL-2.0-only
"""The corpus of campaigns: lists of moves, each of which once showed something new.

Hypothesis' example databases store them: a directory, or a Redis that several machines share
(`redis://HOST:PORT/DB`, `unix://SOCKET`, with the Python package `redis`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase

from fixtures.system.hosts import HarnessError, UsageError
from suites.fuzz.moves import Move, Setup, as_json, from_json

#: The format of the entries. It goes up when moves change their meaning.
FORMAT = 1
KEY = b"spice-conformance fuzz corpus"
REDIS = ("redis://", "rediss://", "unix://")

Entry = tuple[Setup, Sequence[Move]]


class Corpus:
    """The entries at a place. Raises UsageError for a place that cannot be a corpus, HarnessError with one
    line if it cannot be reached, is full, or belongs to another suite version."""

    def __init__(self, place: str) -> None:
        self.place = place
        with self._one_line_errors():
            self._database = _database(place)

    def entries(self) -> list[Entry]:
        """The entries, the shortest first. Raises HarnessError if one of them is of another suite version."""
        with self._one_line_errors():
            found = [self._entry(raw) for raw in self._database.fetch(KEY)]
        return sorted(found, key=lambda entry: (len(entry[1]), str(entry)))

    def add(self, setup: Setup, moves: Sequence[Move]) -> None:
        """Stores a list of moves."""
        with self._one_line_errors():
            self._database.save(KEY, _bytes(setup, moves))

    def drop(self, setup: Setup, moves: Sequence[Move]) -> None:
        """Removes a list that shows nothing beyond other lists."""
        with self._one_line_errors():
            self._database.delete(KEY, _bytes(setup, moves))

    def _entry(self, raw: bytes) -> Entry:
        try:
            data = json.loads(raw)
            if data["format"] != FORMAT:
                wrong = f"{self.place}: a corpus of format {data['format']}, this suite has {FORMAT}"
                raise HarnessError(f"{wrong}: name another")
            return Setup.from_json(data["setup"]), from_json(data["moves"])
        except (ValueError, KeyError, TypeError) as error:
            raise HarnessError(f"{self.place}: not a corpus of this suite: {error}") from None

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except (HarnessError, UsageError):
            raise
        except OSError as error:
            raise HarnessError(f"the corpus {self.place} cannot be used: {error.strerror or error}") from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "redis":
                raise
            raise HarnessError(f"the corpus {self.place} cannot be reached: {error}") from None


def _bytes(setup: Setup, moves: Sequence[Move]) -> bytes:
    data = {"format": FORMAT, "setup": asdict(setup), "moves": as_json(moves)}
    return json.dumps(data, sort_keys=True).encode()


def _database(place: str) -> ExampleDatabase:
    if not place.startswith(REDIS):
        path = Path(place)
        if path.exists() and not path.is_dir():
            raise UsageError(f"{place}: not a directory")
        path.mkdir(parents=True, exist_ok=True)
        return DirectoryBasedExampleDatabase(path)
    try:
        redis = import_module("redis")
        extra = import_module("hypothesis.extra.redis")
    except ImportError:
        raise UsageError(f"{place}: install the extra `corpus` (Python package redis)") from None
    server = redis.Redis.from_url(place)
    server.ping()
    found: ExampleDatabase = extra.RedisExampleDatabase(server)
    return found
