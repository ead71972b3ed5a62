# SPDX-License-Identifier: GPL-2.0-only
"""The messages that a conversation keeps: the steps of a migration."""

from __future__ import annotations

from dissectors.conversation.main_order import ANNOUNCEMENTS
from dissectors.wire.constants import MsgBase, MsgcBase, MsgcMain, MsgMain, Side

#: The client's answers to an announcement.
ANSWERS = frozenset(
    {
        MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED,
        MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR,
        MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS,
    }
)
#: The messages that end a migration at the source.
ENDS = frozenset(
    {
        MsgMain.SPICE_MSG_MAIN_MIGRATE_END,
        MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST,
        MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL,
        MsgBase.SPICE_MSG_MIGRATE,
    }
)
#: The messages of a migration's story, and those of them that belong to its target.
TARGET_STEPS = frozenset(
    {
        (Side.SERVER, int(MsgMain.SPICE_MSG_MAIN_INIT)),
        (Side.SERVER, int(MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK)),
        (Side.SERVER, int(MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK)),
        (Side.CLIENT, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)),
        (Side.CLIENT, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS)),
        (Side.CLIENT, int(MsgcBase.SPICE_MSGC_MIGRATE_DATA)),
    }
)
STEPS = (
    TARGET_STEPS
    | {(Side.SERVER, int(kind)) for kind in ANNOUNCEMENTS | ENDS | {MsgBase.SPICE_MSG_MIGRATE_DATA}}
    | {(Side.CLIENT, int(kind)) for kind in ANSWERS | {MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK}}
)

#: The messages that a conversation itself reads on channels other than main.
READ = frozenset(
    {
        MsgBase.SPICE_MSG_MIGRATE,
        MsgBase.SPICE_MSG_MIGRATE_DATA,
        MsgBase.SPICE_MSG_SET_ACK,
        MsgBase.SPICE_MSG_PING,
        MsgcBase.SPICE_MSGC_ACK,
        MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK,
        MsgcBase.SPICE_MSGC_MIGRATE_DATA,
    }
)
