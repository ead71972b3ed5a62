# SPDX-License-Identifier: GPL-2.0-only
"""One direction of a connection while it is framed: what its next bytes are, and what is held of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import Enum, auto

MAX_SPILLED_BYTES = 1 << 18  # that are kept when a direction gets lost


class Stage(Enum):
    """What the next bytes of one direction are."""

    MESS = auto()
    REPLY = auto()
    MECHANISM = auto()
    TICKET = auto()
    SASL = auto()
    RESULT = auto()
    DATA = auto()
    WAIT = auto()  # undecided until the other side has spoken
    OVER = auto()  # the link failed: nothing more is due
    LOST = auto()  # no boundary is known


@dataclass
class Direction:
    """What is known of one side's bytes."""

    stage: Stage
    buffer: bytearray = field(default_factory=bytearray)
    missing: int = 0  # bytes of the present message that a gap has swallowed
    skipping: int = 0  # bytes of a quiet message that are still to come; its others were let go
    skipped: tuple[int, int] = (0, 0)  # type and whole size of that message
    serial: int | None = None  # of the last message, with full headers
    spilled: bytes = b""  # what was there when the direction got lost
    sasl_steps: int = 0
    counts: Counter[int] = field(default_factory=Counter)  # messages by type
    size: int = 0  # bytes of these messages

    def copy(self) -> Direction:
        """The same, to go on for itself."""
        return replace(self, buffer=bytearray(self.buffer), counts=Counter(self.counts))

    def lose(self) -> None:
        """No boundary is known any more."""
        self.stage = Stage.LOST
        self.spilled = bytes(self.buffer[-MAX_SPILLED_BYTES:])
        self.buffer.clear()
        self.missing = self.skipping = 0
        self.serial = None
