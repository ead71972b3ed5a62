# SPDX-License-Identifier: GPL-2.0-only
"""Learns a server: AALpy's L# over the teacher, with the walks as its equivalence oracle."""

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
from suites.model.answer_store import Store
from suites.model.answers import Answer
from suites.model.asking import Knowledge, Player, Undecided, Word
from suites.model.crew import Crew
from suites.model.mealy import Model, canonical
from suites.model.subject import Subject
from suites.model.teacher import Teacher
from suites.model.walks import USUAL, Effort, Walks

Say = Callable[[str], None]


@dataclass
class Noted:
    """A player whose plays are written down as they come."""

    player: Player
    store: Store

    def many(self, words: Sequence[Word]) -> Iterable[tuple[Word, list[Answer]]]:
        """As `Player` says."""
        for word, answers in self.player.many(words):
            self.store.add(word, answers)
            yield word, answers


def identify(launchers: Launchers, server: str) -> Identity:
    """Which build a SPEC is. Raises UsageError, HarnessError, Unsupported (no library build)."""
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
    say: Say = lambda _: None,
    cache: Path | None = None,
) -> Model:
    """The model of one subject. `wide`: with the wide alphabet; `width`: in how many processes to play
    (default: one for each CPU); `cache`: where answers are kept, in place of the user's cache.

    Raises HarnessError where the server or the disk fails, Undecided where it answers differently each time.
    What was answered until then is kept.
    """
    crew = Crew(server, subject, width or os.cpu_count() or 1)
    try:
        return learn_from(
            crew, server, build, subject, seed=seed, wide=wide, effort=effort, say=say, cache=cache
        )
    finally:
        crew.close()


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
) -> Model:
    """`learn` with whatever plays words: processes of this machine, or a cluster."""
    begun, knowledge = time.monotonic(), Knowledge(subject, wide)
    store = Store(knowledge, build, say, cache)
    if store.loaded:
        say(f"{store.loaded} plays are known from before")
    knowledge.plays = knowledge.letters_played = 0
    try:
        teacher = Teacher(knowledge, Noted(player, store))
        walks = Walks(teacher, lambda machine: read_machine(subject, knowledge, machine), seed, effort, say)
        machine = run_Lsharp(
            list(knowledge.alphabet),
            teacher,
            walks,
            "mealy",
            extension_rule="SepSeq",
            separation_rule="SepSeq",
            cache_and_non_det_check=False,  # the teacher does both
            print_level=0,
        )
    except Undecided as undecided:
        store.forget(undecided.word)
        raise
    finally:
        store.close()
    about = {
        "server": server,
        "version": build.version,
        "build": build.sha256,
        "asked": {
            "plays": knowledge.plays,
            "letters": knowledge.letters_played,
            "known": len(knowledge),
        },
        "oracle": {
            "what": "every single deviation of the schemes; every transition with the words behind it that"
            " tell states apart",
            "questions": walks.questions,
            "orders": 1 + effort.orders,
            "seed": seed,
            "rounds": walks.rounds,
        },
        "seconds": round(time.monotonic() - begun, 1),
    }
    return replace(read_machine(subject, knowledge, machine), about=about)


def read_machine(subject: Subject, knowledge: Knowledge, machine: Any) -> Model:
    """AALpy's machine as a model."""
    steps = {
        state: {name: (state.output_fun[name], state.transitions[name]) for name in knowledge.alphabet}
        for state in machine.states
    }
    return canonical(subject, list(knowledge.alphabet), steps, machine.initial_state, {})
