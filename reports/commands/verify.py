# SPDX-License-Identifier: GPL-2.0-only
"""`spice-conform verify`: is this run what was recorded, does it agree with itself, do its packets say so?

The seal (and the signature, if asked) first, then certificate and page against the events, then each verdict
from the packets alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from reports.run import seal
from reports.run.environment import suite_version
from reports.run.judged_again import JUDGED, differences
from reports.run.run_events import CaseFinished
from reports.run.tally import Run
from reports.views import certificate, certificate_page, junit, page

LINES_SHOWN = 20
#: Fewer cases than this are judged in one process.
MANY = 60
#: What of a page is drawn from the packets: it is left out where pages are compared.
_DRAWN = re.compile(
    r'<figure data-part="pack-[0-9.]+"></figure>'
    r'|<script type="application/json" id="pack-\d+">[^<]*</script>\s*'
)


def verify(directory: Path, signers: Path | None = None) -> tuple[str, bool]:
    """What to print, and whether the run holds. Raises UsageError: no sealed run there, no signature."""
    if not (directory / seal.FILE).exists():
        Run.read(directory)  # says so where it is no run at all, or an old one
    manifest = seal.read(directory)
    signed = f", signed by {seal.signed_by(directory, signers)}" if signers else ""
    troubles = list(seal.broken(directory, manifest))
    if troubles:
        return _told([f"seal {manifest.seal}: broken", *troubles]), False
    run = Run.read(directory)
    run.seal = manifest.seal
    troubles = list(_consistency(run, directory))
    if troubles:
        return _told(["the run does not agree with itself", *troubles]), False
    troubles = list(_packets(run, directory))
    if troubles:
        return _told(["the packets do not say what the run says", *troubles]), False
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


def _told(lines: list[str]) -> str:
    more = [f"and {len(lines) - LINES_SHOWN} more"] if len(lines) > LINES_SHOWN else []
    return "\n".join(lines[:LINES_SHOWN] + more)


def _consistency(run: Run, directory: Path) -> Iterator[str]:
    """Certificate, JUnit and page against the events, and the events against themselves."""
    if run.finished is None:
        yield "events.ndjson: the run has no end"
    tests = sum(not case.cell for case in run.cases)  # the cells of the matrix that are cases belong to one
    if not run.interrupted and run.total is not None and run.total != tests:
        yield f"events.ndjson: {run.total} tests were found, {tests} are there"
    stored = certificate.load(directory)
    expected = json.loads(json.dumps(certificate.certificate(run)))
    for name in stored.keys() | expected.keys():
        if stored.get(name) != expected.get(name):
            yield f"{certificate.FILE}: {name} is not what the events say"
    if (directory / junit.FILE).read_bytes() != junit.junit(run):
        yield f"{junit.FILE}: is not what the events say"
    text = (directory / page.FILE).read_text(encoding="utf-8")
    if f"<h1>{run.headline}</h1>" not in text:
        yield f"{page.FILE}: the verdict is not what the events say"
    elif run.started.suite != suite_version():
        return  # another version of the suite writes another page
    elif _without_drawings(text) != _without_drawings(page.page(run)):
        yield f"{page.FILE}: is not what the events say"
    if (directory / certificate_page.FILE).read_text(encoding="utf-8") != certificate_page.certificate_page(
        run
    ):
        yield f"{certificate_page.FILE}: is not what the events say"


def _without_drawings(text: str) -> str:
    return re.sub(r"\s+", " ", _DRAWN.sub("", text))


def _packets(run: Run, directory: Path) -> Iterator[str]:
    again = partial(_again, directory, run, run.started.suite == suite_version())
    if len(run.cases) < MANY:
        found = map(again, range(len(run.cases)))
        yield from (line for lines in found for line in lines)
        return
    context = get_context("fork")  # the run need not be handed on
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        for lines in pool.map(again, range(len(run.cases)), chunksize=8):
            yield from lines


def _again(directory: Path, run: Run, strict: bool, index: int) -> list[str]:
    case: CaseFinished = run.cases[index]
    told = differences(directory, run, case, strict=strict)
    return [f"{case.nodeid}: {line}" for line in told]
