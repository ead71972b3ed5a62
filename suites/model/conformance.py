# SPDX-License-Identifier: GPL-2.0-only
"""Whether a build answers as the model of its version: tests every transition once, and a little beyond.

A few long words take every transition (`suites.model.tours`): the answers behind a transition show whether it
has led to the model's state. The shortest word then shows a difference."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from suites.model.comparison import essence
from suites.model.known_answers import AGAIN, Undecided, Word
from suites.model.mealy import Model, read
from suites.model.model_findings import ModelFinding
from suites.model.snapshot_player import SnapshotPlayer
from suites.model.subject import Subject
from suites.model.tours import tours, transitions

MODELS = Path(__file__).with_name("models")


def file_of(version: str | None, subject: Subject) -> Path:
    """The path of a release's model."""
    return MODELS / f"{version}-{subject.key}.json"


def model_of(version: str | None, subject: Subject) -> Model | None:
    """The model of a release, None if there is none. Raises OtherSuite."""
    file = file_of(version or "", subject)
    return read(file) if version and file.is_file() else None


def ways(model: Model) -> Iterator[Word]:
    """For every transition, the shortest way into its state and its letter, by length."""
    shortest = model.shortest()
    yield from ((*shortest[state], name) for state, name in transitions(model))


def words(model: Model, seed: int = 0) -> list[Word]:
    """Tours that take every transition. The same model and seed give the same words."""
    questions = [(state, (name,)) for state, name in transitions(model)]
    return [word for word, _ in tours(model, questions, random.Random(seed))]


def compared(model: Model, player: SnapshotPlayer, asked: Iterable[Word]) -> Iterator[ModelFinding]:
    """Each kind of difference once: the letter and the two answers, with the shortest word that shows it.

    Raises HarnessError, and Undecided if the server answers differently each time."""
    reported: set[tuple[str, str, str]] = set()
    shortest = model.shortest()
    for word in asked:
        found = difference(model, word, [answer.text for answer in player.answers(word)])
        if found is None or found.kind in reported:
            continue
        reported.add(found.kind)
        short = (*shortest[model.after(found.word[:-1])], found.word[-1])
        shorter = difference(model, short, _again(player, short))
        yield shorter if shorter is not None and shorter.kind == found.kind else _sure(model, player, found)


def _again(player: SnapshotPlayer, word: Word) -> list[str]:
    return [answer.text for answer in player.answers(word, from_nothing=True)]


def _sure(model: Model, player: SnapshotPlayer, found: ModelFinding) -> ModelFinding:
    """A difference that shows each time; raises Undecided otherwise."""
    again = [_again(player, found.word)[-1] for _ in range(AGAIN)]
    if any(essence(answer) != essence(found.seen) for answer in again):
        raise Undecided(found.word, Counter([found.seen, *again]))
    return found


def difference(model: Model, word: Word, seen: Sequence[str]) -> ModelFinding | None:
    """The first point at which a server's answers leave the model."""
    expected = model.answers(word)
    for index, (ours, theirs) in enumerate(zip(expected, seen, strict=True)):
        if essence(ours) != essence(theirs):
            return ModelFinding(model.subject, word[: index + 1], expected[: index + 1], theirs, model.name)
    return None
