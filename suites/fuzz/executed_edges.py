# SPDX-License-Identifier: GPL-2.0-only
"""The edges of the server's code that plays have executed, where the build counts them (`source:fuzz`)."""

from __future__ import annotations

import base64
import zlib

from fixtures.bench.launchers import Launcher
from fixtures.library import EDGES, LibraryLauncher


class ExecutedEdges:
    """Those of the plays of one process. `launcher`: of all its hosts.

    `count`: how many different edges were executed, 0 for a build that does not count them."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher if isinstance(launcher, LibraryLauncher) else None
        self._groups = 0  # one bit for each edge and group of counts, as `EdgeMap.read` has them
        self._told = 0
        self.count = 0

    def clear(self) -> None:
        """Forgets what was executed until now: it belongs to no play."""
        if self._launcher and self._launcher.edges:
            self._launcher.edges.clear()

    def look(self) -> tuple[int, bool]:
        """What was executed since `clear`: the number of edges executed for the first time, and whether any
        edge was executed more or less often than ever before."""
        if self._launcher is None or self._launcher.edges is None:
            return 0, False
        found = int.from_bytes(self._launcher.edges.read(), "little")
        groups = self._groups | found
        if groups == self._groups:
            return 0, False
        before, self.count, self._groups = self.count, counted(groups), groups
        return self.count - before, True

    @property
    def traced(self) -> bool:
        """Whether the build counts its edges; False before its first host."""
        return self._launcher is not None and self._launcher.edges is not None

    def unreported(self) -> str:
        """What was executed since the last call, packed (`unpacked`)."""
        new = self._groups & ~self._told
        self._told = self._groups
        return packed(new)

    def all(self) -> str:
        """Everything that was executed, packed."""
        return packed(self._groups)


def counted(groups: int) -> int:
    """The number of different edges so far."""
    return EDGES - groups.to_bytes(EDGES, "little").count(0)


def packed(groups: int) -> str:
    """Counts as text, short where few edges were executed."""
    return base64.b64encode(zlib.compress(groups.to_bytes(EDGES, "little"))).decode()


def unpacked(text: str) -> int:
    """The inverse of `packed`. Raises ValueError."""
    try:
        raw = zlib.decompress(base64.b64decode(text, validate=True))
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(raw) != EDGES:
        raise ValueError(f"{len(raw)} bytes for {EDGES} edges")
    return int.from_bytes(raw, "little")
