# SPDX-License-Identifier: GPL-2.0-only
"""A campaign: plays until the time is over; each new failure is shortened and saved.

The same seed plays the same examples in the same order and finds the same failures: only the number of
examples depends on the time."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis.errors import Flaky, HypothesisException

from dissectors.rules.judgement import Finding
from fixtures.bench.launchers import Launcher
from fixtures.system.hosts import HarnessError, Identity, Settings, Unsupported
from suites.fuzz.branch_play import BranchPlay
from suites.fuzz.carrier_play import CarrierPlay
from suites.fuzz.corpus import Corpus
from suites.fuzz.explorer import Explorer
from suites.fuzz.finding_file import FuzzFailure, log_lines, play
from suites.fuzz.fresh_play import NEEDS, FreshPlay
from suites.fuzz.minimise import shortest, simplest
from suites.fuzz.moves import Caps, Carrier, End, Link, Move, Send, Setup
from suites.fuzz.play_state import Key, PlayState, Step, ranked
from suites.fuzz.state_machine import drive
from suites.fuzz.table_coverage import coverage, coverage_of

#: How many examples Hypothesis plays in one batch; the campaign checks the time between and within batches.
BATCH = 40
#: How many plays shortening may take; a play that ends in a hang takes seconds.
BUDGET, HANG_BUDGET = 150, 12
#: Further plays that measure how reliably a failure shows.
PROOFS = 3
#: A call that takes this long hangs, s.
HANG_SECONDS = 5.0
PROGRESS_SECONDS = 2.0
#: A failure that did not show this many times on fresh hosts is not tried again.
DOUBTED = 4
#: The rules judge every play that has shown something new, and one of this many others.
JUDGED = 8
#: How long the shortening of a failure may go on after the campaign's time, s.
LATE_SECONDS = 15.0
#: The campaign gives up after this many plays in a row for which no host could be started or copied.
LOST = 20
#: So many objects more than before start the garbage collector in a process that only plays.
COLLECTED = 200_000
#: Where a campaign saves its failures, below its directory.
FINDINGS = "findings"

Say = Callable[[str], None]
OnFailure = Callable[[FuzzFailure], None]


@dataclass
class Campaign:
    """What was played and found.

    `failures`: in the order in which they were found. `hits`: how many examples showed each. `provoked`: the
    same for failures after a client's breach of the order. `unshown`: how many times a failure of a branch
    did not show on fresh hosts with real sockets. `plays`: all plays, those that shorten and confirm failures
    included. `inconsistent`: batches that ended early because a server answered differently.

    Without `shorten` failures stay as they were found, and are neither confirmed nor saved. `say` gets a line
    of progress now and then, `on_failure` each new failure once it is shortened and saved. With an `explorer`
    plays start from kept situations, otherwise Hypothesis makes each on fresh hosts. `corpus`: the entries to
    play first, this process's part of them (`share`: its number, and the number of processes), and the place
    for new situations. `claim`: whether this campaign, and not another process's, is to shorten a new
    failure."""

    launchers: Mapping[str, Launcher]
    server: str
    seed: int
    out: Path | None = None
    say: Say = lambda _: None
    on_failure: OnFailure = lambda _: None
    mutate: bool = True
    shorten: bool = True
    failures: dict[Key, FuzzFailure] = field(default_factory=dict)
    hits: Counter[Key] = field(default_factory=Counter)
    provoked: Counter[Key] = field(default_factory=Counter)
    unshown: Counter[Key] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    steps: set[Step] = field(default_factory=set)
    builds: dict[str, Identity] = field(default_factory=dict)
    explorer: Explorer | None = None
    corpus: Corpus | None = None
    share: tuple[int, int] = (0, 1)
    claim: Callable[[FuzzFailure], bool] = lambda _: True
    examples: int = 0
    plays: int = 0
    moves: int = 0
    inconsistent: int = 0
    seconds: float = 0.0
    _end: float = float("inf")
    _reported_at: float = 0.0

    def run(self, *, seconds: float = float("inf"), examples: int | None = None) -> None:
        """Plays for this long, or this many examples. Raises HarnessError if no host starts."""
        begun = self._reported_at = time.monotonic()
        self._end = begun + seconds
        batch = 0
        try:
            if self.explorer is not None:
                self._explore(self.explorer, examples)
                return
            while time.monotonic() < self._end and (examples is None or self.examples < examples):
                count = BATCH if examples is None else min(BATCH, examples - self.examples)
                self._batch(count, batch)
                batch += 1
        finally:
            self.seconds += time.monotonic() - begun

    def _batch(self, count: int, number: int) -> None:
        before = self.examples
        try:
            drive(
                self._begin,
                self._machine_ended,
                examples=count,
                seed_=self.seed * 1_000_003 + number,
                mutate=self.mutate,
            )
        except (Flaky, HypothesisException):
            self.inconsistent += 1
        if self.examples == before and time.monotonic() < self._end:
            raise HarnessError("the state machine has played nothing: Hypothesis gave no example")

    def _explore(self, explorer: Explorer, examples: int | None) -> None:
        if self.corpus is not None:
            explorer.found, explorer.executed = self.corpus.add, self.corpus.add_for_edges
            self._play_corpus(explorer, self.corpus)
        lost = 0
        while time.monotonic() < self._end and (examples is None or self.examples < examples):
            try:
                self._explored(explorer.play())
                lost = 0
            except HarnessError:
                self.inconsistent += 1
                lost += 1
                if lost == LOST:
                    raise

    def _play_corpus(self, explorer: Explorer, corpus: Corpus) -> None:
        """Plays this process's part of the corpus; drops an entry that shows nothing beyond shorter
        entries. A build that does not count its edges drops none that is there for them."""
        number, width = self.share
        for index, entry in enumerate(corpus.entries()):
            if index % width == number and time.monotonic() < self._end:
                before = len(explorer.seen), explorer.edges.count
                self._explored(explorer.again(entry.setup, entry.moves))
                after = len(explorer.seen), explorer.edges.count
                if after == before and (explorer.edges.traced or not entry.by_edges):
                    corpus.drop(entry)

    def _begin(self, setup: Setup) -> FreshPlay | None:
        return FreshPlay(self.launchers, setup) if time.monotonic() < self._end else None

    def _explored(self, explored: BranchPlay | CarrierPlay) -> None:
        if not explored.kept and not explored.goes_on:
            explored.close(judge=explored.new or self.examples % JUDGED == 0)
        if explored.judgement is not None:
            self.kept.update(explored.judgement.kept)
        self._ended(explored)

    def _machine_ended(self, done: FreshPlay) -> None:
        self.kept.update(done.close().kept)
        self.builds |= {label: host.identity for label, host in done.hosts.items()}
        self._ended(done)

    def _ended(self, done: PlayState[Any]) -> None:
        """Records what a finished play has shown."""
        self.provoked.update({Key.of(found) for found in done.provoked()})
        self.examples += 1
        self.plays += 1
        self.moves += len(done.played) - done.inherited
        self.steps |= done.steps
        for key, finding in done.failed().items():
            self.hits[key] += 1
            if key not in self.failures and self.unshown[key] < DOUBTED:
                self._found(done, key, finding)
        if time.monotonic() - self._reported_at > PROGRESS_SECONDS:
            self._reported_at = time.monotonic()
            self.say(f"{self.examples} examples, {len(self.failures)} failures, {coverage(self.steps)}")

    # ---- a new failure

    def _found(self, done: PlayState[Any], key: Key, finding: Finding) -> None:
        moves = list(done.played)
        new = FuzzFailure(finding, done.setup, moves, self.server, self.seed, self.examples, len(moves))
        if not self.shorten:
            self.failures[key] = new
            return
        if not isinstance(done, FreshPlay):
            done = self._play(done.setup, moves, key)  # what counts is what real sockets show
            if key not in done.failed():
                self.unshown[key] += 1
                return
            moves = list(done.played)
        self.failures[key] = new
        if not self.claim(new):
            return
        setup, best = self._shorten(key, done.setup, moves)
        proofs = [self._play(setup, best, key) for _ in range(PROOFS)]
        shown = [proof for proof in proofs if key in proof.failed()]
        last = (shown or [done])[-1]
        self.failures[key] = failure = replace(
            self.failures[key],
            finding=last.failed()[key],
            setup=setup if shown else done.setup,
            moves=best if shown else moves,
            reproduced=(len(shown), PROOFS),
            builds=self.builds,
            log=log_lines(last),
        )
        if self.out is not None:
            failure.write(self.out / FINDINGS, last.pump.tape)
        self.on_failure(failure)

    def _shorten(self, key: Key, setup: Setup, moves: list[Move]) -> tuple[Setup, list[Move]]:
        for plain in (Setup(), replace(setup, carrier=Carrier.TCP)):
            if setup != plain and key in self._play(plain, moves, key).failed():
                setup = plain
                break

        def fails(part: Sequence[Move]) -> bool:
            late = time.monotonic() > self._end + LATE_SECONDS
            return not late and key in self._play(setup, part, key).failed()

        budget = HANG_BUDGET if key.requirement == "ROBUST-002" else BUDGET
        best = shortest(moves, fails, budget)
        return setup, simplest(best, simpler, fails)

    def _play(self, setup: Setup, moves: Sequence[Move], until: Key) -> FreshPlay:
        self.plays += 1
        done = play(self.launchers, setup, moves, until)
        self.builds |= {label: host.identity for label, host in done.hosts.items()}
        return done

    # ---- results

    def as_dict(self) -> dict[str, Any]:
        """The content of `fuzz.json`."""
        return {
            "server": self.server,
            "seed": self.seed,
            "examples": self.examples,
            "plays": self.plays,
            "seconds": round(self.seconds, 3),
            "inconsistent": self.inconsistent,
            "coverage": coverage_of(self.steps),
            "failures": [
                {
                    "name": f.name,
                    "requirement": key.requirement,
                    "seen": f.finding.seen,
                    "example": f.example,
                    "hits": self.hits[key],
                    "moves": len(f.moves),
                    "reproduced": list(f.reproduced),
                }
                for key, f in self.failures.items()
            ],
            "provoked": [
                {"requirement": key.requirement, "seen": key.symptom, "hits": hits}
                for key, hits in ranked(self.provoked)
            ],
        }


def simpler(move: Move) -> Sequence[Move]:
    """Simpler forms of a move."""
    match move:
        case Send() if move.mutation:
            return (replace(move, mutation=0),)
        case Link() if move.caps is not Caps.ALL:
            return (replace(move, caps=Caps.ALL),)
        case End() if move.reset:
            return (replace(move, reset=False),)
    return ()


def tune_garbage_collector() -> None:
    """For a process that only plays: the garbage collector ignores what was imported, and runs rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED, 20, 50)


def ready(launcher: Launcher, server: str) -> Identity:
    """Checks that plays can drive this build, and returns the build's identity. Raises Unsupported,
    HarnessError."""
    host = launcher.start("check", Settings())
    host.stop()
    if missing := sorted(NEEDS - host.abilities):
        raise Unsupported(
            f"{server}: fuzzing needs a library build; {host.identity.kind} hosts lack: {', '.join(missing)}"
        )
    if hasattr(launcher, "deadline"):
        launcher.deadline = HANG_SECONDS
    return host.identity
