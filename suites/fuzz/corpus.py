# SPDX-License-Identifier: GPL-2.0-only
"""The corpus of campaigns: lists of moves, each of which once showed something new.

Hypothesis' example databases store them: a directory, or a Redis that several machines share
(`redis://HOST:PORT/DB`, `unix://SOCKET`, with the Python package `redis`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase

from fixtures.system.hosts import HarnessError, UsageError
from suites.fuzz.moves import Move, Setup, as_json, from_json

#: The format of the entries. It goes up when moves change their meaning.
FORMAT = 1
KEY = b"spice-conformance fuzz corpus"
#: Of plays that executed new edges, and nothing else new.
EDGES_KEY = b"spice-conformance fuzz corpus: edges"
#: Of what each build showed at most.
MANIFEST_KEY = b"spice-conformance fuzz corpus: manifest"
REDIS = ("redis://", "rediss://", "unix://")


class Entry(NamedTuple):
    """A play. `by_edges`: the edges that it executed are all that it once showed."""

    setup: Setup
    moves: Sequence[Move]
    by_edges: bool = False


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
            found = {key: set(self._database.fetch(key)) for key in (KEY, EDGES_KEY)}
        raws = [(raw, False) for raw in found[KEY]] + [(raw, True) for raw in found[EDGES_KEY] - found[KEY]]
        entries = [self._entry(raw, by_edges=by_edges) for raw, by_edges in raws]
        return sorted(entries, key=lambda entry: (len(entry.moves), str(entry)))

    def add(self, setup: Setup, moves: Sequence[Move]) -> None:
        """Stores a play's list of moves."""
        with self._one_line_errors():
            self._database.save(KEY, _bytes(setup, moves))

    def add_for_edges(self, setup: Setup, moves: Sequence[Move], stored: int) -> None:
        """Stores a list of moves that executed new edges, in place of its first `stored` moves."""
        with self._one_line_errors():
            self._database.save(EDGES_KEY, _bytes(setup, moves))
            if stored:
                self._database.delete(EDGES_KEY, _bytes(setup, moves[:stored]))

    def drop(self, entry: Entry) -> None:
        """Removes a list that shows nothing beyond other lists."""
        raw = _bytes(entry.setup, entry.moves)
        with self._one_line_errors():
            self._database.delete(EDGES_KEY, raw)
            if not entry.by_edges:
                self._database.delete(KEY, raw)

    def reached(self) -> list[dict[str, Any]]:
        """The manifest: for each build what a campaign reached, as `note_reached` got it."""
        with self._one_line_errors():
            raws = list(self._database.fetch(MANIFEST_KEY))
        try:
            return [dict(json.loads(raw)) for raw in raws]
        except (ValueError, TypeError) as error:
            raise HarnessError(f"{self.place}: not a corpus of this suite: {error}") from None

    def note_reached(self, reached: Mapping[str, Any]) -> None:
        """Writes into the manifest what a campaign reached: `build` (its SHA-256), `server`, `edges`,
        `states`, `steps`. The figures of one build never fall."""
        merged = dict(reached)
        earlier = [one for one in self.reached() if one.get("build") == reached["build"]]
        for figure in ("edges", "states", "steps"):
            merged[figure] = max(
                (one[figure] for one in [reached, *earlier] if one.get(figure)), default=None
            )
        with self._one_line_errors():
            self._database.save(MANIFEST_KEY, _json(merged))
            for one in earlier:
                if one != merged:
                    self._database.delete(MANIFEST_KEY, _json(one))

    def _entry(self, raw: bytes, *, by_edges: bool) -> Entry:
        try:
            data = json.loads(raw)
            if data["format"] != FORMAT:
                wrong = f"{self.place}: a corpus of format {data['format']}, this suite has {FORMAT}"
                raise HarnessError(f"{wrong}: name another")
            return Entry(Setup.from_json(data["setup"]), from_json(data["moves"]), by_edges)
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
    return _json(data)


def _json(data: Mapping[str, Any]) -> bytes:
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
