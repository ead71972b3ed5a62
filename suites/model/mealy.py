# SPDX-License-Identifier: GPL-2.0-only
"""A learned model: a Mealy machine, numbered canonically, as JSON.

States are numbered in the order in which a breadth-first walk with the alphabet's letters finds them, so that
two equal machines are equal as files."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dissectors.wire.visible_text import all_visible
from fixtures.system.hosts import HarnessError, UsageError
from suites.model.answers import CLOSED, DIED, HUNG, IMPOSSIBLE
from suites.model.subject import Subject

FORMAT = 1
#: Goes up when the alphabet, the wording of answers or the player change: models and caches of another suite
#: version are not comparable.
SUITE = 5
NAME = "model.json"

Word = tuple[str, ...]


class OtherSuite(HarnessError):
    """A model or a cache of another suite version."""


@dataclass(frozen=True)
class Model:
    """`steps[state][letter]`: (answer, next state). State 0 is the initial state. `about`: the build (spec,
    version, build id), the number of plays and the confidence; comparisons of models ignore it."""

    subject: Subject
    alphabet: Sequence[str]
    steps: Sequence[Mapping[str, tuple[str, int]]]
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def name(self) -> str:
        """The build and the subject, as text."""
        version = self.about.get("version") or self.about.get("server") or "a server"
        return f"{version} ({self.subject})"

    def answers(self, word: Word, state: int = 0) -> list[str]:
        """The machine's answers to a word in a state."""
        found = []
        for name in word:
            answer, state = self.steps[state][name]
            found.append(answer)
        return found

    def after(self, word: Word, state: int = 0) -> int:
        """The state that a word leads to."""
        for name in word:
            state = self.steps[state][name][1]
        return state

    def shortest(self) -> list[Word]:
        """The shortest word into each state, by the state's number."""
        found: dict[int, Word] = {0: ()}
        todo = deque([0])
        while todo:
            state = todo.popleft()
            for name in self.alphabet:
                following = self.steps[state][name][1]
                if following not in found:
                    found[following] = (*found[state], name)
                    todo.append(following)
        return [found[state] for state in range(len(self))]

    def ends(self) -> frozenset[int]:
        """The states in which the process is gone: nothing can be played there."""
        return frozenset(
            number for number, row in enumerate(self.steps) if all(a == IMPOSSIBLE for a, _ in row.values())
        )

    # ---- JSON

    def as_dict(self) -> dict[str, Any]:
        """Compact: answers are listed once and referred to by index; a letter that cannot be played is left
        out of its state's row."""
        texts = sorted({answer for row in self.steps for answer, _ in row.values()} - {IMPOSSIBLE})
        place = {text: index for index, text in enumerate(texts)}
        letter = {name: index for index, name in enumerate(self.alphabet)}
        rows = [
            [[letter[n], place[row[n][0]], row[n][1]] for n in self.alphabet if row[n][0] != IMPOSSIBLE]
            for row in self.steps
        ]
        return {
            "format": FORMAT,
            "suite": SUITE,
            "role": self.subject.role,
            "seamless": self.subject.seamless,
            "about": dict(self.about),
            "letters": list(self.alphabet),
            "answers": texts,
            "states": rows,
        }

    def write(self, path: Path) -> None:
        """Writes the model's file. Raises OSError."""
        data = self.as_dict()
        rows = data.pop("states")
        head = json.dumps(data, indent=1)[:-2]
        body = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in rows)
        path.write_text(f'{head},\n "states": [\n{body}\n ]\n}}\n', encoding="utf-8")


def canonical(
    subject: Subject,
    alphabet: Sequence[str],
    steps: Mapping[Any, Mapping[str, tuple[str, Any]]],
    first: Any,
    about: Mapping[str, Any],
) -> Model:
    """A machine with states of any type, minimised and numbered."""
    block = _minimal(alphabet, steps)
    number = {block[first]: 0}
    one: dict[int, Any] = {}
    for state, mark in block.items():
        one.setdefault(mark, state)
    rows: list[dict[str, tuple[str, int]]] = []
    todo = deque([block[first]])
    while todo:
        state = one[todo.popleft()]
        row = {}
        for name in alphabet:
            answer, following = steps[state][name]
            mark = block[following]
            if mark not in number:
                number[mark] = len(number)
                todo.append(mark)
            row[name] = (answer, number[mark])
        rows.append(row)
    return Model(subject, tuple(alphabet), rows, about)


def _minimal(alphabet: Sequence[str], steps: Mapping[Any, Mapping[str, tuple[str, Any]]]) -> dict[Any, int]:
    """State -> its class (Moore's algorithm)."""
    block = dict.fromkeys(steps, 0)
    while True:
        marks: dict[Any, int] = {}
        finer = {
            state: marks.setdefault(
                (block[state], *((row[n][0], block[row[n][1]]) for n in alphabet)), len(marks)
            )
            for state, row in steps.items()
        }
        if len(set(finer.values())) == len(set(block.values())):
            return finer
        block = finer


def read(path: Path) -> Model:
    """Reads a model file, or the directory that `learn --out` wrote. Raises UsageError, OtherSuite."""
    file = path / NAME if path.is_dir() else path
    try:
        data = all_visible(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file}: not JSON, or not all of it: {error}") from None
    if not isinstance(data, dict) or "states" not in data or "letters" not in data:
        raise UsageError(f"{file}: no model of spice-conform learn")
    if (data.get("format"), data.get("suite")) != (FORMAT, SUITE):
        raise OtherSuite(
            f"{file}: a model of another suite version ({data.get('format')}.{data.get('suite')}, this is"
            f" {FORMAT}.{SUITE}): learn it again"
        )
    try:
        return _model(data)
    except ValueError as error:
        raise UsageError(f"{file}: an incomplete or damaged model: {error}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: an incomplete or damaged model: {error!r}") from None


def _model(data: Mapping[str, Any]) -> Model:
    """Raises ValueError, and what a value of another type raises."""
    letters, texts = [str(name) for name in data["letters"]], [str(text) for text in data["answers"]]
    if len(set(letters)) != len(letters):
        raise ValueError("a letter is named twice")
    rows: list[dict[str, tuple[str, int]]] = []
    for number, entries in enumerate(data["states"]):
        row = dict.fromkeys(letters, (IMPOSSIBLE, number))
        for letter, answer, following in entries:
            for what, index, count in (
                ("letter", letter, len(letters)),
                ("answer", answer, len(texts)),
                ("state", following, len(data["states"])),
            ):
                if not isinstance(index, int) or not 0 <= index < count:
                    raise ValueError(f"state {number} names {what} {index}, which is not there")
            row[letters[letter]] = (texts[answer], following)
        rows.append(row)
    if not rows:
        raise ValueError("no states")
    made = Model(Subject(str(data["role"]), bool(data["seamless"])), letters, rows, dict(data["about"]))
    try:
        made.shortest()
    except KeyError as error:
        raise ValueError(f"nothing leads to state {error}") from None
    return made


def fatal(answer: str) -> bool:
    """Whether the process ends or hangs with this answer."""
    return answer.startswith((DIED, HUNG))


def closing(answer: str) -> bool:
    """Whether the server closes a connection with this answer."""
    return CLOSED in answer
