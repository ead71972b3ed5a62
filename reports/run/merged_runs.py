# SPDX-License-Identifier: GPL-2.0-only
"""Several runs as one: shards of a run, and builds side by side."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from reports.run.run_events import RunFinished, RunStarted
from reports.run.tally import Run

#: The part of a build's name that names its run's time, UTC (`apart`).
_RUN_TIME = re.compile(r" \(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\)$")


def _together(selections: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The tests that several runs left out together. All shards of a run together are the whole run."""
    shards: dict[tuple[str, ...], set[str]] = {}
    for selection in selections:
        rest = tuple(word for word in selection if not word.startswith("--shard"))
        shards.setdefault(rest, set()).update(word for word in selection if word.startswith("--shard"))
    left: dict[str, None] = {}
    for rest, found in shards.items():
        counts = {word.rpartition("/")[2] for word in found}
        if found and (len(counts) > 1 or len(found) < int(min(counts))):
            left |= dict.fromkeys(sorted(found))
        left |= dict.fromkeys(rest)
    return tuple(left)


def _without_shard(command: Sequence[str]) -> tuple[str, ...]:
    words = list(command)
    if "--shard" in words:
        place = words.index("--shard")
        del words[place : place + 2]
    return tuple(words)


def spec_of(server: str) -> str:
    """The SPEC of a build whose name also contains its run's time (`apart`)."""
    return _RUN_TIME.sub("", server)


def apart(runs: Sequence[Run]) -> list[Run]:
    """The runs with distinct build names: a build that two of them share gets the run's time in its name,
    unless they are different shards of one run."""
    shards: dict[str, list[tuple[str, ...]]] = {}
    for run in runs:
        for server in run.servers:
            shards.setdefault(server, []).append(run.started.selection)
    twice = {server for server, many in shards.items() if len(many) > 1 and not _of_one_run(many)}
    return [_with_time(run, twice) for run in runs]


def _of_one_run(selections: Sequence[tuple[str, ...]]) -> bool:
    """Whether these are different shards of one run."""
    shards = [[word for word in words if word.startswith("--shard")] for words in selections]
    rest = {tuple(word for word in words if not word.startswith("--shard")) for words in selections}
    counts = {word.rpartition("/")[2] for words in shards for word in words}
    return all(shards) and len(rest) == len(counts) == 1 and len(set(map(tuple, shards))) == len(shards)


def _with_time(run: Run, servers: Collection[str]) -> Run:
    time = datetime.fromtimestamp(run.started.started, UTC).strftime("%Y-%m-%d %H:%M:%S")
    names = {server: f"{server} ({time})" for server in run.servers if server in servers}
    started = replace(run.started, servers=tuple(names.get(s, s) for s in run.started.servers))
    cases = [replace(case, server=names.get(case.server, case.server)) for case in run.cases]
    return Run(started, cases, run.finished, run.total)


def merge(runs: Iterable[Run]) -> Run:
    """Several runs side by side; the newest catalogue applies; one incomplete run makes the result
    incomplete."""
    many = sorted(runs, key=lambda run: run.started.started)
    newest = many[-1].started
    merged = RunStarted(
        suite=newest.suite,
        started=many[0].started.started,
        environment=newest.environment,
        seed=newest.seed if len({run.started.seed for run in many}) == 1 else None,
        servers=tuple(dict.fromkeys(s for run in many for s in run.servers)),
        requirements=tuple({r.id: r for run in many for r in run.started.requirements}.values()),
        deviations=tuple(dict.fromkeys(d for run in many for d in run.started.deviations)),
        kind=newest.kind if len({run.started.kind for run in many}) == 1 else "several kinds",
        selection=_together([run.started.selection for run in many]),
        fixed_bugs=tuple(dict.fromkeys(b for run in many for b in run.started.fixed_bugs)),
        command=_without_shard(newest.command) if len({r.servers for r in many}) == 1 else (),
    )
    reasons = [f"{run.servers}: {run.interrupted}" for run in many if run.interrupted]
    ends = [run.finished.finished for run in many if run.finished]
    return Run(
        started=merged,
        cases=[case for run in many for case in run.cases],
        finished=RunFinished(max(ends, default=newest.started), "; ".join(reasons) or None),
        total=sum(run.total or len(run.cases) for run in many),
    )
