# SPDX-License-Identifier: GPL-2.0-only
"""A campaign in several processes of this machine, and the sum of their results.

A worker that somebody kills is replaced; its results until then count, and other workers can find again the
failures that it had not written yet."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dissectors.conversation.order_tables import State
from dissectors.wire.constants import Side
from fixtures.system.hosts import HarnessError, Identity
from suites.fuzz.campaign import FINDINGS, Told, coverage, coverage_of
from suites.fuzz.finding_file import NAME, Failure, read
from suites.fuzz.standing import Key, Step

#: How many workers may be replaced, in all.
REPLACED = 8
#: The interval between lines of progress, and between points of the curves, s.
PROGRESS_SECONDS, POINT_SECONDS = 10.0, 2.0
#: How long a worker may take to finish its play when the time is over, s.
LAST_SECONDS = 60.0


@dataclass
class Worker:
    """A process, its latest totals, and the totals of the processes that it replaced."""

    process: subprocess.Popen[bytes]
    told: dict[str, Any] = field(default_factory=dict)
    over: bool = False


@dataclass
class Team:
    """The sum of `Campaign`s in `width` processes; `told` gets each failure when it is written.

    `points`: the curves over time, each point {seconds, plays, states, steps, situations, failures}."""

    server: str
    seed: int
    out: Path
    width: int
    corpus: str | None = None
    say: Callable[[str], None] = lambda _: None
    told: Told = lambda _: None
    failures: dict[Key, Failure] = field(default_factory=dict)
    points: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    progress_seconds: float = PROGRESS_SECONDS
    _workers: list[Worker] = field(default_factory=list)
    _ended: list[Worker] = field(default_factory=list)
    _error: str | None = None

    def run(self, *, seconds: float = float("inf"), examples: int | None = None) -> None:
        """Plays for this long, or this many examples. Raises HarnessError; the findings until then are
        kept."""
        begun = time.monotonic()
        end = begun + seconds
        try:
            self._workers = [self._hire(n, seconds, self._part(n, examples)) for n in range(self.width)]
            self._listen(begun, end, examples)
        finally:
            self.seconds = time.monotonic() - begun
            self.close()
        self._point()
        if self._error is not None:
            raise HarnessError(self._error)

    def _part(self, number: int, examples: int | None) -> int | None:
        return None if examples is None else examples // self.width + (number < examples % self.width)

    def _hire(self, number: int, seconds: float, examples: int | None) -> Worker:
        process = subprocess.Popen(
            [sys.executable, "-m", "suites.fuzz.fuzz_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
            bufsize=0,
        )
        order = {
            "server": self.server,
            "seed": self.seed * 1_000_003 + number + self.width * len(self._ended),
            "out": str(self.out),
            "seconds": min(seconds, 1e9),
            "examples": examples,
            "corpus": self.corpus,
            "number": number,
            "width": self.width,
        }
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order).encode() + b"\n")
        return Worker(process)

    def _listen(self, begun: float, end: float, examples: int | None) -> None:
        said = pointed = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for number, worker in enumerate(self._workers):
                selector.register(worker.process.stdout, selectors.EVENT_READ, number)  # type: ignore[arg-type]
            while not all(worker.over for worker in self._workers) and time.monotonic() < end + LAST_SECONDS:
                for key, _ in selector.select(1.0):
                    worker = self._workers[key.data]
                    assert worker.process.stdout is not None
                    line = worker.process.stdout.readline()
                    if line.endswith(b"\n"):
                        self._heard(worker, json.loads(line))
                        continue
                    selector.unregister(key.fileobj)
                    worker.over = True
                    if worker.process.wait() != 0 and time.monotonic() < end and self._error is None:
                        part = self._part(key.data, examples)
                        left = None if part is None else max(0, part - worker.told.get("examples", 0))
                        new = self._replace(key.data, end - time.monotonic(), left)
                        selector.register(new.process.stdout, selectors.EVENT_READ, key.data)  # type: ignore[arg-type]
                now = time.monotonic()
                self.seconds = now - begun
                if now - pointed >= POINT_SECONDS:
                    pointed = now
                    self._point()
                if now - said >= self.progress_seconds:
                    said = now
                    self.say(self.progress)

    def _heard(self, worker: Worker, line: dict[str, Any]) -> None:
        if "error" in line:
            self._error = line["error"]
        elif "failure" in line:
            failure = read(self.out / FINDINGS / line["failure"] / NAME)
            if failure.key not in self.failures:
                self.failures[failure.key] = failure
                self.told(failure)
        else:
            worker.told = line

    def _replace(self, number: int, seconds: float, examples: int | None) -> Worker:
        self._ended.append(self._workers[number])
        if len(self._ended) > REPLACED:
            raise HarnessError(f"{len(self._ended)} workers have ended by themselves: see what they print")
        for directory in (self.out / FINDINGS).glob("*/"):
            with suppress(OSError):
                directory.rmdir()  # claimed and never written
        new = self._workers[number] = self._hire(number, max(0.0, seconds), examples)
        return new

    def close(self) -> None:
        """Ends the workers. Can be called twice."""
        for worker in self._workers:
            for pipe in (worker.process.stdin, worker.process.stdout):
                if pipe is not None:
                    pipe.close()
            try:
                worker.process.wait(10)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    # ---- what came of it

    def _all(self) -> list[dict[str, Any]]:
        return [worker.told for worker in (*self._ended, *self._workers)]

    def _sum(self, what: str) -> int:
        return sum(told.get(what, 0) for told in self._all())

    def _keys(self, what: str) -> Counter[Key]:
        found: Counter[Key] = Counter()
        for told in self._all():
            for requirement, symptom, count in told.get(what, ()):
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
        return sum((Counter(told.get("kept", {})) for told in self._all()), Counter())

    @property
    def builds(self) -> dict[str, Identity]:
        return {
            label: Identity(**build)
            for told in self._all()
            for label, build in told.get("builds", {}).items()
        }

    @property
    def steps(self) -> set[Step]:
        return {
            (main, State(state), Side(sender), kind)
            for told in self._all()
            for main, state, sender, kind in told.get("steps", ())
        }

    @property
    def visits(self) -> Counter[tuple[bool, str]]:
        """How often each state of the tables was reached."""
        found: Counter[tuple[bool, str]] = Counter()
        for told in self._all():
            for main, state, count in told.get("visits", ()):
                found[main, state] += count
        return found

    @property
    def progress(self) -> str:
        """The campaign's progress, on one line."""
        rate = self.examples / self.seconds if self.seconds else 0.0
        return (
            f"{self.examples} plays ({rate:.1f}/s), {coverage(self.steps)}, {self._sum('seen')} outcomes,"
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
        )

    def as_dict(self) -> dict[str, Any]:
        """`fuzz.json`."""
        hits, steps = self.hits, self.steps
        edges = Counter((main, str(state), str(sender), kind) for main, state, sender, kind in steps)
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
            "coverage": coverage_of(steps),
            "points": self.points,
            "visits": [
                {"channel": "main" if main else "other", "state": state, "visits": count}
                for (main, state), count in sorted(self.visits.items())
            ],
            "steps": [
                {"channel": "main" if main else "other", "state": state, "sender": sender, "type": kind}
                for main, state, sender, kind in sorted(edges)
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
                for key, count in self._keys("provoked").most_common()
            ],
        }
