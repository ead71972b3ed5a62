# SPDX-License-Identifier: GPL-2.0-only
"""How rules are declared and read: the registry and the two things that a rule can say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from dissectors.conversation.conversation import Conversation
from dissectors.framing.events import Event


@dataclass(frozen=True)
class Kept:
    """A requirement had its chance to be broken and was not."""

    requirement: str


@dataclass(frozen=True)
class Broken:
    """A requirement was broken. `event`: where, if it is not the event that the rule was called with."""

    requirement: str
    expected: str
    seen: str
    event: Event | None = None


Ruling = Kept | Broken
E = TypeVar("E", bound=Event)
Rule = Callable[[Conversation, E], Iterator[Ruling]]
FinalRule = Callable[[Conversation], Iterator[Ruling]]

_rules: list[tuple[type[Event], Callable[[Conversation, Event], Iterator[Ruling]]]] = []
_final: list[FinalRule] = []


def on(kind: type[E]) -> Callable[[Rule[E]], Rule[E]]:
    """Declares a rule that is asked at each event of a kind, before the conversation has taken it in."""

    def register(function: Rule[E]) -> Rule[E]:
        _rules.append((kind, function))  # type: ignore[arg-type]
        return function

    return register


def at_end(function: FinalRule) -> FinalRule:
    """Declares a rule that is asked once, when there are no more events."""
    _final.append(function)
    return function


def rules_for(kind: type[Event]) -> list[Callable[[Conversation, Event], Iterator[Ruling]]]:
    """The rules of a kind of event."""
    return [function for wanted, function in _rules if issubclass(kind, wanted)]


def final_rules() -> list[FinalRule]:
    """The rules that are asked at the end."""
    return list(_final)


def check(requirement: str, holds: bool, expected: object, seen: object) -> Ruling:
    """Kept if it holds, else broken."""
    return Kept(requirement) if holds else Broken(requirement, str(expected), str(seen))
