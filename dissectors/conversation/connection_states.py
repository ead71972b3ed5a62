# SPDX-License-Identifier: GPL-2.0-only
"""The states of a connection, and the groups of them that rules ask about.

States of the main channel
    source: LINKING -> LINKED -> READY -> ANNOUNCED(_SEAMLESS) -> CONNECTED(_SEAMLESS) | REFUSED
            -> ENDED | SWITCHED | the migrating states
    target: LINKING -> TARGET_WAIT -> TARGET_INIT -> READY            (semi-seamless)
                       TARGET_WAIT -> TARGET_ASKED -> TARGET_SEAMLESS -> READY   (seamless)
                       TARGET_ASKED -> TARGET_ANSWERED -> TARGET_INIT_DUE -> READY   (after NACK)
States of the other channels: OPEN, the target's TARGET_SILENT and TARGET_RESTORING, and the migrating states
FLUSH_DUE, DATA_DUE, GONE that SPICE_MSG_MIGRATE leads to by its flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """The state of a connection."""

    LINKING = "linking"
    LINKED = "linked"
    READY = "ready"
    ANNOUNCED = "announced"
    ANNOUNCED_SEAMLESS = "announced seamless"
    REFUSED = "refused"
    CONNECTED = "connected"
    CONNECTED_AGAIN = "connected, said again"
    CONNECTED_SEAMLESS = "connected seamless"
    SEAMLESS_AGAIN = "connected seamless, said again"
    SEAMLESS_UNASKED = "connected seamless to a plain announcement"
    ENDED = "ended"
    SWITCHED = "switched"
    TARGET_WAIT = "target waits"
    TARGET_ANSWERED = "target waits, having answered"
    TARGET_ASKED = "target asked for seamless"
    TARGET_SEAMLESS = "target restores"
    TARGET_REASKED = "target asked again while it restores"
    TARGET_INIT = "target begins"
    TARGET_INIT_DUE = "target begins, having answered"
    TARGET_EARLY = "target began too early"
    OPEN = "open"
    TARGET_SILENT = "target channel waits"
    TARGET_RESTORING = "target channel restores"
    FLUSH_DUE = "flush mark due"
    FLUSH_ONLY_DUE = "flush mark due, no data"
    DATA_DUE = "migrate data due"
    GONE = "gone"
    ORPHAN = "without a session"


#: States that no act of a client or a hypervisor leads to, and why.
NOT_BY_AN_ACT: Mapping[State, str] = MappingProxyType(
    {
        State.FLUSH_ONLY_DUE: "no release asks for a flush mark without data",
        State.TARGET_EARLY: "only a server with a fault gets there",
        State.ORPHAN: "the server lets no channel in that has no session",
    }
)


#: States of a target's main channel: before the client's MIGRATE_END, and between that and INIT.
WAITING = frozenset({State.TARGET_WAIT, State.TARGET_ANSWERED})
INIT_DUE = frozenset({State.TARGET_INIT, State.TARGET_INIT_DUE})

#: States of a session that has not begun.
NOT_BEGUN = frozenset(
    {
        State.TARGET_WAIT,
        State.TARGET_ANSWERED,
        State.TARGET_ASKED,
        State.TARGET_INIT,
        State.TARGET_INIT_DUE,
        State.LINKED,
    }
)

#: States of a source after the client's CONNECTED: MIGRATE_END, or SPICE_MSG_MIGRATE, is due.
CONNECTED = frozenset({State.CONNECTED, State.CONNECTED_AGAIN, State.SEAMLESS_UNASKED})
CONNECTED_SEAMLESS = frozenset({State.CONNECTED_SEAMLESS, State.SEAMLESS_AGAIN})

#: States of a source's channel that is migrating.
MOVING = frozenset({State.FLUSH_DUE, State.FLUSH_ONLY_DUE, State.DATA_DUE, State.GONE})

#: SPICE_MSG_MIGRATE's flags (SpiceMigrateFlags) -> the channel's next state.
AFTER_MIGRATE: Mapping[int, State] = MappingProxyType(
    {0: State.GONE, 1: State.FLUSH_ONLY_DUE, 2: State.DATA_DUE, 3: State.FLUSH_DUE}
)

#: The next state of a target's main channel after DST_DO_SEAMLESS, when the client sends CONNECTED_SEAMLESS
#: to the source without the target's answer: messages that were due there may still come.
TAKEN_ALONG: Mapping[State, State] = MappingProxyType({State.TARGET_ASKED: State.TARGET_SEAMLESS})
