# SPDX-License-Identifier: GPL-2.0-only
"""The interpreter of the order tables: what each side may send in the state that a connection is in."""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.conversation.connection_states import State
from dissectors.conversation.conversation import ANSWERS, Connection, Conversation
from dissectors.conversation.order_tables import allows, row
from dissectors.framing.events import Message
from dissectors.rules.migration_facts import BEGIN, BEGIN_SEAMLESS
from dissectors.rules.rule_engine import SHOWN, Broken, Kept, Ruling, on
from dissectors.wire.constants import MESSAGE_NAMES, MsgMain, Side, message_name


@on(Message, SHOWN)
def order(view: Conversation, event: Message) -> Iterator[Ruling]:
    """A message that the table allows keeps its requirements; any other breaks the one that is named."""
    connection = view.connection(event)
    if not connection.certain or connection.state is State.LINKING:
        return
    cells = row(event.channel, connection.state, event.sender)
    if step := cells.go.get(event.type):
        yield from map(Kept, step.keeps)
        return
    if event.type in connection.late[event.sender]:
        return  # an earlier breach explains this message
    if connection.left is not None and allows(connection.left, event):
        return  # an earlier breach changed no state
    if breach := cells.breaks.get(event.type):
        broken = breach.requirement
    elif (
        event.type in ANSWERS and event.sender is Side.CLIENT and connection.is_main and _unasked(connection)
    ):
        broken = "MIG-CLI-015"
    elif cells.stay is None or event.type in cells.stay or not _known(event):
        return
    else:
        broken = cells.otherwise
    if (
        broken == "MIG-CLI-015"
        and event.type in ANSWERS
        and event.sender is Side.CLIENT
        and _answer_due(connection)
    ):
        return
    if broken == "MIG-SRC-040" and attempted_before(view, connection):
        broken = "MIG-SRC-048"  # the server takes an older attempt's answer for this one's
    if broken:
        yield Broken(
            broken, f"in state '{connection.state}': {_allowed(event, connection.state)}", event.name
        )


def attempted_before(view: Conversation, connection: Connection) -> bool:
    """Whether this session had an earlier seamless attempt that was given up."""
    given_up = MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL
    return any(
        m.source is connection.session and m.seamless and m.ended is not None and m.ended.type == given_up
        for m in view.migrations
    )


def _answer_due(connection: Connection) -> bool:
    """Whether the server has sent more announcements than the client has sent answers."""
    announced = sum(connection.shown[Side.SERVER, kind] for kind in (BEGIN, BEGIN_SEAMLESS))
    return announced > sum(connection.shown[Side.CLIENT, kind] for kind in ANSWERS)


def _unasked(connection: Connection) -> bool:
    """Whether the whole link stage was seen, and no announcement after it."""
    announced = any(connection.shown[Side.SERVER, kind] for kind in (BEGIN, BEGIN_SEAMLESS))
    return connection.linked_whole and not announced


def _known(event: Message) -> bool:
    """Whether the enumeration has the type; a requirement of its own covers unknown types."""
    return event.type in MESSAGE_NAMES.get((event.channel, event.sender), {})


def _allowed(event: Message, state: State) -> str:
    cells = row(event.channel, state, event.sender)
    if cells.stay is None:
        return f"no {event.name}"
    steps = [message_name(event.channel, event.sender, kind) for kind in cells.go]
    if cells.stay:
        steps.append("what an ordinary session has")
    return " or ".join(steps) if steps else f"nothing from the {event.sender}"
