# SPDX-License-Identifier: GPL-2.0-only
"""The state machine for a few seconds with a fixed seed; `spice-conform fuzz` plays it for any time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from dissectors.rules.judgement import Judgement
from fixtures.bench import Bench
from fixtures.bench.launchers import Launcher
from fixtures.bench.planting import requirement
from fixtures.system.hosts import Ability, Host, Settings
from suites.fuzz.campaign import Campaign
from suites.fuzz.play_state import FATAL

EXAMPLES, SEED = 40, 2
#: With a planted fault: a server that hangs takes the whole deadline each time.
EXAMPLES_WITH_A_FAULT = 2


@dataclass(frozen=True)
class Planting:
    """A launcher whose hosts have the bench's planted fault."""

    launcher: Launcher
    bench: Bench

    @property
    def kind(self) -> str:
        """The launcher's kind."""
        return self.launcher.kind

    @property
    def abilities(self) -> frozenset[Ability]:
        """The launcher's abilities."""
        return self.launcher.abilities

    def start(self, label: str, settings: Settings | None = None) -> Host:
        """A fresh host, with the fault if there is one."""
        plants = self.bench.fault.host_faults(label) if self.bench.fault else ()
        return self.launcher.start(label, replace(settings or Settings(), plant=plants))

    def close(self) -> None:
        """Does nothing: the bench closes its launchers itself."""


def launchers(bench: Bench) -> Mapping[str, Launcher]:
    """The bench's launchers, with its fault."""
    return {label: Planting(launcher, bench) for label, launcher in bench.launchers.items()}


@requirement("ROBUST-001", "ROBUST-002")
@pytest.mark.needs(Ability.CALLS, Ability.VIRTUAL_CLOCK, Ability.STATS)
def test_legal_and_illegal_orders(bench: Bench) -> None:
    """No order of messages, links, ends and calls ends the server or makes it hang. All bodies are
    correct."""
    bench.start()
    campaign = Campaign(launchers(bench), "", SEED, mutate=False, shorten=False)
    campaign.run(examples=EXAMPLES_WITH_A_FAULT if bench.fault else EXAMPLES)
    found = [failure.finding for failure in campaign.failures.values()]
    bench.moves += [str(move) for failure in campaign.failures.values() for move in failure.moves]
    bench.take(Judgement(found, campaign.kept), FATAL)
