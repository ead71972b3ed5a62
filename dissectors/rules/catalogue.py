# SPDX-License-Identifier: GPL-2.0-only
"""The requirement catalogue, read from `catalogue.toml` beside this file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dissectors.rules.judgement import Evidence, Level, Requirement


@dataclass(frozen=True)
class Catalogue:
    """The file's content: {id: requirement} in its order, and {name of a source: its full citation}."""

    requirements: Mapping[str, Requirement]
    sources: Mapping[str, str]


def load(path: Path) -> Catalogue:
    """Reads a catalogue. Raises ValueError for a duplicate id."""
    found: dict[str, Requirement] = {}
    areas: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    sources: dict[str, str] = areas.pop("sources")
    for area, entries in areas.items():
        for identifier, entry in entries.items():
            if identifier in found:
                raise ValueError(f"{identifier} is in {path.name} twice")
            found[identifier] = _requirement(identifier, area, entry)
    return Catalogue(MappingProxyType(found), MappingProxyType(sources))


def _requirement(identifier: str, area: str, entry: dict[str, str]) -> Requirement:
    texts = dict(entry)
    level, evidence = Level(texts.pop("level", "MUST")), Evidence(texts.pop("evidence", "packets"))
    return Requirement(id=identifier, area=area, level=level, evidence=evidence, **texts)


_LOADED = load(Path(__file__).with_name("catalogue.toml"))
CATALOGUE: Mapping[str, Requirement] = _LOADED.requirements
SOURCES: Mapping[str, str] = _LOADED.sources


def citations(requirement: Requirement) -> list[tuple[str, str]]:
    """(place, full citation of the document) for each part of a requirement's source. Raises LookupError for
    a part that does not begin with the name of a source."""
    found = []
    for part in requirement.source.split("; "):
        name = next((name for name in SOURCES if part.startswith(name)), None)
        if name is None:
            raise LookupError(f"{requirement.id}: no such source: {part}")
        found.append((part, SOURCES[name]))
    return found
