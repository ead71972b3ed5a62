# SPDX-License-Identifier: GPL-2.0-only
"""Declared deviations: read from TOML, matched to findings.

A deviation says which requirement a build is known not to keep, how that shows, on which versions and why.
A finding that one of them declares makes its case DEVIATES in place of FAIL.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from dissectors.rules.judgement import Finding
from fixtures.system.hosts import Identity, UsageError
from reports.run.run_events import Deviation, deviation

#: The deviations of released servers that the project knows.
SHIPPED = Path(__file__).with_name("deviations.toml")

_LISTS = {"builds", "tests"}
_REQUIRED = ("requirement", "symptom", "reason")


def load(path: Path = SHIPPED) -> tuple[Deviation, ...]:
    """The `[[deviation]]` tables of a file; UsageError with one line if it is not right."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"deviations: {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"deviations: {path}: not TOML: {error}") from None
    tables = data.pop("deviation", [])
    if data or not isinstance(tables, list):
        raise UsageError(f"deviations: {path}: only [[deviation]] tables belong here")
    return tuple(_checked(table, f"deviations: {path}: entry {n}") for n, table in enumerate(tables, 1))


def _checked(table: Any, where: str) -> Deviation:
    known = {f.name for f in fields(Deviation)}
    if not isinstance(table, dict):
        raise UsageError(f"{where}: not a table")
    if unknown := table.keys() - known:
        names = ", ".join(sorted(known))
        raise UsageError(f"{where}: unknown key {', '.join(sorted(unknown))}; known: {names}")
    for key, value in table.items():
        texts = value if key in _LISTS else [value]
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise UsageError(f"{where}: {key} must be {'a list of texts' if key in _LISTS else 'a text'}")
    for key in _REQUIRED:
        if not str(table.get(key, "")).strip():
            raise UsageError(f"{where}: {key} is missing")
    try:
        SpecifierSet(table.get("versions", ""))
    except InvalidSpecifier:
        raise UsageError(
            f"{where}: versions {table['versions']!r} is no range; write such as '>=0.12,<=0.16.0'"
        ) from None
    return deviation(table)


def version_holds(versions: str, version: str | None) -> bool:
    """Whether a version lies in a range. A packager's version (`1:0.15.1-1+deb12u1`) counts as its upstream
    one; an unknown version lies in no range but the empty one."""
    if not versions:
        return True
    upstream = re.match(r"\d+(\.\d+)*", (version or "").rpartition(":")[2])
    if upstream is None:
        return False
    return SpecifierSet(versions).contains(Version(upstream.group()), prereleases=True)


def covers(entry: Deviation, server: str, identity: Identity | None) -> bool:
    """Whether a deviation is declared for this build; `server`: its SPEC where its identity is not proved."""
    spec = identity.spec if identity else server
    in_builds = not entry.builds or any(fnmatchcase(spec, glob) for glob in entry.builds)
    return in_builds and version_holds(entry.versions, identity.version if identity else None)


def covers_any(entry: Deviation, server: str, builds: Mapping[str, Identity]) -> bool:
    """Whether a deviation is declared for one of the builds of a pair (or for the only one)."""
    return any(covers(entry, server, identity) for identity in builds.values() or [None])


def covers_all(entry: Deviation, server: str, builds: Mapping[str, Identity]) -> bool:
    """Whether a deviation is declared for both builds of a pair: on whichever side it shows, it is due."""
    return all(covers(entry, server, identity) for identity in builds.values() or [None])


def declares(entry: Deviation, finding: Finding, server: str, builds: Mapping[str, Identity]) -> bool:
    """Whether a deviation is this finding's. `builds`: host label -> build; a finding that names its host
    is matched with that host's build alone."""
    if not fnmatchcase(finding.requirement, entry.requirement):
        return False
    texts = (finding.seen, finding.expected)
    if not any(entry.symptom in text or fnmatchcase(text, entry.symptom) for text in texts):
        return False
    own = builds.get(finding.host or "")
    return covers(entry, server, own) if own else covers_any(entry, server, builds)


def declared(
    entries: Iterable[Deviation], finding: Finding, server: str, builds: Mapping[str, Identity]
) -> Deviation | None:
    """The first deviation that declares this finding, None if it is undeclared."""
    return next((entry for entry in entries if declares(entry, finding, server, builds)), None)
