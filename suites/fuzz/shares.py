# SPDX-License-Identifier: GPL-2.0-only
"""The shares of a campaign: what a share is, and the interface of whatever plays shares.

`local_workers.py` plays them in processes of this machine, `dask_workers.py` on a Dask scheduler's
workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

#: A line of a worker's output (`fuzz_worker`).
Line = dict[str, Any]


@dataclass(frozen=True)
class Share:
    """The plays of one worker: a number of examples, or until a time (`time.time()`).

    The same seed and number of examples give the same plays, wherever and however often they are played.
    `number`: the share's number among the `width` shares. `out`: the directory into which all workers write
    findings; None if they share none, and send findings with their files (`finding_file.packed`). `steered`:
    whether new edges of the server's code steer the plays."""

    server: str
    seed: int
    number: int
    width: int
    examples: int | None = None
    until: float | None = None
    out: str | None = None
    corpus: str | None = None
    steered: bool = True

    def order(self) -> Line:
        """The instructions for a new worker."""
        seconds = 1e9 if self.until is None else max(0.0, self.until - time.time())
        return {
            "server": self.server,
            "seed": self.seed,
            "out": self.out,
            "seconds": seconds,
            "examples": self.examples,
            "corpus": self.corpus,
            "steered": self.steered,
            "number": self.number,
            "width": self.width,
        }


@dataclass(frozen=True)
class WorkerLine:
    """A worker has sent a line about a share."""

    number: int
    line: Line


@dataclass(frozen=True)
class Over:
    """A share is over; `lost`: its worker has ended early, and the share has to be assigned again."""

    number: int
    lost: bool = False


class Workers(Protocol):
    """Plays shares. Its methods raise HarnessError if no share can be played any more."""

    #: Whether workers and this process see the same directories.
    one_machine: bool

    def give(self, share: Share) -> None:
        """Starts a share as soon as there is a worker for it."""

    def listen(self, seconds: float) -> Iterator[WorkerLine | Over]:
        """The messages within this many seconds; returns early once some have come."""

    def close(self) -> None:
        """Ends all shares that are still played. Can be called twice."""
