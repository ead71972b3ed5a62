# SPDX-License-Identifier: GPL-2.0-only
"""The requirement catalogue, read from `catalogue.toml` beside this file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from dissectors.rules.judgement import Evidence, Level, Requirement


def load(path: Path) -> dict[str, Requirement]:
    """{id: requirement} in the file's order. Raises ValueError for an id that stands twice."""
    found: dict[str, Requirement] = {}
    areas: dict[str, dict[str, dict[str, str]]] = tomllib.loads(path.read_text(encoding="utf-8"))
    for area, entries in areas.items():
        for identifier, entry in entries.items():
            if identifier in found:
                raise ValueError(f"{identifier} stands twice in {path.name}")
            found[identifier] = _requirement(identifier, area, entry)
    return found


def _requirement(identifier: str, area: str, entry: dict[str, str]) -> Requirement:
    texts = dict(entry)
    level, evidence = Level(texts.pop("level", "MUST")), Evidence(texts.pop("evidence", "packets"))
    return Requirement(id=identifier, area=area, level=level, evidence=evidence, **texts)


CATALOGUE: Mapping[str, Requirement] = MappingProxyType(load(Path(__file__).with_name("catalogue.toml")))
