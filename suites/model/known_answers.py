# SPDX-License-Identifier: GPL-2.0-only
"""The known answers of a server: words in, answers out; each play is made once.

A letter that cannot happen (a message on a connection that is not open, anything after the process' end) is
answered without a play."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dissectors.wire.constants import channel_name
from fixtures.system.hosts import HarnessError
from suites.fuzz.moves import MAIN, Call, End, HypervisorPhase, Id, Link, Send
from suites.model.answers import IMPOSSIBLE, Answer
from suites.model.letters import Letter, alphabet, callable_now, names
from suites.model.subject import Subject

Word = tuple[str, ...]  # names of letters
MAIN_NAME = channel_name(MAIN)
#: How many times a word is played again whose answers differ.
AGAIN = 3


class Undecided(HarnessError):
    """A server that answers differently each time. `word`: the letters that were played; `seen`: how many
    times it gave which answer to the last letter."""

    def __init__(self, word: Word, seen: Counter[str]) -> None:
        counts = "; ".join(f"{count} times '{answer}'" for answer, count in seen.most_common())
        super().__init__(f"the server answers differently each time to [{', '.join(word)}]: {counts}")
        self.word, self.seen = word, seen


@dataclass
class Node:
    """A node of the tree: the last answer, and the nodes of each further letter."""

    answer: Answer
    next: dict[str, Node] = field(default_factory=dict)


class Player(Protocol):
    """Plays words on fresh hosts."""

    def many(self, words: Sequence[Word]) -> Iterable[tuple[Word, list[Answer]]]:
        """Each word with its answers, in any order; fewer answers than letters if the process ended."""


def possible(letter: Letter, after: Answer) -> bool:
    """Whether a letter can be played after this answer: a message and an end need their connection; an id of
    a session needs the session; a second link goes to main only, where it evicts the first; a hypervisor does
    not misuse the library."""
    move = letter.move
    if after.over:
        return False
    if isinstance(move, Send | End):
        return channel_name(move.channel) in after.open
    if isinstance(move, Call):
        return move.name in after.calls
    if not isinstance(move, Link):
        return True
    if move.id is Id.OWN and MAIN_NAME not in after.open:
        return False
    return move.channel == MAIN or channel_name(move.channel) not in after.open


#: What can be played on a fresh host.
BEGINNING = Answer("", calls=callable_now(HypervisorPhase.IDLE))


@dataclass
class KnownAnswers:
    """The tree of answers. `wide`: whether the wide alphabet is used. `alphabet`: the names of the letters to
    play; the tree may hold answers to other letters from another run. `plays`, `letters_played`: the totals
    of this run."""

    subject: Subject
    wide: bool = False
    root: Node = field(init=False)
    plays: int = 0
    letters_played: int = 0

    def __post_init__(self) -> None:
        self.root = Node(BEGINNING)
        self.letters = {letter.name: letter for letter in alphabet(self.subject.role)}
        self.alphabet = names(self.subject.role, self.subject.seamless, wide=self.wide)

    def answers(self, word: Word) -> list[str] | None:
        """The answers to a word; None if one of them is not known yet."""
        node, known = self.root, []
        for name in word:
            if not possible(self.letters[name], node.answer):
                known.append(IMPOSSIBLE)
            elif name in node.next:
                node = node.next[name]
                known.append(node.answer.text)
            else:
                return None
        return known

    def answer(self, word: Word) -> Answer:
        """The whole answer to the last letter of a known word."""
        node = self.root
        for name in word:
            node = node.next.get(name, node)
        return node.answer

    def note(self, word: Word, answers: Sequence[Answer]) -> Word | None:
        """Adds the answers of a play. Returns the part of the word whose last answer contradicts the known
        one, if there is one; adds nothing behind it."""
        node = self.root
        self.plays += 1
        for index, (name, answer) in enumerate(zip(word, answers, strict=True)):
            if not possible(self.letters[name], node.answer):
                continue
            self.letters_played += 1
            found = node.next.get(name)
            if found is None:
                found = node.next[name] = Node(answer)
            elif found.answer != answer:
                return tuple(word[: index + 1])
            node = found
        return None

    def forget(self, word: Word) -> None:
        """Removes a word's last answer, and everything behind it."""
        node = self.root
        for name in word[:-1]:
            node = node.next.get(name, node)
        node.next.pop(word[-1], None)

    def __len__(self) -> int:
        """How many answers are known."""
        count, todo = -1, [self.root]
        while todo:
            node = todo.pop()
            count += 1
            todo += node.next.values()
        return count
