# SPDX-License-Identifier: GPL-2.0-only
"""Moves a connection to its next state, by its own messages or by main's: applies the order tables."""

from __future__ import annotations

from dissectors.conversation.connection_states import WAITING, State
from dissectors.conversation.order_tables import allows, step
from dissectors.conversation.parties import Connection
from dissectors.framing.events import Message


def move(connection: Connection, event: Message) -> None:
    """A connection's next state. After a breach two states are possible, until a message shows which one."""
    state, left, late = connection.state, connection.left, connection.late
    forgiven = event.type in late[event.sender]
    if left is not None and not forgiven and allows(left, event) and not allows(state, event):
        state, left = left, None  # the breach changed no state
    moved, more = step(state, event, late[event.sender])
    if left is not None:
        other = step(left, event).state if allows(left, event) else None
        connection.left = None if other is moved else other
    else:
        broke = not allows(state, event) and moved is not state
        connection.left = state if broke else None
    connection.state = moved
    late[event.sender] -= {event.type}
    for side, kinds in more.items():
        late[side] |= kinds


def state_to_join(main: State) -> State:
    """The first state of a channel that joins a session whose main channel is in the state `main`."""
    return {
        State.TARGET_WAIT: State.TARGET_SILENT,
        State.TARGET_ANSWERED: State.TARGET_SILENT,
        State.TARGET_ASKED: State.TARGET_RESTORING,
        State.TARGET_REASKED: State.TARGET_RESTORING,
        State.TARGET_SEAMLESS: State.TARGET_RESTORING,
    }.get(main, State.OPEN)


def following(channel: State, main: State) -> State:
    """The next state of a target's channel when its main channel moves. A channel that restores its state
    continues with its own MIGRATE_DATA; the server may activate it once it has read DST_DO_SEAMLESS."""
    if channel is State.TARGET_RESTORING and main not in WAITING:
        return channel
    return state_to_join(main) if channel in (State.TARGET_SILENT, State.TARGET_RESTORING) else channel
