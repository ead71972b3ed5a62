# SPDX-License-Identifier: GPL-2.0-only
"""Which tests of the suites run: by requirement, level, earlier failure, or shard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TypeVar

from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import Level, Verdict
from fixtures.system.hosts import UsageError
from reports.run import profiles
from reports.run.run_events import EVENTS
from reports.run.tally import Run, base

T = TypeVar("T")

#: Measured seconds per case of each test; `python -m reports.run.selection RUN` writes the file.
SECONDS_FILE = Path(__file__).with_name("test_seconds.json")
#: The seconds of a test that is not in the file.
USUAL_SECONDS = 0.3
#: A test of so many seconds is long.
LONG_S = 2.0
#: The total seconds of the tests that run for one requirement.
BRIEF_S = 0.5


def wanted_ids(globs: Sequence[str], levels: Sequence[str]) -> frozenset[str]:
    """The requirements that globs and levels name. Raises UsageError if one of them matches none."""
    known = [level.value for level in Level]
    for level in levels:
        if level.upper() not in known:
            raise UsageError(f"no level {level!r}; there are {', '.join(known)}")
    for glob in globs:
        if not any(fnmatchcase(i, glob) for i in CATALOGUE):
            raise UsageError(f"no requirement {glob!r}; `spice-conform requirements` lists them")
    wanted = {v.upper() for v in levels}
    found = frozenset(
        r.id
        for r in CATALOGUE.values()
        if (not globs or any(fnmatchcase(r.id, glob) for glob in globs)) and (not wanted or r.level in wanted)
    )
    if not found:
        raise UsageError(f"no requirement {' or '.join(globs)} has level {' or '.join(levels)}")
    return found


def files_with(ids: Iterable[str], paths: Iterable[Path]) -> list[Path]:
    """The test files below `paths` whose text contains one of the requirements: markers spell ids in full."""
    named = re.compile("|".join(rf"{re.escape(i)}(?![0-9])" for i in sorted(ids)))
    files = [f for path in paths for f in (sorted(path.rglob("test_*.py")) if path.is_dir() else [path])]
    return [f for f in dict.fromkeys(files) if named.search(profiles.file_of(f).read_text(encoding="utf-8"))]


def shard_of(text: str) -> tuple[int, int]:
    """`I/N`: the number of the shard, and the number of shards. Raises UsageError."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text}: write I/N, such as 1/4, with I from 1 to N")
    return int(match[1]), int(match[2])


def is_long(nodeid: str) -> bool:
    """Whether a test takes so long that it has to begin early: at the end it would run alone."""
    return known_seconds().get(nodeid.partition("[")[0], USUAL_SECONDS) >= LONG_S


def in_shard(nodeids: Sequence[str], index: int, count: int) -> frozenset[str]:
    """The tests of one shard: the longest first, each goes to the shard with the least work. All shards of a
    run compute the same division."""
    seconds = known_seconds()
    cost = {nodeid: seconds.get(nodeid.partition("[")[0], USUAL_SECONDS) for nodeid in nodeids}
    loads = [0.0] * count
    mine: set[str] = set()
    for nodeid in sorted(nodeids, key=lambda n: (-cost[n], n)):
        least = loads.index(min(loads))
        loads[least] += cost[nodeid]
        if least == index - 1:
            mine.add(nodeid)
    return frozenset(mine)


def in_brief(tests: Mapping[str, Sequence[T]]) -> list[T]:
    """Cases of some tests that take BRIEF_S together: one of each test, the quickest tests first, then more
    of them. The quickest test has one case, however long it takes."""
    seconds = {test: max(known_seconds().get(test, USUAL_SECONDS), 0.01) for test in tests}
    order = sorted(tests, key=lambda test: (seconds[test], test))
    counts = dict.fromkeys(tests, 0)
    left = BRIEF_S
    for turn in range(max(map(len, tests.values()), default=0)):
        for test in order:
            first = not any(counts.values())
            if turn < len(tests[test]) and (first or seconds[test] <= left):
                counts[test] += 1
                left -= seconds[test]
    return [case for test, cases in tests.items() for case in _spread(cases, counts[test])]


def _spread(cases: Sequence[T], count: int) -> list[T]:
    """This many of the cases, spread from the first to the last."""
    if count < 2:
        return list(cases[:count])
    return [cases[round(place * (len(cases) - 1) / (count - 1))] for place in range(count)]


@cache
def known_seconds() -> Mapping[str, float]:
    """Test (without its parameters) -> seconds per case."""
    found: dict[str, float] = json.loads(SECONDS_FILE.read_text(encoding="utf-8"))
    return found


def failed_last(results: Path) -> list[str]:
    """The tests that did not pass in a run, or in the newest run below a directory. Raises UsageError if
    there is no run, or nothing failed."""
    runs = sorted({file.parent for below in ("", "*/") for file in results.glob(f"{below}{EVENTS}*")})
    if not runs:
        raise UsageError(f"--last-failed: no earlier run in {results}")
    last = results if results in runs else runs[-1]
    run = Run.read(last)
    bad = (Verdict.FAIL, Verdict.ERROR)
    failed = [case.nodeid for case in run.cases if case.verdict in bad or base(case.nodeid) in run.flaky]
    if not failed:
        raise UsageError(f"--last-failed: nothing failed in {last}")
    return failed


def main(directory: Path) -> None:
    """Writes the seconds of a run's tests; cells of the matrix are left out."""
    times: dict[str, list[float]] = {}
    for case in [case for case in Run.read(directory).cases if not case.cell]:
        times.setdefault(case.nodeid.partition("[")[0], []).append(case.duration_s)
    mean = {test: round(sum(each) / len(each), 2) for test, each in sorted(times.items())}
    SECONDS_FILE.write_text(json.dumps(mean, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    import sys

    main(Path(sys.argv[1]))
