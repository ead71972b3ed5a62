# SPDX-License-Identifier: GPL-2.0-only
"""A run as one stream of typed events; every report is made from it.

`events.ndjson` holds one JSON object a line: `RunStarted`, `CasesFound`, a `CaseFinished` for each test and
`RunFinished`. Each line is on the disk before the next test starts, so a run that was killed keeps what it
gathered: it only lacks its `RunFinished`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from sys import intern
from typing import Any

from dissectors.rules.judgement import Finding, Level, Requirement, Verdict
from fixtures.system.hosts import Identity, UsageError

EVENTS = "events.ndjson"
#: Counts the breaks of the format. 1: before a run had a seal, a scope and packed packets.
FORMAT = 2
#: Descriptions of builds that are remembered; a run has a few.
IDENTITIES_KEPT = 64


@dataclass(frozen=True)
class Deviation:
    """A declared deviation (see `reports.run.deviations`, which reads and matches them).

    `requirement`, `builds`, `tests` and `moves` are globs; `symptom` is a part of (or a glob over) what was
    expected or seen; `versions` a specifier set such as ">=0.12,<=0.16.0", "" for all. `tests`: the tests in
    which it may show. `moves`: what clients and hypervisors must have done where `fuzz` or `replay` shows it.
    """

    requirement: str
    symptom: str
    reason: str
    versions: str = ""
    builds: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    reported: str = ""


@dataclass(frozen=True)
class RunStarted:
    """`started`: seconds since the epoch. `servers`: the SPECs asked for.

    `kind`: the command that ran ("certify", "replay", "fuzz", "learn"). `selection`: the options that left
    something out, empty for a full run. `command`: what to type to run it again.
    """

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


@dataclass(frozen=True)
class CasesFound:
    """How many cases the run will have."""

    total: int


@dataclass(frozen=True)
class Circumstances:
    """Where a finding was made: what decides whether a deviation applies to it.

    `server`: the SPEC. `builds`: host label -> build. `test`: the test's id. `moves`: what was played.
    """

    server: str
    builds: Mapping[str, Identity]
    test: str = ""
    moves: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseFinished:
    """One test against one server build (or pair); one failure of a campaign; one replay.

    `identities`: host label ("source", "target") -> build. `requirements`: what the test is marked with.
    `kept`: requirement id -> how often it was seen kept. `artefacts`: kind ("pcapng", "log") -> path relative
    to the run's directory. `moves`: what a campaign or a replay played, a line each. `awaited`: the finding
    that a replay was to show. `cell`: the cell of the matrix that this is a case of. `matrix`: of a test that
    drives many, its `channel`, `place` and `state`, `driven` (name -> what came of it) and `left_out`
    (name -> why).
    """

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

    @property
    def circumstances(self) -> Circumstances:
        """Where its findings were made."""
        return Circumstances(self.server, self.identities, self.nodeid, self.moves)


@dataclass(frozen=True)
class RunFinished:
    """`interrupted`: why the run ended early (one line), None if it did not."""

    finished: float
    interrupted: str | None = None


RunEvent = RunStarted | CasesFound | CaseFinished | RunFinished


def encode(event: RunEvent) -> str:
    """One line of JSON, without the line end."""
    return json.dumps({"event": type(event).__name__, **asdict(event)}, ensure_ascii=False)


def decode(line: str) -> RunEvent:
    """The event of one line; ValueError, KeyError or TypeError if it is none."""
    data: dict[str, Any] = json.loads(line)
    return _READERS[data.pop("event")](data)


def read_events(directory: Path) -> list[RunEvent]:
    """Every event of a run's directory. A last line that was cut by a kill is left out."""
    path = directory / EVENTS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(
            f"{directory} holds no run: {EVENTS}: {error.strerror}; name a directory that certify wrote"
        ) from None
    return list(_decode_lines(path, lines))


def finding(data: Mapping[str, Any]) -> Finding:
    """A finding from its JSON-able form."""
    return Finding(**{**data, "level": Level(data["level"])})


def identities(spice: Mapping[str, Any]) -> dict[str, Identity]:
    """Host label -> build, from what a test's fixture reports (`identity` or `identities`)."""
    many = spice.get("identities") or ({"source": spice["identity"]} if spice.get("identity") else {})
    return {intern(label): _identity(json.dumps(identity)) for label, identity in many.items()}


@lru_cache(IDENTITIES_KEPT)
def _identity(text: str) -> Identity:
    """One object for all cases on a build."""
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
    data |= {key: tuple(data[key]) for key in ("servers", "selection", "command")}
    return RunStarted(requirements=tuple(requirements), deviations=tuple(deviations), **data)


def deviation(data: Mapping[str, Any]) -> Deviation:
    """A deviation from its JSON-able form."""
    lists: dict[str, Iterable[str]] = {key: tuple(data.get(key, ())) for key in ("builds", "tests", "moves")}
    return Deviation(**{**data, **lists})


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
