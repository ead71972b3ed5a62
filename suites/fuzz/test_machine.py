# SPDX-License-Identifier: GPL-2.0-only
"""The machine for a few seconds, always the same: `spice-conform fuzz` does it for as long as one likes."""

from __future__ import annotations

import pytest

from fixtures.bench import Bench
from fixtures.hosts import Ability
from suites.fuzz.campaign import Campaign
from suites.fuzz.stage import FATAL

EXAMPLES, SEED = 30, 2


@pytest.mark.requirement("ROBUST-001", "ROBUST-002")
@pytest.mark.needs(Ability.CALLS, Ability.VIRTUAL_CLOCK, Ability.STATS)
def test_legal_and_illegal_orders(bench: Bench) -> None:
    """No order of messages, links, ends and calls ends the server or makes it hang. Bodies are good ones."""
    bench.start()
    campaign = Campaign(bench.launchers, "", SEED, mutate=False)
    campaign.run(examples=EXAMPLES)
    found = [failure.finding for failure in campaign.failures.values()]
    bench.judgement.findings += [finding for finding in found if finding.requirement in FATAL]
    bench.judgement.kept.update({requirement: campaign.kept[requirement] for requirement in FATAL})
