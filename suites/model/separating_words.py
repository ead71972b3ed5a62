# SPDX-License-Identifier: GPL-2.0-only
"""Words that distinguish the states of a model: its characterising set, and a part of it for each state (the
state identifiers of the HSI method).

Played behind a transition they show whether it leads into the model's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from suites.model.mealy import Model, Word, fatal


def separating_words(model: Model) -> list[Word]:
    """A small set of words such that any two states answer at least one of them differently, except states
    after the process' end. Always the same for the same model. Raises ValueError if a model is not
    minimal."""
    ends = model.ends()
    states = [state for state in range(len(model)) if state not in ends]
    between = _between(model, states)
    words: list[Word] = []
    blocks = [states]
    while several := [block for block in blocks if len(block) > 1]:
        word = min((between[pair] for pair in combinations(several[0], 2)), key=_long)
        words.append(word)
        blocks = [part for block in blocks for part in _split(model, block, word)]
    return [word for word in words if not any(_begins(other, word) for other in words)]


def identifiers(model: Model) -> dict[int, list[Word]]:
    """For each state before the process' end, the separating words that distinguish it from all others: for
    two states both use the same word, if possible one that leaves the process alive."""
    words = separating_words(model)
    answers = {
        state: [tuple(model.answers(word, state)) for word in words]
        for state in range(len(model))
        if state not in model.ends()
    }
    found: dict[int, dict[Word, None]] = {state: {} for state in answers}
    for one, other in combinations(answers, 2):
        telling = [n for n in range(len(words)) if answers[one][n] != answers[other][n]]
        alive = [n for n in telling if not any(map(fatal, (*answers[one][n], *answers[other][n])))]
        word = words[(alive or telling)[0]]
        found[one][word] = found[other][word] = None
    return {state: list(words) for state, words in found.items()}


def _long(word: Word) -> tuple[int, Word]:
    return len(word), word


def _begins(word: Word, start: Word) -> bool:
    return len(start) < len(word) and word[: len(start)] == start


def _split(model: Model, block: Sequence[int], word: Word) -> list[list[int]]:
    parts: dict[tuple[str, ...], list[int]] = {}
    for state in block:
        parts.setdefault(tuple(model.answers(word, state)), []).append(state)
    return list(parts.values())


def _between(model: Model, states: Sequence[int]) -> dict[tuple[int, int], Word]:
    """For each two states (the lower number first) the shortest word that they answer differently."""
    found: dict[tuple[int, int], Word] = {}
    left = list(combinations(states, 2))
    while left:
        longer = {pair: word for pair in left if (word := _one_more(model, pair, found)) is not None}
        if not longer:
            raise ValueError(f"states {left[0][0]} and {left[0][1]} are one: the model is not minimal")
        found |= longer
        left = [pair for pair in left if pair not in longer]
    return found


def _one_more(model: Model, pair: tuple[int, int], known: Mapping[tuple[int, int], Word]) -> Word | None:
    """A letter that distinguishes two states, or that leads to two states for which such a word is known."""
    here, there = (model.steps[state] for state in pair)
    for name in model.alphabet:
        if here[name][0] != there[name][0]:
            return (name,)
    for name in model.alphabet:
        one, other = sorted((here[name][1], there[name][1]))
        if (word := known.get((one, other))) is not None:
            return (name, *word)
    return None
