# SPDX-License-Identifier: GPL-2.0-only
"""Where a message, or its session's main channel, takes a connection: the order tables applied to it."""

from __future__ import annotations

from dissectors.conversation.order_tables import WAITING, State, allows, step
from dissectors.conversation.parties import Connection
from dissectors.framing.events import Message


def move(connection: Connection, event: Message) -> None:
    """A connection's next state. After a breach it stands in one of two, until a message tells in which."""
    state, left, late = connection.state, connection.left, connection.late
    forgiven = event.type in late[event.sender]
    if left is not None and not forgiven and allows(left, event) and not allows(state, event):
        state, left = left, None  # the breach has led nowhere
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
    """Where a channel stands that joins a session whose main channel stands there."""
    return {
        State.TARGET_WAIT: State.TARGET_SILENT,
        State.TARGET_ANSWERED: State.TARGET_SILENT,
        State.TARGET_ASKED: State.TARGET_RESTORING,
        State.TARGET_REASKED: State.TARGET_RESTORING,
        State.TARGET_SEAMLESS: State.TARGET_RESTORING,
    }.get(main, State.OPEN)


def following(channel: State, main: State) -> State:
    """Where a target's channel goes when its main channel moves. A channel that restores its state goes on
    with its own MIGRATE_DATA; the server may activate it as soon as it has read DST_DO_SEAMLESS."""
    if channel is State.TARGET_RESTORING and main not in WAITING:
        return channel
    return state_to_join(main) if channel in (State.TARGET_SILENT, State.TARGET_RESTORING) else channel
