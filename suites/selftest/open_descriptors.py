# SPDX-License-Identifier: GPL-2.0-only
"""What a test leaves open in its own process, whatever earlier tests have left."""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path


class OpenDescriptors:
    """This process's descriptors at the moment when this is made.

    A count would not do: garbage of an earlier test may go, and close its own, in the middle of this one."""

    def __init__(self) -> None:
        self._before = _open_now()

    def since(self) -> set[tuple[str, str]]:
        """What was opened since and is still open: the name in /proc/self/fd and what it leads to."""
        return _open_now() - self._before


def _open_now() -> set[tuple[str, str]]:
    gc.collect()
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor that lists
            found.add((descriptor.name, str(descriptor.readlink())))
    return found
