# SPDX-License-Identifier: GPL-2.0-only
"""A run on a terminal: a progress line while it runs, a table at its end. Plain text if there is no
terminal."""

from __future__ import annotations

import io
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from dissectors.rules.judgement import Finding, Verdict
from dissectors.wire.visible_text import visible, visible_lines
from reports.run.exit_status import Exit
from reports.run.results import BuildFailure, CaseEvidence, Result
from reports.run.run_events import CaseFinished, CasesFound, RunEvent
from reports.run.tally import Run
from reports.views import version_remarks
from reports.views.certificate import counted
from reports.views.junit import plain
from reports.views.matrix_data import line as matrix_line

_PATH_LINE = "\n    "
WIDTH = 100
#: Seconds between two lines of progress if there is no terminal.
EVERY_S = 8.0

STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.ERROR: "bold red",
    Verdict.DEVIATES: "yellow",
    Verdict.DIFFERS: "yellow",
    Verdict.INCONCLUSIVE: "dim",
    Verdict.UNSUPPORTED: "dim",
}

#: The verdicts that the table shows, the most important first; the page shows the others.
_SHOWN = (Verdict.FAIL, Verdict.ERROR, Verdict.DEVIATES, Verdict.DIFFERS, Verdict.INCONCLUSIVE)
_CASES_SHOWN = 2
_IDS_SHOWN = 4


def summary(run: Run, out: Path, *, colour: bool, width: int = WIDTH) -> str:
    """The end of a run in at most `width` columns."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        emoji=False,
        markup=False,
    )
    for line in _builds(run, width):
        console.print(visible_lines(line), soft_wrap=True)  # a path is never broken
    if any(True for _ in run.results_with(*_SHOWN)):
        console.print(_table(run, width))
        for path in dict.fromkeys(_packets(run)):
            console.print(path, soft_wrap=True)
    else:
        console.print()
    good = run.exit is Exit.CONFORMANT
    console.print(Text(run.headline, "bold green" if good else "bold red"), Text(run.sentence))
    counts = counted(run.counts())
    console.print("Requirements: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    if driven := matrix_line(run):
        console.print(driven)
    if not run.full:
        console.print(f"Scope: {visible(run.scope)}")
        if run.started.command:
            again = visible(shlex.join(run.started.command))
            console.print(f"Again: {again}", soft_wrap=True)  # to be copied
    for line in _remarks(run):
        console.print(visible(line))
    console.print(f"Results: {visible(str(out))}/index.html, certificate.json, junit.xml", soft_wrap=True)
    if run.seal:
        console.print(f"Seal: {run.seal}")
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def _remarks(run: Run) -> Iterator[str]:
    """Tests without a stable verdict, versions that are not known, and deviations that no longer occur."""
    for name in run.flaky:
        yield f"Flaky: {name} has different verdicts"
    yield from version_remarks.remarks(run)
    for occurrence in run.stale:
        entry = occurrence.deviation
        yield (
            f"No longer seen on {', '.join(occurrence.stale_on)}: the declared deviation from "
            f"{entry.requirement}, '{entry.reason}'; take it out or narrow its versions"
        )


def _builds(run: Run, width: int) -> Iterator[str]:
    """The builds under test; a path that does not fit is on a line of its own."""
    for server in run.servers:
        builds = run.identities.get(server, {})
        for side, build in builds.items():
            name = f"{side} {build.spec}" if len(builds) > 1 else server
            facts = (
                name,
                build.version or "version unknown",
                build.build_id and f"build {build.build_id[:12]}",
            )
            known = "  ".join(filter(None, facts))
            fits = len(known) + len(build.path or "") + 2 <= width
            yield f"{known}{'  ' if fits else _PATH_LINE}{build.path}" if build.path else known


def _table(run: Run, width: int) -> Table:
    table = Table(box=SIMPLE_HEAD, width=width, pad_edge=False, padding=(0, 1, 0, 0))
    many = len(run.servers) > 1
    for heading in ("Verdict", "Requirement", *(["Build"] if many else [])):
        narrow = width // 5 if heading == "Build" else None
        table.add_column(heading, no_wrap=heading == "Verdict", max_width=narrow, overflow="fold")
    table.add_column("Expected, seen, where", ratio=1, overflow="fold")
    caused = [failure for failure in run.failures if failure.bug]
    told_there = {id(result) for failure in caused for result in failure.results}
    for verdict in _SHOWN:
        for failure in caused:
            if failure.verdict is verdict:
                builds = [plain(failure.server)] if many else []
                table.add_row(Text(verdict, STYLES[verdict]), _listed(failure.ids), *builds, _cause(failure))
        rest = (result for result in run.results_with(verdict) if id(result) not in told_there)
        for alike in _grouped(rest):
            ids = list(dict.fromkeys(result.requirement.id for result in alike))
            builds = ["\n".join(dict.fromkeys(plain(result.server) for result in alike))] if many else []
            sentence = [Text(alike[0].requirement.text, "dim")] if len(ids) == 1 else []
            details = Text("\n").join([*sentence, *_details(alike[0])])
            table.add_row(Text(verdict, STYLES[verdict]), _listed(ids), *builds, details)
    return table


def _listed(ids: Sequence[str]) -> str:
    more = [f"and {len(ids) - _IDS_SHOWN} more"] if len(ids) > _IDS_SHOWN else []
    return "\n".join([*ids[:_IDS_SHOWN], *more])


def _cause(failure: BuildFailure) -> Text:
    """A bug that a later release fixed, told by the first requirement that it breaks."""
    assert failure.bug
    lines = [Text(failure.bug.what, "dim"), Text(f"cause     {failure.bug.fix}", "bold")]
    evidence = failure.cases[0]
    lines += _finding(evidence.findings[0], evidence.case)
    if others := failure.ids[1:]:
        lines.append(Text(f"breaks    also {', '.join(others)}", "dim"))
    return Text("\n").join(lines)


def _grouped(results: Iterable[Result]) -> Iterable[list[Result]]:
    """Results with one reason share a row: one requirement on several builds, or the requirements that one
    trouble of the suite kept from being judged."""
    rows: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result.blamed[0].findings:
            key = (result.requirement.id, "\n".join(line.plain for line in _details(result)))
        else:
            key = ("", result.blamed[0].case.reason)
        rows.setdefault(key, []).append(result)
    return rows.values()


def _packets(run: Run) -> Iterator[str]:
    """The packets of undeclared breaches in the table, the first of each requirement."""
    for result in run.results_with(*_SHOWN):
        blamed = [e for e in result.blamed if e.findings and not e.declared]
        for evidence in blamed[:1]:
            if path := evidence.case.artefacts.get("pcapng"):
                yield f"{result.requirement.id}: {path}"


def _details(result: Result) -> Iterator[Text]:
    blamed = result.blamed
    alike = {_brief(evidence): evidence for evidence in reversed(blamed)}
    shown = list(reversed(alike.values()))[:_CASES_SHOWN]
    for evidence in shown:
        if evidence.findings and not evidence.declared:
            yield from _finding(evidence.findings[0], evidence.case)
        else:
            yield Text(_brief(evidence))
    if more := len(blamed) - len(shown):
        yield Text(f"and in {more} more test{'s' if more > 1 else ''}", "dim")


def _brief(evidence: CaseEvidence) -> str:
    """One line; cases with the same line are shown once."""
    if evidence.declared:
        return f"declared: {evidence.declared[0].reason}"
    if evidence.findings:
        return f"{evidence.findings[0].expected}; {evidence.findings[0].seen}"
    return f"{evidence.case.title.rstrip('.')}: {evidence.case.reason}"


def _finding(finding: Finding, case: CaseFinished) -> Iterator[Text]:
    yield Text(f"expected  {finding.expected}")
    yield Text("seen      ") + Text(finding.seen, "bold")
    packet = f", frame {finding.frame}" if finding.frame else ""
    host = f" ({finding.host})" if finding.host else ""
    yield Text(f"where     {case.title.rstrip('.')}{packet}{host}", "dim")


class ProgressLine:
    """One line while a run goes on: progress, number of each verdict, failures. Without a terminal: a line
    every `EVERY_S` seconds, and one with the whole reason for each new trouble."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, emoji=False, markup=False)
        self._counts: Counter[Verdict] = Counter()
        self._tests = 0  # that are over
        self._said: set[str] = set()  # reasons, each shown once
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[counts]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID = self._progress.add_task("starting", total=None, counts="")
        self._doing, self._total, self._begun = "starting", 0, time.monotonic()
        self._over = Event()
        self._ticking = Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._progress.start()
        self._ticking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._ticking.join()
        self._progress.stop()

    def say(self, what: str) -> None:
        """Shows what happens besides tests."""
        self._doing = what
        self._progress.update(self._task, description=what)
        self._line()

    def _tick(self) -> None:
        while not self._over.wait(EVERY_S):
            self._line()

    def _line(self) -> None:
        """The progress, if there is no terminal."""
        if self._console.is_terminal:
            return
        words = ", ".join(f"{n} {verdict}" for verdict in Verdict if (n := self._counts[verdict]))
        done = f" {self._tests} of {self._total}" if self._total else ""
        seconds = time.monotonic() - self._begun
        self._console.print(
            f"{seconds:5.0f} s  {self._doing}{done}{': ' if words else ''}{words}", soft_wrap=True
        )

    def show(self, event: RunEvent) -> None:
        """Takes one event of the run."""
        match event:
            case CasesFound(total):
                self._doing, self._total = "testing", total
                self._progress.update(self._task, total=total, description="testing")
            case CaseFinished():
                self._case(event)
            case _:
                self._progress.update(self._task, description="testing")

    def _case(self, case: CaseFinished) -> None:
        self._counts[case.verdict] += 1
        words = ", ".join(f"{n} {verdict}" for verdict in Verdict if (n := self._counts[verdict]))
        test = "]/" not in case.nodeid  # a cell of the matrix is a case of its test
        self._tests += test
        self._progress.update(self._task, advance=int(test), counts=words)
        if case.verdict in (Verdict.FAIL, Verdict.ERROR) and case.reason not in self._said:
            self._said.add(case.reason)
            reason = "; ".join(case.reason.splitlines())
            line = Text(f"{case.verdict:<9}", STYLES[case.verdict]) + Text(
                f" {case.title.rstrip('.')}: {reason}"
            )
            if self._console.is_terminal:  # a CI log shows all of it: it may be all that is kept
                line.truncate(WIDTH, overflow="ellipsis")
            self._console.print(line, soft_wrap=True)
