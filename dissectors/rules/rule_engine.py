# SPDX-License-Identifier: GPL-2.0-only
"""The registry of rules, and the two rulings that a rule can yield: `Kept` and `Broken`.

A rule on messages declares their types. The oracle calls it for these types alone, and the framer only counts
types that no rule declares (`unasked`): so no rule can depend on a message that is hidden from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from functools import cache
from typing import Any, TypeVar

from dissectors.conversation.connection_states import State
from dissectors.conversation.conversation import Conversation
from dissectors.conversation.migration_steps import READ
from dissectors.conversation.order_tables import decisive_types
from dissectors.framing.events import Event, Message
from dissectors.wire.constants import CHANNEL_MESSAGES, MESSAGE_NAMES, ChannelType, MsgBase, MsgcBase, Side


@dataclass(frozen=True)
class Kept:
    """A requirement applied to an event and was kept."""

    requirement: str


@dataclass(frozen=True)
class Broken:
    """A requirement was broken. `event`: the breach, if it is another event than the rule's argument."""

    requirement: str
    expected: str
    seen: str
    event: Event | None = None


class Selection(Enum):
    """Selections of messages other than by type."""

    FIRST = auto()  # the first of each side of a connection: the framer always shows it
    SHOWN = auto()  # every message that the framer shows
    EVERY = auto()  # also those that are only counted; the framer shows each one with a wrong serial


FIRST, SHOWN, EVERY = Selection.FIRST, Selection.SHOWN, Selection.EVERY
Ruling = Kept | Broken
E = TypeVar("E", bound=Event)
Rule = Callable[[Conversation, E], Iterator[Ruling]]
AnyRule = Callable[[Conversation, Any], Iterator[Ruling]]
FinalRule = Callable[[Conversation], Iterator[Ruling]]
Asked = Selection | IntEnum | type[IntEnum]


@dataclass(frozen=True)
class Declared:
    """A rule and the messages that it declares. `states`: the connection's states; None: all."""

    rule: AnyRule
    kind: type[Event]
    which: frozenset[Selection]
    types: frozenset[tuple[int, Side, int]]
    states: frozenset[State] | None

    def asks(self, channel: int, state: State, sender: Side, kind: int) -> bool:
        """Whether the rule declares this type in this state."""
        return (channel, sender, kind) in self.types and (self.states is None or state in self.states)


_rules: list[Declared] = []
_final: list[FinalRule] = []


def on(kind: type[E], *asked: Asked, states: Collection[State] | None = None) -> Callable[[Rule[E]], Rule[E]]:
    """Declares a rule for a kind of event. The oracle calls it before the conversation applies the event.

    For `Message`, `asked` names the messages: by enum members, by a whole enumeration, or by `Selection`.
    """
    if issubclass(kind, Message) and not asked:
        raise TypeError("a rule on messages must name their types")
    which = frozenset(one for one in asked if isinstance(one, Selection))
    types = frozenset(key for one in asked if not isinstance(one, Selection) for key in _keys(one))

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
    """Declares a rule that the oracle calls once, after the last event."""
    _final.append(function)
    return function


def rules_for(kind: type[Event]) -> list[AnyRule]:
    """The rules for a kind of event other than `Message`."""
    return [declared.rule for declared in _rules if issubclass(kind, declared.kind)]


@cache
def message_rules(channel: int, state: State, sender: Side, kind: int, first: bool) -> tuple[AnyRule, ...]:
    """The rules for such a message when the framer shows it."""
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
    """The rules that also judge messages which are only counted."""
    return tuple(declared.rule for declared in _rules if EVERY in declared.which)


_READ = frozenset(key for member in READ for key in _keys(member))


@cache
def unasked(channel: int, state: State, sender: Side) -> frozenset[int]:
    """The types that no rule, no order table and not the conversation needs in this state.

    Types that no enumeration has are never among them, and on main there are none: it has little traffic.
    """
    if channel == ChannelType.SPICE_CHANNEL_MAIN:
        return frozenset()
    known = frozenset(MESSAGE_NAMES.get((channel, sender), ())) - decisive_types(channel, state, sender)
    return frozenset(
        kind
        for kind in known
        if (channel, sender, kind) not in _READ
        and not any(declared.asks(channel, state, sender, kind) for declared in _rules)
    )


def final_rules() -> list[FinalRule]:
    """The rules that the oracle calls at the end."""
    return list(_final)


def check(requirement: str, holds: bool, expected: object, seen: object) -> Ruling:
    """`Kept` if `holds`, else `Broken`."""
    return Kept(requirement) if holds else Broken(requirement, str(expected), str(seen))
