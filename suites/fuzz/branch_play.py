# SPDX-License-Identifier: GPL-2.0-only
"""Plays moves on branches of hosts: copies that start in the state of another play, with the clients inside
the host process.

A play copies only the hosts that its moves touch, and makes several moves in one round trip. It sees ends of
processes and leftovers at once; the rules judge only plays that have shown something new. A finding is played
again on fresh hosts with real sockets (`fresh_play`) before it is reported."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from dissectors.conversation.conversation import Conversation
from dissectors.framing.events import (
    CLAIM,
    Closed,
    Ending,
    Endpoint,
    Event,
    HostEvent,
)
from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.checkpoint import Checkpoint
from dissectors.rules.host_rules import lives
from dissectors.rules.judgement import Finding, Judgement
from dissectors.rules.oracle import Oracle
from dissectors.rules.rule_engine import Broken
from dissectors.wire.constants import Side
from dissectors.wire.link_packets import SpiceLinkMess
from fixtures.library.branch import Branch, Took, printed
from fixtures.system.hosts import HarnessError
from fixtures.system.tape import Tape
from suites.fuzz import bodies
from suites.fuzz.branch_events import BranchConnection, client_event
from suites.fuzz.fresh_play import CAPABILITIES, LONG_MS
from suites.fuzz.moves import (
    CALLS,
    HOSTS,
    MAIN,
    Call,
    Caps,
    End,
    Id,
    Link,
    Move,
    Pass,
    Send,
    Setup,
    Upto,
)
from suites.fuzz.play_state import PlayState
from suites.fuzz.prepared_hosts import PreparedHosts

LEFTOVERS = "ROBUST-003"
#: The end of a play: all clients leave, and time passes.
_LEAVE: Sequence[Sequence[Any]] = (["leave"], ["advance", LONG_MS])


@dataclass
class _BranchedHost:
    """A host of a play: its current branch, whether the branch is this play's own, and the counts after
    set-up."""

    branch: Branch
    own: bool
    files: int
    address: Endpoint


class BranchPlay(PlayState[BranchConnection]):
    """One play. `copy` makes another in the same state; the original must not be played on then."""

    def __init__(self, prepared: PreparedHosts, setup: Setup) -> None:
        super().__init__(setup)
        self.prepared = prepared
        self.places: dict[str, _BranchedHost] = {}
        self.events: list[Event] = []
        self.judgement: Judgement | None = None
        self.new = False  # whether it has shown what no other play has
        self.kept = False  # whether others start from it as from a situation
        self.goes_on = False  # whether the next play begins where this one has ended
        self.stored = 0  # how many of its first moves the corpus holds as a play with new edges
        self._conversation = Conversation()
        self._found: list[Finding] = []  # ends of processes, and leftovers
        self._all: dict[int, BranchConnection] = {}
        self._origin: tuple[Checkpoint | None, int] = (None, 0)  # the judgement of the events before
        self._breach_at: int | None = None  # events before a client's first breach, since the origin
        self._oracle: Oracle | None = None  # until the first copy is made
        self._checkpoint: Checkpoint | None = None

    def freeze(self) -> None:
        """The play stays in this state from now on, to be copied; the rules judge it."""
        self._oracle = self._judge()
        self.judgement = self._oracle.judgement
        self.kept = True

    def copy(self) -> BranchPlay:
        """Another play that goes on from this state."""
        if not self.kept:
            self.freeze()
        if self._checkpoint is None:
            assert self._oracle is not None
            self._checkpoint = Checkpoint(self.events, self._oracle)
            self._oracle = None
        made = BranchPlay(self.prepared, self.setup)
        made.continue_from(self)
        made._conversation = self._checkpoint.conversation()
        made._origin = (self._checkpoint, len(self.events))
        made.stored = self.stored
        made.places = {
            label: _BranchedHost(p.branch, False, p.files, p.address) for label, p in self.places.items()
        }
        made.events = list(self.events)
        made._all = {n: replace(c, last=dict(c.last)) for n, c in self._all.items()}
        made.slots = {slot: made._all[c.number] for slot, c in self.slots.items()}
        return made

    def _judge(self) -> Oracle:
        """An oracle that has observed every event."""
        checkpoint, known = self._origin
        oracle = checkpoint.oracle() if checkpoint else Oracle()
        for number, event in enumerate(self.events[known:], known):
            if number == self._breach_at:
                self._breach = len(oracle.judgement.findings)
            oracle.observe(event)
        if self._breach_at == len(self.events):
            self._breach = len(oracle.judgement.findings)
        return oracle

    @property
    def conversation(self) -> Conversation:
        """The conversation of all events so far."""
        return self._conversation

    @property
    def findings(self) -> Sequence[Finding]:
        """The rules' findings, if the rules have judged; otherwise ends of processes and leftovers."""
        return self._found if self.judgement is None else self.judgement.findings

    def take_in(self, event: Event) -> None:
        """Stores the event, and notes ends of processes."""
        self.events.append(event)
        if isinstance(event, HostEvent) and event.name in ("died", "hung"):
            self._found += [
                Finding.at(CATALOGUE[ruling.requirement], event, ruling.expected, ruling.seen)
                for ruling in lives(self._conversation, event)
                if isinstance(ruling, Broken)
            ]
        self._conversation.apply(event)

    def note_breach(self, move: Move) -> None:
        """Before a move, as in `PlayState`; which findings precede the breach is known when the rules
        judge."""
        if self._breach is None and self._breach_at is None and not self._proper(move):
            self._breach_at = len(self.events)

    @property
    def labels(self) -> Collection[str]:
        """The hosts that have been started."""
        return self.places

    @property
    def can_be_copied(self) -> bool:
        """Whether the play can be copied: not with a display, whose worker thread fork() does not copy, nor
        after its end."""
        return "display" not in self.setup.devices and not self.over

    # ---- moves

    def play_all(self, moves: Sequence[Move]) -> list[Move]:
        """Plays moves, in as few round trips as their meaning allows, until the play is over; returns the
        moves that were played. A move whose place does not exist has no effect."""
        before = len(self.played)
        for label, some in _batches(moves, self.ids):
            if not self.over:
                self._batch(label, some)
        return self.played[before:]

    def _batch(self, label: str, moves: Sequence[Move]) -> None:
        steps: list[list[Any]] = []
        of: list[Move] = []  # the move of each step
        for move in moves:
            self.note_breach(move)
            new = self._steps(move)
            steps += new
            of += [move] * len(new)
        if steps:
            self._take(label, steps, of)

    def _steps(self, move: Move) -> list[list[Any]]:
        match move:
            case Call():
                return self._call(move)
            case Link():
                return self._link(move)
            case Pass():
                return [["advance", move.ms]] if move.host in self.places else []
            case End():
                ended = self.connection(move.slot)
                return [["reset" if move.reset else "close", ended.number]] if ended else []
            case Send():
                slot = move.slot
                connection = self.connection(slot)
                if connection is None:
                    return []
                body = bodies.body(move, connection, self.twin(slot))
                return [["send", connection.number, move.type, body.hex()]]

    def _call(self, move: Call) -> list[list[Any]]:
        if not self.callable(move):
            return []
        function, arguments = CALLS[move.name]
        given: dict[str, Any] = dict(arguments)
        if move.name == "announce":
            other = self._place(HOSTS[1 - HOSTS.index(move.host)]).address
            given |= {"host": other.host, "port": other.port, "tls_port": 0}
        self.called(move)
        return [["call", function, given]]

    def _link(self, move: Link) -> list[list[Any]]:
        slot = move.slot
        made = BranchConnection(len(self._all) + 1, move.channel)
        self._all[made.number] = made
        self.slots.pop(slot, None)  # an earlier connection stays open, out of reach
        self.slots[slot] = made
        steps: list[list[Any]] = [["open", made.number]]
        if move.upto is not Upto.CONNECTED:
            mess = _link_message(self.session_id(move), move.channel, move.caps)
            steps.append(["link" if move.upto is Upto.LINKED else "mess", made.number, mess])
        return steps

    # ---- branches

    def _place(self, label: str) -> _BranchedHost:
        """A host, in the state after set-up at its first use."""
        if label not in self.places:
            branch = self.prepared.branch(label, self.setup, self.settings(label))
            host, counts = branch.host, branch.first.counts
            if counts is None:
                branch.close()
                raise HarnessError(f"{label}: a copy of it died at once: {branch.first.death}")
            at = Endpoint(host.address, host.port or 0)
            self.places[label] = _BranchedHost(branch, True, counts["fds"], at)
            tape = Tape()
            tape.configured(host, self._now())
            self._heard(tape.host_events)
        return self.places[label]

    def _now(self) -> float:
        return self.events[-1].time if self.events else 0.0

    def _take(self, label: str, steps: Sequence[Any], of: Sequence[Move] = ()) -> Took:
        place = self._place(label)
        if place.own:
            took = place.branch.take(steps)
        else:
            place.branch, place.own = place.branch.branch(steps), True
            took = place.branch.first
        events = list(self._events_in(label, took.lines, of))
        if took.death is None:
            events.append(self._settled(label, events))
        else:
            events += self._ended(label, took, events)
        self._heard(events)
        return took

    def _settled(self, label: str, events: Sequence[Event]) -> HostEvent:
        return HostEvent(time=events[-1].time if events else self._now(), host=label, name="settled")

    def _heard(self, events: Sequence[Event]) -> None:
        self.hear(events)

    def _events_in(
        self, label: str, lines: Iterable[dict[str, Any]], of: Sequence[Move] = ()
    ) -> Iterator[Event]:
        """The events in the lines of a branch; notes which moves were made."""
        done: list[Move] = []
        for line in lines:
            if "client" in line:
                time, kind, number, *more = line["client"]
                yield client_event(self._all[number], label, self.places[label].address, time, kind, *more)
            elif "step" in line:
                if of and (not done or done[-1] is not of[line["step"]]):
                    done.append(of[line["step"]])
            else:
                yield HostEvent(
                    time=line["time"],
                    host=label,
                    name=line["event"],
                    args=line["args"],
                    clock_ms=line["clock_ms"],
                )
        self.played += done

    def _ended(self, label: str, took: Took, events: Sequence[Event]) -> Iterator[Event]:
        """The end of a process, and of its connections."""
        now = events[-1].time if events else self._now()
        if took.death == "hung":
            seconds = self.places[label].branch.deadline
            yield HostEvent(time=now, host=label, name="hung", args={"during": "a move", "seconds": seconds})
            return
        for slot, connection in self.slots.items():
            if slot.host == label and not connection.ending:
                connection.ending = str(Ending.DIED)
                yield Closed(time=now, connection=connection.number, how=Ending.DIED, by=Side.SERVER)
        logs = [e for e in events if isinstance(e, HostEvent) and e.name == "log"]
        grave = [e.args["text"] for e in logs if e.args["level"] in ("error", "critical")]
        said = grave or printed(self.places[label].branch.host) or [e.args["text"] for e in logs]
        signal = took.death if (took.death or "").startswith("SIG") else None
        status = None if signal else took.death
        args = {"signal": signal, "status": status, "message": said[-1] if said else None}
        yield HostEvent(time=now, host=label, name="died", args=args)

    # ---- the end

    def leave(self, *, everywhere: bool = False) -> None:
        """The clients leave the hosts that this play has touched (or every host), time passes, and the
        leftovers are counted."""
        for label, place in list(self.places.items()):
            if not self.over and (place.own or everywhere):
                took = self._take(label, _LEAVE)
                if took.counts is not None:
                    self._count(label, took.counts["fds"] - place.files)

    def close(self, *, judge: bool = True) -> None:
        """Ends its branches. `judge`: the rules judge the play first."""
        if judge:
            self.judgement = self._judge().close()
        self.abandon()

    def _count(self, label: str, left: int) -> None:
        args: dict[str, Any] = {"requirement": LEFTOVERS, "kept": left <= 0}
        if left > 0:
            expected, seen = "no descriptors left behind", f"{left} descriptors left behind"
            args |= {"expected": expected, "seen": seen, "about": label, "connection": None}
        claim = HostEvent(time=self._now(), host=label, name=CLAIM, args=args)
        self.events.append(claim)
        if left > 0:
            self._found.append(Finding.at(CATALOGUE[LEFTOVERS], claim, expected, seen))

    def abandon(self) -> None:
        """Ends the play's branches."""
        for place in self.places.values():
            if place.own:
                place.branch.close()
                if not self.can_be_copied and place.branch.parent is None:
                    place.branch.host.stop()


@lru_cache(maxsize=1 << 10)
def _link_message(connection_id: int, channel: int, caps: Caps) -> str:
    """The bytes of a link message, in hexadecimal."""
    fields = CAPABILITIES[caps].fields(channel)
    mess = SpiceLinkMess(connection_id=connection_id, channel_type=channel, channel_id=0, **fields)
    return bytes(mess).hex()


def _batches(moves: Sequence[Move], ids: Mapping[int, int]) -> Iterator[tuple[str, list[Move]]]:
    """Successive moves at one host. A link that gives its client a session id ends a batch, because later
    moves name the id."""
    batch: list[Move] = []
    for move in moves:
        if batch and batch[0].host != move.host:
            yield batch[0].host, batch
            batch = []
        batch.append(move)
        if isinstance(move, Link) and move.channel == MAIN and (move.id is Id.ZERO or move.client not in ids):
            yield move.host, batch
            batch = []
    if batch:
        yield batch[0].host, batch
