# SPDX-License-Identifier: GPL-2.0-only
"""The protocol's order as literal tables: the messages that each side may send in each state of a connection.

One table serves both sides and every use: the live oracle, the capture inspector, the fuzzer's choice of
legal messages, and the generated documentation. A cell is the next state and the requirements that the step
keeps; a message that a row does not name breaks its `otherwise`, or the exact requirement in `breaks`.

The rows are in `main_order` and `channel_order`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from dissectors.conversation.channel_order import MIGRATING_ORDER, SECONDARY_ORDER
from dissectors.conversation.connection_states import AFTER_MIGRATE, MOVING, State
from dissectors.conversation.main_order import ACCEPTANCES, CLIENT_TALK, MAIN_ORDER
from dissectors.conversation.order_rows import NOTHING, Breach, Row, To
from dissectors.framing.events import Message
from dissectors.wire.constants import MESSAGE_NAMES, ChannelType, MsgBase, MsgcBase, MsgcMain, MsgMain, Side

S, C = Side.SERVER, Side.CLIENT
B, BC, M, MC = MsgBase, MsgcBase, MsgMain, MsgcMain

#: On main a second answer to the announcement is a breach, which MIGRATE_CANCEL answers.
_SAID_TWICE = {
    kind: Breach("MIG-CLI-015", excuses=frozenset({int(M.SPICE_MSG_MAIN_MIGRATE_CANCEL)}))
    for kind in ACCEPTANCES
}
_MAIN_FLUSH_DUE = replace(
    MIGRATING_ORDER[State.FLUSH_DUE, C],
    stay=CLIENT_TALK,
    breaks={**MIGRATING_ORDER[State.FLUSH_DUE, C].breaks, **_SAID_TWICE},
    otherwise="MIG-CLI-015",
)
_MAIN_ROWS = {**MAIN_ORDER, **MIGRATING_ORDER, (State.FLUSH_DUE, C): _MAIN_FLUSH_DUE}
_SECONDARY_ROWS = {**SECONDARY_ORDER, **MIGRATING_ORDER}
FREE = Row()


def row(channel: int, state: State, sender: Side) -> Row:
    """The row of a channel; where the table has none, a row that allows everything."""
    rows = _MAIN_ROWS if channel == ChannelType.SPICE_CHANNEL_MAIN else _SECONDARY_ROWS
    return rows.get((state, sender), FREE)


def allows(state: State, message: Message) -> bool:
    """Whether the message keeps the order in this state."""
    found = row(message.channel, state, message.sender)
    if message.type in found.go or message.type in found.breaks:
        return message.type in found.go
    return found.stay is None or message.type in found.stay


class Transition(NamedTuple):
    """The next state after a message, and the types that may come late after it, by sender."""

    state: State
    late: Mapping[Side, frozenset[int]]


_NOTHING_LATE: Mapping[Side, frozenset[int]] = MappingProxyType({S: NOTHING, C: NOTHING})


def step(state: State, message: Message, late: frozenset[int] = NOTHING) -> Transition:
    """The next state after a message. An illegal one also moves as the table says: one breach, one finding.

    `late`: the types that the sender may still send after an earlier breach.
    """
    found = row(message.channel, state, message.sender)
    cell, breach = found.go.get(message.type), found.breaks.get(message.type)
    if message.sender is S and message.type == B.SPICE_MSG_MIGRATE and state not in MOVING:
        usual = 0 if message.whole else 3  # the flags of most channels, where the capture lacks them
        to = AFTER_MIGRATE.get(message.body[0] & 3 if message.body else usual, State.GONE)
        cell, breach = cell and To(to), breach and replace(breach, to=to)
    if cell is not None:
        return Transition(cell.state, _NOTHING_LATE)
    if breach is None or message.type in late:
        return Transition(state, _NOTHING_LATE)
    other = C if message.sender is S else S
    own, others = NOTHING, NOTHING
    if breach.to is not None:
        own = frozenset(found.go) - {message.type} if found.stay == NOTHING else NOTHING
        others = frozenset(row(message.channel, state, other).go)
    return Transition(breach.to or state, {other: others | breach.excuses, message.sender: own})


def legal(channel: int, state: State, sender: Side) -> frozenset[int] | None:
    """The message types that `sender` may send now; None: any that its channel has."""
    found = row(channel, state, sender)
    return None if found.stay is None else found.stay | frozenset(found.go)


def decisive_types(channel: int, state: State, sender: Side) -> frozenset[int]:
    """The types that change this state or break a requirement of their own: the framer must show them."""
    found = row(channel, state, sender)
    steps = frozenset(found.go) | frozenset(found.breaks)
    if found.stay is None:
        return steps
    return steps | (frozenset(MESSAGE_NAMES.get((channel, sender), ())) - found.stay)
