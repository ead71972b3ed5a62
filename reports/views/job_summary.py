# SPDX-License-Identifier: GPL-2.0-only
"""`summary.md`: a run in Markdown for a CI job's summary; and GitHub's annotations of failed requirements."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reports.run.results import BuildFailure
from reports.run.tally import Run
from reports.views.certificate import counted

FILE = "summary.md"
ROWS_SHOWN = 50
ANNOTATIONS_SHOWN = 10  # GitHub shows ten errors of a step
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#!])")


def markdown(run: Run) -> str:
    """The verdict, the counts, and a table of failures, each cause once."""
    lines = [f"## SPICE conformance: {run.headline}", "", _plain(run.sentence), ""]
    lines.append(", ".join(f"{n} {name}" for name, n in counted(run.counts()).items()))
    for server in run.servers:
        builds = run.identities.get(server, {}).values()
        versions = ", ".join(filter(None, (b.version for b in builds))) or "version unknown"
        lines += ["", f"Build: {_plain(server)} ({_plain(versions)}). Scope: {_plain(run.scope)}."]
    failed = run.failed
    if failed:
        lines += ["", "| Requirement | What it says | Expected | Seen |", "|---|---|---|---|"]
    for failure in failed[:ROWS_SHOWN]:
        found = next((f for e in failure.cases for f in e.findings), None)
        cells = [", ".join(failure.ids), _says(failure)]
        cells += [found.expected, found.seen] if found else ["", failure.cases[0].case.reason]
        lines.append("| " + " | ".join(map(_plain, cells)) + " |")
    if len(failed) > ROWS_SHOWN:
        lines.append(f"\nand {len(failed) - ROWS_SHOWN} more, in index.html")
    if run.seal:
        lines += ["", f"Seal: `{run.seal}`"]
    return "\n".join(lines) + "\n"


def github_errors(run: Run) -> Iterator[str]:
    """A workflow command of GitHub's for each failure, at most ten."""
    failed = run.failed
    for failure in failed[:ANNOTATIONS_SHOWN]:
        evidence = failure.cases[0]
        found = evidence.findings[0] if evidence.findings else None
        seen = f"expected {found.expected}; seen {found.seen}" if found else evidence.case.reason
        file = evidence.case.nodeid.partition("::")[0]
        title = f"{', '.join(failure.ids)} on {failure.server}"
        where = f"file={_property(file)},title={_property(title)}"
        yield f"::error {where}::{_data(_says(failure))}%0A{_data(seen)}"


def _says(failure: BuildFailure) -> str:
    """The sentence of a requirement, or the cause of a failure that a later release does not have."""
    bug = failure.bug
    return f"{bug.what} ({bug.fix})" if bug else failure.results[0].requirement.text


def _plain(text: str) -> str:
    """Escapes a text, so that it is no markup and breaks no row."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
