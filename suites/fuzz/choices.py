# SPDX-License-Identifier: GPL-2.0-only
"""The possible next moves: legal or illegal by the oracle's tables and the state of the conversation.

A choice is one move, or a few that belong together. Every function lists its choices in a fixed order, so
that a number selects one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from dissectors.conversation.connection_states import State
from dissectors.conversation.order_tables import legal, row
from dissectors.wire.constants import MESSAGE_NAMES, ChannelType, MsgBase, MsgcBase, MsgcMain, Side
from suites.fuzz.moves import (
    CALLS,
    HOSTS,
    MAIN,
    Call,
    Caps,
    End,
    HypervisorPhase,
    Id,
    Link,
    Move,
    Pass,
    Send,
    Slot,
    Upto,
)
from suites.fuzz.play_state import PlayState

Choice = tuple[Move, ...]

CLIENTS = (0, 1, 2)
#: Channel types that no server has, or that these hosts lack.
MISSING = (int(ChannelType.SPICE_CHANNEL_PORT), 200)
#: A message type that no enumeration contains.
UNKNOWN_TYPE = 99
#: Times just before and after the migration timer, ms.
TIMES = (1, 5_000, 9_999, 10_000, 30_000)

#: All calls with which a hypervisor ends a migration.
COMPLETE = ("migrate_start", "vm_stop", "finish")


def messages(play: PlayState[Any]) -> list[Choice]:
    """The messages that the tables allow a client; those that lead to another state come first, and twice."""
    steps: list[Choice] = []
    talk: list[Choice] = []
    for slot in _linked(play):
        leads, rest = _legal(play, slot)
        steps += [(_send(slot, kind),) for kind in leads]
        talk += [(_send(slot, kind),) for kind in rest]
    return steps * 2 + talk


def odd_messages(play: PlayState[Any]) -> list[Choice]:
    """The messages that a client must not send now: every other message of its channel, and one that does not
    exist."""
    found: list[Choice] = []
    for slot in _linked(play):
        leads, rest = _legal(play, slot)
        names = MESSAGE_NAMES.get((slot.channel, Side.CLIENT), {})
        odd = sorted({*names, UNKNOWN_TYPE} - {*leads, *rest})
        found += [(_send(slot, kind),) for kind in odd]
    return found


def _legal(play: PlayState[Any], slot: Slot) -> tuple[list[int], list[int]]:
    """The legal types that lead to another state, and those that do not."""
    return _legal_in(slot.channel, play.known(slot).state)


@lru_cache
def _legal_in(channel: int, state: State) -> tuple[list[int], list[int]]:
    cells = row(channel, state, Side.CLIENT)
    allowed = legal(channel, state, Side.CLIENT)
    if allowed is None:
        allowed = frozenset(MESSAGE_NAMES.get((channel, Side.CLIENT), {})) - frozenset(cells.breaks)
    leads = sorted(kind for kind in cells.go if kind in allowed)
    return leads, sorted(allowed - cells.go.keys())


@lru_cache(maxsize=1 << 14)
def _send(slot: Slot, kind: int, mutation: int = 0) -> Send:
    return Send(slot.client, slot.host, slot.channel, int(kind), mutation)


def mutations(play: PlayState[Any], seed: int) -> list[Choice]:
    """Any message of a channel with a mutated body."""
    return [choice for slot in _linked(play) for choice in _mutations(slot, seed)]


@lru_cache(maxsize=1 << 10)
def _mutations(slot: Slot, seed: int) -> Sequence[Choice]:
    kinds = sorted(MESSAGE_NAMES.get((slot.channel, Side.CLIENT), {}))
    return [(_send(slot, kind, seed),) for kind in kinds]


def _linked(play: PlayState[Any]) -> list[Slot]:
    return [slot for slot in play.open_slots() if play.known(slot).linked]


def links(play: PlayState[Any]) -> list[Choice]:
    """Links of the scheme: a session, its channels, and their links to the target of an announced
    migration."""
    found: list[Choice] = []
    for client in CLIENTS:
        mains = [slot for slot in _linked(play) if slot.client == client and slot.channel == MAIN]
        if not mains:
            found += [(Link(client, "source", MAIN, caps=caps),) for caps in (Caps.ALL, *Caps)]
        for main in mains:
            found += [
                (Link(client, main.host, channel, Id.OWN),)
                for channel in play.setup.channels
                if channel != MAIN and not play.connection(Slot(client, main.host, channel))
            ]
            other = main.on(_other(main.host))
            if play.known(main).state in ANNOUNCED and not play.connection(other):
                found += [(Link(client, other.host, MAIN, Id.OWN),)] * 2
    return found


def odd_links(play: PlayState[Any]) -> list[Choice]:
    """Links with any id to any channel, and links that stop in the middle of the link stage."""
    return _odd_links(play.setup.channels)


@lru_cache
def _odd_links(channels: Sequence[int]) -> list[Choice]:
    found: list[Choice] = [
        (Link(client, host, channel, id_),)
        for client in CLIENTS
        for host in HOSTS
        for channel in (*channels, *MISSING)
        for id_ in Id
    ]
    for host in HOSTS:
        found += [(Link(1, host, MAIN, upto=upto),) for upto in (Upto.CONNECTED, Upto.MESS)]
    return found


def ends(play: PlayState[Any]) -> list[Choice]:
    """A client ends one of its connections, or all of them at a host (main last)."""
    slots = play.open_slots()
    found: list[Choice] = [(_end(slot, reset),) for slot in slots for reset in (False, True)]
    for client in CLIENTS:
        for host in HOSTS:
            mine = _leave(play, client, host)
            found += [mine] if len(mine) > 1 else []
    return found


def _end(slot: Slot, reset: bool = False) -> End:
    return End(slot.client, slot.host, slot.channel, reset)


def _leave(play: PlayState[Any], client: int, host: str) -> Choice:
    here = [slot for slot in play.open_slots() if (slot.client, slot.host) == (client, host)]
    return tuple(_end(slot) for slot in sorted(here, key=lambda slot: slot.channel == MAIN))


def calls(play: PlayState[Any]) -> list[Choice]:
    """Calls that a hypervisor may make; a complete ending of an announced migration comes twice."""
    found: list[Choice] = []
    for host in HOSTS:
        if host == "source" or host in play.labels:
            found += [(call,) for name in CALLS if play.callable(call := Call(host, name))]
            if play.phases[host] is HypervisorPhase.ANNOUNCED:
                start, stop, finish = (Call(host, name) for name in COMPLETE)
                found += [(start, stop, Call(_other(host), "vm_start"), finish)] * 2
    return found


def progress(play: PlayState[Any]) -> list[Choice]:
    """Moves that continue a migration: an announcement to a connected client, the rest of a migration, the
    end of one that has started."""
    found: list[Choice] = []
    mains = {slot.host for slot in _linked(play) if slot.channel == MAIN}
    for host in play.labels:
        phase = play.phases[host]
        start, stop, finish = (Call(host, name) for name in COMPLETE)
        if phase is HypervisorPhase.IDLE and host in mains:
            found.append((Call(host, "announce"),))
        elif phase is HypervisorPhase.ANNOUNCED:
            found.append((start, stop, Call(_other(host), "vm_start"), finish))
        elif phase is HypervisorPhase.STARTED:
            found.append((stop, Call(_other(host), "vm_start"), finish))
    return found


def course(play: PlayState[Any]) -> Choice:
    """The next moves of a migration from the source in which client and hypervisor do their duties, with
    every channel of the machine; empty once it is over."""
    if due := owed(play):
        return due[0]
    slots = _linked(play)
    for main in slots:
        if main.channel == MAIN and main.host == "source" and play.known(main).state is State.READY:
            mine = {slot.channel for slot in slots if (slot.client, slot.host) == (main.client, main.host)}
            if more := tuple(c for c in play.setup.channels if c not in mine):
                return tuple(Link(main.client, main.host, channel, Id.OWN) for channel in more)
    return next((choice for choice in progress(play) if choice[-1].host == "source"), ())


def clocks(play: PlayState[Any]) -> list[Choice]:
    """Moves the virtual clock of a host on."""
    return [(Pass(host, ms),) for host in play.labels for ms in TIMES]


# ---- a client's duties

#: States of main in which the server waits for the client's answer to an announcement.
ANNOUNCED = frozenset({State.ANNOUNCED, State.ANNOUNCED_SEAMLESS})


def owed(play: PlayState[Any]) -> list[Choice]:
    """Each client's current duties, all of them: a client that plays these alone migrates correctly."""
    found: list[Choice] = []
    for slot in _linked(play):
        choice = _owed(play, slot, play.known(slot).state)
        found += [choice] if choice else []
    return found


def _owed(play: PlayState[Any], slot: Slot, state: State) -> Choice:
    there = slot.on(_other(slot.host))
    if state in ANNOUNCED:
        return _answer(play, slot, there, seamless=state is State.ANNOUNCED_SEAMLESS)
    if state is State.ENDED:
        end = _send(there, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)
        return (*_leave(play, slot.client, slot.host), end)
    if state is State.SWITCHED:
        return (*_leave(play, slot.client, slot.host), Link(slot.client, there.host, MAIN))
    if state is State.FLUSH_DUE:
        mark = _send(slot, MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK)
        return (mark, _send(there, MsgcBase.SPICE_MSGC_MIGRATE_DATA), _end(slot))
    if state is State.GONE and play.slots[slot].got(MsgBase.SPICE_MSG_MIGRATE_DATA):
        return (_send(there, MsgcBase.SPICE_MSGC_MIGRATE_DATA), _end(slot))
    return ()


def _answer(play: PlayState[Any], slot: Slot, there: Slot, *, seamless: bool) -> Choice:
    """Links the session's channels to the target, then answers the source."""
    channels = [s.channel for s in play.open_slots() if (s.client, s.host) == (slot.client, slot.host)]
    secondary = [c for c in channels if c != MAIN]
    main = Link(slot.client, there.host, MAIN, Id.OWN)
    others = tuple(Link(slot.client, there.host, c, Id.OWN) for c in secondary)
    ask = (_send(there, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS),) if seamless else ()
    answer = _send(slot, ANSWER[seamless])
    return (main, *ask, *others, answer)


ANSWER: Mapping[bool, MsgcMain] = MappingProxyType(
    {
        False: MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED,
        True: MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS,
    }
)


def _other(host: str) -> str:
    return HOSTS[1 - HOSTS.index(host)]


def pick(choices: Sequence[Choice], dice: int) -> Choice:
    """One of the choices, by a number; an empty choice if there are none."""
    return choices[dice % len(choices)] if choices else ()
