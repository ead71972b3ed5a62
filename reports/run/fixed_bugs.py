# SPDX-License-Identifier: GPL-2.0-only
"""Bugs of released servers that a later commit fixed: read from `fixed_bugs.toml`, matched to findings.

Such a bug is no deviation: a build that has it is not conformant. But one bug breaks several requirements,
and a report tells one cause once: with the requirement that the bug's entry names first and with the fix; the
other requirements are consequences. Only builds of a known version before the fix are compared."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dissectors.rules.judgement import Finding
from reports.run import deviations
from reports.run.run_events import Circumstances, Deviation, FixedBug

#: The bugs that the project knows.
FILE = Path(__file__).with_name("fixed_bugs.toml")


@cache
def load(path: Path = FILE) -> tuple[FixedBug, ...]:
    """The bugs of a file, in its order."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return tuple(
        FixedBug(
            commit,
            table["fixed_in"],
            table["what"],
            tuple(
                Deviation(
                    show["requirement"],
                    show["symptom"],
                    table["what"],
                    versions=_before(table),
                    tests=tuple(show["tests"]),
                )
                for show in table["shows"]
            ),
        )
        for commit, table in tables.items()
    )


def _before(table: dict[str, Any]) -> str:
    since = f">={table['since']}," if "since" in table else ""
    return f"{since}<{table['fixed_in']}"


def cause(bugs: Sequence[FixedBug], finding: Finding, where: Circumstances) -> FixedBug | None:
    """The first bug that shows in this finding; None if no bug of the table does."""
    return next((bug for bug in bugs if any(deviations.declares(s, finding, where) for s in bug.shows)), None)
