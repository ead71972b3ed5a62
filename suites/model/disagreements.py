# SPDX-License-Identifier: GPL-2.0-only
"""Where a model and the order tables disagree: one of them is wrong.

`python -m suites.model.disagreements MODEL [SERVER]` plays every transition of a model on a build and lets
the oracle judge each conversation. It lists what the server did although the tables or another rule forbid
it: each kind once, with the shortest word. An entry after a client's own breach is marked, because the
tables require nothing of a server then; one that is declared or understood has its reason
(`suites.model.explained`). The status is 1 if there is another."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import Finding
from dissectors.rules.oracle import judge
from dissectors.rules.version_ranges import version_holds
from fixtures.bench.launchers import Launcher, Launchers
from fixtures.system.hosts import HarnessError, Unsupported, UsageError
from suites.model.conformance import ways
from suites.model.explained import explanation
from suites.model.known_answers import Word
from suites.model.mealy import Model, read
from suites.model.snapshot_player import SnapshotPlayer
from suites.model.subject import Play

_FIGURES = re.compile(r"0x[0-9a-f]+|\b\d+\b")


@dataclass(frozen=True)
class Disagreement:
    """A server's breach of a requirement. `provoked`: a client had broken a requirement of its own before."""

    finding: Finding
    word: Word
    provoked: bool

    def __str__(self) -> str:
        found = self.finding
        text = f"{found.requirement}: {found.seen} (expected: {found.expected})"
        after = " after the client broke the order" if self.provoked else ""
        reason = self.reason or "NOT EXPLAINED"
        return f"{text}{after}\n    {' / '.join(self.word)}\n    {reason}"

    @property
    def reason(self) -> str | None:
        """Why it is known; None if it is not."""
        return explanation(self.finding, self.word)


def disagreements(model: Model, launcher: Launcher) -> Iterator[Disagreement]:
    """Each kind once, the shortest word first. Raises HarnessError, Unsupported."""
    reported: set[tuple[str, str, bool]] = set()
    player = SnapshotPlayer(launcher, model.subject)
    ended: list[Play] = []
    player.ended = ended.append
    try:
        for word in ways(model):
            player.answers(word)
            for found in _of(ended.pop(), word):
                key = (found.finding.requirement, _FIGURES.sub("#", found.finding.seen), found.provoked)
                if key not in reported:
                    reported.add(key)
                    yield found
    finally:
        player.close()


def _of(play: Play, word: Word) -> Iterator[Disagreement]:
    findings = judge(play.pump.tape.events()).findings
    breaches = [f.time for f in findings if CATALOGUE[f.requirement].duty == "client"]
    first = min(breaches, default=float("inf"))
    version = play.host.identity.version
    for found in findings:
        requirement = CATALOGUE[found.requirement]
        if requirement.duty == "server" and (not version or version_holds(requirement.versions, version)):
            yield Disagreement(found, word, found.time > first)


def main(file: str, server: str = "system") -> int:
    """Prints them; returns 0 if each is explained, otherwise 1."""
    launchers = Launchers()
    count = unexplained = 0
    try:
        for found in disagreements(read(Path(file)), launchers.of(server)):
            print(found)
            count += 1
            unexplained += found.reason is None
    except (UsageError, HarnessError, Unsupported) as error:
        print(f"disagreements: {error}", file=sys.stderr)
        return 3
    finally:
        launchers.close()
    print(f"{count} disagreements, {unexplained} not explained")
    return 1 if unexplained else 0


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: python -m suites.model.disagreements MODEL [SERVER]")
    sys.exit(main(*sys.argv[1:]))
