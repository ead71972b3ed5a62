# SPDX-License-Identifier: GPL-2.0-only
"""The state of a play: its connections, its hypervisors, its findings so far.

`choices` reads it; `fresh_play` and `branch_play` advance it, each in its own way."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from dissectors.conversation.connection_states import State
from dissectors.conversation.conversation import ANSWERS, Conversation
from dissectors.conversation.conversation import Connection as Known
from dissectors.conversation.order_tables import legal
from dissectors.framing.events import Closed, Event, HostEvent, Message
from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import FAILING, Finding, Level
from dissectors.wire.constants import Side
from fixtures.system.hosts import SEVERAL_CLIENTS, Settings
from suites.fuzz.moves import (
    HOSTS,
    MAIN,
    MIGRATING,
    NEEDED_DEVICE,
    Call,
    HypervisorPhase,
    Id,
    Link,
    Move,
    Send,
    Setup,
    Slot,
    Upto,
)

WRONG_ID = 0xC0DE_F00D

_CRASH = re.compile(r"it ended by SIG(SEGV|BUS|ILL|FPE|KILL)")
#: An assertion: releases differ in the signal, in the place and language of the source file, and in the form
#: of the function's name, which is a method in the later releases. QEMU writes its own name first.
_ASSERTION = re.compile(r"SIG(?:TRAP|ABRT): (?:.*? )?(?:\S*/)?([\w-]+)\.(?:c\w*|h):\d+:(?:\w+:)? ?")
_FIGURES = re.compile(r"0x[0-9a-f]+|\b\d+\b")
#: An assertion's `this->that`: later releases print `that` alone, a member of the class.
_OWNER = re.compile(r"\b\w+->")
#: What 0.14.3 asserts in its own words -> the words of the later releases.
_REWORDED = {
    "red_channel_get_n_clients(RED_CHANNEL(main_channel))": "get_n_clients()",
    "reds: assertion `n <= 1'": "reds: assertion `clients.size() <= 1'",
}
#: States of main in which a client must leave.
LEFT = frozenset({State.ENDED, State.SWITCHED})
#: The requirements whose findings end a play: the process is gone, or does not answer.
FATAL = frozenset({"ROBUST-001", "ROBUST-002"})

#: A step of the oracle's tables: whether on main, the state before it, the sender, the message.
Step = tuple[bool, State, Side, int]


@dataclass(frozen=True, order=True)
class Key:
    """Two failures with one key are the same: the requirement, and the symptom without its figures."""

    requirement: str
    symptom: str

    @classmethod
    def of(cls, finding: Finding) -> Key:
        """A finding's key. Of a crash only the signal counts: the last printed line need not belong to it."""
        crash = _CRASH.match(finding.seen)
        seen = _OWNER.sub("", _ASSERTION.sub(r"an assertion: \1: ", finding.seen))
        for old, new in _REWORDED.items():
            seen = seen.replace(old, new)
        return cls(finding.requirement, crash[0] if crash else _FIGURES.sub("#", seen))


def ranked(counter: Mapping[Key, int]) -> list[tuple[Key, int]]:
    """The most frequent first, in the same order in every process."""
    return sorted(counter.items(), key=lambda counted: (-counted[1], counted[0]))


class Linked(Protocol):
    """What a play needs to know of a connection."""

    @property
    def number(self) -> int:
        """The connection's number on the tape."""

    @property
    def ending(self) -> object:
        """How the connection ended; None while it is open."""

    def got(self, *types: int) -> Sequence[Message]:
        """Messages of these types, the latest last."""


C = TypeVar("C", bound=Linked)


class PlayState(Generic[C]):
    """One play. `steps`: the steps of the oracle's tables that were made. `played`: the moves so far, the
    first `inherited` of them by earlier plays.

    `running`: whether a host's machine runs; `ids`: each client's session id; `labels`: the hosts that have
    been started."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.phases = dict.fromkeys(HOSTS, HypervisorPhase.IDLE)
        self.running = {"source": True, "target": False}
        self.agents = {"source": setup.agent, "target": False}  # the target's comes with its machine
        self.guests = {"target"} if setup.agent else set()
        self.unplugged: set[tuple[str, str]] = set()  # host and device; as below
        self.sounding: set[tuple[str, str]] = set()
        self.ids: dict[int, int] = {}
        self.slots: dict[Slot, C] = {}
        self.played: list[Move] = []
        self.inherited = 0
        self.steps: set[Step] = set()
        self._breach: int | None = None  # findings before a client's first breach of the protocol

    def continue_from(self, other: PlayState[C]) -> None:
        """Copies the state of another play, except connections and oracle, which the subclass copies."""
        self.phases, self.running, self.agents = dict(other.phases), dict(other.running), dict(other.agents)
        self.guests, self.ids = set(other.guests), dict(other.ids)
        self.unplugged, self.sounding = set(other.unplugged), set(other.sounding)
        self.played, self.steps, self._breach = list(other.played), set(other.steps), other._breach
        self.inherited = len(other.played)

    @property
    def labels(self) -> Collection[str]:
        """The hosts that have been started."""
        raise NotImplementedError

    @property
    def conversation(self) -> Conversation:
        """Everything that has happened, as a conversation."""
        raise NotImplementedError

    @property
    def findings(self) -> Sequence[Finding]:
        """The findings so far, the server's failures among them."""
        raise NotImplementedError

    def take_in(self, event: Event) -> None:
        """Adds an event to the conversation."""
        raise NotImplementedError

    def settings(self, label: str) -> Settings:
        """The settings of a host of this play."""
        return Settings(
            seamless=self.setup.seamless,
            devices=self.setup.devices,
            incoming=label == "target",
            environment=SEVERAL_CLIENTS if self.setup.many_clients else {},
            fresh_keys=False,
        )

    # ---- what there is

    def connection(self, slot: Slot) -> C | None:
        """The open connection of a slot."""
        found = self.slots.get(slot)
        return found if found and not found.ending else None

    def open_slots(self) -> list[Slot]:
        """Every slot with an open connection, in the order of their links."""
        return [slot for slot, connection in self.slots.items() if not connection.ending]

    def known(self, slot: Slot) -> Known:
        """What the oracle knows of a slot's connection."""
        number = self.slots[slot].number
        return self.conversation.connections.get(number) or Known(number)  # it is about to open

    def twin(self, slot: Slot) -> C | None:
        """The same client's connection to the same channel of the other host, open or not."""
        return self.slots.get(slot.on(HOSTS[1 - HOSTS.index(slot.host)]))

    @property
    def over(self) -> bool:
        """Whether a server process has ended or hangs, so that nothing more can be played."""
        return any(found.requirement in FATAL for found in self.findings)

    def failed(self) -> dict[Key, Finding]:
        """The server's failures so far, each once."""
        return {Key.of(found): found for found in reversed(self.failures())}

    def failures(self) -> list[Finding]:
        """The server's failures so far. A server owes the protocol only to clients that keep to it: after a
        client's first breach only survival counts (level ROBUST)."""
        return [f for f, counts in self._rated() if counts]

    def provoked(self) -> list[Finding]:
        """The server's breaches of a MUST after a client had broken the order itself."""
        return [f for f, counts in self._rated() if not counts]

    def _rated(self) -> Iterator[tuple[Finding, bool]]:
        for index, found in enumerate(self.findings):
            if found.level in FAILING and CATALOGUE[found.requirement].duty == "server":
                yield found, found.level is Level.ROBUST or self._breach is None or index < self._breach

    # ---- what a move means

    def note_breach(self, move: Move) -> None:
        """Before a move: notes whether it is a client's first breach of the protocol."""
        if self._breach is None and not self._proper(move):
            self._breach = len(self.findings)

    def _proper(self, move: Move) -> bool:
        if isinstance(move, Link):
            return self._proper_link(move)
        slot = move.slot if isinstance(move, Send) else None
        if not isinstance(move, Send) or slot is None or slot not in self.slots:
            return True
        known = self.known(slot)
        answers = slot.channel == MAIN and move.type in ANSWERS
        if answers and (known.session is None or known.session.migration is None):
            return False
        allowed = legal(slot.channel, known.state, Side.CLIENT)
        return not move.mutation and (allowed is None or move.type in allowed)

    def _proper_link(self, move: Link) -> bool:
        slot = move.slot
        main = replace(slot, channel=MAIN)
        left = main in self.slots and self.known(main).state in LEFT
        proper = move.upto is Upto.LINKED and move.id in (Id.ZERO, Id.OWN)
        return proper and not left and self.connection(slot) is None

    def callable(self, move: Call) -> bool:
        """Whether a hypervisor may make this call now. Any other call would be the hypervisor's mistake, and
        a failure no fault of the server."""
        phase, running = self.phases[move.host], self.running[move.host]
        if move.name in NEEDED_DEVICE:
            return running and self._plugged(move.host, move.name)
        guest = self.setup.agent and running and move.host not in self.guests
        return {
            "finish": phase is HypervisorPhase.STARTED and not running,
            "vm_start": phase is not HypervisorPhase.OVER and not running,
            "vm_stop": running,
            "agent_attach": guest and not self.agents[move.host],
            "agent_detach": guest and self.agents[move.host],
        }.get(move.name, move.name in MIGRATING[phase])

    def _plugged(self, label: str, name: str) -> bool:
        """Whether the device that a guest's act needs is plugged in."""
        device = NEEDED_DEVICE[name]
        if device == "agent":
            return self.agents[label]
        if device in ("playback", "record"):
            return device in self.setup.devices and ((label, device) in self.sounding) != name.endswith(
                "start"
            )
        there = device in self.setup.devices and (label, device) not in self.unplugged
        return there != name.endswith("_attach") and device in self.setup.devices

    def called(self, move: Call) -> None:
        """Notes a call of the hypervisor."""
        if move.name in NEEDED_DEVICE:
            device = {(move.host, NEEDED_DEVICE[move.name])}
            self.unplugged ^= device if move.name.endswith(("_attach", "_detach")) else set()
            self.sounding ^= device if move.name.endswith(("_start", "_stop")) else set()
        phase = self.phases[move.host]
        self.phases[move.host] = MIGRATING[phase].get(move.name) or phase
        if move.name in ("vm_start", "vm_stop"):
            self.running[move.host] = move.name == "vm_start"
            if move.name == "vm_start" and move.host in self.guests:
                self.guests.remove(move.host)
                self.agents[move.host] = True
        if move.name in ("agent_attach", "agent_detach"):
            self.agents[move.host] = move.name == "agent_attach"

    def session_id(self, move: Link) -> int:
        """The connection_id that a link names."""
        other = next((i for client, i in self.ids.items() if client != move.client), 0)
        return {
            Id.ZERO: 0,
            Id.OWN: self.ids.get(move.client, 0),
            Id.OTHER: other,
            Id.WRONG: WRONG_ID,
        }[move.id]

    # ---- what happens

    def hear(self, events: Sequence[Event]) -> None:
        """Applies new events, and notes the steps in the tables and the sessions' ids."""
        for event in sorted(closed_in_time(events), key=attrgetter("time")):
            if isinstance(event, Message):
                known = self.conversation.connection(event)
                self.steps.add((known.is_main, known.state, event.sender, event.type))
            elif isinstance(event, HostEvent) and event.name == "migrate_end_complete":
                self.phases[event.host] = HypervisorPhase.IDLE
            self.take_in(event)
        for slot in self.slots:
            if slot.channel != MAIN:
                continue
            session = self.known(slot).session
            if session is not None and session.id:
                self.ids[slot.client] = session.id


def closed_in_time(events: Sequence[Event]) -> list[Event]:
    """Moves the end of a connection before the callback that it caused: the server closes the connection
    first, but the play is told of the callback first. Both belong to one move."""
    done = [e.time for e in events if isinstance(e, HostEvent) and e.name.endswith("_complete")]
    if not done:
        return list(events)
    first = min(done)
    dropped = (isinstance(e, Closed) and e.by is Side.SERVER and e.time > first for e in events)
    return [replace(e, time=first) if late else e for e, late in zip(events, dropped, strict=True)]
