# SPDX-License-Identifier: GPL-2.0-only
"""`make bare-captures RUNS="DIR..."`: judges the packets of a run's cases again, as `inspect` judges a
stranger's capture: without the hosts' events, the test's claims and what the recorder says of connections.

What a test had to know to find a breach may be missing there, but no breach may appear that the case does not
have: it would accuse somebody falsely. With SHAPE="--shape NAME" (or all) the packets are judged in other
shapes: halves, cut packets, holes, NAT and so on (`suites.selftest.dissectors.capture.capture_shapes`).

Exit status: 0 nothing appeared, 1 a finding appeared or the inspector crashed, 2 usage."""

from __future__ import annotations

import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import click

from dissectors.capture import CaptureError
from dissectors.rules.inspector import Inspection
from dissectors.rules.oracle import Oracle
from dissectors.wire.visible_text import visible_lines
from fixtures.system.hosts import UsageError
from reports.run.evidence import recorded
from reports.run.exit_status import Exit
from reports.run.run_events import CaseFinished
from reports.run.tally import Run
from suites.selftest.dissectors.capture.capture_mutations import Packet, packets
from suites.selftest.dissectors.capture.capture_shapes import SHAPES, is_plain, merged

BARE, MERGED, ALL = "bare", "two-cases", "all"
#: What a bare capture of a test truly shows, and the test does not tell as a breach: (requirement, the
#: beginning of the test's name). The library's host gives its links keys that are ready; these machines
#: differ because the test's host made them so.
TRULY_SHOWN = (("LINK-010", ""), ("MAIN-017", "test_machine_that_differs"))
#: What a server leaves undone whose process has died, which packets do not show.
LEFT_UNDONE = frozenset({"MIG-SRC-047"})
#: What looks like the server's fault where a connection, or its end, is missing: a channel alone with an id
#: that nothing explains, and a device that was unplugged, which only the end of its first connection tells.
NOT_TO_BE_TOLD: Mapping[str, frozenset[str]] = {
    "connection-missing": frozenset({"CONNID-003", "MAIN-011"}),
    "hole": frozenset({"MAIN-011"}),
}
#: How many cases a process judges at a time: those whose packets one archive holds, more or less.
CHUNK = 16


@dataclass(frozen=True)
class Accusation:
    """A finding that a shape of the packets has and the case has not; or "crash", with the traceback."""

    case: str
    shape: str
    requirement: str
    frame: int | None
    seen: str

    def __str__(self) -> str:
        where = f"{self.case} ({self.shape}), frame {self.frame}"
        return f"{self.requirement} in {where}: {visible_lines(self.seen)}"


@dataclass(frozen=True)
class Judged:
    """The captures that were judged, by shape, and the accusations."""

    captures: Counter[str]
    accusations: Sequence[Accusation]


@dataclass(frozen=True)
class Recording:
    """A case's packets, and what requirements may be told of them. `plain`: they can take any shape."""

    case: str
    known: set[str]
    packets: list[Packet]
    plain: bool


def judge_again(shapes: Sequence[str], seed: int, directory: Path, cases: Sequence[CaseFinished]) -> Judged:
    """Judges some cases of a run in these shapes."""
    captures: Counter[str] = Counter()
    found: list[Accusation] = []
    before: Recording | None = None
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "bare.pcap"
        for one in filter(None, (_recording(directory, case) for case in cases)):
            for shape in shapes if one.plain else [shape for shape in shapes if shape == BARE]:
                if (made := _save(path, shape, seed, one, before)) is not None:
                    captures[shape] += 1
                    found += _accused(path, made.known, made.case, shape)
            before = one if one.plain else None
    return Judged(captures, found)


def _recording(directory: Path, case: CaseFinished) -> Recording | None:
    """A case's recording; None if it holds no packets or cannot be read, which `verify` tells."""
    name = f"{case.nodeid}/{case.cell}" if case.cell else case.nodeid
    try:
        known = _known(directory, case)
        bare = packets(directory / case.artefacts["pcapng"])
    except (CaptureError, OSError):
        return None
    return Recording(name, known, bare, is_plain(bare)) if bare else None


def _save(path: Path, shape: str, seed: int, one: Recording, before: Recording | None) -> Recording | None:
    """Writes a recording in a shape, and returns what it holds. MERGED: with the one before, None if there is
    none or the two share a port."""
    if shape != MERGED:
        SHAPES[shape].save(path, one.packets, Random(f"{seed} {one.case}"))
        return replace(one, known=one.known | NOT_TO_BE_TOLD.get(shape, frozenset()))
    if before is None or (both := merged(before.packets, one.packets)) is None:
        return None
    SHAPES[BARE].save(path, both, Random(seed))
    return Recording(f"{before.case} and {one.case}", one.known | before.known, both, plain=True)


def _known(directory: Path, case: CaseFinished) -> set[str]:
    """The requirements that the case breaks, by its claims or by its whole recording. Raises CaptureError."""
    oracle = Oracle()
    for event in recorded(directory, case):
        oracle.observe(event)
    known = {finding.requirement for finding in (*oracle.close().findings, *case.findings)}
    test = case.nodeid.rpartition("::")[2]
    known |= {requirement for requirement, name in TRULY_SHOWN if test.startswith(name)}
    died = any(host.died is not None for host in oracle.conversation.hosts)
    return known | LEFT_UNDONE if died else known


def _accused(path: Path, known: set[str], name: str, shape: str) -> Iterator[Accusation]:
    inspection = Inspection([path])
    try:
        inspection.finish()
        inspection.as_dict()
        findings = inspection.findings
    except Exception:  # what is looked for: any exception at all
        yield Accusation(name, shape, "crash", None, traceback.format_exc())
        return
    for finding in findings:
        if finding.requirement not in known:
            yield Accusation(name, shape, finding.requirement, finding.frame, finding.seen)


def _judged(run: Run, work: Callable[[list[CaseFinished]], Judged], workers: int) -> Iterator[Judged]:
    """The results for all cases; from other processes if more than one is asked for."""
    if workers < 2:
        yield from map(work, _chunks(run))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        yield from pool.map(work, _chunks(run))


def _chunks(run: Run) -> Iterator[list[CaseFinished]]:
    cases = iter([case for case in run.cases if "pcapng" in case.artefacts])
    while chunk := list(islice(cases, CHUNK)):
        yield chunk


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...",
                type=click.Path(path_type=Path, file_okay=False, exists=True))  # fmt: skip
@click.option("--shape", "shapes", multiple=True, type=click.Choice([*SHAPES, MERGED, ALL]),
              help=f"The shapes that are judged; {BARE} unless told.")  # fmt: skip
@click.option("--seed", default=1, show_default=True, help="Where packets are missing, and the like.")
@click.option("-n", "workers", default=os.cpu_count(), show_default=True, help="Processes.")
def main(runs: tuple[Path, ...], shapes: tuple[str, ...], seed: int, workers: int) -> None:
    """Judge the packets of runs as bare captures."""
    chosen = [*SHAPES, MERGED] if ALL in shapes else list(shapes) or [BARE]
    accused = False
    try:
        for directory in runs:
            captures: Counter[str] = Counter()
            for judged in _judged(
                Run.read(directory), partial(judge_again, chosen, seed, directory), workers
            ):
                captures += judged.captures
                for accusation in judged.accusations:
                    accused = True
                    click.echo(str(accusation))
            counts = ", ".join(f"{count} {shape}" for shape, count in captures.items())
            click.echo(f"{directory}: {counts or 'no packets'}")
    except UsageError as error:
        click.echo(str(error), err=True)
        raise SystemExit(Exit.USAGE) from None
    raise SystemExit(Exit.NOT_CONFORMANT if accused else Exit.CONFORMANT)


if __name__ == "__main__":
    sys.exit(main())
