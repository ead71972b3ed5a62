# SPDX-License-Identifier: GPL-2.0-only
"""Asks a server for AALpy: plays only the words that are not known yet.

Every answer of a play is checked against the known ones: a word with another answer is played again and
reported, and never guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from aalpy.base import SUL

from suites.model.answers import Answer
from suites.model.known_answers import AGAIN, KnownAnswers, Player, Undecided, Word


class Teacher(SUL):  # type: ignore[misc]  # AALpy has no types
    """AALpy's system under learning: asks a player for the answers that are not known yet.

    `save` is called now and then with the known answers; `say` with lines of progress."""

    def __init__(self, knowledge: KnownAnswers, player: Player) -> None:
        super().__init__()
        self.knowledge, self.player = knowledge, player
        self._word: list[str] = []

    def query(self, word: Word) -> list[str]:
        """The answers to a word. Raises Undecided."""
        self.num_queries += 1
        self.num_steps += len(word)
        self.learn([tuple(word)])
        answers = self.knowledge.answers(tuple(word))
        assert answers is not None
        return answers

    def learn(self, words: Iterable[Word]) -> None:
        """Plays every word that is not known. Raises Undecided."""
        unknown = [word for word in dict.fromkeys(words) if self.knowledge.answers(word) is None]
        for word, answers in self.player.many(unknown):
            if (doubtful := self.knowledge.note(word, answers)) is not None:
                self._decide(doubtful, answers[len(doubtful) - 1])

    def _decide(self, word: Word, answer: Answer) -> None:
        """Plays a word again that was answered in two ways. Always raises Undecided: one of the two answers
        is in the tree, and it may be the wrong one."""
        seen = Counter([self.knowledge.answer(word).whole, answer.whole])
        for _, answers in self.player.many([word] * AGAIN):
            seen[answers[-1].whole] += 1
        self.knowledge.forget(word)
        raise Undecided(word, seen)

    def pre(self) -> None:
        """Begins a word whose letters come one by one."""
        self._word = []

    def post(self) -> None:
        """Does nothing: plays end by themselves."""

    def step(self, letter: Any) -> Any:
        """The answer to one more letter of the word."""
        self._word.append(letter)
        return self.query(tuple(self._word))[-1]
