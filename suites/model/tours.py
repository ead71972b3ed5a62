# SPDX-License-Identifier: GPL-2.0-only
"""Long words that ask many questions of a machine in one play (transition tours).

A question is a state and a word: what are the answers to the word in this state? From its current state a
tour goes the shortest way to the next state that has a question left, and asks it: this saves a host for each
question, and gives the machine a longer past than the shortest ways do."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Iterable, Iterator

from suites.model.answers import IMPOSSIBLE
from suites.model.mealy import Model, Word, fatal

#: A tour ends when it has this many letters.
LONGEST = 40

Question = tuple[int, Word]


def transitions(model: Model) -> Iterator[tuple[int, str]]:
    """(state, letter) of everything that can be played, by the length of the ways into the states."""
    for state, row in enumerate(model.steps):
        yield from ((state, name) for name in model.alphabet if row[name][0] != IMPOSSIBLE)


def tours(
    model: Model, questions: Iterable[Question], dice: random.Random
) -> Iterator[tuple[Word, list[Question]]]:
    """Words that together ask all questions, each with its questions. Questions that end the process come
    last, each in a word of its own."""
    left: dict[int, list[Word]] = {}
    deadly: list[Question] = []
    for state, word in questions:
        if any(fatal(answer) for answer in model.answers(word, state)):
            deadly.append((state, word))
        else:
            left.setdefault(state, []).append(word)
    for words in left.values():
        dice.shuffle(words)
    while left:
        yield _tour(model, left, dice)
    ways = model.shortest()
    for state, word in deadly:
        yield (*ways[state], *word), [(state, word)]


def _tour(model: Model, left: dict[int, list[Word]], dice: random.Random) -> tuple[Word, list[Question]]:
    tour: Word = ()
    asked: list[Question] = []
    state = 0
    while len(tour) < LONGEST and (way := _way(model, state, left, dice)) is not None:
        state = model.after(way, state)
        word = left[state].pop()
        if not left[state]:
            del left[state]
        asked.append((state, word))
        tour += way + word
        state = model.after(word, state)
    return tour, asked


def _way(model: Model, state: int, left: Collection[int], dice: random.Random) -> Word | None:
    """The shortest way to a state that has a question left; None if none can be reached."""
    reached: dict[int, Word] = {state: ()}
    todo = deque([state])
    while todo:
        here = todo.popleft()
        if here in left:
            return reached[here]
        row = model.steps[here]
        for name in dice.sample(list(row), len(row)):
            answer, following = row[name]
            if following not in reached and answer != IMPOSSIBLE and not fatal(answer):
                reached[following] = (*reached[here], name)
                todo.append(following)
    return None
