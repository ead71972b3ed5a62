# SPDX-License-Identifier: GPL-2.0-only
"""Server behaviour that no client and no hypervisor can see, from `unseen.toml` beside this file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True)
class Unseen:
    """One behaviour that no client and no hypervisor can see, and why: no requirement covers it."""

    id: str
    text: str
    reason: str
    source: str


def load_unseen(path: Path) -> Mapping[str, Unseen]:
    """{id: invisible behaviour}, in the file's order."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return MappingProxyType({i: Unseen(id=i, **table) for i, table in tables.items()})


UNSEEN: Mapping[str, Unseen] = load_unseen(Path(__file__).with_name("unseen.toml"))
