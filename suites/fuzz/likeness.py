# SPDX-License-Identifier: GPL-2.0-only
"""Which situations, and which moves, are equal to a campaign."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from suites.fuzz.moves import MAIN, Call, End, Link, Move, Pass, Send, Slot
from suites.fuzz.play_state import PlayState

#: The likeness of a situation, or of a move in it.
Likeness = tuple[object, ...]


def likeness(play: PlayState[Any]) -> Likeness:
    """Two situations with one likeness are equal to a campaign: the states of the connections at each host,
    whichever clients have them and however many there are, and the hypervisors' phases."""
    connections = {
        (slot.host, slot.channel == MAIN, str(play.known(slot).state)) for slot in play.open_slots()
    }
    clients = Counter(slot.host for slot in play.open_slots() if slot.channel == MAIN)
    machines = sorted((h, str(play.phases[h]), play.running[h], clients[h] > 1) for h in play.labels)
    hosts = (play.setup.seamless, play.setup.agent, play.setup.kit)
    return (hosts, tuple(sorted(connections)), tuple(machines))


def move_likeness(play: PlayState[Any], move: Move) -> Likeness:
    """The likeness of a move: its type, the state of its connection and of its client's main at the host, and
    how many clients are there."""
    there = {slot.client for slot in play.open_slots() if slot.host == move.host}
    around: Likeness = (play.setup.seamless, play.setup.agent, str(play.phases[move.host]), len(there))
    match move:
        case Send():
            what: Likeness = (move.kind, move.channel, move.type, bool(move.mutation))
            return (*what, move.host, *_states(play, move.client, move.host, move.channel), *around)
        case Link():
            what = (move.kind, move.channel, move.id, move.upto)
            return (*what, move.host, *_states(play, move.client, move.host, move.channel), *around)
        case Call():
            return (move.kind, move.name, move.host, *around)
        case End() | Pass():
            return (move.kind, move.host, *around)


def _states(play: PlayState[Any], client: int, host: str, channel: int) -> Iterator[str]:
    for wanted in dict.fromkeys((channel, MAIN)):
        slot = Slot(client, host, wanted)
        yield str(play.known(slot).state) if slot in play.slots else "none"


def table_states(play: PlayState[Any]) -> list[tuple[bool, str]]:
    """(whether it is on main, its state in the order tables) of each open connection."""
    return [(slot.channel == MAIN, str(play.known(slot).state)) for slot in play.open_slots()]
