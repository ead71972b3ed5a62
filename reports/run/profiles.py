# SPDX-License-Identifier: GPL-2.0-only
"""Profiles: named selections of what to run, as pytest options."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fixtures.system.hosts import UsageError
from reports.run.environment import ROOT

FILE = Path(__file__).with_name("profiles.toml")
DEFAULT = "full"


def known() -> dict[str, dict[str, Any]]:
    """Every profile by its name."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def options(names: Iterable[str], root: Path = ROOT) -> tuple[list[str], list[Path]]:
    """Pytest's options and the paths of several profiles together (none: the default profile). Raises
    UsageError for an unknown one."""
    table = known()
    chosen = list(names) or [DEFAULT]
    for name in chosen:
        if name not in table:
            raise UsageError(f"no profile {name!r}; there are {', '.join(sorted(table))}")
    selections = [table[name] for name in chosen]
    paths = [root / path for path in _union(selections, "paths")]
    return list(_options(selections)), [path for path in paths if file_of(path).exists()]


def file_of(path: Path) -> Path:
    """The file or folder of a path that may name a test inside it."""
    return Path(str(path).partition("::")[0])


def processes(names: Iterable[str]) -> int | None:
    """The number of processes that the profiles are worth; None: as many as `-n auto` starts."""
    table = known()
    wanted = [int(table.get(name, {}).get("processes", 0)) for name in names]
    return sum(wanted) if wanted and all(wanted) else None


def _options(chosen: list[dict[str, Any]]) -> Iterator[str]:
    for key, option in (("requirements", "--requirement"), ("levels", "--level")):
        if all(selection.get(key) for selection in chosen):  # a profile without a limit lifts the limit
            for value in _union(chosen, key):
                yield f"{option}={value}"
    markers = [selection.get("markers", "") for selection in chosen]
    if all(markers):
        yield f"-m={' or '.join(f'({m})' for m in markers)}"


def _union(chosen: list[dict[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(value for selection in chosen for value in selection.get(key, ())))
