# SPDX-License-Identifier: GPL-2.0-only
"""What a reader must know where the suite cannot tell a build's version, or does not know the version."""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.rules.judgement import Verdict
from reports.run import deviations
from reports.run.tally import Run

#: What follows from an unknown version, and what to do about it.
UNKNOWN = (
    "every requirement is judged, even one for other releases only, and no declared deviation with a range"
    " of versions applies. Name the version: --version V"
)


def remarks(run: Run) -> list[str]:
    """One sentence for all builds whose version is not known, and one for each version that breaks
    requirements as was declared for others."""
    nameless = _nameless(run)
    unknown = [f"The version of {', '.join(nameless)} is unknown: {UNKNOWN}"] if nameless else []
    return [*unknown, *_nearly_declared(run)]


def _nameless(run: Run) -> list[str]:
    builds = (build for sides in run.identities.values() for build in sides.values())
    return list(dict.fromkeys(build.spec for build in builds if not build.version))


def _nearly_declared(run: Run) -> Iterator[str]:
    """Failures of builds of known versions that a deviation declares for other versions."""
    entries = run.started.deviations
    found: dict[str, dict[str, dict[str, None]]] = {}  # versions of the builds -> ids and declared ranges
    for case in run.cases:
        versions = [build.version for build in case.identities.values() if build.version]
        if case.verdict is not Verdict.FAIL or not versions:
            continue
        for finding in case.findings:
            if deviations.declared(entries, finding, case.circumstances) is not None:
                continue
            entry = deviations.declared_for_others(entries, finding, case.circumstances)
            if entry is not None:
                of_build = found.setdefault(" and ".join(sorted(set(versions))), {"ids": {}, "ranges": {}})
                of_build["ids"][finding.requirement] = None
                of_build["ranges"][entry.versions] = None
    for shown, of_build in found.items():
        ids, ranges = list(of_build["ids"]), ", ".join(of_build["ranges"])
        what = "matches a deviation" if len(ids) == 1 else "match deviations"
        yield (
            f"{', '.join(ids)} on {shown} {what} declared for {ranges}. If it is the same fault, extend its"
            " `versions` in a copy of reports/run/deviations.toml and give that with --deviations"
        )
