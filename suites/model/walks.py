# SPDX-License-Identifier: GPL-2.0-only
"""Looks for what a hypothesis does not know yet: AALpy's equivalence oracle, in two parts.

First the migration schemes themselves, and each with every single deviation: one letter more, or one letter
less, at every place. Then random walks behind every transition of the hypothesis. Letters that end the
process are taken last in a walk, those that cannot be played not at all: they would tell nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aalpy.base import Oracle

from suites.model.answers import IMPOSSIBLE
from suites.model.asking import Word
from suites.model.mealy import Model, fatal
from suites.model.teacher import Teacher

ANNOUNCED = ("main: link, id zero", "inputs: link, id own", "call announce")
MOVED = ("call migrate_start", "call vm_stop", "call finish")
#: The schemes as letters, by role.
SCHEMES: Mapping[str, tuple[Word, ...]] = {
    "source": (
        (*ANNOUNCED, "main: MIGRATE_CONNECTED", *MOVED, "inputs: close", "main: close"),
        (*ANNOUNCED, "main: MIGRATE_CONNECTED_SEAMLESS", *MOVED, "inputs: MIGRATE_FLUSH_MARK",
         "main: MIGRATE_FLUSH_MARK", "inputs: close", "main: close"),
        (*ANNOUNCED, "main: MIGRATE_CONNECT_ERROR", *MOVED, "clock 16 s"),
        (*ANNOUNCED, "main: MIGRATE_CONNECTED", "call fail", "call announce", "clock 16 s", *MOVED),
    ),
    "target": (
        ("main: link, id wrong", "inputs: link, id own", "call vm_start", "main: MIGRATE_END",
         "main: ATTACH_CHANNELS", "inputs: close", "inputs: link, id own", "main: close"),
        ("main: link, id wrong", "main: MIGRATE_DST_DO_SEAMLESS", "inputs: link, id own", "call vm_start",
         "main: MIGRATE_DATA", "inputs: MIGRATE_DATA", "main: ATTACH_CHANNELS"),
        ("main: link, id wrong", "inputs: link, id own", "main: close", "main: link, id wrong",
         "main: MIGRATE_END"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Effort:
    """How hard to look: random walks behind each transition, and how many letters each has at most."""

    walks: int = 5
    length: int = 8


USUAL = Effort()


@dataclass
class Walks(Oracle):  # type: ignore[misc]  # AALpy has no types
    """The oracle. `hypothesis`: makes a model of AALpy's machine. `rounds`: how often it looked; `walked`:
    how many words its last look has compared."""

    teacher: Teacher
    hypothesis: Callable[[Any], Model]
    seed: int
    effort: Effort = USUAL
    say: Callable[[str], None] = lambda _: None
    rounds: int = 0
    walked: int = 0
    _dice: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        super().__init__(list(self.teacher.knowledge.letters), self.teacher)
        self._dice = random.Random(self.seed)

    def find_cex(self, hypothesis: Any) -> Word | None:
        """The shortest word found whose answers the hypothesis does not give."""
        model = self.hypothesis(hypothesis)
        self.rounds += 1
        plays = self.teacher.knowledge.plays
        self.say(f"round {self.rounds}: {len(model)} states after {plays} plays")
        self.walked = 0
        for words in (list(deviations(model)), list(self._random(model))):
            found = self._compare(model, words)
            if found is not None:
                return found
        return None

    def _compare(self, model: Model, words: Sequence[Word]) -> Word | None:
        best: Word | None = None
        for start in range(0, len(words), BATCH):
            part = words[start : start + BATCH]
            self.teacher.learn(part)
            for word in part:
                wrong = self._wrong(model, word)
                if wrong is not None and (best is None or len(wrong) < len(best)):
                    best = wrong
            self.walked += len(part)
            if best is not None:
                return best
        return None

    def _wrong(self, model: Model, word: Word) -> Word | None:
        """The part of a word up to the first answer that differs."""
        seen = self.teacher.knowledge.answers(word) or []
        for index, (ours, theirs) in enumerate(zip(model.answers(word), seen, strict=True)):
            if ours != theirs:
                return word[: index + 1]
        return None

    def _random(self, model: Model) -> Iterator[Word]:
        ends = model.ends()
        words = [
            self._walk(model, (*way, name), following)
            for state, way in enumerate(model.shortest())
            if state not in ends
            for name, (answer, following) in model.steps[state].items()
            if answer != IMPOSSIBLE and not fatal(answer)
            for _ in range(self.effort.walks)
        ]
        self._dice.shuffle(words)
        yield from words

    def _walk(self, model: Model, word: Word, state: int) -> Word:
        for _ in range(self._dice.randint(0, self.effort.length - 1)):
            row = model.steps[state]
            going_on = [n for n, (a, _) in row.items() if a != IMPOSSIBLE and not fatal(a)]
            if not going_on:
                return word
            name = self._dice.choice(going_on)
            word, state = (*word, name), row[name][1]
        last = [n for n, (a, _) in model.steps[state].items() if a != IMPOSSIBLE]
        return (*word, self._dice.choice(last)) if last else word


#: Words that are played before their answers are looked at.
BATCH = 64


def deviations(model: Model) -> Iterator[Word]:
    """The schemes of the role, and each with one letter more or less."""
    for scheme in SCHEMES[model.subject.role]:
        yield scheme
        for at in range(len(scheme)):
            yield (*scheme[:at], *scheme[at + 1 :])
        for at in range(1, len(scheme) + 1):
            row = model.steps[model.after(scheme[:at])]
            for name in model.alphabet:
                if row[name][0] != IMPOSSIBLE and not fatal(row[name][0]):
                    yield (*scheme[:at], name, *scheme[at:])
