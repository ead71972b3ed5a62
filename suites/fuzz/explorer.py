# SPDX-License-Identifier: GPL-2.0-only
"""Plays that start from kept situations: each new situation is kept, and branched for later plays.

A play makes a few moves: from a copy of a kept situation, from hosts right after set-up, or from where the
play before it has ended, which costs no copy. After several such plays all clients leave, and what they leave
behind is counted. These rules steer the plays:
- A situation is kept when it is new: in the states of all connections, the hypervisors' phases, and the
  set-up of the hosts. Situations from which few plays have started come first.
- A situation whose plays have shown something new is chosen more often.
- Of a few random moves, the explorer makes the one that was made least often in such a state.
- A move that is known to end the process in such a state is rare, so that other moves are played there.
- Where the build counts the edges that it executes (`source:fuzz`): a play that has executed new ones is kept
  too, its start is chosen more often, and so are moves like its own. Then plays start from fresh hosts of
  each kind as often as that shows new edges, not as often as a fixed weight says.
- The first plays, and some that begin after set-up, are the moves of a migration in which client and
  hypervisor do their duties, one move a play: they lead into the states that chance rarely reaches.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from dissectors.framing.events import HostEvent
from fixtures.bench.launchers import Launcher
from suites.fuzz import choices
from suites.fuzz.beginnings import Beginning, FreshHosts, KeptSituation
from suites.fuzz.branch_play import BranchPlay
from suites.fuzz.carrier_play import CarrierPlay
from suites.fuzz.choices import Choice
from suites.fuzz.executed_edges import ExecutedEdges
from suites.fuzz.likeness import Likeness, likeness, move_likeness, table_states
from suites.fuzz.move_menu import MoveMenu
from suites.fuzz.moves import Carrier, Kit, Move, Setup
from suites.fuzz.play_state import PlayState
from suites.fuzz.prepared_hosts import PreparedHosts

#: The most situations kept at once: each has its hosts' processes.
MOST = 64
#: The most of them that are kept because of new edges alone.
MOST_BY_EDGES = 16
#: The most moves that lead into a situation: a copy includes all events so far.
DEEPEST = 80
#: How many choices make one play, and how many random candidates there are for each. Where hosts cannot be
#: branched, the most choices of a play.
TOGETHER, OFFERED, ROUNDS = (1, 1, 2, 3, 5), 3, 4
#: One start in this many begins after set-up; one deadly move in this many is played all the same; one end in
#: this many is an end at every host, not only at those that the plays have touched.
FRESH, DEADLY, EVERYWHERE = 16, 60, 16
#: One play in this many is not followed by a play that goes on from its end.
LAST = 24
#: The first migrations by duty, the last one first: `seamless`, and what carries them.
DUTIES = ((False, Carrier.WEBSOCKET), (True, Carrier.TLS), (False, Carrier.TCP), (True, Carrier.TCP))
#: How often a start after set-up uses each carrier: hosts with real connections cannot be branched.
CARRIER_WEIGHTS = {Carrier.TCP: 88, Carrier.TLS: 6, Carrier.WEBSOCKET: 6}
#: When there are as many situations as may be kept, one new one in this many takes another one's place.
CROWDED = 3
#: Of the starts after set-up, one in this many is a migration by duty.
DUTIFUL = 3
#: From how many earlier plays those may go on that start on hosts that cannot be branched.
OPENINGS = 8
#: How often each kit of devices is set up: a display's hosts cannot be branched.
KIT_WEIGHTS = {Kit.INPUTS: 58, Kit.MANY: 36, Kit.DISPLAY: 6}
#: How much more often plays start where a connection is in a state that is new to the campaign.
RARE = 40.0
#: The visits that count for a situation without connections: it is not rare.
UNCONNECTED = 0xFFFF
#: Host events that show nothing new.
PLAIN_EVENTS = frozenset(
    {"log", "settled", "channel_connected", "channel_initialized", "channel_disconnected"}
)


@dataclass(frozen=True)
class _Next:
    """Where a play begins. `begun`: the situation of which `play` is a copy, or the kind of its hosts.
    `duties`: see `Explorer._moves`; None in plays by chance. `opening`: the moves of an earlier play
    that executed new edges, from whose end it goes on, where hosts cannot be branched."""

    play: BranchPlay | CarrierPlay
    begun: Beginning | None
    duties: list[Move] | None = None
    opening: Sequence[Move] = ()


def _survived(play: BranchPlay | CarrierPlay) -> Sequence[Move]:
    """A play's moves, without one that has ended the process."""
    return tuple(play.played[: len(play.played) - play.over])


@dataclass
class Explorer:
    """For one thread; close it after the last play. The same seed plays the same.

    `dutiful`: the first plays are migrations by duty (`DUTIES`). `visits`: how often each
    state of the tables was reached. `deadly`: how often a move in its state has ended the process, and how
    often it was played. `found` gets each new situation.

    `steered`: whether new edges steer; they are counted in any case. `fruitful`: how often a move in its
    state has executed new edges. `executed` gets each play that has executed new edges, and how many of its
    first moves belong to an earlier such play."""

    launchers: Mapping[str, Launcher]
    seed: int
    mutate: bool = True
    dutiful: bool = True
    steered: bool = True
    situations: dict[Likeness, KeptSituation] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)  # hashes of situations and outcomes
    visits: Counter[tuple[bool, str]] = field(default_factory=Counter)
    deadly: Counter[Likeness] = field(default_factory=Counter)
    played: Counter[Likeness] = field(default_factory=Counter)
    avoided: int = 0
    fruitful: Counter[Likeness] = field(default_factory=Counter)
    found: Callable[[Setup, Sequence[Move]], None] = lambda _, __: None
    executed: Callable[[Setup, Sequence[Move], int], None] = lambda _, __, ___: None

    def __post_init__(self) -> None:
        self.edges = ExecutedEdges(self.launchers["source"])
        self._new_edges = 0  # that steer: of the latest moves
        self._dice = random.Random(self.seed)
        self._prepared = PreparedHosts(self.launchers)
        self._next: _Next | None = None
        self._fresh = [FreshHosts(kit, carrier) for kit in KIT_WEIGHTS for carrier in CARRIER_WEIGHTS]
        self._dutiful = list(DUTIES) if self.dutiful else []  # those still to be played

    def play(self) -> BranchPlay | CarrierPlay:
        """One play. It may be kept as a situation (`kept`), or the next play goes on from it (`goes_on`); the
        caller closes it if neither.

        Raises HarnessError if no host starts."""
        start, self._next = self._next or self._start(), None
        play = start.play
        play.goes_on, play.inherited = False, len(play.played)
        try:
            return self._played(play, start)
        except BaseException:
            play.abandon()
            raise

    def _played(self, play: BranchPlay | CarrierPlay, start: _Next) -> BranchPlay | CarrierPlay:
        self._new_edges = 0
        if start.opening:
            return self._alone(play, start)
        moves = self._moves(play, start.duties) if play.labels else self._first(play, start.duties)
        new = self._some(play, moves)
        if isinstance(play, CarrierPlay) or not play.can_be_copied:
            if not play.over:
                return self._alone(play, start)
            self._report_edges(play)
            return play
        edges = self._report_edges(play)
        if (new or edges) and start.begun:
            start.begun.news += 1
        parent = start.begun if isinstance(start.begun, KeptSituation) else None
        if (new or edges) and (kept := self._keep(play, parent, by_edges=not new)) is not None:
            if start.duties is not None:
                self._next = _Next(play.copy(), kept, start.duties)
        elif self._goes_on(play, start.duties):
            play.goes_on = True
            self._next = replace(start, play=play)
        else:
            play.leave(everywhere=self._dice.randrange(EVERYWHERE) == 0)
            self._look()
            if self._report_edges(play) and start.begun:
                start.begun.news += 1
        return play

    def _look(self) -> None:
        """Counts the edges that the latest moves have executed and no earlier move had."""
        new, _ = self.edges.look()
        self._new_edges += new * self.steered

    def _report_edges(self, play: BranchPlay | CarrierPlay) -> bool:
        """Whether the latest moves have executed new edges; if so, hands the play to the corpus."""
        new, self._new_edges = self._new_edges, 0
        if not new:
            return False
        moves = _survived(play)
        if len(moves) > play.stored:
            self.executed(play.setup, moves, play.stored)
            play.stored = len(moves)
        play.new = True
        return True

    def _goes_on(self, play: BranchPlay, duties: list[Move] | None) -> bool:
        if len(play.played) >= DEEPEST:
            return False
        if duties is None:
            return self._dice.randrange(LAST) > 0
        return bool(duties) or len(play.played) > play.inherited

    def _start(self) -> _Next:
        """A start that is no other play's end."""
        begun = None if self._dutiful else self._beginning()
        if begun is not None:
            begun.starts += 1
        if isinstance(begun, KeptSituation):
            return _Next(begun.play.copy(), begun)
        setup = self._setup()
        if isinstance(begun, FreshHosts):
            setup = replace(setup, kit=begun.kit, carrier=begun.carrier)
            if begun.plays and self._dice.randrange(2):
                setup, opening = self._dice.choice(begun.plays)
                return _Next(self._new(setup), begun, None, opening)
        duties: list[Move] | None = None if self._dice.randrange(DUTIFUL) else []
        if self._dutiful:
            seamless, carrier = self._dutiful.pop()
            setup = Setup(seamless=seamless, kit=Kit.MANY, carrier=carrier)
            duties = []
        return _Next(self._new(setup), begun, duties)

    def _new(self, setup: Setup) -> BranchPlay | CarrierPlay:
        """A play on hosts right after set-up."""
        if setup.carrier is Carrier.TCP:
            return BranchPlay(self._prepared, setup)
        return CarrierPlay(self.launchers, setup)

    def _alone(self, play: BranchPlay | CarrierPlay, start: _Next) -> BranchPlay | CarrierPlay:
        """A play on hosts that cannot be branched: it goes on with the same hosts, the duties first."""
        duties = start.duties
        for move in start.opening:
            self._some(play, (move,))
        while not play.over and duties is not None and len(play.played) < DEEPEST:
            if not (moves := self._moves(play, duties)):
                break
            self._some(play, moves)
        left = self._dice.randint(2, ROUNDS)
        while left > 0 and not play.over and len(play.played) < 2 * DEEPEST:
            before = self._new_edges
            self._some(play, self._moves(play, None))
            left = max(left, 2) if self._new_edges > before else left - 1
        play.leave(everywhere=True)
        self._look()
        if self._report_edges(play) and isinstance(start.begun, FreshHosts):
            start.begun.news += 1
            start.begun.plays = [*start.begun.plays[1 - OPENINGS :], (play.setup, _survived(play))]
        return play

    def again(self, setup: Setup, moves: Sequence[Move]) -> BranchPlay | CarrierPlay:
        """Plays given moves after set-up, and learns from them as from any other play; does not keep the
        play."""
        play = self._new(setup)
        kept = None
        for move in moves:
            if play.over:
                continue
            new, by_edges = self._some(play, (move,)), self._new_edges > 0
            self._new_edges = 0
            if not (new or by_edges) or isinstance(play, CarrierPlay) or not play.can_be_copied:
                continue
            if (made := self._keep(play, kept, by_edges=not new)) is not None:
                kept, play = made, play.copy()
        play.leave(everywhere=True)
        self.edges.look()
        play.inherited = 0
        return play

    def close(self) -> None:
        """Ends every kept situation, the youngest first: copies end with their originals."""
        if self._next is not None:
            self._next.play.abandon()
        for kept in reversed(list(self.situations.values())):
            kept.play.abandon()
        self.situations.clear()
        self._prepared.close()

    # ---- beginnings

    def _beginning(self) -> KeptSituation | FreshHosts | None:
        """None: hosts right after set-up, of any kind."""
        kept = list(self.situations.values())
        if not kept or self._dice.randrange(FRESH) == 0:
            return None
        weights = [one.weight * self._rarity(one) for one in kept]
        if not (self.steered and self.edges.traced):
            return self._dice.choices(kept, weights)[0]
        all_of_them: list[KeptSituation | FreshHosts] = [*kept, *self._fresh]
        return self._dice.choices(all_of_them, [*weights, *(one.weight for one in self._fresh)])[0]

    def _rarity(self, kept: KeptSituation) -> float:
        """A factor for a situation: the rarer the rarest state of its connections, the larger."""
        visits = min((self.visits[state] for state in kept.states), default=UNCONNECTED)
        return 1.0 + RARE / math.sqrt(1 + visits)

    def _setup(self) -> Setup:
        dice = self._dice
        kit = dice.choices(list(KIT_WEIGHTS), list(KIT_WEIGHTS.values()))[0]
        carrier = dice.choices(list(CARRIER_WEIGHTS), list(CARRIER_WEIGHTS.values()))[0]
        return Setup(dice.random() < 0.6, dice.random() < 0.5, kit, dice.random() < 0.15, carrier)

    def _first(self, play: PlayState[Any], duties: list[Move] | None) -> Choice:
        """The first moves: a session; by chance sometimes a client that links to the target without an
        announcement."""
        if duties is not None:
            return choices.links(play)[0]
        dice = self._dice
        first = choices.links(play) if dice.random() < 0.5 else choices.links(play)[:1]
        return dice.choice(choices.odd_links(play) if dice.random() < 0.1 else first)

    def _keep(
        self, play: BranchPlay, parent: KeptSituation | None, *, by_edges: bool = False
    ) -> KeptSituation | None:
        """Keeps a play as a situation if it is a new one. `by_edges`: it is new by its edges alone."""
        like = (*likeness(play), self.edges.count) if by_edges else likeness(play)
        if like in self.situations or len(play.played) > DEEPEST:
            return None
        if len(self.situations) >= MOST and self._dice.randrange(CROWDED):
            return None
        if by_edges and sum(kept.by_edges for kept in self.situations.values()) >= MOST_BY_EDGES:
            return None
        play.freeze()
        if not by_edges:
            self.found(play.setup, play.played)
        kept = self.situations[like] = KeptSituation(play, parent, table_states(play), by_edges)
        if parent:
            parent.children += 1
        self._make_room(kept)
        return kept

    def _make_room(self, new: KeptSituation) -> None:
        """Ends the situation with the lowest priority, of those from which no other was branched."""
        while len(self.situations) > MOST:
            leaves = [
                (k.weight, n, like)
                for n, (like, k) in enumerate(self.situations.items())
                if not k.children and k is not new
            ]
            if not leaves:
                return
            gone = self.situations.pop(min(leaves)[2])
            gone.play.abandon()
            if gone.parent:
                gone.parent.children -= 1

    # ---- moves

    def _moves(self, play: BranchPlay | CarrierPlay, duties: list[Move] | None) -> Choice:
        """The moves of one play. `duties`: what is left of the duties that are played, one each time."""
        if duties is not None:
            duties += () if duties else choices.course(play)
            return (duties.pop(0),) if duties else ()
        dice = self._dice
        menu = MoveMenu(play)
        moves: list[Move] = []
        for _ in range(dice.choice(TOGETHER)):
            offered = filter(None, [self._choice(menu) for _ in range(OFFERED)])
            moves += min(offered, key=partial(self._often, menu), default=())
        return tuple(moves)

    def _often(self, menu: MoveMenu, chosen: Choice) -> float:
        """How often the first move of a choice was made in such a state; less if it has led to new edges."""
        like = menu.like(chosen[0])
        return self.played[like] / (1 + self.fruitful[like])

    def _choice(self, menu: MoveMenu) -> Choice:
        dice = self._dice
        for _ in range(6):
            chosen = menu.pick(dice, mutate=self.mutate)
            if chosen and not any(self._avoids(menu.like(move)) for move in chosen):
                return chosen
        return ()

    def _avoids(self, like: Likeness) -> bool:
        if self.deadly[like] < 2 or self.deadly[like] * 2 < self.played[like]:
            return False
        self.avoided += 1
        return self._dice.randrange(DEADLY) > 0

    def _some(self, play: BranchPlay | CarrierPlay, chosen: Choice) -> bool:
        """Makes moves; returns whether they have led to a new situation."""
        self.edges.clear()
        likes = {id(move): move_likeness(play, move) for move in chosen}
        steps, heard = set(play.steps), len(play.events)
        made = [likes[id(move)] for move in play.play_all(chosen)]
        if not made:
            return False
        self.played.update(made)
        before = self._new_edges
        self._look()
        if self._new_edges > before:
            self.fruitful.update(made)
        self.deadly[made[-1]] += play.over
        names = {e.name for e in play.events[heard:] if isinstance(e, HostEvent)} - PLAIN_EVENTS
        came = (frozenset(play.steps - steps), frozenset(names), play.over)
        play.new = play.new or hash(came) not in self.seen
        self.seen |= {hash(came), hash((made[-1], *came))}
        self.visits.update(table_states(play))
        situation = hash(likeness(play))
        new = situation not in self.seen and not play.over
        self.seen.add(situation)
        return new
