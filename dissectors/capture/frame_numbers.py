# SPDX-License-Identifier: GPL-2.0-only
"""The frame number of each thing in a recording, known before the recording is written.

`PcapngWriter` makes packets by the same rules, so that a recorder can number its events at once.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Self

from dissectors.framing.events import Ending
from dissectors.wire.constants import Side

#: TCP payload that an IP packet of 65,535 bytes can carry.
LARGEST = 65_495
#: Bytes after which the receiver's acknowledgement is written.
UNACKNOWLEDGED = 1 << 20
#: Packets that open a connection: SYN, SYN and ACK, ACK.
HANDSHAKE = 3
#: Packets that an ending leaves: FIN and its ACK, or RST; the others leave none.
ENDING_PACKETS = {Ending.CLOSED: 2, Ending.RESET: 1}


def segments(size: int, unacknowledged: int) -> Iterator[tuple[int, int, bool]]:
    """(start, end, acknowledged) of the packets that carry `size` bytes; `acknowledged`: the receiver's ACK
    follows as a packet of its own. `unacknowledged`: bytes of this sender before them without an answer."""
    for start in range(0, size, LARGEST):
        end = min(start + LARGEST, size)
        unacknowledged += end - start
        acknowledged = unacknowledged >= UNACKNOWLEDGED
        if acknowledged:
            unacknowledged = 0
        yield start, end, acknowledged


class FrameNumbers:
    """Counts the frames (from 1) of a recording as it grows. `last`: the newest one."""

    def __init__(self) -> None:
        self.last = 0
        self._unacknowledged: Counter[tuple[int, Side]] = Counter()

    def copy(self) -> Self:
        """An independent copy in the same state."""
        made = copy.copy(self)
        made._unacknowledged = self._unacknowledged.copy()
        return made

    def entry(self) -> int:
        """The frame number of a journal entry."""
        self.last += 1
        return self.last

    def opening(self) -> int:
        """The frame number of a connection's SYN."""
        self.last += HANDSHAKE
        return self.last - HANDSHAKE + 1

    def data(self, connection: int, sender: Side, size: int) -> list[tuple[int, int]]:
        """(offset, frame) of each packet that carries a part of `size` bytes."""
        other = Side.SERVER if sender is Side.CLIENT else Side.CLIENT
        self._unacknowledged[connection, other] = 0
        parts = []
        for start, end, acknowledged in segments(size, self._unacknowledged[connection, sender]):
            self.last += 1
            parts.append((start, self.last))
            self._unacknowledged[connection, sender] += end - start
            if acknowledged:
                self.last += 1
                self._unacknowledged[connection, sender] = 0
        return parts

    def ending(self, connection: int, how: Ending) -> int | None:
        """The frame of a connection's FIN or RST; None: this ending leaves no packet."""
        first, count = self.last + 1, ENDING_PACKETS.get(how, 0)
        self.last += count
        for sender in Side:
            self._unacknowledged.pop((connection, sender), None)
        return first if count else None
