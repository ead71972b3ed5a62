# SPDX-License-Identifier: GPL-2.0-only
"""Plays that start where others stand: situations that are new are kept, and copied for what is played next.

A play takes a kept situation (or fresh hosts), makes a few moves from there and ends. What steers it:

- A situation is kept when nothing like it has been seen: the states of all connections, the hypervisors'
  phases, what the hosts are set up for. Situations from which few plays have started come first.
- A situation from which plays have shown something new is taken more often.
- A move that is known to end the process in such a state is rare, so that plays go on behind it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from fixtures.bench.launchers import Launcher
from fixtures.system.hosts import HarnessError, Unsupported
from suites.fuzz import choices
from suites.fuzz.choices import Choice
from suites.fuzz.moves import MAIN, Call, End, Kit, Link, Move, Pass, Send, Setup, Slot
from suites.fuzz.playground import Stage

#: Situations that are kept at most: each has its hosts' processes.
MOST = 48
#: Moves of one play behind its beginning, at most.
LONGEST = 8
#: One play of so many begins with fresh hosts, and one deadly move of so many is played all the same.
FRESH, DEADLY = 25, 40
#: Kinds of choices, and how often each is taken.
KINDS: Sequence[tuple[int, Callable[[Stage], list[Choice]]]] = (
    (5, choices.messages),
    (5, choices.owed),
    (4, choices.calls),
    (2, choices.links),
    (2, choices.clocks),
    (2, choices.ends),
    (2, choices.odd_links),
    (4, choices.odd_messages),
)
MUTATIONS = 4
MAX_SEED = 0xFFFF

#: What a situation is like, or a move in it.
Likeness = tuple[object, ...]


def likeness(stage: Stage) -> Likeness:
    """Two situations with one likeness are the same to a campaign: the states of the connections at each
    host, whoever has them and however many there are, and the hypervisors' phases."""
    connections = {
        (slot.host, slot.channel == MAIN, str(stage.known(slot).state)) for slot in stage.open_slots()
    }
    clients = Counter(slot.host for slot in stage.open_slots() if slot.channel == MAIN)
    machines = sorted((h, str(stage.phases[h]), stage.running[h], clients[h] > 1) for h in stage.hosts)
    hosts = (stage.setup.seamless, stage.setup.agent, stage.setup.kit)
    return (hosts, tuple(sorted(connections)), tuple(machines))


def move_likeness(stage: Stage, move: Move) -> Likeness:
    """A move with what it meets: the state of its connection and of its client's main there, and how many
    clients are there."""
    there = {slot.client for slot in stage.open_slots() if slot.host == move.host}
    around: Likeness = (stage.setup.seamless, stage.setup.agent, str(stage.phases[move.host]), len(there))
    match move:
        case Send():
            what: Likeness = (move.kind, move.channel, move.type, bool(move.mutation))
            return (*what, move.host, *_states(stage, move.client, move.host, move.channel), *around)
        case Link():
            what = (move.kind, move.channel, move.id, move.upto)
            return (*what, move.host, *_states(stage, move.client, move.host, move.channel), *around)
        case Call():
            return (move.kind, move.name, move.host, *around)
        case End() | Pass():
            return (move.kind, move.host, *around)


def _states(stage: Stage, client: int, host: str, channel: int) -> Iterator[str]:
    for wanted in dict.fromkeys((channel, MAIN)):
        slot = Slot(client, host, wanted)
        yield str(stage.known(slot).state) if slot in stage.slots else "none"


@dataclass
class Kept:
    """A situation that plays start from. `parent`: the one it was copied from, which must outlive it."""

    stage: Stage
    parent: Kept | None
    starts: int = 0
    news: int = 0  # how much the plays from here have shown
    children: int = 0

    @property
    def weight(self) -> float:
        """How much it deserves to be played from."""
        return float((1 + self.news) / (1 + self.starts) ** 1.3)


@dataclass
class Explorer:
    """For one thread; close it when all is played. The same seed plays the same.

    `visits`: how often each state of the tables was there after a move. `deadly`: how often a move in its
    state has ended the process, and how often it was played. `found` hears of each new situation.
    """

    launchers: Mapping[str, Launcher]
    seed: int
    mutate: bool = True
    situations: dict[Likeness, Kept] = field(default_factory=dict)
    seen: set[Likeness] = field(default_factory=set)
    visits: Counter[tuple[bool, str]] = field(default_factory=Counter)
    deadly: Counter[Likeness] = field(default_factory=Counter)
    played: Counter[Likeness] = field(default_factory=Counter)
    avoided: int = 0
    found: Callable[[Setup, Sequence[Move]], None] = lambda _, __: None

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def play(self) -> Stage:
        """One play, as far as it goes; whoever asked ends it. Raises HarnessError where no host starts."""
        kept = self._beginning()
        stage = kept.stage.copy() if kept else self._fresh()
        if kept:
            kept.starts += 1
        for _ in range(self._dice.randint(2, LONGEST)):
            if stage.over:
                break
            new = self._some(stage, self._choice(stage))
            if kept and new:
                kept.news += 1
            if new and stage.can_be_copied:
                stage, kept = self._keep(stage, kept)
        return stage

    def again(self, setup: Setup, moves: Sequence[Move]) -> Stage:
        """A play of given moves from nothing, learnt from as from any other."""
        stage = Stage(self.launchers, setup)
        kept = None
        for move in moves:
            if not stage.over and self._some(stage, (move,), always=True) and stage.can_be_copied:
                stage, kept = self._keep(stage, kept)
        return stage

    def close(self) -> None:
        """Ends every kept situation, the youngest first: copies end with their originals."""
        for kept in reversed(list(self.situations.values())):
            kept.stage.abandon()
        self.situations.clear()

    # ---- beginnings

    def _beginning(self) -> Kept | None:
        kept = list(self.situations.values())
        if not kept or self._dice.randrange(FRESH) == 0:
            return None
        return self._dice.choices(kept, [one.weight for one in kept])[0]

    def _fresh(self) -> Stage:
        dice = self._dice
        kit = dice.choices((Kit.INPUTS, Kit.MANY, Kit.DISPLAY), (8, 3, 1))[0]
        setup = Setup(dice.random() < 0.6, dice.random() < 0.5, kit, dice.random() < 0.1)
        stage = Stage(self.launchers, setup)
        first = choices.links(stage) if dice.random() < 0.5 else choices.links(stage)[:1]
        self._some(stage, dice.choice(first))
        return stage

    def _keep(self, stage: Stage, parent: Kept | None) -> tuple[Stage, Kept | None]:
        """Keeps the situation as it stands; the play that goes on, and where it began."""
        like = likeness(stage)
        if like in self.situations:
            return stage, parent
        with suppress(HarnessError, Unsupported):  # it goes on by itself where it cannot be copied
            going_on = stage.copy()
            self.found(stage.setup, stage.played)
            kept = self.situations[like] = Kept(stage, parent)
            if parent:
                parent.children += 1
            self._make_room(kept)
            return going_on, kept
        return stage, parent

    def _make_room(self, new: Kept) -> None:
        """Ends the situation that deserves least, of those that no other was copied from."""
        while len(self.situations) > MOST:
            leaves = [(k.weight, n) for n, k in enumerate(self.situations.values()) if not k.children]
            leaves = [(w, n) for w, n in leaves if list(self.situations.values())[n] is not new]
            if not leaves:
                return
            like = list(self.situations)[min(leaves)[1]]
            gone = self.situations.pop(like)
            gone.stage.abandon()
            if gone.parent:
                gone.parent.children -= 1

    # ---- moves

    def _choice(self, stage: Stage) -> Choice:
        dice = self._dice
        for _ in range(6):
            number = dice.randrange(sum(weight for weight, _ in KINDS) + MUTATIONS * self.mutate)
            chosen = choices.pick(self._offered(stage, number), dice.randrange(MAX_SEED))
            if chosen and not self._avoids(stage, chosen):
                return chosen
        return ()

    def _offered(self, stage: Stage, number: int) -> list[Choice]:
        for weight, offered in KINDS:
            if number < weight:
                return offered(stage)
            number -= weight
        return choices.mutations(stage, self._dice.randint(1, MAX_SEED))

    def _avoids(self, stage: Stage, chosen: Choice) -> bool:
        like = move_likeness(stage, chosen[0])
        if self.deadly[like] < 2 or self.deadly[like] * 2 < self.played[like]:
            return False
        self.avoided += 1
        return self._dice.randrange(DEADLY) > 0

    def _some(self, stage: Stage, chosen: Choice, *, always: bool = False) -> bool:
        """Makes the moves of a choice; whether they have led to a situation that nobody has seen."""
        for move in chosen:
            if stage.over:
                break
            like = move_likeness(stage, move)
            if not always and move is not chosen[0] and self._avoids(stage, (move,)):
                break
            steps, messages = set(stage.steps), len(stage.pump.tape.host_events)
            stage.play(move)
            self.played[like] += 1
            self.deadly[like] += bool(stage.over)
            told = {event.name for event in stage.pump.tape.host_events[messages:]} - {"log", "channel_event"}
            outcome = (like, frozenset(stage.steps - steps), frozenset(told), stage.over)
            self.seen.add(outcome)
            for slot in stage.open_slots():
                self.visits[slot.channel == MAIN, str(stage.known(slot).state)] += 1
        situation = likeness(stage)
        new = situation not in self.seen and not stage.over
        self.seen.add(situation)
        return new
