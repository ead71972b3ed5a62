# SPDX-License-Identifier: GPL-2.0-only
"""Whether a build answers as the model of its version: every transition once, and a little beyond.

A word goes the shortest way into a state, asks one letter there, and goes on for a few letters, which tell
whether the transition has led where the model says (the W-method's idea, with random tails in place of the
characterising set). The same model and seed give the same words.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from suites.model.answers import IMPOSSIBLE
from suites.model.asking import AGAIN, Undecided, Word
from suites.model.comparison import essence
from suites.model.findings import ModelFinding
from suites.model.mealy import Model, fatal, read
from suites.model.snapshot_player import SnapshotPlayer
from suites.model.subject import Subject

MODELS = Path(__file__).with_name("models")
#: Letters that follow the one that is asked.
TAIL = 3


def file_of(version: str, subject: Subject) -> Path:
    """Where the model of a release lies."""
    scheme = "seamless" if subject.seamless else "semi-seamless"
    return MODELS / f"{version}-{subject.role}-{scheme}.json"


def model_of(version: str | None, subject: Subject) -> Model | None:
    """The model of a release, None if there is none. Raises OtherSuite."""
    file = file_of(version or "", subject)
    return read(file) if version and file.is_file() else None


def words(model: Model, seed: int = 0, count: int | None = None, tail: int = TAIL) -> list[Word]:
    """A word for every transition, the shortest first; with `count` only so many, spread over all. `tail`:
    how many letters follow the one that is asked."""
    dice = random.Random(seed)
    found = list(_words(model, dice, tail))
    if count is not None and count < len(found):
        found = dice.sample(found, count)
    return sorted(found, key=lambda word: (len(word), word))


def _words(model: Model, dice: random.Random, tail: int) -> Iterator[Word]:
    ends = model.ends()
    for state, way in enumerate(model.shortest()):
        for name in model.alphabet if state not in ends else ():
            answer, following = model.steps[state][name]
            if answer != IMPOSSIBLE:
                yield (*way, name, *_tail(model, following, dice, tail))


def _tail(model: Model, state: int, dice: random.Random, count: int) -> Iterator[str]:
    for _ in range(count):
        telling = [n for n, (a, _) in model.steps[state].items() if a != IMPOSSIBLE and not fatal(a)]
        if not telling:
            return
        name = dice.choice(telling)
        yield name
        state = model.steps[state][name][1]


def compared(model: Model, player: SnapshotPlayer, asked: Sequence[Word]) -> Iterator[ModelFinding]:
    """Each kind of difference once: the letter and the two answers. Raises Undecided where the server gives
    another answer each time, HarnessError."""
    told: set[tuple[str, str, str]] = set()
    for word in asked:
        found = difference(model, word, [answer.text for answer in player.answers(word)])
        if found is None or (found.word[-1], found.expected[-1], found.seen) in told:
            continue
        again = [player.answers(found.word, from_nothing=True)[-1].text for _ in range(AGAIN)]
        if any(answer != found.seen for answer in again):
            raise Undecided(found.word, Counter([found.seen, *again]))
        told.add((found.word[-1], found.expected[-1], found.seen))
        yield found


def difference(model: Model, word: Word, seen: Sequence[str]) -> ModelFinding | None:
    """Where a server's answers leave the model for the first time."""
    expected = model.answers(word)
    for index, (ours, theirs) in enumerate(zip(expected, seen, strict=True)):
        if essence(ours) != essence(theirs):
            return ModelFinding(model.subject, word[: index + 1], expected[: index + 1], theirs, model.name)
    return None
