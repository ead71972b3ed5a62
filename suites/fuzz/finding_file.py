# SPDX-License-Identifier: GPL-2.0-only
"""A failure as a file: the moves and the build, the finding, and the packets beside it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dissectors.rules.judgement import Finding, Level
from fixtures.bench.launchers import Launcher
from fixtures.system.hosts import Identity, UsageError
from fixtures.system.tape import Tape
from suites.fuzz.fresh_play import FreshPlay
from suites.fuzz.moves import Move, Setup, as_json, from_json
from suites.fuzz.play_state import Key

FORMAT = 1
NAME, PACKETS = "finding.json", "conversation.pcapng.gz"
LOG_LINES = 8


@dataclass(frozen=True)
class FuzzFailure:
    """A campaign's failure. `moves`: the shortest list that shows it; `found_with`: the number of moves with
    which it was found; `reproduced`: how many of how many further plays showed it."""

    finding: Finding
    setup: Setup
    moves: Sequence[Move]
    server: str
    seed: int
    example: int
    found_with: int
    reproduced: tuple[int, int] = (0, 0)
    builds: Mapping[str, Identity] = field(default_factory=dict)
    log: Sequence[str] = ()

    @property
    def key(self) -> Key:
        """Two failures with one key are the same."""
        return Key.of(self.finding)

    @property
    def name(self) -> str:
        """Its directory: the requirement and a hash of the key, the same in every campaign."""
        return f"{self.key.requirement}-{hashlib.sha256(self.key.symptom.encode()).hexdigest()[:8]}"

    def as_dict(self) -> dict[str, Any]:
        """The failure as a dictionary that JSON can hold; `told` is `moves` as text."""
        return {
            "format": FORMAT,
            **self.finding.as_dict(),
            "server": self.server,
            "builds": {label: asdict(build) for label, build in self.builds.items()},
            "seed": self.seed,
            "example": self.example,
            "found_with": self.found_with,
            "reproduced": list(self.reproduced),
            "setup": asdict(self.setup),
            "moves": as_json(self.moves),
            "told": [str(move) for move in self.moves],
            "log": list(self.log),
            "packets": PACKETS,
        }

    def write(self, directory: Path, tape: Tape) -> Path:
        """Writes the finding and its packets into their own directory below `directory`. Raises OSError."""
        own = directory / self.name
        own.mkdir(parents=True, exist_ok=True)
        filed = replace(self, finding=tape.filed([self.finding])[0])
        (own / NAME).write_text(json.dumps(filed.as_dict(), indent=1) + "\n", encoding="utf-8")
        tape.write_pcapng(own / PACKETS)
        return own / NAME


def read(path: Path) -> FuzzFailure:
    """Reads a finding's file. Raises UsageError with one line."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
    if not isinstance(data, dict) or "moves" not in data:
        raise UsageError(f"{path}: not a finding of spice-conform fuzz: it has no moves")
    if data.get("format") != FORMAT:
        raise UsageError(f"{path}: a finding of format {data.get('format')}; this is format {FORMAT}")
    try:
        return _failure(data)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UsageError(f"{path}: an incomplete or damaged finding: {reason}") from None


def packed(own: Path) -> dict[str, str]:
    """The files of a finding's directory, in base64, for another machine."""
    return {file: base64.b64encode((own / file).read_bytes()).decode() for file in (NAME, PACKETS)}


def unpack(files: Mapping[str, str], own: Path) -> None:
    """Writes the files that `packed` has packed. Raises OSError."""
    own.mkdir(parents=True, exist_ok=True)
    for file in (PACKETS, NAME):
        (own / file).write_bytes(base64.b64decode(files[file]))


def _failure(data: Mapping[str, Any]) -> FuzzFailure:
    finding = Finding(
        requirement=str(data["requirement"]),
        level=Level(data["level"]),
        expected=str(data["expected"]),
        seen=str(data["seen"]),
        time=float(data["time"]),
        host=data.get("host"),
    )
    played, times = data["reproduced"]
    return FuzzFailure(
        finding=finding,
        setup=Setup.from_json(data["setup"]),
        moves=from_json(data["moves"]),
        server=str(data["server"]),
        seed=int(data["seed"]),
        example=int(data["example"]),
        found_with=int(data["found_with"]),
        reproduced=(played, times),
        builds={label: Identity(**build) for label, build in data.get("builds", {}).items()},
        log=tuple(data.get("log", ())),
    )


def play(
    launchers: Mapping[str, Launcher], setup: Setup, moves: Sequence[Move], until: Key | None = None
) -> FreshPlay:
    """Plays moves on fresh hosts to the end, or until a failure shows; the hosts have ended when it
    returns."""
    return play_on(FreshPlay(launchers, setup), moves, until)


def play_on(fresh: FreshPlay, moves: Sequence[Move], until: Key | None = None) -> FreshPlay:
    """As `play`, on hosts that `fresh` has started."""
    try:
        fresh.play_all(moves, until)
    finally:
        fresh.close()
    return fresh


def log_lines(fresh: FreshPlay) -> list[str]:
    """The last log lines of a play's hosts."""
    events = fresh.pump.tape.host_events
    lines = [f"{e.host}: {e.args.get('text', '')}" for e in events if e.name == "log"]
    return lines[-LOG_LINES:]
