# SPDX-License-Identifier: GPL-2.0-only
"""The answers of a build on disk: one line for each play, written as soon as the play is made.

So a second run plays only what the first has not played, and an interrupted run continues. The file's first
line names the build and the suite version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from fixtures.system.hosts import HarnessError, Identity
from fixtures.system.user_cache import cache_directory
from suites.model.answers import Answer
from suites.model.known_answers import KnownAnswers, Word
from suites.model.mealy import FORMAT, SUITE

Say = Callable[[str], None]


class Store:
    """The file of one build and subject. Words and answers that do not fit together are skipped.

    Raises HarnessError if it cannot be written; its earlier content stays."""

    def __init__(
        self, knowledge: KnownAnswers, build: Identity, say: Say, directory: Path | None = None
    ) -> None:
        self.knowledge = knowledge
        build_hash = (build.sha256 or "unknown")[:16]
        self.path = (
            directory or cache_directory() / "learned"
        ) / f"{build_hash}-{knowledge.subject.key}.ndjson"
        letters = "\n".join(knowledge.letters)
        self._head = {
            "format": FORMAT,
            "suite": SUITE,
            "build": build.sha256,
            "alphabet": hashlib.sha256(letters.encode()).hexdigest(),
        }
        self._names = list(knowledge.letters)
        self._place = {name: index for index, name in enumerate(self._names)}
        self.loaded = self._load(say)
        self._file = self._open(fresh=not self.loaded)

    def _load(self, say: Say) -> int:
        """Returns how many plays were read. A last line that was cut is skipped."""
        count = 0
        try:
            with self.path.open(encoding="utf-8") as file:
                if _json(file.readline()) != self._head:
                    say(f"{self.path}: of another suite version or alphabet; it is ignored and replaced")
                    return 0
                for line in file:
                    count += self._take(line)
        except FileNotFoundError:
            return 0
        except (OSError, UnicodeDecodeError) as error:
            raise HarnessError(f"{self.path}: cannot be read: {error}") from None
        return count

    def _take(self, line: str) -> int:
        try:
            word, answers = json.loads(line)
            names = tuple(self._names[index] for index in word)
            self.knowledge.note(names, [Answer.from_list(entry) for entry in answers])
        except (TypeError, ValueError, IndexError):  # a line that was cut
            return 0
        return 1

    def _open(self, *, fresh: bool) -> TextIO:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("w" if fresh else "a", encoding="utf-8", buffering=1)
            if fresh:
                file.write(json.dumps(self._head) + "\n")
            return file
        except OSError as error:
            raise HarnessError(f"{self.path}: cannot be written: {error.strerror}") from None

    def add(self, word: Word, answers: Sequence[Answer]) -> None:
        """Stores the answers of one play."""
        line = json.dumps([[self._place[name] for name in word], [a.as_list() for a in answers]])
        try:
            self._file.write(line + "\n")
        except OSError as error:
            raise HarnessError(
                f"{self.path}: {error.strerror}; what was written before is kept: make room and go on"
            ) from None

    def forget(self, word: Word) -> None:
        """Removes each play that begins with this word: its answer was contradicted. Raises HarnessError."""
        self.close()
        start = [self._place[name] for name in word]
        try:
            with self.path.open(encoding="utf-8") as file:
                lines = file.readlines()
            kept = [line for line in lines[1:] if not _begins(line, start)]
            self.path.write_text("".join([lines[0], *kept]), encoding="utf-8")
        except OSError as error:
            raise HarnessError(f"{self.path}: cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Closes the file."""
        with suppress(OSError):  # the disk is full: reported already
            self._file.close()


def _json(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _begins(line: str, start: Sequence[int]) -> bool:
    data = _json(line)
    return not isinstance(data, list) or data[0][: len(start)] == start
