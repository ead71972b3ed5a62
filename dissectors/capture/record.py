# SPDX-License-Identifier: GPL-2.0-only
"""The records of capture files; most are packets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

#: (time, frame, link type or one of the marks below, buffer, start, end, bytes on the wire, file)
Record = tuple[float, int, int, bytes, int, int, int, int]

JOURNAL = -1  # a systemd journal entry in the export format
SECRETS = -2  # lines of a TLS key log
IDLE = -3  # a followed file has nothing new for now

#: No record or block is larger (Wireshark's own bound): a larger size means that the file is damaged.
LIMIT = 1 << 24

#: `shb_userappl` of the files that this project writes begins so: every connection in them is SPICE.
OWN_APPLICATION = "SPICE conformance"

Progress = Callable[[int, int | None], None]


class Format(Protocol):
    """Reads the records of one open file; knows how far it has come."""

    own: bool  # recorded by this project
    several: bool  # packets of several interfaces, each in its own order

    def parse(self, buffer: bytes, position: int, out: list[Record]) -> int:
        """Append the whole records that `buffer` has from `position` on; the position where it stopped.

        Raises ValueError (one line) at damage; what was appended before stays good.
        """
