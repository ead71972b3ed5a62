# SPDX-License-Identifier: GPL-2.0-only
"""A run as one stream of typed events, from which every report is made.

`events.ndjson` holds one JSON object a line: `RunStarted`, `CasesFound`, a `CaseFinished` for each test, and
`RunFinished`. Each line is on disk before the next test starts: a run that was killed keeps its results, and
lacks only its `RunFinished`. When a large run has ended, the file becomes `events.ndjson.gz`."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from sys import intern
from typing import Any

from dissectors.rules.judgement import Finding, Level, Requirement, Verdict
from fixtures.system.hosts import Identity, UsageError

EVENTS = "events.ndjson"
#: The same, compressed after the end of a large run (`packed_evidence`).
PACKED_EVENTS = f"{EVENTS}.gz"
#: Goes up when the format changes incompatibly. 1: before a run had a seal, a scope and packed packets.
FORMAT = 2
#: How many descriptions of builds are cached; a run has a few.
IDENTITIES_KEPT = 64


@dataclass(frozen=True)
class Deviation:
    """A declared deviation (`reports.run.deviations` reads and matches them).

    `requirement`, `builds`, `tests` and `moves` are globs; `symptom` is a part of (or a glob over) the
    expected or seen text; `versions` a specifier set such as ">=0.12,<=0.16.0", "" for all. `tests`: the
    tests in which it may show. `moves`: the acts of clients and hypervisors that must precede it in `fuzz` or
    `replay`. `ends`: the server's process ends."""

    requirement: str
    symptom: str
    reason: str
    versions: str = ""
    builds: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    reported: str = ""
    ends: bool = False


@dataclass(frozen=True)
class FixedBug:
    """A bug of released servers that a later commit fixed (`reports.run.fixed_bugs` reads and matches them).

    `commit`: the fix, in the server's history. `fixed_in`: the first release with the fix. `what`: what goes
    wrong, one sentence. `shows`: its breaches, each in the form of a deviation; the first is told as the
    finding, the others as its consequences."""

    commit: str
    fixed_in: str
    what: str
    shows: tuple[Deviation, ...] = ()

    @property
    def fix(self) -> str:
        """The fix in a few words."""
        return f"fixed by {self.commit} in {self.fixed_in}"

    def __str__(self) -> str:
        """The bug in one line."""
        return f"{self.fix}: {self.what}"


@dataclass(frozen=True)
class RunStarted:
    """`started`: seconds since the epoch. `servers`: the SPECs of the command line.

    `kind`: the command that ran ("certify", "replay", "fuzz", "learn"). `selection`: the options that left
    tests out, empty for a full run. `command`: the command that repeats the run."""

    suite: str
    started: float
    environment: Mapping[str, str]
    seed: int | None
    servers: tuple[str, ...]
    requirements: tuple[Requirement, ...]
    deviations: tuple[Deviation, ...] = ()
    kind: str = "certify"
    selection: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    format: int = FORMAT
    fixed_bugs: tuple[FixedBug, ...] = ()


@dataclass(frozen=True)
class CasesFound:
    """The number of cases of the run."""

    total: int


@dataclass(frozen=True)
class Circumstances:
    """The circumstances of a finding, which decide whether a deviation applies to it.

    `server`: the SPEC. `builds`: host label -> build. `test`: the test's id. `moves`: the moves that were
    played."""

    server: str
    builds: Mapping[str, Identity]
    test: str = ""
    moves: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseFinished:
    """One test against one server build (or pair); one failure of a campaign; one replay.

    `identities`: host label ("source", "target") -> build. `requirements`: the test's markers. `kept`:
    requirement id -> how many times it was seen kept. `artefacts`: kind ("pcapng", "log") -> path relative to
    the run's directory. `moves`: the moves of a campaign or a replay, a line each. `awaited`: the finding
    that a replay was to show. `cell`: the cell of the matrix, if the case is one. `matrix`: of a test that
    plays many cells: its `channel`, `place` and `state`, `driven` (name -> outcome) and `left_out` (name ->
    reason)."""

    nodeid: str
    title: str
    server: str
    requirements: tuple[str, ...]
    verdict: Verdict
    reason: str = ""
    kept: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    duration_s: float = 0.0
    artefacts: Mapping[str, str] = field(default_factory=dict)
    identities: Mapping[str, Identity] = field(default_factory=dict)
    moves: tuple[str, ...] = ()
    awaited: Finding | None = None
    cell: str = ""
    matrix: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def circumstances(self) -> Circumstances:
        """The circumstances of its findings."""
        return Circumstances(self.server, self.identities, self.nodeid, self.moves)


@dataclass(frozen=True)
class RunFinished:
    """`interrupted`: why the run ended early (one line); None if it did not."""

    finished: float
    interrupted: str | None = None


RunEvent = RunStarted | CasesFound | CaseFinished | RunFinished


def encode(event: RunEvent) -> str:
    """One line of JSON, without the line end."""
    return json.dumps({"event": type(event).__name__, **asdict(event)}, ensure_ascii=False)


def decode(line: str) -> RunEvent:
    """The event of one line; ValueError, KeyError or TypeError if the line is not an event."""
    data: dict[str, Any] = json.loads(line)
    return _READERS[data.pop("event")](data)


def read_events(directory: Path) -> list[RunEvent]:
    """Every event of a run's directory. Skips a last line that was cut by a kill."""
    packed = directory / PACKED_EVENTS
    path = packed if packed.exists() else directory / EVENTS
    try:
        # `replace`: a kill may cut a character too. Only "\n" ends a line, not all that `splitlines` knows.
        with (gzip.open if path == packed else open)(path, "rt", encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path}: damaged: {error}") from None
    except OSError as error:
        raise UsageError(
            f"{directory} holds no run: {EVENTS}: {error.strerror}; name a directory that certify wrote"
        ) from None
    return list(_decode_lines(path, lines))


def finding(data: Mapping[str, Any]) -> Finding:
    """A finding from its JSON-able form."""
    return Finding(**{**data, "level": Level(data["level"])})


def identities(spice: Mapping[str, Any]) -> dict[str, Identity]:
    """Host label -> build, from a test fixture's entry (`identity` or `identities`)."""
    many = spice.get("identities") or ({"source": spice["identity"]} if spice.get("identity") else {})
    return {intern(label): _identity(json.dumps(identity)) for label, identity in many.items()}


@lru_cache(IDENTITIES_KEPT)
def _identity(text: str) -> Identity:
    """One object that all cases on a build share."""
    return Identity(**json.loads(text))


def _decode_lines(path: Path, lines: list[str]) -> Iterator[RunEvent]:
    for number, line in enumerate(lines, 1):
        try:
            yield decode(line)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                return
            raise UsageError(f"{path}, line {number}: not an event of a run ({error})") from None


def _run_started(data: dict[str, Any]) -> RunStarted:
    if data.get("format") != FORMAT:
        raise UsageError(
            f"a run of format {data.get('format', 1)}, this suite reads format {FORMAT}: run it again, or use"
            " the suite that wrote it"
        )
    requirements = (Requirement(**{**r, "level": Level(r["level"])}) for r in data.pop("requirements"))
    deviations = (deviation(d) for d in data.pop("deviations"))
    bugs = tuple(map(fixed_bug, data.pop("fixed_bugs", ())))  # a run from before they were known has none
    data |= {key: tuple(data[key]) for key in ("servers", "selection", "command")}
    return RunStarted(requirements=tuple(requirements), deviations=tuple(deviations), fixed_bugs=bugs, **data)


def deviation(data: Mapping[str, Any]) -> Deviation:
    """A deviation from its JSON-able form."""
    lists: dict[str, Iterable[str]] = {key: tuple(data.get(key, ())) for key in ("builds", "tests", "moves")}
    return Deviation(**{**data, **lists})


def fixed_bug(data: Mapping[str, Any]) -> FixedBug:
    """A fixed bug from its JSON-able form."""
    return FixedBug(**{**data, "shows": tuple(map(deviation, data["shows"]))})


def _case_finished(data: dict[str, Any]) -> CaseFinished:
    return CaseFinished(
        **{
            **data,
            "requirements": tuple(data["requirements"]),
            "kept": {intern(requirement): times for requirement, times in data["kept"].items()},
            "verdict": Verdict(data["verdict"]),
            "findings": tuple(map(finding, data["findings"])),
            "identities": identities(data),
            "moves": tuple(data["moves"]),
            "awaited": finding(data["awaited"]) if data["awaited"] else None,
        }
    )


_READERS: Mapping[str, Callable[[dict[str, Any]], RunEvent]] = {
    "RunStarted": _run_started,
    "CasesFound": lambda data: CasesFound(**data),
    "CaseFinished": _case_finished,
    "RunFinished": lambda data: RunFinished(**data),
}
