# SPDX-License-Identifier: GPL-2.0-only
"""A difference from a model as a finding that `spice-conform replay` can play: the fuzzer's format, with the
model's answer to each move."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import Finding
from fixtures.system.hosts import UsageError
from suites.fuzz.finding_file import FORMAT, NAME
from suites.fuzz.moves import Setup, as_json
from suites.model.comparison import Difference
from suites.model.known_answers import Word
from suites.model.letters import alphabet
from suites.model.mealy import SUITE, Model, OtherSuite
from suites.model.subject import Subject

REQUIREMENT = "MODEL-001"
#: The last letter, the model's answer and the other server's.
Kind = tuple[str, str, str]


@dataclass(frozen=True)
class ModelFinding:
    """`expected`: the model's answers to the letters; `seen`: another server's answer to the last letter."""

    subject: Subject
    word: Word
    expected: Sequence[str]
    seen: str
    model: str

    @property
    def kind(self) -> Kind:
        """What this finding shares with the same difference in other states."""
        return self.word[-1], self.expected[-1], self.seen

    @property
    def name(self) -> str:
        """The name of its directory."""
        key = json.dumps([str(self.subject), self.word, self.expected[-1], self.seen])
        return f"{REQUIREMENT}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    def finding(self, seen: str | None = None) -> Finding:
        """The finding of a judgement; `seen` replaces the file's text."""
        return Finding(
            requirement=REQUIREMENT,
            level=CATALOGUE[REQUIREMENT].level,
            expected=f"after '{' / '.join(self.word)}' as {self.model}: {self.expected[-1]}",
            seen=self.seen if seen is None else seen,
            time=0.0,
            host=self.subject.role,
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON: a finding of the fuzzer's format with `letters` and `answers` in addition."""
        letters = {letter.name: letter for letter in alphabet(self.subject.role)}
        moves = [letters[name].move for name in self.word]
        return {
            "format": FORMAT,
            **self.finding().as_dict(),
            "server": self.model,
            "seed": 0,
            "example": 0,
            "found_with": len(moves),
            "reproduced": [0, 0],
            "setup": asdict(Setup(seamless=self.subject.seamless)),
            "moves": as_json(moves),
            "told": [str(move) for move in moves],
            "suite": SUITE,
            "role": self.subject.role,
            "letters": list(self.word),
            "answers": list(self.expected),
        }

    def write(self, directory: Path) -> Path:
        """Writes the file, in a directory of its own. Raises OSError."""
        own = directory / self.name
        own.mkdir(parents=True, exist_ok=True)
        (own / NAME).write_text(json.dumps(self.as_dict(), indent=1) + "\n", encoding="utf-8")
        return own / NAME


def of_difference(left: Model, difference: Difference) -> ModelFinding:
    """A difference as a finding about the right model's server."""
    expected = [*difference.before, difference.left]
    return ModelFinding(left.subject, difference.word, expected, difference.right, left.name)


def write_findings(left: Model, right: Model, found: Sequence[Difference], directory: Path) -> list[Path]:
    """Writes each difference as a file. Raises OSError."""
    return [of_difference(left, difference).write(directory) for difference in found]


def read(path: Path) -> ModelFinding | None:
    """A model's finding; None if the file holds another kind. Raises UsageError, OtherSuite."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # the fuzzer's reader reports the error
    if not isinstance(data, dict) or data.get("requirement") != REQUIREMENT or "letters" not in data:
        return None
    if data.get("suite") != SUITE:
        raise OtherSuite(f"{path}: a finding of another suite version: compare the models again")
    try:
        return _finding(data)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: an incomplete or damaged finding: {error!r}") from None


def _finding(data: Mapping[str, Any]) -> ModelFinding:
    subject = Subject(str(data["role"]), bool(data["setup"]["seamless"]))
    word = tuple(str(name) for name in data["letters"])
    expected = [str(answer) for answer in data["answers"]]
    known = {letter.name for letter in alphabet(subject.role)}
    if len(word) != len(expected) or not word or not known.issuperset(word):
        raise ValueError("letters and answers do not belong together")
    return ModelFinding(subject, word, expected, str(data["seen"]), str(data["server"]))
