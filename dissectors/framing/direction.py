# SPDX-License-Identifier: GPL-2.0-only
"""The framing state of one direction of a connection: the kind of its next bytes, and the held bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import Enum, auto

MAX_SPILLED_BYTES = 1 << 18  # that are kept when a direction gets lost


class Stage(Enum):
    """The kind of the next bytes of one direction."""

    MESS = auto()
    REPLY = auto()
    MECHANISM = auto()
    TICKET = auto()
    SASL = auto()
    RESULT = auto()
    DATA = auto()
    WAIT = auto()  # undecided until the other side has spoken
    OVER = auto()  # the link failed: no more bytes are due
    LOST = auto()  # no boundary is known


@dataclass
class Direction:
    """The framing state of one side's bytes."""

    stage: Stage
    buffer: bytearray = field(default_factory=bytearray)
    missing: int = 0  # missing bytes of the present message
    held: int = 0  # bytes of that message (with its header) before the first of the missing ones
    passing: int = 0  # bytes still to come of a packet of the link stage that is not whole, and not shown
    skipping: int = 0  # bytes of a counted message that are still to come; the earlier ones were dropped
    skipped: tuple[int, int] = (0, 0)  # type and whole size of that message
    serial: int | None = None  # of the last message, with full headers
    spilled: bytes = b""  # the unframed bytes when the direction lost its boundary
    sasl_steps: int = 0
    counts: Counter[int] = field(default_factory=Counter)  # messages by type
    size: int = 0  # bytes of these messages

    def copy(self) -> Direction:
        """An independent copy."""
        return replace(self, buffer=bytearray(self.buffer), counts=Counter(self.counts))

    def skip(self) -> int:
        """Drops the buffered bytes of a counted message; returns their number."""
        dropped = min(self.skipping, len(self.buffer))
        del self.buffer[:dropped]
        self.skipping -= dropped
        return dropped

    def lose(self) -> None:
        """Notes that no boundary is known any more."""
        self.stage = Stage.LOST
        self.spilled = bytes(self.buffer[-MAX_SPILLED_BYTES:])
        self.buffer.clear()
        self.missing = self.skipping = self.passing = 0
        self.serial = None
