# SPDX-License-Identifier: GPL-2.0-only
"""Asks about each case of a run, in other processes if there are many.

The processes are forked at once and have the run from then on: only numbers are handed to them. Objects would
be pickled in the background, and that fails for a case whose cached properties are filled meanwhile.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from reports.run.packed_evidence import TOGETHER

#: Fewer cases than this are asked about in one process.
MANY = 60
#: How many cases a process gets at a time: those whose packets one archive holds, more or less.
CHUNK = TOGETHER

Answer = TypeVar("Answer")


@contextmanager
def answers(ask: Callable[[int], Answer], count: int, young: int | None = None) -> Iterator[Iterator[Answer]]:
    """The answers for the cases 0 to `count` - 1, in this order. `ask` raises as it does in one process.
    `young`: how many objects a process creates between two garbage collections, if not as usual; these then
    leave alone what the processes share."""
    if count < MANY:
        yield map(ask, range(count))
        return
    if young:
        gc.freeze()
    pool = ProcessPoolExecutor(
        os.cpu_count(), mp_context=get_context("fork"), initializer=_begin, initargs=(ask, young)
    )
    try:
        yield pool.map(_ask, range(count), chunksize=CHUNK)
    finally:
        pool.shutdown(cancel_futures=True)
        if young:
            gc.unfreeze()


_asked: Callable[[int], Any]


def _begin(ask: Callable[[int], Any], young: int | None) -> None:
    """Initialises a process of the pool."""
    global _asked
    _asked = ask
    if young:
        gc.set_threshold(young)


def _ask(number: int) -> Any:
    return _asked(number)
