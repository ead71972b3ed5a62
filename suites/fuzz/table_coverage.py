# SPDX-License-Identifier: GPL-2.0-only
"""How much of the order tables a campaign has reached.

Only states that an act of a client or a hypervisor leads to are counted, and the steps from these states."""

from __future__ import annotations

from dissectors.conversation.channel_order import MIGRATING_ORDER, SECONDARY_ORDER
from dissectors.conversation.connection_states import NOT_BY_AN_ACT
from dissectors.conversation.main_order import MAIN_ORDER
from suites.fuzz.play_state import Step

_TABLES = ((True, MAIN_ORDER), (True, MIGRATING_ORDER), (False, SECONDARY_ORDER), (False, MIGRATING_ORDER))
#: Every state in the tables that counts: whether on main, and which.
STATES = frozenset(
    (main, state) for main, table in _TABLES for state, _ in table if state not in NOT_BY_AN_ACT
)
#: Every step in the tables that leads from such a state to another one.
LEADS = frozenset(
    (main, state, sender, int(kind))
    for main, table in _TABLES
    for (state, sender), cells in table.items()
    for kind in cells.go
    if (main, state) in STATES
)


def coverage_of(steps: set[Step]) -> dict[str, list[int]]:
    """[reached, of]: the states in which a message was sent, and the steps."""
    reached = {(main, state) for main, state, _, _ in steps} & STATES
    return {"states": [len(reached), len(STATES)], "steps": [len(steps & LEADS), len(LEADS)]}


def coverage(steps: set[Step]) -> str:
    """The coverage in words."""
    return ", ".join(f"{reached} of {all_} {what}" for what, (reached, all_) in coverage_of(steps).items())


def missing(steps: set[Step]) -> list[str]:
    """The states that count and were not reached, in words."""
    reached = {(main, state) for main, state, _, _ in steps}
    return sorted(f"{'main' if main else 'another channel'}: {state}" for main, state in STATES - reached)
