# SPDX-License-Identifier: GPL-2.0-only
"""A play of an explorer that cannot be copied, because its connections are real ones: TLS, WebSocket."""

from __future__ import annotations

from collections.abc import Mapping

from dissectors.framing.events import Event
from dissectors.rules.judgement import Judgement
from fixtures.bench.launchers import Launcher
from suites.fuzz.fresh_play import FreshPlay
from suites.fuzz.moves import Setup


class CarrierPlay(FreshPlay):
    """One play on hosts of its own; beside a `FreshPlay` it has what an explorer and a campaign ask of a
    `BranchPlay`."""

    new = kept = goes_on = can_be_copied = False
    judgement: Judgement | None = None
    stored = 0

    def __init__(self, launchers: Mapping[str, Launcher], setup: Setup) -> None:
        self._events: list[Event] = []
        super().__init__(launchers, setup)

    @property
    def events(self) -> list[Event]:
        """Every event so far."""
        return self._events

    def take_in(self, event: Event) -> None:
        """Applies the event, and also stores it."""
        self._events.append(event)
        super().take_in(event)

    def leave(self, *, everywhere: bool = False) -> None:
        """Nothing: all clients leave at `close`."""

    def close(self, *, judge: bool = True) -> Judgement:
        """As `FreshPlay.close`; this play is always judged."""
        if self.judgement is None:
            self.judgement = super().close()
        return self.judgement

    def abandon(self) -> None:
        """Ends the play's hosts."""
        self.close()
