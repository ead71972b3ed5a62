# SPDX-License-Identifier: GPL-2.0-only
"""A connection's memory of its messages, for judging later ones: PINGs for their PONGs, SET_ACKs for their
ACK_SYNCs, types whose layout has been judged often enough."""

from __future__ import annotations

from dataclasses import replace

from dissectors.conversation.parties import Connection
from dissectors.framing.events import Message
from dissectors.wire.constants import MsgBase, MsgcBase, Side

#: The number of messages of a type, on one side of a connection, whose layout is judged where no rule needs
#: them otherwise.
LAYOUTS = 20
UNKNOWN = b""  # placeholder for the content of an incomplete message
GENERATION_BYTES = 4  # of SET_ACK, which ACK_SYNC repeats
PONG_BYTES = 12  # the id and timestamp of a PING, which its PONG repeats


def remember(connection: Connection, event: Message) -> None:
    """Keeps the values that later messages of the connection must repeat."""
    connection.last[event.sender] = event
    connection.shown[event.sender, event.type] += 1
    if connection.shown[event.sender, event.type] == LAYOUTS:
        connection.familiar[event.sender] |= {event.type}
    if event.sender is Side.CLIENT:
        connection.said.add(event.type)
        if event.type in (MsgcBase.SPICE_MSGC_PONG, MsgcBase.SPICE_MSGC_ACK_SYNC):
            _answered(connection, event)
        elif event.type == MsgcBase.SPICE_MSGC_ACK:
            connection.unacked -= connection.window or 0
    elif event.type == MsgBase.SPICE_MSG_PING:
        connection.pings.append(event.body[:PONG_BYTES] if event.whole else UNKNOWN)
        if event.whole:
            connection.unanswered.append(replace(event, body=event.body[:PONG_BYTES]))
    elif event.type == MsgBase.SPICE_MSG_SET_ACK:
        connection.generations.append(event.body[:GENERATION_BYTES] if event.whole else UNKNOWN)
        connection.window = int(event.packet.window) if event.whole else None
        connection.unacked = 0
        if connection.unsynced is None and event.whole:
            connection.unsynced = event
    elif event.type == MsgBase.SPICE_MSG_MIGRATE:
        connection.migrate = event
        if not event.holds("flags"):
            connection.certain = False  # the flags say what follows


def _answered(connection: Connection, event: Message) -> None:
    """Takes in a PONG or an ACK_SYNC; keeps one without a seen question until the end."""
    pong = event.type == MsgcBase.SPICE_MSGC_PONG
    if not pong:
        connection.unsynced = None
    elif event.whole:
        _pong(connection, event.body[:PONG_BYTES])
    else:
        connection.unanswered.clear()  # it may be any PING's answer
    if not event.whole:
        return
    if answers(connection, event) is False:
        connection.strange.append(event)


def _pong(connection: Connection, said: bytes) -> None:
    """Takes in a whole PONG: a client answers in order, so that it has passed over all earlier PINGs. A PONG
    with other bytes stands for the answer to the oldest PING."""
    waiting = connection.unanswered
    if any(ping.body == said for ping in waiting):
        while (ping := waiting.popleft()).body != said:
            connection.passed_over = connection.passed_over or ping
    elif waiting:
        waiting.popleft()


def answers(connection: Connection, event: Message) -> bool | None:
    """Whether a PONG repeats a PING's id and timestamp, or an ACK_SYNC a SET_ACK's generation; None where no
    question was seen that it could answer, or the answer is not whole."""
    pong = event.type == MsgcBase.SPICE_MSGC_PONG
    known = connection.pings if pong else connection.generations
    if not event.whole or (not known and not pong):
        return None
    return event.body[: PONG_BYTES if pong else GENERATION_BYTES] in known or UNKNOWN in known
