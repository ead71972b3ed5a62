# SPDX-License-Identifier: GPL-2.0-only
"""Plays moves on fresh hosts, under the eyes of the oracle.

After each move everything that follows from it has happened (`Pump.settle`), so that the same moves give the
same conversation again. The oracle hears each event once, in order; its states are what `choices` reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import attrgetter
from typing import cast

from dissectors.conversation.conversation import ANSWERS
from dissectors.conversation.conversation import Connection as Known
from dissectors.conversation.order_tables import State, legal
from dissectors.framing.events import Closed, Endpoint, Event, HostEvent, Message, Opened
from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import FAILING, Finding, Judgement, Level
from dissectors.rules.oracle import Oracle
from dissectors.wire.constants import CommonCap, MainCap, Side
from fixtures.bench.launchers import Launcher
from fixtures.peer import Capabilities, Connection, Deadline, PeerFailure, Pump
from fixtures.peer.copies import Copied, Situation
from fixtures.system.hosts import Ability, HarnessError, Host, Settings
from fixtures.system.tape import MANY_CLIENTS
from suites.fuzz import bodies
from suites.fuzz.moves import (
    CALLS,
    HOSTS,
    MAIN,
    MIGRATING,
    Call,
    Caps,
    End,
    Id,
    Link,
    Move,
    Pass,
    Phase,
    Send,
    Setup,
    Slot,
    Upto,
)

NEEDS = frozenset({Ability.CALLS, Ability.VIRTUAL_CLOCK, Ability.STATS})
WRONG_ID = 0xC0DE_F00D
#: Well past every timer of the library (10 s migration, 30 s connectivity), ms.
LONG_MS = 60_000
CAPABILITIES: Mapping[Caps, Capabilities] = {
    Caps.ALL: Capabilities(),
    Caps.FULL_HEADER: Capabilities().without(CommonCap.SPICE_COMMON_CAP_MINI_HEADER),
    Caps.NO_SEAMLESS: Capabilities().without(MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE),
    Caps.NO_MIGRATION: Capabilities().without(
        MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE, MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE
    ),
}

_CRASH = re.compile(r"it ended by SIG(SEGV|BUS|ILL|FPE|KILL)")
#: An assertion: releases differ in the signal, and in the place and language of the source file.
_ASSERTION = re.compile(r"SIG(?:TRAP|ABRT): (?:\S*/)?([\w-]+)\.c\w*:")
_FIGURES = re.compile(r"0x[0-9a-f]+|\b\d+\b")
#: States of main in which a client has to leave.
LEFT = frozenset({State.ENDED, State.SWITCHED})
#: Events of a host that does not answer any more, and how long they may take to come, s.
ENDS = frozenset({"died", "exited", "hung"})
END_SECONDS = 5.0
#: What ends a play: the process is gone, or does not answer.
FATAL = frozenset({"ROBUST-001", "ROBUST-002"})

#: A step of the oracle's tables: whether on main, the state before it, who sent what.
Step = tuple[bool, State, Side, int]


@dataclass(frozen=True, order=True)
class Key:
    """What makes two failures the same: the requirement, and the symptom without its figures."""

    requirement: str
    symptom: str

    @classmethod
    def of(cls, finding: Finding) -> Key:
        """A finding's key. Of a crash only the signal counts: what was printed last does not belong to it."""
        crash = _CRASH.match(finding.seen)
        seen = _ASSERTION.sub(r"an assertion: \1:", finding.seen)
        return cls(finding.requirement, crash[0] if crash else _FIGURES.sub("#", seen))


class Stage:
    """One play. `launchers`: of source and target. `judgement` is complete after `close`.

    `steps`: the steps of the oracle's tables that were made. `played`: the moves so far.
    """

    def __init__(self, launchers: Mapping[str, Launcher], setup: Setup) -> None:
        self.launchers, self.setup = launchers, setup
        self.pump = Pump()
        self.oracle = Oracle()
        self.hosts: dict[str, Host] = {}
        self.phases = dict.fromkeys(HOSTS, Phase.IDLE)
        self.running = {"source": True, "target": False}
        self.agents = {"source": setup.agent, "target": False}  # the target's comes when it runs
        self._guests = {"target"} if setup.agent else set()
        self.ids: dict[int, int] = {}  # client -> its session's id
        self.slots: dict[Slot, Connection] = {}
        self.played: list[Move] = []
        self.steps: set[Step] = set()
        self._made: list[Connection] = []
        self._heard: dict[int, int] = {}  # connection -> events of it that the oracle knows
        self._host_events = 0
        self._files: dict[str, int] = {}
        self._ports: dict[str, int] = {}  # where each host listened first: a copy of it listens elsewhere
        self._breach: int | None = None  # findings before a client's first breach of the protocol

    def copy(self) -> Stage:
        """Another play that stands where this one stands; this one must be left alone then. Raises
        Unsupported where a host cannot be copied, HarnessError."""
        alive = [connection for connection in self._made if not connection.ending]
        more = self._more_files
        hosts = cast("dict[str, Copied]", self.hosts)  # `Host.copy` says so where it cannot
        copied = Situation(self.pump, hosts, alive).copy()
        twins = {c.number: copied.twins.get(c.number, c) for c in self._made}
        made = Stage(self.launchers, self.setup)
        made.pump, made.hosts, made.oracle = copied.pump, dict(copied.hosts), self.oracle.copy()
        made.phases, made.running, made.agents = dict(self.phases), dict(self.running), dict(self.agents)
        made._guests, made.ids = set(self._guests), dict(self.ids)
        made.slots = {slot: twins[c.number] for slot, c in self.slots.items()}
        made.played, made.steps = list(self.played), set(self.steps)
        made._made = list(twins.values())
        made._heard, made._host_events = dict(self._heard), self._host_events
        made._breach, made._ports = self._breach, dict(self._ports)
        for label, host in made.hosts.items():
            made._files[label] = host.stats()["fds"] - more[label]
        return made

    @cached_property
    def _more_files(self) -> Mapping[str, int]:
        """How many descriptors each host has more than at its start, before there are copies."""
        return {label: host.stats()["fds"] - self._files[label] for label, host in self.hosts.items()}

    @property
    def can_be_copied(self) -> bool:
        """Not with a display, whose worker thread no fork takes along, nor when all is over."""
        return "display" not in self.setup.devices and not self.over

    # ---- what there is

    def host(self, label: str) -> Host:
        """A host, started when it is first needed."""
        if label not in self.hosts:
            host = self.launchers[label].start(label, self._settings(label))
            self.hosts[label] = host
            self.pump.add_host(host)
            self._ports[label] = host.port or 0
            self._files[label] = host.stats()["fds"]
            self._hear()
        return self.hosts[label]

    def _settings(self, label: str) -> Settings:
        return Settings(
            seamless=self.setup.seamless,
            devices=self.setup.devices,
            incoming=label == "target",
            environment={MANY_CLIENTS: "1"} if self.setup.many_clients else {},
        )

    def connection(self, slot: Slot) -> Connection | None:
        """The open connection of a slot."""
        found = self.slots.get(slot)
        return found if found and not found.ending else None

    def open_slots(self) -> list[Slot]:
        """Every slot with an open connection, in the order in which they were linked."""
        return [slot for slot in self.slots if self.connection(slot)]

    def known(self, slot: Slot) -> Known:
        """What the oracle knows of a slot's connection."""
        return self.oracle.conversation.connections[self.slots[slot].number]

    @property
    def over(self) -> bool:
        """Whether a server process has ended or hangs: nothing more can be played."""
        return not FATAL.isdisjoint(self.oracle.judgement.broken)

    def failed(self) -> dict[Key, Finding]:
        """The server's failures so far, each once."""
        return {Key.of(found): found for found in reversed(self.failures())}

    def failures(self) -> list[Finding]:
        """The server's failures so far. A server owes the protocol only to clients that keep it: after a
        client's first breach what counts is that the server bears it (level ROBUST)."""
        return [f for f, counts in self._rated() if counts]

    def provoked(self) -> list[Finding]:
        """What the server did against a MUST once a client had broken the order itself."""
        return [f for f, counts in self._rated() if not counts]

    def _rated(self) -> Iterator[tuple[Finding, bool]]:
        for index, found in enumerate(self.oracle.judgement.findings):
            if found.level in FAILING and CATALOGUE[found.requirement].duty == "server":
                yield found, found.level is Level.ROBUST or self._breach is None or index < self._breach

    # ---- moves

    def play(self, move: Move) -> None:
        """Makes a move and waits for what follows from it. One whose place does not exist does nothing."""
        if self._breach is None and not self._proper(move):
            self._breach = len(self.oracle.judgement.findings)
        match move:
            case Call():
                done = self._call(move)
            case Link():
                done = self._link(move)
            case End():
                done = self._end(move)
            case Send():
                done = self._send(move)
            case Pass():
                done = self._pass(move)
        if done:
            self.played.append(move)
            self._settle()

    def play_all(self, moves: Iterable[Move], until: Key | None = None) -> None:
        """Plays moves until the play is over, or until a failure shows."""
        for move in moves:
            if self.over or (until is not None and until in self.failed()):
                return
            self.play(move)

    def _proper(self, move: Move) -> bool:
        """Whether a client that keeps the protocol could make this move now."""
        if isinstance(move, Link):
            return self._proper_link(move)
        slot = Slot(move.client, move.host, move.channel) if isinstance(move, Send) else None
        if not isinstance(move, Send) or slot is None or slot not in self.slots:
            return True
        known = self.known(slot)
        answers = slot.channel == MAIN and move.type in ANSWERS
        if answers and (known.session is None or known.session.migration is None):
            return False
        allowed = legal(slot.channel, known.state, Side.CLIENT)
        return not move.mutation and (allowed is None or move.type in allowed)

    def _proper_link(self, move: Link) -> bool:
        slot = Slot(move.client, move.host, move.channel)
        main = replace(slot, channel=MAIN)
        left = main in self.slots and self.known(main).state in LEFT
        proper = move.upto is Upto.LINKED and move.id in (Id.ZERO, Id.OWN)
        return proper and not left and self.connection(slot) is None

    def callable(self, move: Call) -> bool:
        """Whether a hypervisor may make this call now: another would be its own misuse."""
        phase, running = self.phases[move.host], self.running[move.host]
        guest = self.setup.agent and running and move.host not in self._guests
        return {
            "finish": phase is Phase.STARTED and not running,
            "vm_start": phase is not Phase.OVER and not running,
            "vm_stop": running,
            "agent_attach": guest and not self.agents[move.host],
            "agent_detach": guest and self.agents[move.host],
        }.get(move.name, move.name in MIGRATING[phase])

    def _call(self, move: Call) -> bool:
        phase = self.phases[move.host]
        leads = MIGRATING[phase].get(move.name)
        if not self.callable(move):
            return False
        host = self.host(move.host)
        function, arguments = CALLS[move.name]
        with suppress(HarnessError):  # it died or hangs: an event says so
            if move.name == "announce":
                other = self.host(HOSTS[1 - HOSTS.index(move.host)])
                host.announce(other, port=self._ports[other.label])
            else:
                host.call(function, **arguments)
        self.phases[move.host] = leads or phase
        if move.name in ("vm_start", "vm_stop"):
            self.running[move.host] = move.name == "vm_start"
            if move.name == "vm_start" and move.host in self._guests:
                self._guests.remove(move.host)
                self.agents[move.host] = True
        if move.name in ("agent_attach", "agent_detach"):
            self.agents[move.host] = move.name == "agent_attach"
        return True

    def _link(self, move: Link) -> bool:
        host = self.host(move.host)
        slot = Slot(move.client, move.host, move.channel)
        if host.port is None:
            return False
        with suppress(PeerFailure):
            made = Connection(
                self.pump,
                Endpoint(host.address, host.port),
                channel=move.channel,
                connection_id=self._id(move),
                capabilities=CAPABILITIES[move.caps],
            )
            self._made.append(made)
            self.slots.pop(slot, None)  # an earlier connection stays open, out of reach
            self.slots[slot] = made
            if move.upto is Upto.MESS:
                made.send_mess()
            elif move.upto is Upto.LINKED:
                task = self.pump.spawn(made.linking(), str(move))
                self.pump.settle()  # the server has said all that it is going to say
                task.cancel()
        return True

    def _id(self, move: Link) -> int:
        other = next((i for client, i in self.ids.items() if client != move.client), 0)
        return {
            Id.ZERO: 0,
            Id.OWN: self.ids.get(move.client, 0),
            Id.OTHER: other,
            Id.WRONG: WRONG_ID,
        }[move.id]

    def _end(self, move: End) -> bool:
        connection = self.connection(Slot(move.client, move.host, move.channel))
        if connection:
            connection.reset() if move.reset else connection.close()
        return connection is not None

    def _send(self, move: Send) -> bool:
        slot = Slot(move.client, move.host, move.channel)
        connection = self.connection(slot)
        if connection is None or not self.known(slot).linked:
            return False
        twins = (self.slots.get(slot.on(host)) for host in HOSTS if host != move.host)
        body = bodies.good(move.type, connection, next(twins))
        connection.send(move.type, bodies.mutated(body, move.mutation) if move.mutation else body)
        return True

    def _pass(self, move: Pass) -> bool:
        if move.host not in self.hosts:
            return False
        with suppress(HarnessError):
            self.hosts[move.host].advance(move.ms)
        return True

    # ---- the oracle

    def _settle(self) -> None:
        """Until all that follows has happened; where a process ends, until that is known."""
        self.pump.settle()
        for label, host in self.hosts.items():
            try:
                host.settle()
            except HarnessError:
                with suppress(Deadline):
                    self.pump.until(partial(self._ended, label), END_SECONDS)
        self._hear()

    def _ended(self, label: str) -> bool:
        return any(e.host == label and e.name in ENDS for e in self.pump.tape.host_events)

    def _hear(self) -> None:
        """Tells the oracle what is new on the tape, and notes the steps and the sessions' ids."""
        for event in self._new_events():
            if isinstance(event, Message):
                known = self.oracle.conversation.connection(event)
                self.steps.add((known.is_main, known.state, event.sender, event.type))
            elif isinstance(event, HostEvent) and event.name == "migrate_end_complete":
                self.phases[event.host] = Phase.IDLE
            self.oracle.observe(self._as_first(event))
        for slot, connection in self.slots.items():
            known = self.oracle.conversation.connections[connection.number]
            if slot.channel == MAIN and known.session is not None and known.session.id:
                self.ids[slot.client] = known.session.id

    def _as_first(self, event: Event) -> Event:
        """A connection to a copy, as one to the first host: an announcement names that one's port."""
        if not isinstance(event, Opened) or event.host not in self._ports:
            return event
        return replace(event, server=replace(event.server, port=self._ports[event.host]))

    def _new_events(self) -> list[Event]:
        found: list[Event] = []
        tape = self.pump.tape
        for number, track in tape.tracks.items():
            said = [track.opened, *track.events, *([track.closed] if track.closed else [])]
            found += said[self._heard.get(number, 0) :]
            self._heard[number] = len(said)
        found += tape.host_events[self._host_events :]
        self._host_events = len(tape.host_events)
        return sorted(_closed_in_time(found), key=attrgetter("time"))

    # ---- the end

    def close(self) -> Judgement:
        """The clients leave, time passes, what is left behind is counted, the oracle speaks."""
        if not self.over:
            self._leave()
        self.oracle.close()
        self.pump.close()
        for host in self.hosts.values():
            host.stop()
        return self.oracle.judgement

    def abandon(self) -> None:
        """Ends the hosts and connections without asking what is left behind."""
        self.pump.close()
        for host in self.hosts.values():
            host.stop()

    def _leave(self) -> None:
        for connection in self._made:
            connection.close()
        self._settle()
        for host in self.hosts.values():
            with suppress(HarnessError):
                host.advance(LONG_MS)
        self._settle()
        for label, host in self.hosts.items():
            with suppress(HarnessError):
                self._count(label, host.stats())

    def _count(self, label: str, now: Mapping[str, int]) -> None:
        left = now["fds"] - self._files[label]
        expected, seen = "no descriptors left behind", f"{left} descriptors left behind"
        claim = self.pump.tape.claim("ROBUST-003", kept=left <= 0, expected=expected, seen=seen, host=label)
        self.oracle.observe(claim)


def _closed_in_time(events: list[Event]) -> list[Event]:
    """The server's closing of a connection is read after the callback that it led to is heard: both belong to
    one move, and the closing comes first."""
    done = [e.time for e in events if isinstance(e, HostEvent) and e.name.endswith("_complete")]
    first = min(done, default=float("inf"))
    dropped = (isinstance(e, Closed) and e.by is Side.SERVER and e.time > first for e in events)
    return [replace(e, time=first) if late else e for e, late in zip(events, dropped, strict=True)]
