# SPDX-License-Identifier: GPL-2.0-only
"""The rule-based state machine: Hypothesis chooses among the moves that the tables offer.

Each rule draws numbers that select among the choices of one kind (`suites.fuzz.choices`). What a number
selects depends on the state; what Hypothesis draws does not, so that a server which answers differently
cannot confuse it. A failure does not fail the example: the machine reports it and makes no further moves, and
the campaign goes on to find others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from suites.fuzz import choices
from suites.fuzz.choices import Choice
from suites.fuzz.fresh_play import FreshPlay
from suites.fuzz.moves import Setup

MAX_DICE = 0xFFFF
DICE = st.integers(0, MAX_DICE)
#: The most rules of one example; a migration from link to INIT takes six.
STEPS = 24

Ended = Callable[[FreshPlay], None]
Begin = Callable[[Setup], FreshPlay | None]


class Machine(RuleBasedStateMachine):
    """A source, a target, their hypervisors and two clients. Subclasses define how a play begins and what
    happens at its end."""

    begin: Begin
    ended: Ended
    mutate = True

    def __init__(self) -> None:
        super().__init__()
        self.fresh: FreshPlay | None = None

    @initialize(seamless=st.booleans(), agent=st.booleans())
    def start(self, seamless: bool, agent: bool) -> None:
        """Fresh hosts and a linked client: the beginning of every play."""
        self.fresh = type(self).begin(Setup(seamless, agent))
        self._play(lambda fresh: choices.links(fresh)[:1], 0)

    @rule(dice=DICE)
    def link(self, dice: int) -> None:
        """Opens a link that the migration scheme has."""
        self._play(choices.links, dice)

    @rule(dice=DICE)
    def send(self, dice: int) -> None:
        """Sends a message that the tables allow."""
        self._play(choices.messages, dice)

    @rule(dice=DICE)
    def obey(self, dice: int) -> None:
        """Does what a client has to do now."""
        self._play(choices.owed, dice)

    @rule(dice=DICE)
    def call(self, dice: int) -> None:
        """Makes a hypervisor's call."""
        self._play(choices.calls, dice)

    @rule(dice=DICE)
    def wait(self, dice: int) -> None:
        """Lets time pass."""
        self._play(choices.clocks, dice)

    @rule(dice=DICE)
    def leave(self, dice: int) -> None:
        """Ends connections of a client."""
        self._play(choices.ends, dice)

    @rule(dice=DICE)
    def odd_link(self, dice: int) -> None:
        """Opens any link."""
        self._play(choices.odd_links, dice)

    @rule(dice=DICE)
    def odd_message(self, dice: int) -> None:
        """Sends a message that the tables forbid."""
        self._play(choices.odd_messages, dice)

    @rule(dice=DICE, mutation=st.integers(1, MAX_DICE))
    def mutated_message(self, dice: int, mutation: int) -> None:
        """Sends a message with a mutated body."""
        if self.mutate:
            self._play(lambda fresh: choices.mutations(fresh, mutation), dice)

    def _play(self, offered: Callable[[FreshPlay], list[Choice]], dice: int) -> None:
        if self.fresh is not None:
            self.fresh.play_all(choices.pick(offered(self.fresh), dice))

    def teardown(self) -> None:
        """All clients leave, and the oracle judges."""
        if self.fresh is not None:
            type(self).ended(self.fresh)


def drive(begin: Begin, ended: Ended, *, examples: int, seed_: int, mutate: bool = True) -> None:
    """Plays `examples` examples; the same seed gives the same plays."""
    attributes: dict[str, Any] = {
        "begin": staticmethod(begin),
        "ended": staticmethod(ended),
        "mutate": mutate,
    }
    machine = seed(seed_)(type("Machine", (Machine,), attributes))
    chosen = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)
