# SPDX-License-Identifier: GPL-2.0-only
"""The size of each packet of the link stage, and its common capabilities.

Each size function takes one side's unframed bytes and returns a size in bytes; None: incomplete.
Bytes that are no link packet count as one packet, so that they can be shown and judged.
"""

from __future__ import annotations

import struct

from dissectors.wire.constants import LINK_HEADER_BYTES, SPICE_MAGIC, SPICE_VERSION_MAJOR

MAX_LINK_BYTES = 4096
MAX_SASL_BYTES = 1 << 20  # of one step, as servers have it
MESS_FIXED_BYTES, REPLY_FIXED_BYTES = 18, 178  # without capabilities
#: The offsets of the numbers of capability words in a link message and in a link reply.
MESS_CAPS_AT, REPLY_CAPS_AT = LINK_HEADER_BYTES + 6, LINK_HEADER_BYTES + 166

Buffer = bytes | bytearray


def mess_size(head: Buffer) -> int | None:
    """Bytes of a link message; None: it is incomplete."""
    if len(head) < LINK_HEADER_BYTES:
        return None
    magic, major, _, size = struct.unpack_from("<4sIII", head)
    if magic != SPICE_MAGIC or major != SPICE_VERSION_MAJOR or size > MAX_LINK_BYTES:
        return min(len(head), LINK_HEADER_BYTES + min(int(size), MAX_LINK_BYTES))
    return LINK_HEADER_BYTES + int(size) if len(head) >= LINK_HEADER_BYTES + size else None


def mess_end(head: Buffer) -> int | None:
    """Bytes of a whole link message by its header; None: this is no such header."""
    return reply_end(head) if head[4:8] == struct.pack("<I", SPICE_VERSION_MAJOR) else None


def reply_size(head: Buffer) -> int | None:
    """Bytes of a link reply; None: it is incomplete."""
    if len(head) < LINK_HEADER_BYTES:
        return None
    whole = reply_end(head)
    if whole is None:
        return len(head)
    return whole if len(head) >= whole else None


def reply_end(head: Buffer) -> int | None:
    """Bytes of a whole link reply by its header; None: this is no such header."""
    if len(head) < LINK_HEADER_BYTES:
        return None
    magic, _, _, size = struct.unpack_from("<4sIII", head)
    return LINK_HEADER_BYTES + int(size) if magic == SPICE_MAGIC and size <= MAX_LINK_BYTES else None


def sasl_size(head: Buffer, *, is_answer: bool) -> int | None:
    """Bytes of a SASL packet, which is a length and so many bytes; None: it is incomplete.

    The server's answer to a step has one byte more: whether the exchange is complete. If it is, four bytes
    with the outcome follow, and a text with its length if the client is rejected (server/red-stream.cpp,
    red_sasl_handle_auth_step). The link result comes after all that.
    """
    end = _counted(head, 0)
    if end is None or not is_answer or _absurd(head, 0):
        return end
    if len(head) <= end:
        return None
    if not head[end]:
        return end + 1
    outcome = end + 5
    if len(head) < outcome:
        return None
    return outcome if sasl_accepted(head) else _counted(head, outcome)


def sasl_accepted(answer: Buffer) -> bool | None:
    """Whether a step of the server accepts the client; None: the exchange continues."""
    at = 4 + int(struct.unpack_from("<I", answer)[0])
    if len(answer) <= at or not answer[at]:
        return None
    return answer[at + 1 : at + 5] == bytes(4)


def _counted(head: Buffer, at: int) -> int | None:
    """The end of a part that begins with its length; None: it is incomplete. An absurd length has no end."""
    if len(head) < at + 4:
        return None
    if _absurd(head, at):
        return len(head)
    end = at + 4 + int(struct.unpack_from("<I", head, at)[0])
    return end if len(head) >= end else None


def _absurd(head: Buffer, at: int) -> bool:
    """Whether the length there is larger than that of any step."""
    return bool(struct.unpack_from("<I", head, at)[0] > MAX_SASL_BYTES)


def refuses(reply: bytes) -> bool:
    """A link reply with an error, or without all of its fields."""
    error = reply[LINK_HEADER_BYTES : LINK_HEADER_BYTES + 4]
    return len(reply) < LINK_HEADER_BYTES + REPLY_FIXED_BYTES or error != bytes(4)


def common_caps(raw: bytes, counts_at: int) -> frozenset[int]:
    """Bits of the common capability words; empty where they make no sense."""
    count, _, offset = struct.unpack_from("<III", raw, counts_at)
    if count > 1024 or LINK_HEADER_BYTES + offset + 4 * count > len(raw):
        return frozenset()
    words = struct.unpack_from(f"<{count}I", raw, LINK_HEADER_BYTES + offset)
    return frozenset(32 * i + bit for i, word in enumerate(words) for bit in range(32) if word >> bit & 1)
