# SPDX-License-Identifier: GPL-2.0-only
"""Records in the order of their times, where a capture has them slightly mixed.

Several interfaces, queues or processors hand their packets over in bursts; each packet's time is right all
the same. A larger step back is not mended: the clock was set, or captures were put one behind the other, and
then the order in the file says more than the times.
"""

from __future__ import annotations

from operator import itemgetter

from dissectors.capture.record import Record

#: So far back, seconds, a record may belong: of one interface, of several (dumpcap: about 50 ms).
ONE, SEVERAL = 0.01, 2.0
#: Records that are kept back because an earlier one may still come.
KEPT = 4096

_time = itemgetter(0)


class Order:
    """Takes a file's records batch by batch. Nothing is kept back before the first disorder is seen."""

    def __init__(self) -> None:
        self._kept: list[Record] = []
        self._keeps = False
        self._window = ONE

    def several(self) -> None:
        """The file has several interfaces."""
        self._keeps, self._window = True, SEVERAL

    def take(self, batch: list[Record]) -> list[Record]:
        """The records that are next."""
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
        """So far every record came at its time."""
        return not self._keeps

    def rest(self) -> list[Record]:
        """What was kept back."""
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
