# SPDX-License-Identifier: GPL-2.0-only
"""A session's state of the guest's agent: whether it is connected, whether it is started, and its tokens."""

from __future__ import annotations

from dataclasses import replace

from dissectors.conversation.parties import Session
from dissectors.framing.events import Message
from dissectors.wire.constants import MsgcMain, MsgMain, Side

#: The messages that announce that the guest's agent has connected or disconnected.
AGENT_NEWS = frozenset(
    {
        MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED,
        MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS,
        MsgMain.SPICE_MSG_MAIN_AGENT_DISCONNECTED,
    }
)
#: The messages that give the client tokens, besides INIT.
GRANTS = frozenset({MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS, MsgMain.SPICE_MSG_MAIN_AGENT_TOKEN})


def apply_agent(session: Session, event: Message) -> None:
    """Updates the session's agent state from a message on main.

    When an agent reconnects, the new grant replaces the client's tokens, but never lowers them: messages may
    be on their way.
    """
    if event.sender is Side.CLIENT:
        if event.type == MsgcMain.SPICE_MSGC_MAIN_AGENT_START:
            session.started = True
        if event.type == MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA and session.agent_data is None:
            session.agent_data = replace(event, body=b"", whole=False)
        if event.type == MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA and session.tokens is not None:
            session.tokens, session.used = max(session.tokens - 1, 0), session.used + 1
        return
    if event.type == MsgMain.SPICE_MSG_MAIN_INIT:
        if event.holds("agent_connected"):
            session.agent, session.agent_news = bool(event.packet.agent_connected), event.time
        session.tokens, session.used = _tokens(event, "agent_tokens"), 0
    elif event.type in AGENT_NEWS:
        session.agent = event.type != MsgMain.SPICE_MSG_MAIN_AGENT_DISCONNECTED
        session.agent_news = event.time
    if event.type in GRANTS and session.tokens is not None:
        given = _tokens(event, "num_tokens")
        if given is None:
            session.tokens = None
        elif event.type == MsgMain.SPICE_MSG_MAIN_AGENT_TOKEN:
            session.tokens, session.used = session.tokens + given, max(session.used - given, 0)
        else:
            session.tokens = max(session.tokens, given)


def _tokens(event: Message, field: str) -> int | None:
    """The number of tokens in a message; None if the capture does not hold it."""
    return int(getattr(event.packet, field)) if event.holds(field) else None
