# SPDX-License-Identifier: GPL-2.0-only
"""The system under learning: one fresh host, one client, and the proof that nothing more is on its way.

After each move the host reports that its loop is idle, and the kernel reports that every byte written by one
side has arrived at the other (`fixtures.library.host.traffic`). Silence is then an answer, however busy the
machine is. No step waits for a fixed time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dissectors.framing.events import Endpoint, HostEvent
from dissectors.wire.constants import LinkErr, MsgBase, MsgMain, Side, channel_name
from fixtures.bench.launchers import Launcher
from fixtures.library import LibraryHost
from fixtures.library.host.traffic import Traffic
from fixtures.peer import Connection, LinkRefused, PeerFailure, Pump
from fixtures.peer.copies import Situation
from fixtures.peer.pump import Task, clock
from fixtures.relay import Relay, Rule
from fixtures.system.hosts import HarnessError, Settings, Unsupported
from fixtures.system.tape import DEATHS
from suites.fuzz import bodies
from suites.fuzz.moves import CALLS, MAIN, MIGRATING, Call, End, HypervisorPhase, Id, Link, Move, Pass, Send
from suites.model.answers import (
    ANNOUNCED_PORT,
    CLOSED,
    END_COMPLETE,
    HUNG,
    LINKED,
    NOTHING,
    PARTS,
    Answer,
    callbacks,
    death,
    said,
    word,
)
from suites.model.letters import callable_now

PINGS = frozenset({int(MsgBase.SPICE_MSG_PING)})
#: The ids that clients name in place of a correct one: main uses one as if it came from a source; the id that
#: other channels name belongs to no session.
CHOSEN_ID, WRONG_ID = 0xC0DE_F00D, 0xBAD1_D00D
#: The most rounds until nothing is on its way; a round waits for the kernel only if the kernel is behind.
ROUNDS = 400
#: Rounds without news that count as silence behind a relay.
RELAY_ROUNDS = 3
_NONE = Traffic(0, 0, 0, 0)
#: How long the notice of a closing by the server may take, s.
END_SECONDS = 5.0
#: A host that does not answer for this long hangs, however busy the machine is, s.
HANGS_SECONDS = 30.0
#: In an answer, before the channel of a connection that a later link of this channel has replaced.
OLD = "old "


class Unproved(HarnessError):
    """Raised if the test cannot prove that the server has nothing more to send."""


@dataclass(frozen=True)
class Subject:
    """What is learned: the role of the host, and the scheme that it is set up for. `plant`: faults planted in
    the host (`fixtures/library/host/planted_faults.py`; self-tests only)."""

    role: str = "source"
    seamless: bool = False
    plant: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.role}, {'seamless' if self.seamless else 'semi-seamless'}"

    @property
    def key(self) -> str:
        """The subject's part of file names."""
        return f"{self.role}-{'seamless' if self.seamless else 'semi-seamless'}"

    @property
    def settings(self) -> Settings:
        """The settings of the host."""
        return Settings(seamless=self.seamless, incoming=self.role == "target", plant=self.plant)


class Play:
    """One play of moves on one host. It can be copied in its current state; the original must not be played
    on then. `over`: the process is gone, or hangs."""

    def __init__(self, pump: Pump, host: LibraryHost, relay: Relay | None = None) -> None:
        self.host, self.pump = host, pump
        self.over = False
        self._relay = relay
        self._server = Endpoint(host.address, host.port or 0)
        self._slots: dict[int, Connection] = {}
        self._all: list[tuple[str, Connection]] = []
        self._heard: dict[int, int] = {}  # connection -> how many of its messages are in earlier answers
        self._reported_closed: set[int] = set()
        self._left: set[int] = set()  # our ports of connections that the client has ended
        self._events = 0
        self._ignored: frozenset[int] = frozenset()
        self._id = 0
        self._phase = HypervisorPhase.IDLE
        self._linked: str | None = None  # the outcome of the last link

    @classmethod
    def begin(cls, launcher: Launcher, settings: Settings, role: str, rules: Sequence[Rule] = ()) -> Play:
        """Begins on a fresh host. `rules`: faults planted on the wire; such a play cannot be copied. Raises
        HarnessError, Unsupported."""
        host = launcher.start(role, settings)
        if not isinstance(host, LibraryHost):
            host.stop()
            raise Unsupported(
                "learning needs a library build: only its host can prove that it has nothing to do"
            )
        host.deadline = max(host.deadline, HANGS_SECONDS)
        pump = Pump()
        pump.add_host(host)
        if not rules:
            return cls(pump, host)
        relay = Relay(rules, follow=False)
        endpoints = relay.before(host)
        made = cls(pump, host, relay)
        made._server = Endpoint(endpoints.address, endpoints.port or 0)
        return made

    def copy(self) -> Play:
        """Another play in the same state. Raises HarnessError, Unsupported."""
        if self._relay is not None:
            raise Unsupported("a play behind a relay cannot be copied")
        copied = Situation(self.pump, {self.host.label: self.host}, list(self._open())).copy()
        host = copied.hosts[self.host.label]
        assert isinstance(host, LibraryHost)
        made = Play(copied.pump, host)
        made._all = [(name, c if c.ending else copied.twins[c.number]) for name, c in self._all]
        made._slots = {ch: c if c.ending else copied.twins[c.number] for ch, c in self._slots.items()}
        made._heard, made._reported_closed = dict(self._heard), set(self._reported_closed)
        made._id, made._phase = self._id, self._phase
        return made

    def play(self, move: Move) -> Answer:
        """Makes a move; returns its effects. A PING while time passes is left out: whether one is due depends
        on a clock of the server's own, which goes on while a play is frozen. Raises HarnessError if it cannot
        be proved that nothing more follows."""
        self._events = len(self.pump.tape.host_events)
        self._ignored = PINGS if isinstance(move, Pass) else frozenset()
        extra: list[str] = []
        trouble: HarnessError | None = None
        try:
            extra = self._make(move)
            self._quiet()
        except HarnessError as error:
            trouble = error
        answer = self._answer(extra)
        if trouble is not None and not answer.over:  # the host neither died nor hangs: nothing is proved
            raise trouble
        return answer

    def _make(self, move: Move) -> list[str]:
        match move:
            case Link():
                self._link(move)
            case Send():
                connection = self._slots[move.channel]
                connection.send(move.type, bodies.good(move.type, connection, None))
            case End():
                connection = self._slots.pop(move.channel)
                self._left.add(connection.end.port)
                connection.close()
            case Pass():
                self._quiet(acknowledged=True)
                self.host.advance(move.ms)
            case Call():
                result = self._call(move.name)
                return [] if result is None else [f"returns {result}"]
        return []

    def _call(self, name: str) -> Any:
        self._phase = MIGRATING[self._phase].get(name, self._phase)
        if name == "announce":
            return self.host.call("migrate_connect", host="127.0.0.1", port=ANNOUNCED_PORT, tls_port=0)
        function, arguments = CALLS[name]
        return self.host.call(function, **arguments)

    def _link(self, move: Link) -> None:
        wrong = CHOSEN_ID if move.channel == MAIN else WRONG_ID
        wanted = {Id.ZERO: 0, Id.OWN: self._id, Id.OTHER: 0, Id.WRONG: wrong}[move.id]
        try:
            made = Connection(self.pump, self._server, channel=move.channel, connection_id=wanted)
        except PeerFailure as failure:  # nobody listens: it died
            raise HarnessError(str(failure)) from None
        name = channel_name(move.channel)
        self._all = [(OLD + n.removeprefix(OLD) if n == name else n, c) for n, c in self._all]
        self._all.append((name, made))
        self._slots[move.channel] = made
        task = self.pump.spawn(made.linking(), str(move))
        self._quiet()
        task.cancel()
        self._linked = _outcome(task)

    # ---- silence

    def _quiet(self, *, acknowledged: bool = False) -> None:
        """Waits until no byte is on its way; with `acknowledged`, also until the server's kernel knows that
        its bytes have arrived. Raises Unproved, and HarnessError if the host is gone or hangs."""
        if self._relay is not None:
            self._quiet_behind(self._relay)
            return
        for _ in range(ROUNDS):
            before = len(self.pump.tape.chunks)
            there = self.host.traffic()
            late = any(port in there and not there[port].ended for port in self._left)
            for connection in self._open():
                if acknowledged:
                    connection.acknowledge()
                    late |= bool(there.get(connection.traffic()[0], _NONE).due)
                late |= self._late(connection, there)
            self.pump.turn(0.001 if late else 0.0)
            if not late and len(self.pump.tape.chunks) == before:
                self.pump.tape.host_event(HostEvent(time=clock(), host=self.host.label, name="settled"))
                return
        raise Unproved(f"after {ROUNDS} rounds bytes are still on their way")

    def _quiet_behind(self, relay: Relay) -> None:
        """The same with a relay in between, whose bytes are not counted: waits until nothing has come for
        some rounds."""
        still = 0
        while still < RELAY_ROUNDS:
            before = len(self.pump.tape.chunks)
            self.host.settle()
            relay.flush()
            relay.flush()  # what came during the first request
            self.pump.turn(0.001)
            still = still + 1 if len(self.pump.tape.chunks) == before else 0

    def _open(self) -> Iterator[Connection]:
        return (connection for _, connection in self._all if not connection.ending)

    @staticmethod
    def _late(connection: Connection, there: Mapping[int, Traffic]) -> bool:
        """Whether something is on its way on a connection: bytes, or the notice of its end."""
        port, arrived, written = connection.traffic()
        if port not in there:  # the server has closed it, or has not accepted it yet
            return True
        return there[port].arrived < written or arrived < there[port].written

    # ---- the answer

    def _answer(self, extra: list[str]) -> Answer:
        self.pump.turn()
        events = self.pump.tape.host_events[self._events :]
        if over := self._over(events):
            return Answer(over, over=True)
        parts = [f"call {', '.join(extra)}"] if extra else []
        if done := callbacks(events):
            if END_COMPLETE in done:
                self._phase = HypervisorPhase.IDLE
            parts.append(f"host {', '.join(done)}")
        spoken: dict[str, list[str]] = {}
        for name, connection in self._all:
            words = self._words(connection)
            if words:
                spoken[name] = sorted({*spoken.get(name, []), *words}) if OLD in name else words
        parts += [f"{name} {', '.join(spoken[name])}" for name in sorted(spoken)]
        opened = frozenset(channel_name(n) for n, c in self._slots.items() if not c.ending)
        calls = callable_now(self._phase)
        return Answer(PARTS.join(parts) or NOTHING, opened, calls=calls)

    def _words(self, connection: Connection) -> list[str]:
        words: list[str] = []
        wanted = connection.wanted
        chosen = wanted.connection_id
        if self._linked is not None and connection is self._all[-1][1]:
            words.append(self._linked)
            if self._linked == LINKED and wanted.channel == MAIN and chosen:
                self._id = chosen
            self._linked = None
        new = connection.messages[self._heard.get(connection.number, 0) :]
        self._heard[connection.number] = len(connection.messages)
        words += [word(message, chosen) for message in new if message.type not in self._ignored]
        for message in new:
            if wanted.channel == MAIN and message.type == MsgMain.SPICE_MSG_MAIN_INIT:
                self._id = int(message.packet.session_id)
        closed = connection.closed
        if closed and closed.by is Side.SERVER and connection.number not in self._reported_closed:
            self._reported_closed.add(connection.number)
            words.append(CLOSED)
        return said(words)

    def _over(self, events: list[HostEvent]) -> str | None:
        """How the process ended, if it has."""
        life = self.host.wait_death(END_SECONDS) if self._dying() else self.host.life()
        if not life.alive:
            if life.signal == "SIGKILL":
                raise HarnessError(f"somebody killed the process of the {self.host.label}")
            self.over = True
            return death(life.signal, life.message)
        if any(event.name == "hung" for event in events):
            self.over = True
            return HUNG
        return None

    def _dying(self) -> bool:
        return any(event.name in DEATHS for event in self.pump.tape.host_events)

    def close(self) -> None:
        """Closes all connections and the host. Can be called twice."""
        self.pump.close()
        if self._relay is not None:
            self._relay.stop()
        self.host.stop()


def _outcome(task: Task[None]) -> str:
    """The outcome of a link."""
    if task.done and task.error is None:
        return LINKED
    error = task.error
    if isinstance(error, LinkRefused) and error.error is not None:
        return f"refused {LinkErr(error.error).name.removeprefix('SPICE_LINK_ERR_')}"
    return "no answer to the link"
