# SPDX-License-Identifier: GPL-2.0-only
"""Plays moves on fresh hosts with clients on real sockets; the oracle judges them.

After each move all its effects have happened (`Pump.settle`), so that the same moves give the same
conversation again. Every finding must show in such a play."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from dissectors.conversation.conversation import Conversation
from dissectors.framing.events import Endpoint, Event
from dissectors.rules.judgement import Finding, Judgement
from dissectors.rules.oracle import Oracle
from dissectors.wire.constants import CommonCap, MainCap
from fixtures.bench.launchers import Launcher
from fixtures.peer import Capabilities, Connection, Deadline, PeerFailure, Pump
from fixtures.peer.pump import Task
from fixtures.system.hosts import Ability, HarnessError, Host
from suites.fuzz import bodies
from suites.fuzz.carriers import port_of, tls_settings, trust, wrap
from suites.fuzz.moves import CALLS, HOSTS, Call, Caps, End, Link, Move, Pass, Send, Setup, Upto
from suites.fuzz.play_state import Key, PlayState

NEEDS = frozenset({Ability.CALLS, Ability.VIRTUAL_CLOCK, Ability.STATS})
#: Longer than every timer of the library (10 s migration, 30 s connectivity), ms.
LONG_MS = 60_000
CAPABILITIES: Mapping[Caps, Capabilities] = {
    Caps.ALL: Capabilities(),
    Caps.FULL_HEADER: Capabilities().without(CommonCap.SPICE_COMMON_CAP_MINI_HEADER),
    Caps.NO_SEAMLESS: Capabilities().without(MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE),
    Caps.NO_MIGRATION: Capabilities().without(
        MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE, MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE
    ),
}
#: Events of a host that does not answer any more, and how long a test waits for them, s.
ENDS = frozenset({"died", "exited", "hung"})
END_SECONDS = 5.0


class FreshPlay(PlayState[Connection]):
    """One play. `launchers`: of source and target. `judgement` is complete after `close`."""

    def __init__(self, launchers: Mapping[str, Launcher], setup: Setup) -> None:
        super().__init__(setup)
        self.launchers = launchers
        self.pump = Pump()
        self.oracle = Oracle()
        self.hosts: dict[str, Host] = {}
        self._made: list[Connection] = []
        self._heard: dict[int, int] = {}  # connection -> events of it that the oracle knows
        self._host_events = 0
        self._files: dict[str, int] = {}

    @property
    def labels(self) -> Collection[str]:
        """The hosts that have been started."""
        return self.hosts

    @property
    def conversation(self) -> Conversation:
        """The conversation as the oracle knows it."""
        return self.oracle.conversation

    @property
    def findings(self) -> Sequence[Finding]:
        """The findings of the oracle so far."""
        return self.oracle.judgement.findings

    @property
    def connections(self) -> Sequence[Connection]:
        """All connections that were made, those that have ended included."""
        return self._made

    def take_in(self, event: Event) -> None:
        """Gives the oracle each event once, in order."""
        self.oracle.observe(event)

    def host(self, label: str) -> Host:
        """A host, started at its first use."""
        if label not in self.hosts:
            with tls_settings(self.setup.carrier) as tls:
                host = self.launchers[label].start(label, replace(self.settings(label), tls=tls))
            self.hosts[label] = host
            self.pump.add_host(host)
            self._files[label] = host.stats()["fds"]
            self._hear_tape()
        return self.hosts[label]

    # ---- moves

    def play(self, move: Move) -> None:
        """Makes a move and waits for its effects. A move whose place does not exist has no effect."""
        self.note_breach(move)
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

    def play_all(self, moves: Iterable[Move], until: Key | None = None) -> list[Move]:
        """Plays moves until the play is over, or until a failure shows; returns the moves that were made."""
        before = len(self.played)
        for move in moves:
            if self.over or (until is not None and until in self.failed()):
                break
            self.play(move)
        return self.played[before:]

    def _call(self, move: Call) -> bool:
        if not self.callable(move):
            return False
        host = self.host(move.host)
        function, arguments = CALLS[move.name]
        with suppress(HarnessError):  # it died or hangs: an event says so
            if move.name == "announce":
                host.announce(self.host(HOSTS[1 - HOSTS.index(move.host)]))
            else:
                host.call(function, **arguments)
        self.called(move)
        return True

    def _link(self, move: Link) -> bool:
        host = self.host(move.host)
        slot, carrier = move.slot, self.setup.carrier
        port = port_of(host, carrier)
        if port is None:
            return False
        with suppress(PeerFailure):
            made = Connection(
                self.pump,
                Endpoint(host.address, port),
                tls=trust(carrier),
                wrap=wrap(carrier),
                channel=move.channel,
                connection_id=self.session_id(move),
                capabilities=CAPABILITIES[move.caps],
            )
            self._made.append(made)
            self.slots.pop(slot, None)  # an earlier connection stays open, out of reach
            self.slots[slot] = made
            if move.upto is Upto.MESS:
                made.send_mess()
            elif move.upto is Upto.LINKED:
                task = self.pump.spawn(made.linking(), str(move))
                self._answered(task)
                task.cancel()
        return True

    def _answered(self, task: Task[Any]) -> None:
        """Waits until the server has sent all that it sends in a link stage."""
        self.pump.settle()

    def _end(self, move: End) -> bool:
        connection = self.connection(move.slot)
        if connection:
            connection.reset() if move.reset else connection.close()
        return connection is not None

    def _send(self, move: Send) -> bool:
        slot = move.slot
        connection = self.connection(slot)
        if connection is None or not self.known(slot).linked:
            return False
        connection.send(move.type, bodies.body(move, connection, self.twin(slot)))
        return True

    def _pass(self, move: Pass) -> bool:
        if move.host not in self.hosts:
            return False
        with suppress(HarnessError):
            self.hosts[move.host].advance(move.ms)
        return True

    # ---- what follows

    def _settle(self) -> None:
        """Waits until all effects have happened; if a process ends, until its end is known."""
        self.pump.settle()
        for label, host in self.hosts.items():
            try:
                host.settle()
            except HarnessError:
                with suppress(Deadline):
                    self.pump.until(partial(self._ended, label), END_SECONDS)
        self._hear_tape()

    def _ended(self, label: str) -> bool:
        return any(e.host == label and e.name in ENDS for e in self.pump.tape.host_events)

    def _hear_tape(self) -> None:
        """Observes the events that are new on the tape."""
        found: list[Event] = []
        tape = self.pump.tape
        for number, track in tape.tracks.items():
            said = [track.opened, *track.events, *([track.closed] if track.closed else [])]
            found += said[self._heard.get(number, 0) :]
            self._heard[number] = len(said)
        found += tape.host_events[self._host_events :]
        self._host_events = len(tape.host_events)
        self.hear(found)

    # ---- the end

    def close(self) -> Judgement:
        """The clients leave, time passes, leftovers are counted, the oracle judges."""
        if not self.over:
            self._leave()
        self.oracle.close()
        self.pump.close()
        for host in self.hosts.values():
            host.stop()
        return self.oracle.judgement

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
