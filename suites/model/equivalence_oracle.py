# SPDX-License-Identifier: GPL-2.0-only
"""Looks for answers that a hypothesis gets wrong: AALpy's equivalence oracle, in three parts.

First the migration schemes themselves, and each with every single deviation: one letter more, or one letter
less, at every place. Then tours (`suites.model.tours`) that take every transition, followed by the words that
distinguish the next state from all others (the HSI method: complete for machines that have no more states
than the hypothesis); a message that changes nothing is also played twice, since a server may count it. Then
the same questions in other orders: only a long sequence may show that the server has more states."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from aalpy.base import Oracle

from suites.fuzz.moves import Send
from suites.model.answers import IMPOSSIBLE
from suites.model.known_answers import Word
from suites.model.mealy import Model, fatal
from suites.model.separating_words import identifiers
from suites.model.teacher import Teacher
from suites.model.tours import Question, tours, transitions

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
    """How thorough the search is: how many times all questions are asked again, each time in another
    order."""

    orders: int = 1


USUAL = Effort()
#: A question: the shortest way into a state, and what is asked there.
Asked = tuple[Word, Word]


@dataclass
class EquivalenceOracle(Oracle):  # type: ignore[misc]  # AALpy has no types
    """The oracle. `hypothesis`: makes a model of AALpy's machine; `alike`: the part of an answer that counts;
    `rounds`: how many searches it has made; `questions`: how many questions its last hypothesis has answered
    correctly."""

    teacher: Teacher
    hypothesis: Callable[[Any], Model]
    seed: int
    effort: Effort = USUAL
    say: Callable[[str], None] = lambda _: None
    alike: Callable[[str], str] = str
    rounds: int = 0
    questions: int = 0
    _right: list[set[Asked]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(list(self.teacher.knowledge.alphabet), self.teacher)
        self._letters = self.teacher.knowledge.letters
        self._right = [set() for _ in range(1 + self.effort.orders)]

    def find_cex(self, hypothesis: Any) -> Word | None:
        """A word that the hypothesis answers wrongly, up to the first wrong answer."""
        return self.difference(self.hypothesis(hypothesis))

    def difference(self, model: Model, *, schemes: bool = True) -> Word | None:
        """The same for a model; without the schemes if the model was made from them."""
        self.rounds += 1
        plays = self.teacher.knowledge.plays
        self.say(f"round {self.rounds}: {len(model)} states after {plays} plays")
        found = self._schemes(model) if schemes else None
        for order, right in enumerate(self._right):
            found = found or self._questions(model, random.Random(f"{self.seed} {order}"), right)
        return found

    def _schemes(self, model: Model) -> Word | None:
        words = list(deviations(model))
        self.teacher.learn(words)
        wrong = [found for word in words if (found := self._wrong(model, word))]
        return min(wrong, key=len, default=None)

    def _questions(self, model: Model, dice: random.Random, right: set[Asked]) -> Word | None:
        """Asks the questions that no earlier round has confirmed."""
        ways = model.shortest()
        every = set(self._asked(model))
        self.questions = len(every)
        left = [(s, word) for s, word in every if (ways[s], word) not in right]
        left.sort()
        dice.shuffle(left)
        several = tours(model, left, dice)
        while part := list(islice(several, BATCH)):
            self.teacher.learn([word for word, _ in part])
            for word, asked in part:
                if wrong := self._wrong(model, word):
                    return self._shorter(model, wrong, asked)
                right |= {(ways[state], question) for state, question in asked}
        return None

    def _asked(self, model: Model) -> Iterator[Question]:
        telling = identifiers(model)
        for state, name in transitions(model):
            answer, following = model.steps[state][name]
            if fatal(answer):
                yield state, (name,)
                continue
            only_collected = following == state and isinstance(self._letters[name].move, Send)
            for end in telling[following] or [()]:
                yield state, (name, *end)
                if only_collected:
                    yield state, (name, name, *end)

    def _shorter(self, model: Model, wrong: Word, asked: Sequence[Question]) -> Word:
        """The last part of a wrong tour behind the shortest way, if that is wrong too."""
        ways = model.shortest()
        for state, question in reversed(asked):
            short = (*ways[state], *question)
            self.teacher.learn([short])
            if found := self._wrong(model, short):
                return found if len(found) < len(wrong) else wrong
        return wrong

    def _wrong(self, model: Model, word: Word) -> Word | None:
        """The part of a word up to the first answer that differs."""
        seen = self.teacher.knowledge.answers(word) or []
        for index, (ours, theirs) in enumerate(zip(model.answers(word), seen, strict=True)):
            if self.alike(ours) != self.alike(theirs):
                return word[: index + 1]
        return None


#: How many tours are played before their answers are compared.
BATCH = 4


def deviations(model: Model) -> Iterator[Word]:
    """The schemes of the role in the model's alphabet, and each with one letter more or less."""
    for whole in SCHEMES[model.subject.role]:
        scheme = tuple(name for name in whole if name in model.alphabet)
        yield scheme
        for at in range(len(scheme)):
            yield (*scheme[:at], *scheme[at + 1 :])
        for at in range(1, len(scheme) + 1):
            row = model.steps[model.after(scheme[:at])]
            for name in model.alphabet:
                if row[name][0] != IMPOSSIBLE and not fatal(row[name][0]):
                    yield (*scheme[:at], name, *scheme[at:])
