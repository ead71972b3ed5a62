# SPDX-License-Identifier: GPL-2.0-only
"""The input alphabets of the learner.

A letter is a short name and its move (`suites.fuzz.moves`). The wide alphabet of a role comes from the order
tables, for one client and one host: the client's links with each kind of id, every message that the tables of
main or of a secondary channel list as a step or as a breach, the hypervisor's calls, the clock past each
timer, and the ends. The usual alphabet of a subject is a part of it (`USUAL`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dissectors.conversation.channel_order import MIGRATING_ORDER, SECONDARY_ORDER
from dissectors.conversation.connection_states import State
from dissectors.conversation.main_order import MAIN_ORDER
from dissectors.conversation.order_rows import Row
from dissectors.wire.constants import ChannelType, MsgcMain, Side, channel_name, message_name
from suites.fuzz.moves import MAIN, MIGRATING, Call, End, HypervisorPhase, Id, Link, Move, Pass, Send

INPUTS = int(ChannelType.SPICE_CHANNEL_INPUTS)
CHANNELS = (MAIN, INPUTS)
ROLES = ("source", "target")
#: Longer than the migration timer (10 s) and the latency PING (15 s); the client answers PINGs in between.
SHORT_MS = 16_000
#: A client is silent until the server drops it: its PING is due within 15 s; within 30 s more the
#: connectivity timer (30 s) begins to wait for the PONG, and drops the client after another 30 s.
LONG_MS = 91_000
#: The hypervisor's calls of each role.
CALLS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "source": ("announce", "migrate_start", "finish", "fail", "vm_stop", "vm_start"),
        "target": ("vm_start",),
    }
)
#: The ids that clients link main with. An id other than 0 makes a target of any host: only a target gets
#: these, and a target does not announce a migration. Both at once would be the product of two machines, and
#: show little more.
MAIN_IDS: Mapping[str, tuple[Id, ...]] = MappingProxyType(
    {"source": (Id.ZERO,), "target": (Id.ZERO, Id.OWN, Id.WRONG)}
)
SECONDARY_IDS = (Id.ZERO, Id.OWN, Id.WRONG)
#: A message for any state, which is answered at once: it shows whether a session runs.
ASKING = frozenset({int(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)})


#: The letters of the committed models, by role and by whether the host is set up for seamless migration:
#: those that drive the scheme, and those that disturb it. Letters that never make a difference are left out
#: (vm_start and vm_stop: the library checks only for character devices; an id of zero where the server
#: refuses a wrong id alike; a longer wait), and on each role the messages to the other role.
USUAL: Mapping[tuple[str, bool], tuple[str, ...]] = MappingProxyType(
    {
        ("source", False): (
            "main: link, id zero",
            "inputs: link, id own",
            "main: MIGRATE_FLUSH_MARK",
            "main: MIGRATE_CONNECTED",
            "main: MIGRATE_CONNECT_ERROR",
            "call announce",
            "call migrate_start",
            "call finish",
            "call fail",
            "clock 16 s",
            "main: close",
            "inputs: close",
        ),
        ("source", True): (
            "main: link, id zero",
            "inputs: link, id own",
            "main: MIGRATE_FLUSH_MARK",
            "main: MIGRATE_CONNECTED_SEAMLESS",
            "inputs: MIGRATE_FLUSH_MARK",
            "call announce",
            "call migrate_start",
            "call finish",
            "call fail",
            "clock 16 s",
            "main: close",
        ),
        ("target", False): (
            "main: link, id zero",
            "main: link, id wrong",
            "inputs: link, id own",
            "inputs: link, id wrong",
            "main: MIGRATE_FLUSH_MARK",
            "main: MIGRATE_CONNECTED",
            "main: ATTACH_CHANNELS",
            "main: MIGRATE_END",
            "clock 16 s",
            "main: close",
            "inputs: close",
        ),
        ("target", True): (
            "main: link, id wrong",
            "inputs: link, id own",
            "inputs: link, id wrong",
            "main: MIGRATE_DATA",
            "main: ATTACH_CHANNELS",
            "main: MIGRATE_END",
            "main: MIGRATE_DST_DO_SEAMLESS",
            "clock 16 s",
            "main: close",
            "inputs: close",
        ),
    }
)


@dataclass(frozen=True)
class Letter:
    """`name`: the letter's name in models and pictures."""

    name: str
    move: Move


def callable_now(phase: HypervisorPhase) -> frozenset[str]:
    """The calls that a hypervisor may make; any other would be its own mistake (`suites.fuzz.moves`). The
    machine may run or be stopped at any time: the library does not check, and a check would double every
    state."""
    return frozenset(MIGRATING[phase]) | {"vm_start", "vm_stop"}


def alphabet(role: str) -> tuple[Letter, ...]:
    """The wide alphabet of a role, always in the same order: models number their states by it."""
    return tuple(_letters(role))


def names(role: str, seamless: bool, *, wide: bool = False) -> tuple[str, ...]:
    """The names of the letters with which a subject is learned."""
    return tuple(letter.name for letter in alphabet(role)) if wide else USUAL[role, seamless]


def _letters(role: str) -> Iterator[Letter]:
    for channel in CHANNELS:
        for id_ in MAIN_IDS[role] if channel == MAIN else SECONDARY_IDS:
            yield Letter(f"{channel_name(channel)}: link, id {id_}", Link(0, role, channel, id_))
    for channel in CHANNELS:
        for kind in _said(channel):
            short = message_name(channel, Side.CLIENT, kind).removeprefix("SPICE_MSGC_").removeprefix("MAIN_")
            yield Letter(f"{channel_name(channel)}: {short}", Send(0, role, channel, kind))
    for name in CALLS[role]:
        yield Letter(f"call {name}", Call(role, name))
    for ms in (SHORT_MS, LONG_MS):
        yield Letter(f"clock {ms // 1000} s", Pass(role, ms))
    for channel in CHANNELS:
        yield Letter(f"{channel_name(channel)}: close", End(0, role, channel))


def _said(channel: int) -> list[int]:
    """The client's messages that a table lists as a step or as a breach."""
    if channel == MAIN:
        return sorted(ASKING | _named(MAIN_ORDER) | _named(MIGRATING_ORDER))
    return sorted(_named(SECONDARY_ORDER) | _named(MIGRATING_ORDER))


def _named(table: Mapping[tuple[State, Side], Row]) -> set[int]:
    return {
        int(kind)
        for (_, side), row in table.items()
        if side is Side.CLIENT
        for kind in (*row.go, *row.breaks)
    }
