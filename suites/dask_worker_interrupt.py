# SPDX-License-Identifier: GPL-2.0-only
"""Dask runs this on each worker of our own. A Ctrl-C on the terminal reaches the workers too: it is for the
process that started them, which then ends them in order. Without this they print tracebacks."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


def dask_setup(worker: Any) -> None:
    """Called by Dask in the worker's main thread."""
    signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    """Does nothing. SIG_IGN would be inherited by all that the worker starts."""
