# SPDX-License-Identifier: GPL-2.0-only
"""Servers with a planted fault of order or state differ from the model of their release, without any rule.

`pytest suites/selftest/suites/model/test_planted_models.py -q --record-only` prints the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from dissectors.wire.constants import MsgBase, MsgMain
from fixtures.bench.planting import Fault, added, lost, put, turned, twice
from fixtures.library import LibraryLauncher
from suites.model.conformance import compared, model_of, words
from suites.model.mealy import Model
from suites.model.model_findings import ModelFinding
from suites.model.snapshot_player import SnapshotPlayer
from suites.model.subject import Subject
from suites.prove import TABLE

#: How many of ten faults must show.
ENOUGH = 8


@dataclass(frozen=True)
class Planted:
    """A fault, and the subject that has it."""

    fault: Fault
    role: str
    seamless: bool = False

    def first(self, launcher: LibraryLauncher, model: Model) -> ModelFinding | None:
        """The first difference from the pristine build's model."""
        subject = Subject(self.role, self.seamless, self.fault.host_faults(self.role))
        player = SnapshotPlayer(launcher, subject, self.fault.rules)
        try:
            return next(compared(model, player, words(model)), None)
        finally:
            player.close()


B, M = MsgBase, MsgMain
FAULTS = (
    Planted(Fault("the migration timer is 20 s late", plant=("timer+20000",)), "source"),
    Planted(
        Fault("migrate_connect_complete never comes", plant=("drop:migrate_connect_complete",)), "source"
    ),
    Planted(Fault("migrate_end_complete comes twice", plant=("twice:migrate_end_complete",)), "source"),
    Planted(Fault("migrate_end_complete comes early", plant=("early:migrate_end_complete",)), "source"),
    Planted(lost(M.SPICE_MSG_MAIN_MIGRATE_CANCEL), "source"),
    Planted(turned(M.SPICE_MSG_MAIN_MIGRATE_END, B.SPICE_MSG_DISCONNECTING, lambda b: bytes(12)), "source"),
    Planted(put("SPICE_MSG_MIGRATE", flags=2), "source", seamless=True),
    Planted(twice(M.SPICE_MSG_MAIN_INIT), "target"),
    Planted(
        added(M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK, M.SPICE_MSG_MAIN_MULTI_MEDIA_TIME, bytes(4)),
        "target",
        seamless=True,
    ),
    Planted(lost(M.SPICE_MSG_MAIN_CHANNELS_LIST, nth=2), "target"),
)


@pytest.fixture(scope="module")
def launcher() -> Iterator[LibraryLauncher]:
    with LibraryLauncher() as made:
        yield made


def test_faults_of_order_and_state_differ_from_the_model(
    launcher: LibraryLauncher, record_property: Callable[[str, object], None]
) -> None:
    version = launcher.identity.version
    models = {s: model_of(version, s) for p in FAULTS for s in (Subject(p.role, p.seamless),)}
    if not all(models.values()):
        pytest.skip(f"models of libspice-server {version} are missing: make models")
    rows = []
    for planted in FAULTS:
        model = models[Subject(planted.role, planted.seamless)]
        assert model is not None
        found = planted.first(launcher, model)
        shown = f"'{found.word[-1]}': {found.seen} (expected: {found.expected[-1]})" if found else "-"
        rows.append(f"{'differs' if found else 'NOT FOUND':10}{planted.fault.name:60}{shown}"[:200])
    record_property(TABLE, "\n".join(rows))
    assert sum(row.startswith("differs") for row in rows) >= ENOUGH
