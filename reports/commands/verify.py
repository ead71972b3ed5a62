# SPDX-License-Identifier: GPL-2.0-only
"""`spice-conform verify`: whether a run is unchanged, agrees with itself, and is supported by its packets.

It checks the seal (and, on request, the signature) first, then the reports against the events, then each
verdict from the packets alone: in other processes, while it compares the reports."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from dissectors.capture import archived
from reports.run import seal
from reports.run.case_pool import answers
from reports.run.environment import suite_version
from reports.run.judged_again import JUDGED, differences
from reports.run.packed_evidence import file_of
from reports.run.run_directory import TESTS
from reports.run.run_events import EVENTS
from reports.run.tally import Run
from reports.views import certificate, certificate_page, job_summary, junit, matrix_data, page

LINES_SHOWN = 20
#: Seconds until the first report of progress.
SILENCE_S = 5.0
#: Beginnings of the paths of evidence that belongs to a case each.
OF_CASES = (f"{TESTS}/", "findings/", "conversation.pcapng.gz", "replay.json", "fuzz.json")
#: How many objects a judging process creates between two garbage collections.
YOUNG = 50_000
#: The parts of a page that are drawn from the packets: they are left out when pages are compared.
_DRAWN = re.compile(
    r'<figure data-part="pack-[0-9.]+"></figure>'
    r'|<script type="application/json" id="pack-(?:\d+|places)">[^<]*</script>\s*'
)

#: Gets the number of judged cases, and of all cases.
Progress = Callable[[int, int], None]


def verify(
    directory: Path, signers: Path | None = None, progress: Progress = lambda done, total: None
) -> tuple[str, bool]:
    """The text to print, and whether the run holds. Raises UsageError if there is no sealed run, or no
    signature."""
    if not (directory / seal.FILE).exists():
        Run.read(directory)  # raises UsageError if it is no run, or an old one
    manifest = seal.read(directory)
    signed = f", signed by {seal.signed_by(directory, signers)}" if signers else ""
    troubles = list(seal.broken(directory, manifest))
    if troubles:
        return _report([f"seal {manifest.seal}: broken", *troubles]), False
    run = Run.read(directory)
    run.seal = manifest.seal
    troubles = list(_belonging(run, directory, manifest))
    if troubles:
        return _report(["the events and the evidence do not belong together", *troubles]), False
    judge = partial(_again, directory, run, run.started.suite == suite_version())
    with answers(judge, len(run.cases), YOUNG) as judged_again:
        troubles = list(_consistency(run, directory))
        if troubles:
            return _report(["the run does not agree with itself", *troubles]), False
        troubles = list(_packets(run, judged_again, progress))
    if troubles:
        return _report([f"the packets do not say what the run says{_other_suite(run)}", *troubles]), False
    judged = sum(case.verdict in JUDGED for case in run.cases)
    shown = sum("pcapng" in case.artefacts for case in run.cases if case.verdict in JUDGED)
    lines = [
        f"{run.headline}: the run holds",
        f"  seal      {manifest.seal}{signed}",
        f"  files     {len(manifest.evidence) + len(manifest.reports)}, as they were sealed",
        f"  reports   say what the events say: {len(run.cases)} tests, {judged} of them judged",
        f"  packets   {shown} verdicts judged again from packets alone",
    ]
    if judged > shown:
        lines.append(f"            {judged - shown} have no packets")
    return "\n".join(lines), True


def progress_on_stderr(every_s: float = SILENCE_S) -> Progress:
    """Reports how many verdicts have been judged again, every `every_s` seconds."""
    last = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= every_s:
            last = time.monotonic()
            print(f"{done} of {total} verdicts judged again", file=sys.stderr, flush=True)

    return say


def _other_suite(run: Run) -> str:
    """Who recorded and who judges, if these are different versions of the suite."""
    if run.started.suite == suite_version():
        return ""
    return (
        f" (recorded by suite {run.started.suite}, judged by {suite_version()}: its rules may have changed)"
    )


def _report(lines: list[str]) -> str:
    more = [f"and {len(lines) - LINES_SHOWN} more"] if len(lines) > LINES_SHOWN else []
    return "\n".join(lines[:LINES_SHOWN] + more)


def _belonging(run: Run, directory: Path, manifest: seal.Manifest) -> Iterator[str]:
    """Each case's evidence is sealed, and each sealed file of a case, also in an archive, belongs to one."""
    named = {file_of(path): case for case in run.cases for path in case.artefacts.values()}
    sealed = {**manifest.evidence, **manifest.reports}
    for path in sorted(named.keys() - sealed.keys()):
        yield f"{path}: is evidence of {named[path].nodeid}, and not sealed"
    for path in sorted(p for p in manifest.evidence if p.startswith(OF_CASES) and p not in named):
        yield f"{path}: is evidence of no test in {EVENTS}"
    members = {path for case in run.cases for path in case.artefacts.values()}
    for archive in sorted(path for path in named if path.endswith(archived.SUFFIX) and path in sealed):
        try:
            names = sorted(archived.names(directory / archive))
        except OSError as error:
            yield f"{archive}: {error}"
            continue
        for name in names:
            if f"{archive}/{name}" not in members:
                yield f"{archive}/{name}: is evidence of no test in {EVENTS}"


def _consistency(run: Run, directory: Path) -> Iterator[str]:
    """Checks every report against the events, and the events against themselves."""
    if run.finished is None:
        yield f"{EVENTS}: the run has no end"
    tests = sum(not case.cell for case in run.cases)  # a cell belongs to a test
    if not run.interrupted and run.total is not None and run.total != tests:
        yield f"{EVENTS}: {run.total} tests were found, {tests} are there"
    stored = certificate.load(directory)
    expected = json.loads(json.dumps(certificate.certificate(run)))
    same_suite = run.started.suite == suite_version()  # another version of the suite writes different pages
    names = stored.keys() | expected.keys() if same_suite else stored.keys()
    for name in sorted(names):
        if not _says(expected.get(name), stored.get(name), exactly=same_suite):
            yield f"{certificate.FILE}: {name} is not what the events say"
    made: dict[str, Callable[[], str]] = {
        junit.FILE: lambda: junit.junit(run).decode(),
        matrix_data.FILE: lambda: matrix_data.text(run),
        job_summary.FILE: lambda: job_summary.markdown(run),
    }
    if same_suite:
        made |= {
            certificate_page.FILE: lambda: certificate_page.certificate_page(run),
            page.FILE: lambda: page.page(run),
        }
    for name, make in made.items():
        text = _text(directory / name)
        if text is None or _compared(name, text) != _compared(name, make()):
            yield f"{name}: is not what the events say"
    if run.started.kind == "learn":
        from reports.commands.learned_run import disagreeing  # takes half a second to load

        for case in run.cases:
            yield from disagreeing(directory, case)
    for name in (page.FILE, certificate_page.FILE):
        if not same_suite and f"<h1>{run.headline}</h1>" not in (_text(directory / name) or ""):
            yield f"{name}: the verdict is not what the events say"


def _text(report: Path) -> str | None:
    """The text of a report; None if it is none, or is not there."""
    try:
        return report.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _says(expected: Any, stored: Any, *, exactly: bool) -> bool:
    """Whether a part of a certificate is what the events say; unless `exactly`, the events may say more (keys
    that a later suite has added)."""
    if exactly or not isinstance(expected, dict | list) or type(expected) is not type(stored):
        return bool(expected == stored)
    if isinstance(expected, list):
        pairs = zip(expected, stored, strict=False)
        return len(expected) == len(stored) and all(_says(*pair, exactly=False) for pair in pairs)
    return all(key in expected and _says(expected[key], stored[key], exactly=False) for key in stored)


def _compared(name: str, text: str) -> str:
    """A report's text without what does not count: the parts of the page that are drawn from the packets, the
    white space of the page and of the matrix."""
    if name == matrix_data.FILE:
        with suppress(ValueError):  # it was edited
            return json.dumps(json.loads(text))
    return re.sub(r"\s+", " ", _DRAWN.sub("", text)) if name == page.FILE else text


def _packets(run: Run, judged_again: Iterable[list[str]], progress: Progress) -> Iterator[str]:
    for done, (case, lines) in enumerate(zip(run.cases, judged_again, strict=True), 1):
        progress(done, len(run.cases))
        yield from (f"{case.nodeid}: {line}" for line in lines)


def _again(directory: Path, run: Run, strict: bool, index: int) -> list[str]:
    return differences(directory, run, run.cases[index], strict=strict)
