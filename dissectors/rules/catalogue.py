# SPDX-License-Identifier: GPL-2.0-only
"""The requirement catalogue, read from `catalogue.toml` beside this file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from dissectors.rules.judgement import Level, Requirement


def load(path: Path) -> dict[str, Requirement]:
    """{id: requirement} in the file's order. Raises ValueError for an id that stands twice."""
    found: dict[str, Requirement] = {}
    chapters: dict[str, dict[str, dict[str, str]]] = tomllib.loads(path.read_text(encoding="utf-8"))
    for area, entries in chapters.items():
        for identifier, entry in entries.items():
            if identifier in found:
                raise ValueError(f"{identifier} stands twice in {path.name}")
            texts = {key: value for key, value in entry.items() if key != "level"}
            found[identifier] = Requirement(id=identifier, level=Level(entry["level"]), area=area, **texts)
    return found


CATALOGUE: Mapping[str, Requirement] = MappingProxyType(load(Path(__file__).with_name("catalogue.toml")))
