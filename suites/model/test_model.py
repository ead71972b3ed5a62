# SPDX-License-Identifier: GPL-2.0-only
"""Whether a build answers as the released server of its version. `spice-conform learn` makes the models."""

from __future__ import annotations

from collections import Counter

import pytest

from dissectors.rules.judgement import Judgement
from dissectors.wire.constants import MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import requirement, twice
from fixtures.system.hosts import Ability, Unsupported
from suites.model.conformance import compared, model_of, words
from suites.model.model_findings import REQUIREMENT
from suites.model.snapshot_player import SnapshotPlayer
from suites.model.subject import Subject

#: A session that begins twice.
TWICE = twice(MsgMain.SPICE_MSG_MAIN_INIT, case="target-semi-seamless")


@requirement("MODEL-001", fault=TWICE)
@pytest.mark.needs(Ability.CALLS, Ability.VIRTUAL_CLOCK, Ability.COPIES)
@pytest.mark.parametrize("seamless", [False, True], ids=["semi-seamless", "seamless"])
@pytest.mark.parametrize("role", ["source", "target"])
def test_as_its_release(bench: Bench, role: str, seamless: bool) -> None:
    """The server answers in every state as the release of its version does."""
    plant = bench.fault.host_faults(role) if bench.fault else ()
    subject = Subject(role, seamless, plant)
    version = bench.start(role, seamless=seamless, incoming=role == "target").identity.version
    model = model_of(version, subject)
    if model is None:
        raise Unsupported(f"there is no model of libspice-server {version}: make models")
    player = SnapshotPlayer(bench.launchers[role], subject, bench.fault.rules if bench.fault else ())
    bench.belongings.callback(player.close)
    asked = words(model)
    found = [difference.finding() for difference in compared(model, player, asked)]
    bench.take(Judgement(found, Counter({} if found else {REQUIREMENT: len(asked)})), {REQUIREMENT})
