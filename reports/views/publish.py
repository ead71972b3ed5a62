# SPDX-License-Identifier: GPL-2.0-only
"""Every report of a run, written into its directory from its events."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from fixtures.system.hosts import UsageError
from reports.ladder.recorded_ladder import recorded_ladder
from reports.run import seal
from reports.run.tally import Run, merge
from reports.views import allure_results, certificate, junit, page


def publish(directory: Path) -> Run:
    """Write the reports of the run in a directory; also of one that was killed."""
    run = Run.read(directory)
    return write(run, directory)


def write(run: Run, directory: Path) -> Run:
    """`certificate.json`, `junit.xml` and `index.html`, each whole or not at all; gives the run."""
    run.seal = seal.Manifest(seal.evidence_of(directory), {}).seal
    files = {
        certificate.FILE: json.dumps(certificate.certificate(run), indent=1, ensure_ascii=False).encode(),
        junit.FILE: junit.junit(run),
        page.FILE: page.page(run, partial(recorded_ladder, directory)).encode(),
    }
    try:
        for name, content in files.items():
            part = directory / f".{name}.part"
            part.write_bytes(content)
            part.replace(directory / name)
        allure_results.write(run, directory)
        seal.write(directory)
    except OSError as error:
        raise UsageError(
            f"cannot write reports to {directory}: {error.strerror}; name another directory with --out"
        ) from None
    return run


def side_by_side(directories: list[Path], out: Path) -> Run:
    """Several runs put into one; their evidence stays where it is and is named from `out`."""
    runs = []
    for directory in directories:
        run = Run.read(directory)
        run.cases = [
            replace(
                case,
                artefacts={k: os.path.relpath(directory / path, out) for k, path in case.artefacts.items()},
            )
            for case in run.cases
        ]
        runs.append(run)
    return merge(runs)
