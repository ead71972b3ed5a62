# SPDX-License-Identifier: GPL-2.0-only
"""Compares two models: equal, or every difference with its shortest distinguishing sequence."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from fixtures.system.hosts import UsageError
from suites.model.answers import DIED
from suites.model.mealy import Model, Word


@dataclass
class Difference:
    """Where two machines differ. `word`: the shortest that shows it; the two machines answer its last letter
    differently. `also`: further words that end in the same letter and the same two answers, from other
    states."""

    word: Word
    before: list[str]  # both models' answers to all letters but the last
    left: str
    right: str
    also: list[Word] = field(default_factory=list)

    @property
    def letter(self) -> str:
        """The letter with two answers."""
        return self.word[-1]


def differences(left: Model, right: Model) -> list[Difference]:
    """Every difference of two models of one subject, the shortest first. Raises UsageError for two subjects
    or alphabets. States behind a difference are not compared, because they have no counterpart."""
    if left.subject != right.subject:
        raise UsageError(f"the models are of different subjects: {left.subject}, and {right.subject}")
    if list(left.alphabet) != list(right.alphabet):
        raise UsageError("the models were learned with different inputs: learn both with the same --alphabet")
    found: dict[tuple[str, str, str], Difference] = {}
    for word, ours, theirs in _disagreements(left, right):
        key = (word[-1], ours, theirs)
        if key in found:
            found[key].also.append(word)
        else:
            found[key] = Difference(word, left.answers(word[:-1]), ours, theirs)
    return list(found.values())


def essence(answer: str) -> str:
    """The part of an answer that counts when two builds are compared: of a process' end only that it ended,
    because names of functions and signals differ between releases."""
    return DIED if answer.startswith(DIED) else answer


def worded(left: Model, right: Model) -> int:
    """How many ends of the process two equal models describe differently."""
    pairs = set()
    for way in left.shortest():
        ours, theirs = left.steps[left.after(way)], right.steps[right.after(way)]
        pairs |= {(ours[name][0], theirs[name][0]) for name in left.alphabet}
    return sum(one != other for one, other in pairs)


def _disagreements(left: Model, right: Model) -> Iterator[tuple[Word, str, str]]:
    """(word, answer, answer) for every pair of states that one word reaches and every letter, by length."""
    reached: dict[tuple[int, int], Word] = {(0, 0): ()}
    todo = deque(reached)
    while todo:
        here, there = pair = todo.popleft()
        for name in left.alphabet:
            ours, on = left.steps[here][name]
            theirs, over = right.steps[there][name]
            word = (*reached[pair], name)
            if essence(ours) != essence(theirs):
                yield word, ours, theirs
            elif (on, over) not in reached:
                reached[on, over] = word
                todo.append((on, over))
