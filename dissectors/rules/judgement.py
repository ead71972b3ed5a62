# SPDX-License-Identifier: GPL-2.0-only
"""The words of a judgement: requirement, finding, verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from dissectors.framing.events import ConnectionEvent, Event
from dissectors.wire.constants import Side


class Level(StrEnum):
    """How binding a requirement is."""

    MUST = "MUST"
    SHOULD = "SHOULD"  # a normative text says so
    OBSERVED = "OBSERVED"  # what every release does; a difference is reported, not failed
    ROBUST = "ROBUST"  # no input from a peer may end, hang or bloat the process, or let a peer in


class Evidence(StrEnum):
    """The evidence that a requirement needs."""

    PACKETS = "packets"  # a capture is enough
    HOST = "host"  # the events and settings of the server's host too
    TEST = "test"  # only a test that makes its situation


#: A finding at one of these levels makes a build not conformant.
FAILING = frozenset({Level.MUST, Level.ROBUST})


class Verdict(StrEnum):
    """The verdict on a case, or on a requirement over all its cases."""

    PASS = "PASS"
    FAIL = "FAIL"
    DEVIATES = "DEVIATES"  # declared, with a reason and a version range
    DIFFERS = "DIFFERS"  # a SHOULD or OBSERVED requirement was not kept: reported, not failed
    INCONCLUSIVE = "INCONCLUSIVE"  # its precondition could not be produced
    UNSUPPORTED = "UNSUPPORTED"  # the build or the host says so
    ERROR = "ERROR"  # the harness' own


@dataclass(frozen=True)
class Requirement:
    """One checkable sentence.

    `area`: the catalogue's chapter (link, main, source, target, client, time, connection id, ...).
    `duty`: who must keep it, "server" or "client". `source`: document and section, or header and enum.
    `versions`: the server versions it holds for, "" for all, else such as ">=0.11.3".
    `needs`: what must be seen to judge it; shown where it could not be judged. `evidence`: what judges it.
    `why`: what goes wrong for people where it is not kept, one sentence.
    """

    id: str
    level: Level
    area: str
    text: str
    source: str
    duty: str = "server"
    versions: str = ""
    needs: str = ""
    evidence: Evidence = Evidence.PACKETS
    why: str = ""


def layout_requirement(sender: Side) -> str:
    """The id of the requirement that each message of this side has its type's layout."""
    return "CHAN-002" if sender is Side.SERVER else "MIG-CLI-018"


@dataclass(frozen=True)
class Finding:
    """One breach of a requirement: the event, what was expected and what was seen (one line each)."""

    requirement: str
    level: Level
    expected: str
    seen: str
    time: float
    frame: int | None = None
    connection: int | None = None
    host: str | None = None

    @classmethod
    def at(cls, requirement: Requirement, event: Event, expected: str, seen: str) -> Finding:
        """A finding that points at `event`."""
        return cls(
            requirement=requirement.id,
            level=requirement.level,
            expected=expected,
            seen=seen,
            time=event.time,
            frame=event.frame,
            connection=event.connection if isinstance(event, ConnectionEvent) else None,
            host=getattr(event, "host", None),
        )

    def as_dict(self) -> dict[str, Any]:
        """The finding as a dictionary that JSON can hold."""
        return asdict(self) | {"level": self.level.value}


@dataclass
class Judgement:
    """The oracle's result for a conversation: the findings, and how often each requirement was kept.

    A requirement in neither was not judged: there was no evidence. `unlooked`: requirement -> number of
    messages that it concerns and that were only counted.
    """

    findings: list[Finding] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    unlooked: Counter[str] = field(default_factory=Counter)

    @property
    def broken(self) -> frozenset[str]:
        """Ids of every requirement with a finding."""
        return frozenset(f.requirement for f in self.findings)

    @property
    def failures(self) -> list[Finding]:
        """The findings that make a build not conformant."""
        return [f for f in self.findings if f.level in FAILING]

    def unjudged(self, catalogue: Mapping[str, Requirement]) -> list[tuple[str, str]]:
        """(requirement id, reason) for each requirement that was not judged."""
        judged = self.broken | self.kept.keys()
        return [
            (r.id, r.needs or "the situation did not arise") for r in catalogue.values() if r.id not in judged
        ]

    def not_looked_at(self) -> list[tuple[str, str]]:
        """(requirement id, a sentence) for messages that were only counted."""
        return [
            (requirement, f"layout of {count} bulk messages was not looked at")
            for requirement, count in sorted(self.unlooked.items())
        ]

    def merge(self, others: Iterable[Judgement]) -> Judgement:
        """One judgement over several conversations."""
        for other in others:
            self.findings += other.findings
            self.kept.update(other.kept)
            self.unlooked.update(other.unlooked)
        return self
