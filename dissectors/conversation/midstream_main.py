# SPDX-License-Identifier: GPL-2.0-only
"""The state of a main channel whose beginning is not in the capture, from its first message."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dissectors.conversation.connection_states import State
from dissectors.framing.events import Message
from dissectors.wire.constants import MsgBase, MsgcBase, MsgcMain, MsgMain, Side

S, C = Side.SERVER, Side.CLIENT

#: The first message seen on main -> the state in which it is due. Any other message: the session runs.
STATE_BEFORE: Mapping[tuple[Side, int], State] = MappingProxyType(
    {
        (S, int(MsgMain.SPICE_MSG_MAIN_INIT)): State.LINKED,
        (S, int(MsgMain.SPICE_MSG_MAIN_MIGRATE_END)): State.CONNECTED,
        (S, int(MsgBase.SPICE_MSG_MIGRATE)): State.CONNECTED_SEAMLESS,
        (S, int(MsgBase.SPICE_MSG_MIGRATE_DATA)): State.DATA_DUE,
        (S, int(MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK)): State.TARGET_ASKED,
        (S, int(MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK)): State.TARGET_ASKED,
        (C, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED)): State.ANNOUNCED,
        (C, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS)): State.ANNOUNCED_SEAMLESS,
        (C, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR)): State.ANNOUNCED,
        (C, int(MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK)): State.FLUSH_DUE,
        (C, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)): State.TARGET_WAIT,
        (C, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS)): State.TARGET_WAIT,
        (C, int(MsgcBase.SPICE_MSGC_MIGRATE_DATA)): State.TARGET_SEAMLESS,
    }
)
#: The states of a target's main channel while a client arrives.
ARRIVING = frozenset({State.TARGET_WAIT, State.TARGET_ASKED, State.TARGET_SEAMLESS})
#: Messages that occur on a source's main channel only during a migration or at its end.
UNDER_WAY = frozenset(
    {
        (S, int(MsgMain.SPICE_MSG_MAIN_MIGRATE_END)),
        (S, int(MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL)),
        (S, int(MsgBase.SPICE_MSG_MIGRATE)),
        (C, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED)),
        (C, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS)),
        (C, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR)),
    }
)


def state_before(message: Message) -> State:
    """The main channel's state before its first message in the capture."""
    return STATE_BEFORE.get((message.sender, message.type), State.READY)
