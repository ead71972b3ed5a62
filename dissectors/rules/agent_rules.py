# SPDX-License-Identifier: GPL-2.0-only
"""The agent's channel inside main: who may speak, and how many messages its tokens allow.

A token lets its owner send one AGENT_DATA. The rules count each side's tokens in the order of the capture:
a grant always comes before the message that uses it, wherever the capture was made.
"""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.conversation.conversation import Conversation
from dissectors.framing.events import Message
from dissectors.rules.migration_facts import SETTLED_S
from dissectors.rules.rule_engine import Broken, Ruling, check, on
from dissectors.wire.constants import MsgcMain, MsgMain

DATA = MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA


@on(Message, MsgMain.SPICE_MSG_MAIN_AGENT_DATA)
def agent_data(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The server sends AGENT_DATA only while the guest's agent is connected."""
    session = view.connection(event).session
    if session is not None and session.agent is not None:
        yield check("MAIN-003", session.agent, "an agent that is connected", event.name)


@on(Message, DATA)
def client_agent_data(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The client sends AGENT_DATA only to a connected and started agent, one token for each message."""
    connection = view.connection(event)
    session = connection.session
    if session is None or not connection.certain or session.tokens is None:
        return  # its beginning was not seen
    if not session.started:
        yield Broken("MIG-CLI-015", "AGENT_DATA only after AGENT_START", event.name)
    elif session.agent is False and event.time - session.agent_news > SETTLED_S:
        yield Broken("MIG-CLI-015", "AGENT_DATA only to an agent that is connected", event.name)
    else:
        fine = session.tokens > 0
        yield check("MIG-CLI-019", fine, "a token for each AGENT_DATA", f"{event.name} without a token")


@on(Message, MsgMain.SPICE_MSG_MAIN_AGENT_TOKEN)
def tokens_given_back(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The server's AGENT_TOKEN returns at most as many tokens as the client has used."""
    connection = view.connection(event)
    session = connection.session
    if session is None or not connection.certain or session.tokens is None or event.packet.problems():
        return
    given = int(event.packet.num_tokens)
    yield check(
        "MAIN-014",
        given <= session.used,
        f"at most {session.used} tokens, as many as the client has used",
        f"{given} tokens",
    )
