# SPDX-License-Identifier: GPL-2.0-only
"""One breach is one requirement: a message that the order tables forbid, planted anywhere in a recorded
migration, breaks its requirement, and leads to no other finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from random import Random

import pytest

from dissectors.capture.reader import events
from dissectors.channels.inventory import inventory
from dissectors.conversation.connection_states import State
from dissectors.conversation.order_tables import row
from dissectors.framing.events import Event, Message
from dissectors.rules.oracle import Oracle
from dissectors.wire.constants import ChannelType, MsgBase, MsgMain, Side
from fixtures.captures import DIRECTORY

RECORDED = ("semi-seamless", "seamless", "switch-host")
INIT = (ChannelType.SPICE_CHANNEL_MAIN, Side.SERVER, MsgMain.SPICE_MSG_MAIN_INIT)
PLANTED = 40  # in each recording

#: Requirement -> what the same act may break besides: the message is wrong in more than one way.
CONSEQUENCES: Mapping[str, frozenset[str]] = {
    "MAIN-002": frozenset({"CONNID-004", "CONNID-005", "MAIN-014", "MAIN-017", "MAIN-018"}),
    "MIG-DST-002": frozenset({"CONNID-005", "MAIN-017", "MAIN-018"}),
    "MIG-DST-023": frozenset({"CONNID-005"}),
    "MIG-SRC-025": frozenset({"MIG-SRC-009", "MIG-SRC-010", "MIG-SRC-019"}),
    "MAIN-001": frozenset({"MIG-SRC-009", "MIG-SRC-010", "MIG-CLI-001", "MIG-CLI-003"}),
    "MIG-SRC-040": frozenset({"MIG-SRC-043", "MIG-SRC-046", "MIG-SRC-047", "MIG-CLI-009"}),
    "MIG-SRC-041": frozenset({"MIG-SRC-043", "MIG-SRC-046"}),
    "MIG-SRC-042": frozenset({"MIG-SRC-044"}),
    "MIG-CLI-004": frozenset({"MIG-CLI-005"}),
    "MIG-CLI-007": frozenset({"MIG-SRC-049", "MIG-CLI-010"}),
    "MIG-CLI-015": frozenset({"MIG-CLI-005", "MIG-CLI-007", "MIG-CLI-008", "MIG-CLI-010"}),
}


@cache
def bodies() -> dict[tuple[int, Side, int], bytes]:
    found = {(row.channel, row.sender, row.type): row.example for row in inventory()}
    return found | {(0, Side.SERVER, int(MsgBase.SPICE_MSG_MIGRATE)): b"\3\0\0\0"}


@cache
def init_of(name: str) -> bytes:
    """The INIT of a recording: an example's would be wrong in more than its place."""
    init = (e for e in recording(name) if isinstance(e, Message) and e.name == "SPICE_MSG_MAIN_INIT")
    return next(init).body


@cache
def recording(name: str) -> tuple[Event, ...]:
    return tuple(events([DIRECTORY / f"{name}.pcapng.gz"]))


@cache
def places(name: str) -> list[tuple[int, Message, str]]:
    """(after which event, the message, the requirement that it breaks) of all that can be planted."""
    oracle, found = Oracle(), []
    for index, event in enumerate(recording(name)):
        oracle.observe(event)
        if isinstance(event, Message):
            state = oracle.conversation.connections[event.connection].state
            found += [(index, *one) for one in _breaches(event, state, init_of(name))]
    return found


def _breaches(event: Message, state: State, init: bytes) -> Iterator[tuple[Message, str]]:
    for sender in Side:
        for kind, breach in row(event.channel, state, sender).breaks.items():
            body = bodies().get((event.channel, sender, kind), bodies().get((0, sender, kind), b""))
            if (event.channel, sender, kind) == INIT:
                body = init
            yield (
                Message(
                    time=event.time,
                    connection=event.connection,
                    sender=sender,
                    channel=event.channel,
                    type=int(kind),
                    body=body,
                    size=len(body),
                ),
                breach.requirement,
            )


def broken(name: str, index: int, planted: Message) -> set[str]:
    oracle = Oracle()
    whole = recording(name)
    for event in (*whole[: index + 1], planted, *whole[index + 1 :]):
        oracle.observe(event)
    return set(oracle.close().broken)


@pytest.mark.parametrize("name", RECORDED)
def test_one_breach_is_one_requirement(name: str) -> None:
    chosen = Random(name).sample(places(name), PLANTED)
    wrong = {}
    for index, planted, requirement in chosen:
        found = broken(name, index, planted)
        if requirement not in found or found - {requirement} - CONSEQUENCES.get(requirement, frozenset()):
            wrong[index, planted.name, requirement] = found
    assert wrong == {}
