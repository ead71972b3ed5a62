# SPDX-License-Identifier: GPL-2.0-only
"""How rules are declared and found: the registry, and the two things that a rule can say.

A rule on messages declares which ones it asks about. It is called for these alone, and what no rule asks
about is only counted (`unasked`), so that a rule cannot depend on a message that is hidden from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from functools import cache
from typing import Any, TypeVar

from dissectors.conversation.conversation import Conversation
from dissectors.conversation.migration_steps import READ
from dissectors.conversation.order_tables import State, told
from dissectors.framing.events import Event, Message
from dissectors.wire.constants import CHANNEL_MESSAGES, MESSAGE_NAMES, ChannelType, MsgBase, MsgcBase, Side


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


class Which(Enum):
    """Messages that a rule asks about by something else than their types."""

    FIRST = auto()  # the first of each side of a connection: it is always there
    SHOWN = auto()  # whatever another rule asks about
    EVERY = auto()  # those that are only counted too: the framer shows one whose serial is not due


FIRST, SHOWN, EVERY = Which.FIRST, Which.SHOWN, Which.EVERY
Ruling = Kept | Broken
E = TypeVar("E", bound=Event)
Rule = Callable[[Conversation, E], Iterator[Ruling]]
AnyRule = Callable[[Conversation, Any], Iterator[Ruling]]
FinalRule = Callable[[Conversation], Iterator[Ruling]]
Asked = Which | IntEnum | type[IntEnum]


@dataclass(frozen=True)
class Declared:
    """A rule and what it asks about. `states`: of the connection; None: all."""

    rule: AnyRule
    kind: type[Event]
    which: frozenset[Which]
    types: frozenset[tuple[int, Side, int]]
    states: frozenset[State] | None

    def asks(self, channel: int, state: State, sender: Side, kind: int) -> bool:
        """It asks about such a message for its type."""
        return (channel, sender, kind) in self.types and (self.states is None or state in self.states)


_rules: list[Declared] = []
_final: list[FinalRule] = []


def on(kind: type[E], *asked: Asked, states: Collection[State] | None = None) -> Callable[[Rule[E]], Rule[E]]:
    """Declares a rule that is asked at each event of a kind, before the conversation has taken it in.

    On `Message`: at those that are `asked`, by their enum members, by a whole enumeration, or by `Which`.
    """
    if issubclass(kind, Message) and not asked:
        raise TypeError("a rule on messages says which")
    which = frozenset(one for one in asked if isinstance(one, Which))
    types = frozenset(key for one in asked if not isinstance(one, Which) for key in _keys(one))

    def register(function: Rule[E]) -> Rule[E]:
        _rules.append(Declared(function, kind, which, types, None if states is None else frozenset(states)))
        return function

    return register


def _keys(asked: IntEnum | type[IntEnum]) -> Iterator[tuple[int, Side, int]]:
    """(channel, sender, type) of an enum member, or of all members of an enumeration."""
    enum, members = (asked, list(asked)) if isinstance(asked, type) else (type(asked), [asked])
    if enum in (MsgBase, MsgcBase):
        places = [(int(channel), Side.SERVER if enum is MsgBase else Side.CLIENT) for channel in ChannelType]
    else:
        places = [place for place, enums in CHANNEL_MESSAGES.items() if enum in enums]
    for channel, sender in places:
        for member in members:
            yield channel, sender, int(member)


def at_end(function: FinalRule) -> FinalRule:
    """Declares a rule that is asked once, when there are no more events."""
    _final.append(function)
    return function


def rules_for(kind: type[Event]) -> list[AnyRule]:
    """The rules of a kind of event that is no message."""
    return [declared.rule for declared in _rules if issubclass(kind, declared.kind)]


@cache
def message_rules(channel: int, state: State, sender: Side, kind: int, first: bool) -> tuple[AnyRule, ...]:
    """The rules that are asked at such a message where it is shown."""
    return tuple(
        declared.rule
        for declared in _rules
        if declared.kind is Message
        and (
            declared.asks(channel, state, sender, kind)
            or not declared.which.isdisjoint({SHOWN, EVERY})
            or (first and FIRST in declared.which)
        )
    )


@cache
def counting_rules() -> tuple[AnyRule, ...]:
    """The rules that are asked at messages which are only counted, too."""
    return tuple(declared.rule for declared in _rules if EVERY in declared.which)


_READ = frozenset(key for member in READ for key in _keys(member))


@cache
def unasked(channel: int, state: State, sender: Side) -> frozenset[int]:
    """The types that neither a rule, nor the order tables, nor the conversation asks about in this state.

    Types that no enumeration has are never among them. On main none is: there is little traffic.
    """
    if channel == ChannelType.SPICE_CHANNEL_MAIN:
        return frozenset()
    known = frozenset(MESSAGE_NAMES.get((channel, sender), ())) - told(channel, state, sender)
    return frozenset(
        kind
        for kind in known
        if (channel, sender, kind) not in _READ
        and not any(declared.asks(channel, state, sender, kind) for declared in _rules)
    )


def final_rules() -> list[FinalRule]:
    """The rules that are asked at the end."""
    return list(_final)


def check(requirement: str, holds: bool, expected: object, seen: object) -> Ruling:
    """Kept if it holds, else broken."""
    return Kept(requirement) if holds else Broken(requirement, str(expected), str(seen))
