# SPDX-License-Identifier: GPL-2.0-only
"""Plays that start where others stand: new situations are kept, and branched for what is played next.

A play takes a kept situation (or hosts as they are after set-up), makes a few moves from there and ends.
What steers it:

- A situation is kept when nothing like it has been seen: the states of all connections, the hypervisors'
  phases, what the hosts are set up for. Situations from which few plays have started come first.
- A situation from which plays have shown something new is taken more often.
- Of a few moves that chance offers, the one that was made least often in such a state is made.
- A move that is known to end the process in such a state is rare, so that plays go on behind it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dissectors.framing.events import HostEvent
from dissectors.wire.constants import MsgcBase
from fixtures.bench.launchers import Launcher
from fixtures.system.hosts import HarnessError, Unsupported
from suites.fuzz import choices
from suites.fuzz.choices import Choice
from suites.fuzz.moves import MAIN, Call, End, Kit, Link, Move, Pass, Send, Setup, Slot
from suites.fuzz.standing import Standing
from suites.fuzz.walk import Grounds, Walk

#: Situations that are kept at most: each has its hosts' processes.
MOST = 96
#: Round trips of one play, choices made for each of them, and what chance offers for each choice; at most.
ROUNDS, TOGETHER, OFFERED = 4, 3, 3
#: One play of so many begins after set-up, one deadly move of so many is played all the same, and one play of
#: so many ends at every host, not only at those that it has touched.
FRESH, DEADLY, EVERYWHERE = 25, 60, 4
#: How often each kit of devices is set up: a display's hosts cannot be branched.
KIT_WEIGHTS = {Kit.INPUTS: 60, Kit.MANY: 37, Kit.DISPLAY: 3}
#: Kinds of choices, and how often each is taken.
KINDS: Sequence[tuple[int, Callable[[Standing[Any]], list[Choice]]]] = (
    (5, choices.messages),
    (5, choices.owed),
    (4, choices.calls),
    (2, choices.links),
    (2, choices.clocks),
    (2, choices.ends),
    (2, choices.odd_links),
    (4, choices.odd_messages),
)
MUTATIONS, DATA_MUTATIONS = 3, 3
MAX_SEED = 0xFFFF
DATA = int(MsgcBase.SPICE_MSGC_MIGRATE_DATA)
#: Host events that tell nothing new.
PLAIN_EVENTS = frozenset(
    {"log", "settled", "channel_connected", "channel_initialized", "channel_disconnected"}
)

#: What a situation is like, or a move in it.
Likeness = tuple[object, ...]


def likeness(stage: Standing[Any]) -> Likeness:
    """Two situations with one likeness are the same to a campaign: the states of the connections at each
    host, whoever has them and however many there are, and the hypervisors' phases."""
    connections = {
        (slot.host, slot.channel == MAIN, str(stage.known(slot).state)) for slot in stage.open_slots()
    }
    clients = Counter(slot.host for slot in stage.open_slots() if slot.channel == MAIN)
    machines = sorted((h, str(stage.phases[h]), stage.running[h], clients[h] > 1) for h in stage.labels)
    hosts = (stage.setup.seamless, stage.setup.agent, stage.setup.kit)
    return (hosts, tuple(sorted(connections)), tuple(machines))


def move_likeness(stage: Standing[Any], move: Move) -> Likeness:
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


def _states(stage: Standing[Any], client: int, host: str, channel: int) -> Iterator[str]:
    for wanted in dict.fromkeys((channel, MAIN)):
        slot = Slot(client, host, wanted)
        yield str(stage.known(slot).state) if slot in stage.slots else "none"


@dataclass
class Kept:
    """A situation that plays start from. `parent`: the one it was branched from, which must outlive it."""

    walk: Walk
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
        self._grounds = Grounds(self.launchers)

    def play(self) -> Walk:
        """One play; whoever asked closes it. Raises HarnessError where no host starts."""
        kept = self._beginning()
        walk = kept.walk.copy() if kept else Walk(self._grounds, self._setup())
        if kept:
            kept.starts += 1
        try:
            for number in range(self._dice.randint(1, ROUNDS)):
                if walk.over:
                    break
                moves = self._first(walk) if not kept and not number else self._moves(walk)
                new = self._some(walk, moves)
                if kept and new:
                    kept.news += 1
                if new and walk.can_be_copied:
                    walk, kept = self._keep(walk, kept)
        except BaseException:
            walk.abandon()
            raise
        return walk

    def again(self, setup: Setup, moves: Sequence[Move]) -> Walk:
        """A play of given moves from set-up, learnt from as from any other."""
        walk, kept = Walk(self._grounds, setup), None
        for move in moves:
            if not walk.over and self._some(walk, (move,)) and walk.can_be_copied:
                walk, kept = self._keep(walk, kept)
        return walk

    def end(self, walk: Walk) -> None:
        """Ends a play."""
        walk.close(everywhere=self._dice.randrange(EVERYWHERE) == 0)

    def close(self) -> None:
        """Ends every kept situation, the youngest first: copies end with their originals."""
        for kept in reversed(list(self.situations.values())):
            kept.walk.abandon()
        self.situations.clear()
        self._grounds.close()

    # ---- beginnings

    def _beginning(self) -> Kept | None:
        kept = list(self.situations.values())
        if not kept or self._dice.randrange(FRESH) == 0:
            return None
        return self._dice.choices(kept, [one.weight for one in kept])[0]

    def _setup(self) -> Setup:
        dice = self._dice
        kit = dice.choices(list(KIT_WEIGHTS), list(KIT_WEIGHTS.values()))[0]
        return Setup(dice.random() < 0.6, dice.random() < 0.5, kit, dice.random() < 0.15)

    def _first(self, walk: Walk) -> Choice:
        """A session, most often; a client at the target that nothing was announced for, now and then."""
        dice = self._dice
        first = choices.links(walk) if dice.random() < 0.5 else choices.links(walk)[:1]
        return dice.choice(choices.odd_links(walk) if dice.random() < 0.1 else first)

    def _keep(self, walk: Walk, parent: Kept | None) -> tuple[Walk, Kept | None]:
        """Keeps the situation as it stands; the play that goes on, and where it began."""
        like = likeness(walk)
        if like in self.situations:
            return walk, parent
        with suppress(HarnessError, Unsupported):  # it goes on by itself where it cannot be copied
            going_on = walk.copy()
            self.found(walk.setup, walk.played)
            kept = self.situations[like] = Kept(walk, parent)
            if parent:
                parent.children += 1
            self._make_room(kept)
            return going_on, kept
        return walk, parent

    def _make_room(self, new: Kept) -> None:
        """Ends the situation that deserves least, of those that no other was branched from."""
        while len(self.situations) > MOST:
            leaves = [
                (k.weight, n, like)
                for n, (like, k) in enumerate(self.situations.items())
                if not k.children and k is not new
            ]
            if not leaves:
                return
            gone = self.situations.pop(min(leaves)[2])
            gone.walk.abandon()
            if gone.parent:
                gone.parent.children -= 1

    # ---- moves

    def _moves(self, walk: Walk) -> Choice:
        """What is played in one round trip."""
        dice = self._dice
        moves: list[Move] = []
        for _ in range(dice.randint(1, TOGETHER)):
            offered = [chosen for _ in range(OFFERED) if (chosen := self._choice(walk))]
            if offered:
                moves += min(offered, key=lambda chosen: self.played[move_likeness(walk, chosen[0])])
        return tuple(moves)

    def _choice(self, walk: Walk) -> Choice:
        dice = self._dice
        for _ in range(6):
            number = dice.randrange(
                sum(weight for weight, _ in KINDS) + (MUTATIONS + DATA_MUTATIONS) * self.mutate
            )
            chosen = choices.pick(self._offered(walk, number), dice.randrange(MAX_SEED))
            if chosen and not any(self._avoids(walk, move) for move in chosen):
                return chosen
        return ()

    def _offered(self, walk: Walk, number: int) -> list[Choice]:
        for weight, offered in KINDS:
            if number < weight:
                return offered(walk)
            number -= weight
        found = choices.mutations(walk, self._dice.randint(1, MAX_SEED))
        data = [one for one in found if isinstance(one[0], Send) and one[0].type == DATA]
        return data if number < DATA_MUTATIONS and data else found

    def _avoids(self, walk: Standing[Any], move: Move) -> bool:
        like = move_likeness(walk, move)
        if self.deadly[like] < 2 or self.deadly[like] * 2 < self.played[like]:
            return False
        self.avoided += 1
        return self._dice.randrange(DEADLY) > 0

    def _some(self, walk: Walk, chosen: Sequence[Move]) -> bool:
        """Makes moves; whether they have led to a situation that nobody has seen."""
        likes = {id(move): move_likeness(walk, move) for move in chosen}
        steps, heard = set(walk.steps), len(walk.events)
        made = [likes[id(move)] for move in walk.play_all(chosen)]
        if not made:
            return False
        self.played.update(made)
        self.deadly[made[-1]] += walk.over
        told = {e.name for e in walk.events[heard:] if isinstance(e, HostEvent)} - PLAIN_EVENTS
        self.seen.add((made[-1], frozenset(walk.steps - steps), frozenset(told), walk.over))
        for slot in walk.open_slots():
            self.visits[slot.channel == MAIN, str(walk.known(slot).state)] += 1
        situation = likeness(walk)
        new = situation not in self.seen and not walk.over
        self.seen.add(situation)
        return new
