# SPDX-License-Identifier: GPL-2.0-only
"""Writes every report of a run into its directory, from its events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fixtures.system.hosts import UsageError
from reports.ladder.recorded_ladder import drawing
from reports.run import seal
from reports.run.merged_runs import apart, merge
from reports.run.packed_evidence import bring, pack, path_alone
from reports.run.run_directory import EventFile
from reports.run.run_events import CaseFinished, CasesFound, encode
from reports.run.tally import Run
from reports.views import allure_results, certificate, certificate_page, job_summary, junit, matrix_data, page


def prepare() -> None:
    """Compiles the templates, which takes as long as the reports of a short run."""
    for name in ("index.html", "parts.html", "certificate.html"):
        page.environment().get_template(name)


def publish(directory: Path, allure: Path | None = None) -> Run:
    """Packs the evidence of the run in a directory, and writes its reports, also of a run that was killed;
    `allure`: a directory for Allure's results. Raises UsageError."""
    Run.read(directory)  # raises UsageError if it is no run
    try:
        pack(directory)
        return _write(Run.read(directory), directory, allure)
    except OSError as error:
        raise UsageError(
            f"cannot write reports to {directory}: {error.strerror}; name another directory with --out"
        ) from None


def _write(run: Run, directory: Path, allure: Path | None) -> Run:
    """Writes certificates, JUnit, the matrix and the page, each completely or not at all; returns the run.
    Raises OSError."""
    run.seal = seal.Manifest(seal.evidence_of(directory), {}).seal
    files: dict[str, Callable[[], str | bytes]] = {  # made one after the other: large runs make large files
        page.FILE: lambda: _page(run, directory),
        certificate.FILE: lambda: certificate.text(run),
        certificate_page.FILE: lambda: certificate_page.certificate_page(run),
        job_summary.FILE: lambda: job_summary.markdown(run),
        junit.FILE: lambda: junit.junit(run),
        matrix_data.FILE: lambda: matrix_data.text(run),
    }
    for name, make in files.items():
        _put(directory, name, make())
    if allure is not None:
        allure_results.write(run, directory, allure)
    seal.write(directory)
    return run


def _page(run: Run, directory: Path) -> str:
    with drawing(directory, page.in_order(run)) as draw:
        return page.page(run, draw)


def _put(directory: Path, name: str, content: str | bytes) -> None:
    """Writes a file completely or not at all. Raises OSError."""
    part = directory / f".{name}.part"
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(directory / name)


def side_by_side(directories: list[Path], out: Path, interrupted: str | None = None) -> Run:
    """Puts several runs into one new run: their events in one file, their evidence copied. Shards of one run
    make that run; two runs of one build are side by side, with their times. `interrupted`: why shards are
    missing. Raises UsageError, OSError."""
    runs = apart([Run.read(directory) for directory in directories])
    taken: set[str] = set()
    for number, (directory, run) in enumerate(zip(directories, runs, strict=True), 1):
        run.cases = [_brought(case, directory, out, taken, number) for case in run.cases]
    run = merge(runs)
    if interrupted is not None and run.finished is not None:
        run.finished = replace(run.finished, interrupted=interrupted)
    file = EventFile(out)
    events = [run.started, CasesFound(run.total or len(run.cases)), *run.cases, run.finished]
    for event in events:
        if event is not None:
            file.write(encode(event))
    file.close()
    return run


def _brought(case: CaseFinished, directory: Path, out: Path, taken: set[str], number: int) -> CaseFinished:
    """The case with its evidence below `out`; a name that another run uses gets the run's number."""
    artefacts = {}
    for kind, packed in case.artefacts.items():
        path = path_alone(packed)
        top, _, rest = path.partition("/")
        place = path if path not in taken else f"{top}/{number}/{rest}" if rest else f"tests/{number}/{top}"
        taken.add(place)
        artefacts[kind] = place
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        bring(directory, packed, out / place)
    return replace(case, artefacts=artefacts)
