# SPDX-License-Identifier: GPL-2.0-only
"""What a row of the order tables is made of: legal steps, breaches, and what may be sent at any time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dissectors.conversation.connection_states import State


@dataclass(frozen=True)
class To:
    """A legal step: the next state and the ids of the requirements that it keeps."""

    state: State
    keeps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Breach:
    """An illegal step: the requirement that it breaks, and the next state (None: the state stays).

    Later messages that the breach explains are no breaches: those that either side had to send in the state
    before it, and the other side's answers (`excuses`).
    """

    requirement: str
    to: State | None = None
    excuses: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Row:
    """The messages that one side may send in one state.

    `go`: steps. `stay`: allowed without a change of state (None: all others are). `breaks`: messages that
    break a requirement of their own. `otherwise`: the requirement that any other message breaks.
    """

    go: Mapping[int, To] = field(default_factory=dict)
    stay: frozenset[int] | None = None
    breaks: Mapping[int, Breach] = field(default_factory=dict)
    otherwise: str = ""


NOTHING: frozenset[int] = frozenset()
