# SPDX-License-Identifier: GPL-2.0-only
"""Whether a build answers as the model of its version: tests every transition once, and a little beyond.

A few long words take every transition (`suites.model.tours`): the answers behind a transition show whether it
has led to the model's state. The shortest word then shows a difference."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from suites.fuzz.moves import Send
from suites.model.answers import IMPOSSIBLE, Answer
from suites.model.comparison import essence
from suites.model.known_answers import AGAIN, Undecided, Word
from suites.model.letters import alphabet
from suites.model.mealy import Model, read
from suites.model.model_findings import Kind, ModelFinding
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
    """Tours that take every transition; a message that changes nothing is played twice, since a server may
    count it. The same model and seed give the same words."""
    sent = {letter.name for letter in alphabet(model.subject.role) if isinstance(letter.move, Send)}
    questions = [
        (state, (name, name) if name in sent and model.steps[state][name][1] == state else (name,))
        for state, name in transitions(model)
    ]
    return [word for word, _ in tours(model, questions, random.Random(seed))]


def compared(model: Model, player: AnswersWords, asked: Iterable[Word]) -> Iterator[ModelFinding]:
    """Each kind of difference once: the letter and the two answers, with the shortest word that shows it.

    Raises HarnessError, and Undecided if the server answers differently each time."""
    reported: set[Kind] = set()
    ways_in, shortener = model.shortest(), Shortener(model, player)
    for word in asked:
        found = difference(model, word, [answer.text for answer in player.answers(word)])
        if found is None or found.kind in reported:
            continue
        reported.add(found.kind)
        short = (*ways_in[model.after(found.word[:-1])], found.word[-1])
        yield shortener.seen(short, found.kind) or _sure(shortener, shortener.shorter(found))


class AnswersWords(Protocol):
    """`suites.model.snapshot_player.SnapshotPlayer`, or what stands in for it."""

    def answers(self, word: Word, *, from_nothing: bool = False) -> list[Answer]:
        """The answers to one word; `from_nothing`: on a fresh host."""


@dataclass
class Shortener:
    """Finds a shorter word for the difference that a long one shows. `left`: how many words it may still
    play, for all differences of a build together: each costs a host of its own."""

    model: Model
    player: AnswersWords
    left: int = 120

    def seen(self, word: Word, kind: Kind) -> ModelFinding | None:
        """The difference of this kind that a word shows on a fresh host; None if it shows none."""
        found = difference(self.model, word, self.answers(word))
        return found if found is not None and found.kind == kind else None

    def answers(self, word: Word) -> list[str]:
        """The answers on a fresh host."""
        return [answer.text for answer in self.player.answers(word, from_nothing=True)]

    def shorter(self, found: ModelFinding) -> ModelFinding:
        """The same difference without the letters that it does not need: leaves out halves of the word, then
        smaller parts, then each letter."""
        size = len(found.word) // 2
        while size:
            at = 0
            while at < len(found.word) - 1 and self.left:
                rest = found.word[min(at + size, len(found.word) - 1) :]
                word = self._playable((*found.word[:at], *rest))
                self.left -= 1
                if (fewer := self.seen(word, found.kind)) is not None:
                    found = fewer
                else:
                    at += size
            size //= 2
        return found

    def _playable(self, word: Word) -> Word:
        """A word without the letters that the model cannot play."""
        return tuple(
            name for name, answer in zip(word, self.model.answers(word), strict=True) if answer != IMPOSSIBLE
        )


def _sure(shortener: Shortener, found: ModelFinding) -> ModelFinding:
    """A difference that shows each time; raises Undecided otherwise."""
    again = [shortener.answers(found.word)[-1] for _ in range(AGAIN)]
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
