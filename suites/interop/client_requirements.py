# SPDX-License-Identifier: GPL-2.0-only
"""The client's requirements that each kind of migration shows."""

from __future__ import annotations

import pytest

from fixtures.bench.planting import requirement
from fixtures.gtk.gtk_scenarios import ArrivalKind

DUTIES = {
    ArrivalKind.SEMI_SEAMLESS: (
        *("MIG-CLI-001", "MIG-CLI-002", "MIG-CLI-003", "MIG-CLI-004", "MIG-CLI-005", "MIG-CLI-020"),
    ),
    ArrivalKind.SEAMLESS: (
        *("MIG-CLI-001", "MIG-CLI-002", "MIG-CLI-003", "MIG-CLI-007", "MIG-CLI-008"),
        *("MIG-CLI-009", "MIG-CLI-010", "MIG-CLI-011", "MIG-CLI-016", "MIG-CLI-020"),
    ),
    ArrivalKind.SWITCH_HOST: ("MIG-CLI-002", "MIG-CLI-006"),
    ArrivalKind.LATE: ("MIG-CLI-006",),
}
ALWAYS = ("MIG-CLI-013", "MIG-CLI-014", "MIG-CLI-015", "MIG-CLI-017", "MIG-CLI-018", "MIG-CLI-021")


def kinds(*wanted: ArrivalKind) -> pytest.MarkDecorator:
    """One case for each kind, marked with the requirements that it must show."""
    cases = [pytest.param(kind, id=kind, marks=requirement(*DUTIES[kind], *ALWAYS)) for kind in wanted]
    return pytest.mark.parametrize("kind", cases)
