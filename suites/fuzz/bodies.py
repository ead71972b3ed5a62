# SPDX-License-Identifier: GPL-2.0-only
"""The bodies of a client's messages: good ones from what the conversation holds, and bad ones by a seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from types import MappingProxyType

from dissectors.wire.constants import ChannelType, MsgBase, MsgcBase, MsgcMain, MsgMain, Side
from dissectors.wire.message import SpiceUnknown, message_class
from fixtures.peer import Connection

MAIN = ChannelType.SPICE_CHANNEL_MAIN
#: VDIChunkHeader and VDAgentMessage (vd_agent.h) of an ANNOUNCE_CAPABILITIES with one word.
_AGENT = struct.pack("<II IIQI II", 1, 28, 1, 6, 0, 8, 1, 0)
#: Message bodies that a default packet does not give.
_GOOD: Mapping[tuple[int, int], bytes] = MappingProxyType(
    {
        (MAIN, MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA): _AGENT,
        (MAIN, MsgcMain.SPICE_MSGC_MAIN_AGENT_START): struct.pack("<I", 10),
        (MAIN, MsgcMain.SPICE_MSGC_MAIN_AGENT_TOKEN): struct.pack("<I", 1),
        (MAIN, MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST): struct.pack("<H", 1),
    }
)
#: Values at which sizes, counts and signs go wrong.
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WIDTHS = (1, 2, 4)
#: The migration data's version in every release so far (server/migration-protocol.h).
FIRST_VERSION = 1


def good(message_type: int, connection: Connection, twin: Connection | None) -> bytes:
    """A body as a dutiful client sends it; `twin`: its connection to the same channel of the other host."""
    match message_type:
        case MsgcBase.SPICE_MSGC_PONG:
            return _last(connection, MsgBase.SPICE_MSG_PING, bytes(12))[:12]
        case MsgcBase.SPICE_MSGC_ACK_SYNC:
            return _last(connection, MsgBase.SPICE_MSG_SET_ACK, bytes(4))[:4]
        case MsgcBase.SPICE_MSGC_MIGRATE_DATA:
            return _last(twin, MsgBase.SPICE_MSG_MIGRATE_DATA, _default(connection, message_type))
    if connection.wanted.channel == MAIN and message_type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS:
        announced = twin.got(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS) if twin else []
        return struct.pack("<I", announced[-1].packet.src_mig_version if announced else FIRST_VERSION)
    found = _GOOD.get((connection.wanted.channel, message_type))
    return _default(connection, message_type) if found is None else found


def _last(connection: Connection | None, message_type: int, otherwise: bytes) -> bytes:
    got = connection.got(message_type) if connection else []
    return got[-1].body if got else otherwise


def _default(connection: Connection, message_type: int) -> bytes:
    made = message_class(connection.wanted.channel, Side.CLIENT, message_type)
    return b"" if made is SpiceUnknown else bytes(made())


def mutated(body: bytes, seed: int) -> bytes:
    """A body with one to three things wrong: a field at an edge, a bit, a cut, bytes too many."""
    dice = random.Random(seed)
    found = bytearray(body)
    for _ in range(dice.randint(1, 3)):
        match dice.randrange(4):
            case 0 | 1 if found:
                width = dice.choice([w for w in _WIDTHS if w <= len(found)])
                at = dice.randrange(0, len(found) - width + 1, width)
                found[at : at + width] = (dice.choice(EDGES) & (1 << 8 * width) - 1).to_bytes(width, "little")
            case 2 if found:
                del found[dice.randrange(len(found)) :]
            case _:
                found += dice.randbytes(dice.choice((1, 4, 64, 1024)))
    return bytes(found)
