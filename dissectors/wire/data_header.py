# SPDX-License-Identifier: GPL-2.0-only
"""The bytes of the two data headers, and sub-message lists (protocol.h: SpiceDataHeader, SpiceMiniDataHeader,
SpiceSubMessageList, SpiceSubMessage). `dissectors.channels.framed_message` has the headers as packets."""

from __future__ import annotations

import struct

from scapy.fields import FieldLenField, FieldListField, LEIntField, LEShortField

from dissectors.wire.constants import MINI_HEADER_BYTES
from dissectors.wire.message import DOES_NOT_FIT, SpiceMalformed, SpicePart

MINI = struct.Struct("<HI")  # type, size
FULL = struct.Struct("<QHII")  # serial, type, size, sub_list


class SpiceSubMessage(SpicePart):
    """type u16, size u32, then the body (left to `sub_messages`)."""

    fields_desc = [LEShortField("type", 0), LEIntField("size", 0)]


class SpiceSubMessageList(SpicePart):
    """size u16, then that many offsets u32 of SpiceSubMessages, from the start of the body."""

    fields_desc = [
        FieldLenField("size", None, count_of="sub_messages", fmt="<H"),
        FieldListField("sub_messages", [], LEIntField("offset", 0), count_from=lambda p: p.size),
    ]


def sub_messages(body: bytes, sub_list: int) -> list[tuple[int, bytes]] | SpiceMalformed:
    """(type, body) of each sub-message of a message whose list is at offset `sub_list`.

    A list or entry that leaves the body gives a `SpiceMalformed` that says which.
    """
    found: list[tuple[int, bytes]] = []
    try:
        (count,) = struct.unpack_from("<H", body, sub_list)
        for n in range(count):
            (offset,) = struct.unpack_from("<I", body, sub_list + 2 + 4 * n)
            kind, size = MINI.unpack_from(body, offset)
            if offset + MINI_HEADER_BYTES + size > len(body):
                return SpiceMalformed(body, reason=f"sub-message {n} of {size} bytes leaves the body")
            start = offset + MINI_HEADER_BYTES
            found.append((kind, body[start : start + size]))
    except DOES_NOT_FIT:
        return SpiceMalformed(
            body, reason=f"sub-message {len(found)} of the list at {sub_list} leaves the body"
        )
    return found


def own_part(body: bytes, sub_list: int) -> bytes:
    """The body without its sub-messages and their list (they follow what is the message's own).

    `sub_list` 0: there are none. Offsets that leave the body cut nothing; `sub_messages` tells of them.
    """
    end = sub_list
    try:
        (count,) = struct.unpack_from("<H", body, sub_list) if sub_list else (0,)
        for offset in struct.unpack_from(f"<{count}I", body, sub_list + 2) if count else ():
            end = min(end, offset)
    except struct.error:
        return body
    return body[:end] if sub_list else body


def encode(message_type: int, body: bytes, *, serial: int | None) -> bytes:
    """A message as it goes on the wire: mini header if `serial` is None, else the full one."""
    if serial is None:
        return MINI.pack(message_type, len(body)) + body
    return FULL.pack(serial, message_type, len(body), 0) + body
