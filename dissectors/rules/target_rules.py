# SPDX-License-Identifier: GPL-2.0-only
"""Rules for the target: it waits for the migrating client, answers it, and begins the session."""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.conversation.connection_states import INIT_DUE, State
from dissectors.conversation.conversation import Conversation, link_error
from dissectors.framing.events import Closed, Ending, Message
from dissectors.rules.migration_facts import NEWEST_VERSION, is_taken_over, server_of, speaks_first
from dissectors.rules.rule_engine import FIRST, Broken, Kept, Ruling, at_end, check, on
from dissectors.wire.constants import LinkErr, MsgcMain, MsgMain, Side

ACK, NACK = MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK, MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK


@on(Message, ACK, NACK)
def target_answers(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The target sends ACK for a version that it knows, NACK for a later one."""
    connection = view.connection(event)
    question = connection.last[Side.CLIENT]
    if event.sender is not Side.SERVER or not connection.is_main or event.type not in (ACK, NACK):
        return
    if (
        question is None
        or question.type != MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS
        or len(question.body) < 4
    ):
        return
    version = int(question.packet.src_version)
    if version > NEWEST_VERSION:
        yield check(
            "MIG-DST-022",
            event.type == NACK,
            f"NACK: version {version} is later than {NEWEST_VERSION}",
            event.name,
        )
    elif connection.state is State.TARGET_ASKED:
        host = server_of(view, connection)
        many = host is not None and bool(host.settings.get("many_clients"))
        again = connection.messages[Side.SERVER] > 0
        if not many and not again:
            yield check("MIG-DST-021", event.type == ACK, f"ACK: version {version} is known", event.name)


@on(Message, FIRST)
def channels_begin(view: Conversation, event: Message) -> Iterator[Ruling]:
    """After MIGRATE_END the waiting channels send their first messages."""
    connection = view.connection(event)
    if event.sender is not Side.SERVER or connection.is_main or connection.messages[Side.SERVER]:
        return
    main = connection.session.main if connection.session is not None else None
    if main is not None and main.as_target and connection.state is State.OPEN:
        yield Kept("MIG-DST-005")
        yield Kept("MIG-DST-006")


@on(Closed)
def channels_dead(view: Conversation, event: Closed) -> Iterator[Ruling]:
    """A channel linked to the target sends messages once the session has begun; one on which the client
    speaks first stays open, unless the server refuses what the client has said there."""
    connection = view.connection(event)
    session = connection.session
    if session is None or connection.is_main or not session.main.as_target or session.main.closed is not None:
        return
    refused = connection.messages[Side.CLIENT] and not speaks_first(connection)
    if refused or is_taken_over(view, session):
        return
    if (
        connection.state is State.OPEN
        and not connection.messages[Side.SERVER]
        and session.main.state is State.READY
    ):
        first = next(
            c
            for c in session.channels
            if (c.channel, c.channel_id) == (connection.channel, connection.channel_id)
        )
        if first is connection and event.by is not Side.CLIENT and event.how is not Ending.DIED:
            yield Broken(
                "MIG-DST-006",
                "the channel works after MIGRATE_END",
                f"it ended without a message: {event.how}",
            )


@on(Closed)
def target_owes(view: Conversation, event: Closed) -> Iterator[Ruling]:
    """The target sends INIT after the client's MIGRATE_END; it does not close the connection instead."""
    connection = view.connection(event)
    if connection.is_main and connection.certain and connection.state in INIT_DUE:
        host = server_of(view, connection)
        if event.by is Side.SERVER and event.how is Ending.CLOSED and not (host and host.died):
            yield Broken("MIG-DST-004", "INIT after the client's MIGRATE_END", f"the end: {event.how}")


@at_end
def refused_link_error(view: Conversation) -> Iterator[Ruling]:
    """The target accepts a faultless main link with the source's session id. A host that expects no migration
    may refuse an unknown id."""
    for connection in view.connections.values():
        host = server_of(view, connection)
        waits = host is None or bool(host.settings.get("incoming", True))
        if connection.as_target and connection.result is not None and waits:
            if link_error(connection.result) == LinkErr.SPICE_LINK_ERR_BAD_CONNECTION_ID:
                yield Broken(
                    "MIG-DST-001",
                    "a main link with a connection_id is a migration's",
                    "BAD_CONNECTION_ID",
                    connection.result,
                )
