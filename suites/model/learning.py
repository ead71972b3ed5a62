# SPDX-License-Identifier: GPL-2.0-only
"""Learns a server by AALpy's L#: the teacher plays its words, `equivalence_oracle` tests its hypotheses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aalpy.learning_algs import run_Lsharp

from fixtures.bench.launchers import Launchers
from fixtures.library import LibraryLauncher
from fixtures.system.hosts import Identity, Unsupported
from suites.dask_cluster import DaskCluster
from suites.model.answer_store import Store
from suites.model.answers import Answer
from suites.model.comparison import essence
from suites.model.dask_players import DaskPlayers
from suites.model.equivalence_oracle import USUAL, Effort, EquivalenceOracle
from suites.model.known_answers import KnownAnswers, Player, Undecided, Word
from suites.model.mealy import Model, canonical, fatal
from suites.model.player_processes import PlayerProcesses
from suites.model.subject import Subject
from suites.model.teacher import Teacher
from suites.model.tours import transitions

Say = Callable[[str], None]


@dataclass
class Noted:
    """A player that stores each play as it comes."""

    player: Player
    store: Store

    def many(self, words: Sequence[Word]) -> Iterable[tuple[Word, list[Answer]]]:
        """See `Player`."""
        for word, answers in self.player.many(words):
            self.store.add(word, answers)
            yield word, answers


def identify(launchers: Launchers, server: str) -> Identity:
    """The build of a SPEC. Raises UsageError, HarnessError, Unsupported (no library build)."""
    launcher = launchers.of(server)
    if not isinstance(launcher, LibraryLauncher):
        raise Unsupported(
            f"{server}: learning needs a library build, whose hypervisor's calls can be made singly"
        )
    return launcher.identity


def learn(
    server: str,
    build: Identity,
    subject: Subject,
    *,
    seed: int = 0,
    wide: bool = False,
    effort: Effort = USUAL,
    width: int | None = None,
    cluster: DaskCluster | None = None,
    say: Say = lambda _: None,
    cache: Path | None = None,
    guess: Model | None = None,
) -> Model:
    """The model of one subject. `wide`: with the wide alphabet; `width`: the number of processes that play
    (default: one for each CPU); `cluster`: its workers play instead; `cache`: the directory for answers, in
    place of the user's cache; `guess`: another build's model, used as the first hypothesis.

    Raises HarnessError if the server or the disk fails, Undecided if the server answers differently each
    time. Answers until then are kept."""
    players: PlayerProcesses | DaskPlayers
    if cluster is None:
        players = PlayerProcesses(server, subject, width or os.cpu_count() or 1)
    else:
        players = DaskPlayers(cluster, server, subject)
    try:
        return learn_from(
            players,
            server,
            build,
            subject,
            seed=seed,
            wide=wide,
            effort=effort,
            say=say,
            cache=cache,
            guess=guess,
        )
    finally:
        players.close()


#: What the equivalence oracle asks, in words.
_ASKED = (
    "every single deviation of the schemes; every transition with the words behind it that tell states apart"
)


def learn_from(
    player: Player,
    server: str,
    build: Identity,
    subject: Subject,
    *,
    seed: int = 0,
    wide: bool = False,
    effort: Effort = USUAL,
    say: Say = lambda _: None,
    cache: Path | None = None,
    guess: Model | None = None,
) -> Model:
    """`learn` with any player of words: processes of this machine, or a cluster."""
    begun, knowledge = time.monotonic(), KnownAnswers(subject, wide)
    store = Store(knowledge, build, say, cache)
    if store.loaded:
        say(f"{store.loaded} plays are known from before")
    knowledge.plays = knowledge.letters_played = 0
    try:
        teacher = Teacher(knowledge, Noted(player, store))
        oracle = EquivalenceOracle(
            teacher, lambda machine: read_machine(subject, knowledge, machine), seed, effort, say
        )
        model = _guessed(guess, knowledge, oracle) or _learned(knowledge, teacher, oracle)
    except Undecided as undecided:
        store.forget(undecided.word)
        raise
    finally:
        store.close()
    about = {
        "server": server,
        "version": build.version,
        "build": build.sha256,
        "asked": {"plays": knowledge.plays, "letters": knowledge.letters_played, "known": len(knowledge)},
        "oracle": {"what": _ASKED, "questions": oracle.questions, "orders": 1 + effort.orders}
        | {"seed": seed, "rounds": oracle.rounds},
        "seconds": round(time.monotonic() - begun, 1),
    }
    return replace(model, about=about)


def _guessed(guess: Model | None, knowledge: KnownAnswers, oracle: EquivalenceOracle) -> Model | None:
    """The guess, if the server answers as it says, with this server's own description of a process' end."""
    if guess is None or tuple(guess.alphabet) != tuple(knowledge.alphabet):
        return None
    oracle.alike = essence
    wrong = oracle.difference(guess, schemes=False)
    oracle.alike = str
    if wrong is not None:
        return None
    ways, rows = guess.shortest(), [dict(row) for row in guess.steps]
    for state, name in transitions(guess):
        answer, following = rows[state][name]
        known = knowledge.answers((*ways[state], name)) if fatal(answer) else None
        rows[state][name] = (known[-1] if known else answer), following
    model = replace(guess, steps=rows)
    return model if oracle.difference(model, schemes=False) is None else None


def _learned(knowledge: KnownAnswers, teacher: Teacher, oracle: EquivalenceOracle) -> Model:
    machine = run_Lsharp(
        list(knowledge.alphabet),
        teacher,
        oracle,
        "mealy",
        extension_rule="SepSeq",
        separation_rule="SepSeq",
        cache_and_non_det_check=False,  # the teacher does both
        print_level=0,
    )
    return read_machine(knowledge.subject, knowledge, machine)


def read_machine(subject: Subject, knowledge: KnownAnswers, machine: Any) -> Model:
    """The model that equals a machine of AALpy."""
    steps = {
        state: {name: (state.output_fun[name], state.transitions[name]) for name in knowledge.alphabet}
        for state in machine.states
    }
    return canonical(subject, list(knowledge.alphabet), steps, machine.initial_state, {})
