# SPDX-License-Identifier: GPL-2.0-only
"""The order of the other channels, and that of every channel after SPICE_MSG_MIGRATE."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dissectors.conversation.connection_states import State
from dissectors.conversation.order_rows import NOTHING, Breach, Row, To
from dissectors.wire.constants import MsgBase, MsgcBase, Side

S, C = Side.SERVER, Side.CLIENT
B, BC = MsgBase, MsgcBase
CLIENT_IN_FLIGHT = frozenset({int(BC.SPICE_MSGC_PONG), int(BC.SPICE_MSGC_ACK), int(BC.SPICE_MSGC_ACK_SYNC)})

#: The states of every channel after SPICE_MSG_MIGRATE.
MIGRATING_ORDER: Mapping[tuple[State, Side], Row] = MappingProxyType(
    {
        (State.FLUSH_DUE, S): Row(
            stay=NOTHING,
            breaks={B.SPICE_MSG_MIGRATE_DATA: Breach("MIG-SRC-042", State.GONE)},
            otherwise="MIG-SRC-041",
        ),
        # Messages that the client sent before it read SPICE_MSG_MIGRATE may still come.
        (State.FLUSH_DUE, C): Row(
            go={BC.SPICE_MSGC_MIGRATE_FLUSH_MARK: To(State.DATA_DUE, ("MIG-CLI-009",))},
            breaks={BC.SPICE_MSGC_MIGRATE_DATA: Breach("MIG-CLI-010")},
        ),
        (State.FLUSH_ONLY_DUE, S): Row(stay=NOTHING, otherwise="MIG-SRC-041"),
        (State.FLUSH_ONLY_DUE, C): Row(
            go={BC.SPICE_MSGC_MIGRATE_FLUSH_MARK: To(State.GONE, ("MIG-CLI-009",))}
        ),
        (State.DATA_DUE, S): Row(
            go={B.SPICE_MSG_MIGRATE_DATA: To(State.GONE, ("MIG-SRC-041", "MIG-SRC-042"))},
            stay=NOTHING,
            otherwise="MIG-SRC-041",
        ),
        (State.DATA_DUE, C): Row(stay=CLIENT_IN_FLIGHT, otherwise="MIG-CLI-011"),
        (State.GONE, S): Row(stay=NOTHING, otherwise="MIG-SRC-041"),
        (State.GONE, C): Row(stay=CLIENT_IN_FLIGHT, otherwise="MIG-CLI-011"),
    }
)

#: FLUSH_MARK answers a source's SPICE_MSG_MIGRATE with NEED_FLUSH.
_NO_MARK: dict[int, Breach] = {BC.SPICE_MSGC_MIGRATE_FLUSH_MARK: Breach("MIG-CLI-009")}
SECONDARY_ORDER: Mapping[tuple[State, Side], Row] = MappingProxyType(
    {
        (State.OPEN, S): Row(
            go={B.SPICE_MSG_MIGRATE: To(State.FLUSH_DUE)},
            breaks={B.SPICE_MSG_MIGRATE_DATA: Breach("MIG-SRC-042", State.GONE)},
        ),
        (State.OPEN, C): Row(
            breaks={**_NO_MARK, BC.SPICE_MSGC_MIGRATE_DATA: Breach("MIG-CLI-010")},
        ),
        (State.TARGET_SILENT, S): Row(stay=NOTHING, otherwise="MIG-DST-005"),
        (State.TARGET_SILENT, C): Row(
            breaks={**_NO_MARK, BC.SPICE_MSGC_MIGRATE_DATA: Breach("MIG-CLI-010")},
        ),
        (State.TARGET_RESTORING, S): Row(),
        (State.TARGET_RESTORING, C): Row(
            go={BC.SPICE_MSGC_MIGRATE_DATA: To(State.OPEN, ("MIG-DST-027",))}, breaks=_NO_MARK
        ),
        (State.ORPHAN, S): Row(),
        (State.ORPHAN, C): Row(),
    }
)
