# SPDX-License-Identifier: GPL-2.0-only
"""Sorts the records of a capture by time where they are slightly out of order.

Several interfaces, queues or processors deliver their packets in bursts, but with right times. A larger step
back is not sorted: then the clock was set, or captures were concatenated, and the order in the file is
more reliable than the times.
"""

from __future__ import annotations

from operator import itemgetter

from dissectors.capture.record import Record

#: The farthest that a record is moved back, seconds: with one interface, with several (dumpcap: about 50 ms).
ONE, SEVERAL = 0.005, 2.0
#: The most records that are held because an earlier one may still come.
KEPT = 4096

_time = itemgetter(0)


class Order:
    """Takes a file's records batch by batch. It holds none before the first one out of order."""

    def __init__(self) -> None:
        self._kept: list[Record] = []
        self._keeps = False
        self._window = ONE

    def several(self) -> None:
        """Notes that the file has several interfaces."""
        self._keeps, self._window = True, SEVERAL

    def take(self, batch: list[Record]) -> list[Record]:
        """Takes the next records of the file; returns those whose order is certain."""
        batch = self._kept + batch
        ordered = sorted(batch, key=_time)
        if ordered != batch:
            self._keeps = True
            ordered = self._mend(batch)
        if not self._keeps or not ordered:
            self._kept = []
            return ordered
        edge = ordered[-1][0] - self._window
        index = len(ordered)
        while index and ordered[index - 1][0] > edge and len(ordered) - index < KEPT:
            index -= 1
        self._kept = ordered[index:]
        return ordered[:index]

    @property
    def in_order(self) -> bool:
        """Whether every record so far was in order."""
        return not self._keeps

    def rest(self) -> list[Record]:
        """Returns the records that are still held."""
        kept, self._kept = self._kept, []
        return kept

    def _mend(self, batch: list[Record]) -> list[Record]:
        """Sorted between the larger steps back."""
        mended: list[Record] = []
        begun, latest = 0, batch[0][0]
        for index, record in enumerate(batch):
            if record[0] < latest - self._window:
                mended += sorted(batch[begun:index], key=_time)
                begun, latest = index, record[0]
            elif record[0] > latest:
                latest = record[0]
        return mended + sorted(batch[begun:], key=_time)
