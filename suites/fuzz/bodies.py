# SPDX-License-Identifier: GPL-2.0-only
"""The bodies of a client's messages: correct ones, from the conversation so far, and mutated ones, by a
seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol

from scapy.packet import Packet

from dissectors.channels.message_classes import message_class
from dissectors.framing.events import Message
from dissectors.wire.constants import ChannelType, MsgBase, MsgcBase, MsgcMain, MsgMain, Side
from dissectors.wire.message import SpiceUnknown
from suites.fuzz.moves import AGENT_MESSAGE, Send

MAIN = ChannelType.SPICE_CHANNEL_MAIN
#: Message bodies that a default packet does not give.
_GOOD: Mapping[tuple[int, int], bytes] = MappingProxyType(
    {
        (MAIN, MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA): AGENT_MESSAGE,
        (MAIN, MsgcMain.SPICE_MSGC_MAIN_AGENT_START): struct.pack("<I", 10),
        (MAIN, MsgcMain.SPICE_MSGC_MAIN_AGENT_TOKEN): struct.pack("<I", 1),
        (MAIN, MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST): struct.pack("<H", 1),
    }
)
#: Boundary values of sizes, counts and signs.
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WIDTHS = (1, 2, 4)
#: The migration data's version, the same in every release so far (server/migration-protocol.h).
FIRST_VERSION = 1


class ClientView(Protocol):
    """What this module needs to know of a connection: its channel (`wanted.channel`), and the server's
    messages on it."""

    @property
    def wanted(self) -> Any:
        """The values of the connection's link message."""

    def got(self, *types: int) -> Sequence[Message]:
        """Messages of these types, the latest last."""


def body(move: Send, connection: ClientView, twin: ClientView | None) -> bytes:
    """The body that a move sends; `twin`: see `good`."""
    found = good(move.type, connection, twin)
    if not move.mutation:
        return found
    return mutated(found, move.mutation, fields(move.channel, move.type))


def good(message_type: int, connection: ClientView, twin: ClientView | None) -> bytes:
    """A body as a correct client sends it; `twin`: the client's connection to the same channel of the other
    host."""
    channel = connection.wanted.channel
    match message_type:
        case MsgcBase.SPICE_MSGC_PONG:
            return _last(connection, MsgBase.SPICE_MSG_PING, bytes(12))[:12]
        case MsgcBase.SPICE_MSGC_ACK_SYNC:
            return _last(connection, MsgBase.SPICE_MSG_SET_ACK, bytes(4))[:4]
        case MsgcBase.SPICE_MSGC_MIGRATE_DATA:
            return _last(twin, MsgBase.SPICE_MSG_MIGRATE_DATA, _default(channel, message_type))
    if channel == MAIN and message_type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS:
        announced = twin.got(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS) if twin else []
        return struct.pack("<I", announced[-1].packet.src_mig_version if announced else FIRST_VERSION)
    found = _GOOD.get((channel, message_type))
    return _default(channel, message_type) if found is None else found


def _last(connection: ClientView | None, message_type: int, otherwise: bytes) -> bytes:
    got = connection.got(message_type) if connection else []
    return got[-1].body if got else otherwise


@lru_cache(maxsize=1024)
def _default(channel: int, message_type: int) -> bytes:
    made = message_class(channel, Side.CLIENT, message_type)
    return b"" if made is SpiceUnknown else bytes(made())


@lru_cache(maxsize=1024)
def fields(channel: int, message_type: int) -> Sequence[tuple[int, int]]:
    """(offset, width) in bytes of each number in the fixed part of a client's message."""
    made = message_class(channel, Side.CLIENT, message_type)
    return () if made is SpiceUnknown else tuple(_numbers(made(), 0))


def _numbers(packet: Packet, at: int) -> Iterator[tuple[int, int]]:
    for field in packet.fields_desc:
        value = packet.getfieldval(field.name)
        width = len(field.addfield(packet, b"", value))
        if isinstance(value, Packet):
            yield from _numbers(value, at)
        elif width in (1, 2, 4, 8) and not isinstance(value, bytes | list):
            yield at, width
        at += width


def mutated(body: bytes, seed: int, places: Sequence[tuple[int, int]] = ()) -> bytes:
    """A body with one to three mutations.

    A mutation sets a number to a boundary value, or to one more or less than its value or than the byte
    count; or it cuts the body, at a number or anywhere; or it adds bytes. `places`: offset and width of the
    body's numbers."""
    dice = random.Random(seed)
    found = bytearray(body)
    for _ in range(dice.choice((1, 1, 2, 3))):
        known = [(at, width) for at, width in places if at + width <= len(found)]
        match dice.randrange(8):
            case 0 | 1 | 2 | 3 | 4 if known:
                at, width = dice.choice(known)
                was = int.from_bytes(found[at : at + width], "little")
                edges = (*EDGES, was + 1, was - 1, len(body), len(body) + 1, len(body) - 1)
                _write(found, at, width, dice.choice(edges))
            case 0 | 1 | 2 | 3 if found:
                width = dice.choice([w for w in _WIDTHS if w <= len(found)])
                at = dice.randrange(0, len(found) - width + 1, width)
                _write(found, at, width, dice.choice(EDGES))
            case 5 if known:
                del found[dice.choice(known)[0] :]
            case 6 if found:
                del found[dice.randrange(len(found)) :]
            case _:
                found += dice.randbytes(dice.choice((1, 4, 64, 1024)))
    return bytes(found)


def _write(into: bytearray, at: int, width: int, value: int) -> None:
    into[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
