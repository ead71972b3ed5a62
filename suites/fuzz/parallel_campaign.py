# SPDX-License-Identifier: GPL-2.0-only
"""A campaign in several processes, of this machine or of others, and the sum of their results.

If somebody kills a worker, its share is assigned again. With a number of examples the new worker plays the
same ones again. With a time limit it plays others: the results until then count, and other workers can find
again the failures that were not written yet."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dissectors.conversation.connection_states import State
from dissectors.wire.constants import Side
from fixtures.system.hosts import HarnessError, Identity
from suites.fuzz.campaign import FINDINGS, OnFailure
from suites.fuzz.executed_edges import counted, unpacked
from suites.fuzz.finding_file import NAME, FuzzFailure, read, unpack
from suites.fuzz.local_workers import LocalWorkers
from suites.fuzz.play_state import Key, Step, ranked
from suites.fuzz.shares import Line, Over, Share, Workers
from suites.fuzz.table_coverage import coverage, coverage_of, missing

#: How many workers may be replaced, in all.
REPLACED = 8
#: The interval between lines of progress, and between points of the curves, s.
PROGRESS_SECONDS, POINT_SECONDS = 10.0, 2.0
#: How long a worker may take to finish its play when the time is over, s.
LAST_SECONDS = 60.0


#: The valid names of a finding's directory (`FuzzFailure.name`): names come from other machines.
FINDING_NAME = re.compile(r"[A-Z]+(-[A-Z]+)?-\d+-[0-9a-f]{8}")


@dataclass
class PlayedShare:
    """A share, and its latest totals."""

    share: Share
    totals: Line = field(default_factory=dict)
    over: bool = False


@dataclass
class ParallelCampaign:
    """The sum of `Campaign`s in `width` shares that `workers` play; `on_failure` gets each failure when it is
    written.

    `points`: the curves over time, each point {seconds, plays, states, steps, outcomes, findings}, and
    edges if the build counts them. `steered`: see `Share`."""

    server: str
    seed: int
    out: Path
    width: int
    corpus: str | None = None
    workers: Workers = field(default_factory=LocalWorkers)
    say: Callable[[str], None] = lambda _: None
    on_failure: OnFailure = lambda _: None
    failures: dict[Key, FuzzFailure] = field(default_factory=dict)
    points: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    progress_seconds: float = PROGRESS_SECONDS
    steered: bool = True
    _groups: int | None = None  # the edges of all workers, as `ExecutedEdges` has them
    _shares: list[PlayedShare] = field(default_factory=list)
    _lost: list[Line] = field(default_factory=list)  # the totals of workers that were replaced
    _again: int = 0
    _error: str | None = None

    def run(self, *, seconds: float = float("inf"), examples: int | None = None) -> None:
        """Plays for this long, or this many examples. Raises HarnessError; the findings until then are
        kept."""
        begun = time.monotonic()
        until = None if seconds == float("inf") else time.time() + seconds
        try:
            self._shares = [PlayedShare(self._share(n, examples, until)) for n in range(self.width)]
            for played in self._shares:
                self.workers.give(played.share)
            self._listen(begun, begun + seconds)
        finally:
            self.seconds = time.monotonic() - begun
            self.close()
        self._point()
        if self._error is not None:
            raise HarnessError(self._error)

    def _share(self, number: int, examples: int | None, until: float | None) -> Share:
        return Share(
            server=self.server,
            seed=self.seed * 1_000_003 + number,
            number=number,
            width=self.width,
            examples=None if examples is None else examples // self.width + (number < examples % self.width),
            until=until,
            out=str(self.out) if self.workers.one_machine else None,
            corpus=self.corpus,
            steered=self.steered,
        )

    def _listen(self, begun: float, end: float) -> None:
        said = pointed = time.monotonic()
        while not all(played.over for played in self._shares) and time.monotonic() < end + LAST_SECONDS:
            for report in self.workers.listen(1.0):
                played = self._shares[report.number]
                if not isinstance(report, Over):
                    self._heard(played, report.line)
                elif report.lost and time.monotonic() < end and self._error is None:
                    self._give_again(played)
                else:
                    played.over = True
            now = time.monotonic()
            self.seconds = now - begun
            if now - pointed >= POINT_SECONDS:
                pointed = now
                self._point()
            if now - said >= self.progress_seconds:
                said = now
                self.say(self.progress)

    def _heard(self, played: PlayedShare, line: Line) -> None:
        if "error" in line:
            self._error = line["error"]
        elif "failure" in line:
            self._found(line["failure"], line.get("files"))
        else:
            if line["edges"] is not None:
                self._groups = (self._groups or 0) | unpacked(line["edges"])
            if line["examples"] >= played.totals.get("examples", 0):  # fewer: a share that is played again
                played.totals = line

    def _found(self, name: str, files: Mapping[str, str] | None) -> None:
        own = self.out / FINDINGS / name
        if not FINDING_NAME.fullmatch(name):
            raise HarnessError(f"a worker reports a finding with an impossible name: {name!r}")
        try:
            if files is not None and not own.exists():
                unpack(files, own)
        except OSError as error:  # a full disk
            raise HarnessError(f"cannot write to {self.out}: {error.strerror or error}") from None
        failure = read(own / NAME)
        if failure.key not in self.failures:
            self.failures[failure.key] = failure
            self.on_failure(failure)

    def _give_again(self, played: PlayedShare) -> None:
        self._again += 1
        if self._again > REPLACED:
            raise HarnessError(f"{self._again} workers have ended by themselves: see what they print")
        for directory in (self.out / FINDINGS).glob("*/"):
            with suppress(OSError):
                directory.rmdir()  # claimed and never written
        if played.share.examples is None:
            self._lost.append(played.totals)
            played.totals = {}
            played.share = replace(played.share, seed=played.share.seed + self.width)
        self.workers.give(played.share)

    def close(self) -> None:
        """Ends the workers. Can be called twice."""
        self.workers.close()

    # ---- results

    def _all(self) -> list[Line]:
        return [*self._lost, *(played.totals for played in self._shares)]

    def _sum(self, what: str) -> int:
        return sum(totals.get(what, 0) for totals in self._all())

    def _keys(self, what: str) -> Counter[Key]:
        found: Counter[Key] = Counter()
        for totals in self._all():
            for requirement, symptom, count in totals.get(what, ()):
                found[Key(requirement, symptom)] += count
        return found

    @property
    def examples(self) -> int:
        return self._sum("examples")

    @property
    def plays(self) -> int:
        return self._sum("plays")

    @property
    def moves(self) -> int:
        return self._sum("moves")

    @property
    def inconsistent(self) -> int:
        return self._sum("inconsistent")

    @property
    def hits(self) -> Counter[Key]:
        return self._keys("hits")

    @property
    def kept(self) -> Counter[str]:
        return sum((Counter(totals.get("kept", {})) for totals in self._all()), Counter())

    @property
    def builds(self) -> dict[str, Identity]:
        return {
            label: Identity(**build)
            for totals in self._all()
            for label, build in totals.get("builds", {}).items()
        }

    @property
    def steps(self) -> set[Step]:
        return {
            (main, State(state), Side(sender), kind)
            for totals in self._all()
            for main, state, sender, kind in totals.get("steps", ())
        }

    @property
    def visits(self) -> Counter[tuple[bool, str]]:
        """How often each state of the tables was reached."""
        found: Counter[tuple[bool, str]] = Counter()
        for totals in self._all():
            for main, state, count in totals.get("visits", ()):
                found[main, state] += count
        return found

    @property
    def edges(self) -> int | None:
        """How many edges of the server's code were executed; None if the build does not count them."""
        return None if self._groups is None else counted(self._groups)

    @property
    def covered(self) -> str:
        """What was reached of the tables and of the server's code, in words."""
        words = coverage(self.steps)
        return words if self.edges is None else f"{words}, {self.edges} edges"

    @property
    def progress(self) -> str:
        """The campaign's progress, on one line."""
        rate = self.examples / self.seconds if self.seconds else 0.0
        return (
            f"{self.examples} plays ({rate:.1f}/s), {self.covered}, {self._sum('seen')} outcomes,"
            f" {self._sum('avoided')} known ends avoided, {len(self.failures)} findings"
        )

    def _point(self) -> None:
        covered = coverage_of(self.steps)
        self.points.append(
            {
                "seconds": round(self.seconds, 1),
                "plays": self.examples,
                "states": covered["states"][0],
                "steps": covered["steps"][0],
                "outcomes": self._sum("seen"),
                "findings": len(self.failures),
            }
            | ({} if self.edges is None else {"edges": self.edges})
        )

    def as_dict(self) -> dict[str, Any]:
        """The content of `fuzz.json`."""
        hits, steps = self.hits, self.steps
        counts = Counter((main, str(state), str(sender), kind) for main, state, sender, kind in steps)
        return {
            "server": self.server,
            "seed": self.seed,
            "processes": self.width,
            "examples": self.examples,
            "plays": self.plays,
            "moves": self.moves,
            "seconds": round(self.seconds, 3),
            "inconsistent": self.inconsistent,
            "avoided": self._sum("avoided"),
            "edges": self.edges,
            "steered_by_edges": self.edges is not None and self.steered,
            "coverage": coverage_of(steps),
            "missing": missing(steps),
            "points": self.points,
            "visits": [
                {"channel": "main" if main else "other", "state": state, "visits": count}
                for (main, state), count in sorted(self.visits.items())
            ],
            "steps": [
                {"channel": "main" if main else "other", "state": state, "sender": sender, "type": kind}
                for main, state, sender, kind in sorted(counts)
            ],
            "failures": [
                {
                    "name": f.name,
                    "requirement": key.requirement,
                    "seen": f.finding.seen,
                    "example": f.example,
                    "hits": hits[key],
                    "moves": len(f.moves),
                    "reproduced": list(f.reproduced),
                }
                for key, f in self.failures.items()
            ],
            "provoked": [
                {"requirement": key.requirement, "seen": key.symptom, "hits": count}
                for key, count in ranked(self._keys("provoked"))
            ],
        }
