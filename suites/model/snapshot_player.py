# SPDX-License-Identifier: GPL-2.0-only
"""Plays words on hosts of one build, starting from the longest prefix that it has kept.

A prefix that many words share is kept in its state (a frozen play) and copied for each of them: that saves
the host's start and every link, whose key is the most expensive step of a play. Some words are played on
fresh hosts all the same, to find a server that answers differently each time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from fixtures.bench.launchers import Launcher
from fixtures.relay import Rule
from fixtures.system.hosts import HarnessError, Unsupported
from suites.model.answers import IMPOSSIBLE, Answer
from suites.model.known_answers import BEGINNING, Word, possible
from suites.model.letters import alphabet
from suites.model.subject import Play, Subject

#: The most frozen plays kept at once: each is a process.
MOST = 40
#: A prefix is frozen when this many words have used it.
OFTEN = 3
#: One word in this many is played on a fresh host.
FROM_NOTHING = 8


def letters_played(play: Play, role: str, word: Word) -> list[Answer]:
    """The answer to each letter of a word in one play, from the play's current state (for a fresh host: after
    its start)."""
    letters = {letter.name: letter for letter in alphabet(role)}
    last, answers = BEGINNING, []
    for name in word:
        can = possible(letters[name], last)
        last = play.play(letters[name].move) if can else replace(last, text=IMPOSSIBLE)
        answers.append(last)
    return answers


class SnapshotPlayer:
    """For one thread; close it after the last word. `rules`: faults planted on the wire (self-tests only):
    every word is then played on a fresh host."""

    def __init__(self, launcher: Launcher, subject: Subject, rules: Sequence[Rule] = ()) -> None:
        self._launcher, self._subject, self._rules = launcher, subject, tuple(rules)
        self._role = subject.role
        self._most = 0 if rules else MOST
        self._letters = {letter.name: letter for letter in alphabet(subject.role)}
        self._frozen: dict[Word, tuple[Play, list[Answer]]] = {}  # the least used first
        self._visits: Counter[Word] = Counter()
        self._count = 0
        self.ended: Callable[[Play], None] = lambda _: None  # gets each play when it has ended

    def many(self, words: Sequence[Word]) -> Iterator[tuple[Word, list[Answer]]]:
        """Each word with its answers; IMPOSSIBLE for letters that cannot be played."""
        for word in words:
            yield word, self.answers(word)

    def answers(self, word: Word, *, from_nothing: bool = False) -> list[Answer]:
        """The answers to one word; `from_nothing`: without a frozen play. If a frozen play cannot be used,
        because somebody has killed its process, the word is played on a fresh host. Raises HarnessError."""
        self._count += 1
        start = () if from_nothing or self._count % FROM_NOTHING == 0 else self._longest(word)
        if not start:
            return self._played(
                word, Play.begin(self._launcher, self._subject.settings, self._role, self._rules)
            )
        frozen, answers = self._frozen[start]
        self._frozen[start] = self._frozen.pop(start)  # used last
        try:
            return self._played(word, frozen.copy(), list(answers))
        except HarnessError:
            self._forget(start)
            return self.answers(word, from_nothing=True)

    def _played(self, word: Word, play: Play, answers: Sequence[Answer] = ()) -> list[Answer]:
        """Continues a play that already has these answers."""
        answers = list(answers)
        try:
            for index in range(len(answers), len(word)):
                last = answers[-1] if answers else BEGINNING
                if not possible(self._letters[word[index]], last):
                    answers.append(replace(last, text=IMPOSSIBLE))
                    continue
                answers.append(play.play(self._letters[word[index]].move))
                play = self._passed(word[: index + 1], play, answers, last_letter=index + 1 == len(word))
            self.ended(play)
        finally:
            play.close()
        return answers

    def _longest(self, word: Word) -> Word:
        """The longest frozen prefix of a word."""
        for length in range(len(word) - 1, 0, -1):
            if word[:length] in self._frozen:
                return word[:length]
        return ()

    def _passed(self, word: Word, play: Play, answers: list[Answer], *, last_letter: bool) -> Play:
        """Freezes a play that many words pass; returns the play that continues."""
        self._visits[word] += 1
        if last_letter or play.over or not self._most:
            return play
        if self._visits[word] < OFTEN or word in self._frozen:
            return play
        with suppress(HarnessError, Unsupported):  # if it cannot be copied, it continues itself
            going_on = play.copy()
            self._make_room()
            self._frozen[word] = (play, list(answers))
            return going_on
        return play

    def _make_room(self) -> None:
        """Ends the least used of the frozen plays that have no copies: copies would end with it."""
        while len(self._frozen) >= self._most:
            leaf = next(
                word
                for word in self._frozen
                if not any(len(other) > len(word) and other[: len(word)] == word for other in self._frozen)
            )
            self._frozen.pop(leaf)[0].close()

    def _forget(self, start: Word) -> None:
        """Ends the frozen plays that begin with a word: each may be a copy of another."""
        for word in sorted(self._frozen, key=len, reverse=True):
            if word[: len(start)] == start:
                self._frozen.pop(word)[0].close()

    def close(self) -> None:
        """Ends every frozen play. Can be called twice."""
        self._forget(())
