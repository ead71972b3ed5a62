# SPDX-License-Identifier: GPL-2.0-only
"""The hosts right after set-up that plays branch from."""

from __future__ import annotations

from collections.abc import Mapping

from fixtures.bench.launchers import Launcher
from fixtures.library.branch import Branch
from fixtures.library.library_host import LibraryHost
from fixtures.system.hosts import HarnessError, Settings
from suites.fuzz.moves import Setup


class PreparedHosts:
    """The hosts right after set-up, one of each kind: all plays are branches of them.

    `launchers`: of source and target, library builds. Where a display's worker thread runs, which fork() does
    not copy, each play gets a host of its own."""

    def __init__(self, launchers: Mapping[str, Launcher]) -> None:
        self._launchers = launchers
        self._kept: dict[tuple[str, Setup], Branch] = {}

    def branch(self, label: str, setup: Setup, settings: Settings) -> Branch:
        """A host of the play's own, in the state after set-up. Raises HarnessError, Unsupported."""
        if "display" in setup.devices:
            return self._fresh(label, settings)
        prepared = self._kept.get((label, setup))
        if prepared is None or not prepared.host.life().alive:
            prepared = self._kept[label, setup] = self._fresh(label, settings)
        return prepared.branch()

    def _fresh(self, label: str, settings: Settings) -> Branch:
        host = self._launchers[label].start(label, settings)
        if not isinstance(host, LibraryHost):
            host.stop()
            raise HarnessError(f"{label}: only hosts of a library build can be branched")
        return Branch(host)

    def close(self) -> None:
        """Ends every host, and with it its copies."""
        for prepared in self._kept.values():
            prepared.close()
            prepared.host.stop()
        self._kept.clear()
