# SPDX-License-Identifier: GPL-2.0-only
"""The choices of an explorer in one state of a play, each kind with its weight."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dissectors.wire.constants import MsgcBase
from suites.fuzz import choices
from suites.fuzz.choices import Choice
from suites.fuzz.likeness import Likeness, move_likeness
from suites.fuzz.moves import Move, Send
from suites.fuzz.play_state import PlayState

#: Kinds of choices, and how often each is chosen.
KINDS: Sequence[tuple[int, Callable[[PlayState[Any]], list[Choice]]]] = (
    (5, choices.messages),
    (8, choices.owed),
    (4, choices.progress),
    (4, choices.calls),
    (2, choices.links),
    (2, choices.clocks),
    (2, choices.ends),
    (2, choices.odd_links),
    (4, choices.odd_messages),
)
MUTATED, MUTATED_DATA = 3, 2
MAX_SEED = 0xFFFF
DATA = int(MsgcBase.SPICE_MSGC_MIGRATE_DATA)


class MoveMenu:
    """The choices in the current state of a play; each kind of choices, and each move's likeness, is computed
    once."""

    def __init__(self, play: PlayState[Any]) -> None:
        self.play = play
        self._made: dict[int, list[Choice]] = {}
        self._likes: dict[Move, Likeness] = {}

    def like(self, move: Move) -> Likeness:
        """The likeness of a move in this state."""
        if move not in self._likes:
            self._likes[move] = move_likeness(self.play, move)
        return self._likes[move]

    def pick(self, dice: random.Random, *, mutate: bool) -> Choice:
        """A random choice of one kind; empty if there is none of this kind."""
        weights = [weight for weight, _ in KINDS]
        kind = dice.choices(range(len(KINDS) + 2), [*weights, MUTATED * mutate, MUTATED_DATA * mutate])[0]
        number = dice.randrange(MAX_SEED)
        if kind < len(KINDS):
            return choices.pick(self._choices(kind), number)
        found = choices.pick(self._choices(kind), number)
        return tuple(replace(m, mutation=dice.randint(1, MAX_SEED)) for m in found if isinstance(m, Send))

    def _choices(self, kind: int) -> list[Choice]:
        if kind not in self._made:
            if kind < len(KINDS):
                self._made[kind] = KINDS[kind][1](self.play)
            else:
                data = kind > len(KINDS)
                found = choices.mutations(self.play, 1)
                self._made[kind] = [
                    c for c in found if isinstance(c[0], Send) and (c[0].type == DATA) == data
                ]
        return self._made[kind]
