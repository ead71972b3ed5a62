# SPDX-License-Identifier: GPL-2.0-only
"""Judge a run again: every verdict from the captured packets alone, beside what its certificate says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import Verdict
from reports.run.evidence import read
from reports.views.certificate import load

_JUDGED = (Verdict.PASS, Verdict.FAIL, Verdict.DEVIATES, Verdict.DIFFERS)


class Check(StrEnum):
    """What judging again came to."""

    HOLDS = "holds"
    DIFFERS = "does not hold"
    OWN = "stands on the test's own assertion, which the packets alone cannot show"
    NOTHING = "was not judged by the run"


@dataclass(frozen=True)
class Checked:
    """One test, judged again; `why` is one line where it does not hold."""

    nodeid: str
    check: Check
    why: str = ""


def check(case: Mapping[str, Any], directory: Path) -> Checked:
    """Judge one test again. A client's faults count only where the test judged its client.
    A finding without a frame is the test's own: it saw what no packet shows."""
    nodeid, path = case["nodeid"], case["artefacts"].get("pcapng")
    if case["verdict"] not in _JUDGED:
        return Checked(nodeid, Check.NOTHING)
    if path is None:
        return Checked(nodeid, Check.OWN)
    reading = read(directory / path)
    if not reading.events:
        return Checked(nodeid, Check.DIFFERS, f"{path} is missing or cannot be read")
    claimed = {(f["requirement"], f["seen"]): f["frame"] for f in case["findings"]}
    found = {(f.requirement, f.seen) for f in reading.judgement.findings}
    lost = [claim for claim, frame in claimed.items() if frame and claim not in found]
    new = [f for f in found if f not in claimed and CATALOGUE[f[0]].duty == "server"]
    if lost or new:
        return Checked(nodeid, Check.DIFFERS, _difference(lost, new))
    return Checked(nodeid, Check.HOLDS if claimed.keys() <= found else Check.OWN)


def _difference(lost: Iterable[tuple[str, str]], new: Iterable[tuple[str, str]]) -> str:
    words = [f"{requirement} ({seen}) is not in the packets" for requirement, seen in sorted(lost)]
    words += [f"the packets break {requirement} ({seen})" for requirement, seen in sorted(new)]
    return "; ".join(words)


def verify(directory: Path) -> tuple[str, bool]:
    """What to print, and whether every verdict that packets can show holds."""
    certificate = load(directory)
    checks = [check(case, directory) for case in certificate["tests"]]
    return "\n".join(_lines(certificate, checks)), all(c.check is not Check.DIFFERS for c in checks)


def _lines(certificate: Mapping[str, Any], checks: list[Checked]) -> Iterator[str]:
    counts = Counter(c.check for c in checks)
    yield f"{certificate['verdict']}, {len(checks)} tests judged again from their packets"
    for kind in Check:
        if counts[kind]:
            yield f"{counts[kind]:>6}  {kind}"
    for checked in checks:
        if checked.check is Check.DIFFERS:
            yield f"{checked.nodeid}: {checked.why}"
