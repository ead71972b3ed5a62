# SPDX-License-Identifier: GPL-2.0-only
"""The changes between two runs, requirement by requirement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dissectors.rules.judgement import Verdict
from reports.run.run_events import FixedBug
from reports.run.tally import Run
from reports.run.verdict import WORST_FIRST
from reports.views.certificate import NOT_JUDGED

_BAD = (Verdict.FAIL, Verdict.ERROR)


@dataclass(frozen=True)
class Change:
    """A requirement whose verdict has changed; None: not judged, or not in that run's catalogue.

    `bug`: the bug that explains the failure before or after, fixed by a later release; `consequence`: another
    changed requirement tells that bug."""

    requirement: str
    before: Verdict | None
    after: Verdict | None
    servers: tuple[str, str]
    bug: FixedBug | None = None  # that the worse of the two builds has
    consequence: bool = False

    @property
    def worse(self) -> bool:
        """Whether the change is for the worse: to FAIL or ERROR, or from PASS to a lower verdict."""
        if self.after in _BAD:
            return self.before not in _BAD or _rank(self.after) < _rank(self.before)
        return self.before is Verdict.PASS

    def __str__(self) -> str:
        before, after = (str(v) if v else NOT_JUDGED for v in (self.before, self.after))
        line = f"{'worse' if self.worse else 'other':<6} {self.requirement:<14} {before} -> {after}"
        return f"{line}{self.cause}"

    @property
    def cause(self) -> str:
        """The cause, told once; a consequence names the fix alone."""
        if self.bug is None:
            return ""
        return f" ({self.bug.commit} too)" if self.consequence else f" ({self.bug})"


def _rank(verdict: Verdict | None) -> int:
    return WORST_FIRST.index(verdict) if verdict else len(WORST_FIRST)


def pairs(before: Run, after: Run) -> list[tuple[str, str]]:
    """The pairs of builds to compare: equal SPECs, or the only builds of both runs."""
    same = [(server, server) for server in before.servers if server in after.servers]
    if not same and len(before.servers) == len(after.servers) == 1:
        return [(before.servers[0], after.servers[0])]
    return same


def changes(before: Run, after: Run) -> Iterator[Change]:
    """The changes, the worse first in each pair of builds."""
    ids = dict.fromkeys((*before.requirements, *after.requirements))
    for old, new in pairs(before, after):
        found = [
            Change(i, was, now, (old, new))
            for i in ids
            if (was := _verdict(before, i, old)) is not (now := _verdict(after, i, new))
        ]
        yield from _with_causes(found, before, after)


def _with_causes(found: Sequence[Change], before: Run, after: Run) -> list[Change]:
    """The changes, the worse first, with their causes: the requirements of a bug stand together."""
    told: dict[str, Change] = {change.requirement: change for change in found}
    place = {change.requirement: (n, 0) for n, change in enumerate(found)}
    explained: set[str] = set()
    for run, side in ((after, 1), (before, 0)):
        for failure in run.failures:
            ids = [i for i in failure.ids if i in told and i not in explained]
            if failure.bug is None or not ids or failure.server != told[ids[0]].servers[side]:
                continue
            first = place[ids[0]][0]
            for n, identifier in enumerate(ids):
                told[identifier] = replace(told[identifier], bug=failure.bug, consequence=n > 0)
                place[identifier] = (first, n)
            explained.update(ids)
    return sorted(told.values(), key=lambda c: (not c.worse, place[c.requirement]))


def _verdict(run: Run, requirement: str, server: str) -> Verdict | None:
    result = run.results.get((requirement, server))
    return result.verdict if result else None


def comparison(before: Run, after: Run, *, markdown: bool = False) -> tuple[str, bool]:
    """The lines to print, and whether anything is worse."""
    many = list(changes(before, after))
    if markdown:
        return "\n".join(_markdown(before, after, many)), any(change.worse for change in many)
    lines: list[str] = []
    for pair in pairs(before, after):
        own = [change for change in many if change.servers == pair]
        name = pair[0] if pair[0] == pair[1] else " -> ".join(pair)
        lines.append(f"{name}: {len(own)} of {len(after.requirements)} requirements changed")
        lines += [f"  {change}" for change in own]
    if not lines:
        lines = ["The runs have no build in common; nothing to compare."]
    return "\n".join(lines), any(change.worse for change in many)


def _markdown(before: Run, after: Run, many: list[Change]) -> Iterator[str]:
    """A table for each pair of builds."""
    if not pairs(before, after):
        yield "The runs have no build in common; nothing to compare."
    for pair in pairs(before, after):
        own = [change for change in many if change.servers == pair]
        yield f"### {_cell(pair[0] if pair[0] == pair[1] else ' -> '.join(pair))}"
        yield ""
        yield f"{len(own)} of {len(after.requirements)} requirements changed."
        if own:
            yield ""
            yield "| | Requirement | Before | After | Text |"
            yield "|---|---|---|---|---|"
        for change in own:
            before_, after_ = (str(v) if v else NOT_JUDGED for v in (change.before, change.after))
            known = after.requirements.get(change.requirement) or before.requirements[change.requirement]
            word = "worse" if change.worse else "other"
            text = _cell(f"{known.text}{change.cause}")
            yield f"| {word} | {change.requirement} | {before_} | {after_} | {text} |"
        yield ""


def _cell(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return shown.replace("|", "\\|").replace("<", "&lt;")
