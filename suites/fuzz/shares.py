# SPDX-License-Identifier: GPL-2.0-only
"""A campaign is played in shares; this is what a share is, and what plays shares, wherever that is.

`local_workers.py` plays them in processes of this machine, `dask_workers.py` on a Dask scheduler's workers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

#: A line that a worker has told (`fuzz_worker`).
Line = dict[str, Any]


@dataclass(frozen=True)
class Share:
    """What one worker plays: so many examples, or until a time (`time.time()`).

    The same seed and number of examples play the same wherever and however often they are played. `number`:
    which of the `width` shares. `out`: the directory that all workers write findings to; None where they
    share none, and findings are told with their files (`finding_file.packed`).
    """

    server: str
    seed: int
    number: int
    width: int
    examples: int | None = None
    until: float | None = None
    out: str | None = None
    corpus: str | None = None

    def order(self) -> Line:
        """What a worker that begins now is told."""
        seconds = 1e9 if self.until is None else max(0.0, self.until - time.time())
        return {
            "server": self.server,
            "seed": self.seed,
            "out": self.out,
            "seconds": seconds,
            "examples": self.examples,
            "corpus": self.corpus,
            "number": self.number,
            "width": self.width,
        }


@dataclass(frozen=True)
class Told:
    """A worker has told something of a share."""

    number: int
    line: Line


@dataclass(frozen=True)
class Over:
    """A share is over; `lost`: its worker has ended before its time, and the share has to be given again."""

    number: int
    lost: bool = False


class Workers(Protocol):
    """What plays shares. Its methods raise HarnessError where no share can be played any more."""

    #: Whether workers and this process see the same directories.
    one_machine: bool

    def give(self, share: Share) -> None:
        """Has a share played as soon as there is a worker for it."""

    def listen(self, seconds: float) -> Iterator[Told | Over]:
        """What comes within so many seconds; returns early once something has come."""

    def close(self) -> None:
        """Ends all that is still played. Can be called twice."""
