# SPDX-License-Identifier: GPL-2.0-only
"""Where an explorer's plays start: on hosts right after set-up, or in kept situations; and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from suites.fuzz.branch_play import BranchPlay
from suites.fuzz.moves import Carrier, Kit, Move, Setup

#: How much more often plays start on hosts that cannot be branched: each such start is one play only.
UNBRANCHED = 8


@dataclass(kw_only=True)
class Beginning:
    """A situation in which plays start."""

    starts: int = 0
    news: int = 0  # how much the plays from here have shown

    @property
    def weight(self) -> float:
        """The weight with which plays start here: more for what they have shown, less for earlier starts."""
        return float((1 + self.news) / (1 + self.starts) ** 1.3)


@dataclass
class FreshHosts(Beginning):
    """Hosts right after set-up, of one kind."""

    kit: Kit
    carrier: Carrier
    plays: list[tuple[Setup, Sequence[Move]]] = field(default_factory=list)  # with new edges; none branched

    @property
    def weight(self) -> float:
        """Each start of hosts that cannot be branched is one play only, and those of others are many."""
        return super().weight * (1 if self.branched else UNBRANCHED)

    @property
    def branched(self) -> bool:
        """Whether its hosts can be branched."""
        return self.carrier is Carrier.TCP and self.kit is not Kit.DISPLAY


@dataclass
class KeptSituation(Beginning):
    """A situation from which plays start. `parent`: the situation that it was branched from, which must
    outlive it."""

    play: BranchPlay
    parent: KeptSituation | None
    states: Sequence[tuple[bool, str]] = ()  # of its open connections: on main, and which
    by_edges: bool = False  # new by its edges alone
    children: int = 0
