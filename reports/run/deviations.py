# SPDX-License-Identifier: GPL-2.0-only
"""Declared deviations: read from TOML, matched to findings.

A deviation says which requirement a build is known not to keep, how this shows, in which tests, in which
versions, and why. A finding that a deviation declares makes its case DEVIATES instead of FAIL.

A finding of `fuzz` or `replay` has no test. A deviation applies there if each of its `moves` (globs) matches
an act of client or hypervisor: a crash is excused only where its known cause was played."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import Finding, Level
from dissectors.rules.version_ranges import version_holds
from fixtures.system.hosts import NO_LOG, Identity, UsageError
from reports.run.run_events import Circumstances, Deviation, deviation

#: The deviations of released servers that the project knows.
SHIPPED = Path(__file__).with_name("deviations.toml")

_LISTS = {"builds", "tests", "moves"}
_REQUIRED = ("requirement", "symptom", "reason")


def load(path: Path = SHIPPED) -> tuple[Deviation, ...]:
    """The `[[deviation]]` tables of a file; UsageError with one line if the file is wrong."""
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
        if key == "ends" and isinstance(value, bool):
            continue
        texts = value if key in _LISTS else [value]
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise UsageError(f"{where}: {key} must be {'a list of texts' if key in _LISTS else 'a text'}")
    for key in _REQUIRED:
        if not str(table.get(key, "")).strip():
            raise UsageError(f"{where}: {key} is missing")
    meant = [r for r in CATALOGUE.values() if fnmatchcase(r.id, table["requirement"])]
    if not meant:
        raise UsageError(f"{where}: no requirement {table['requirement']!r}")
    if any(r.level is Level.ROBUST for r in meant) and not (table.get("tests") or table.get("moves")):
        raise UsageError(f"{where}: a ROBUST requirement is excused in named tests or moves only: add tests")
    try:
        SpecifierSet(table.get("versions", ""))
    except InvalidSpecifier:
        raise UsageError(
            f"{where}: versions {table['versions']!r} is no range; write such as '>=0.12,<=0.16.0'"
        ) from None
    return deviation(table)


def covers(entry: Deviation, server: str, identity: Identity | None) -> bool:
    """Whether a deviation is declared for this build; `server`: its SPEC if its identity is not proved."""
    spec = identity.spec if identity else server
    in_builds = not entry.builds or any(fnmatchcase(spec, glob) for glob in entry.builds)
    return in_builds and version_holds(entry.versions, identity.version if identity else None)


def covers_any(entry: Deviation, where: Circumstances) -> bool:
    """Whether a deviation is declared for one of the builds of a pair (or for the only one)."""
    return any(covers(entry, where.server, identity) for identity in where.builds.values() or [None])


def covers_all(entry: Deviation, where: Circumstances) -> bool:
    """Whether a deviation is declared for both builds of a pair: it must then show, at whichever host."""
    return all(covers(entry, where.server, identity) for identity in where.builds.values() or [None])


def may_show(entry: Deviation, where: Circumstances) -> bool:
    """Whether a deviation may show in this test, or after these moves."""
    if not entry.tests and not entry.moves:
        return True
    if any(fnmatchcase(where.test, glob) for glob in entry.tests):
        return True
    played = [any(fnmatchcase(move, glob) for move in where.moves) for glob in entry.moves]
    return bool(played) and all(played)


def declares(entry: Deviation, finding: Finding, where: Circumstances) -> bool:
    """Whether a deviation declares this finding. A finding that names its host is compared with that host's
    build alone."""
    if not fnmatchcase(finding.requirement, entry.requirement) or not may_show(entry, where):
        return False
    texts = (finding.seen, finding.expected)
    unlogged = entry.ends and NO_LOG in finding.seen
    if not unlogged and not any(entry.symptom in text or fnmatchcase(text, entry.symptom) for text in texts):
        return False
    own = where.builds.get(finding.host or "")
    return covers(entry, where.server, own) if own else covers_any(entry, where)


def declared(entries: Iterable[Deviation], finding: Finding, where: Circumstances) -> Deviation | None:
    """The first deviation that declares this finding; None if none does."""
    return next((entry for entry in entries if declares(entry, finding, where)), None)


def ends_the_server(entries: Iterable[Deviation], test: str, version: str | None) -> Deviation | None:
    """The first deviation by which a test ends a server of this version (None: of any version)."""
    for entry in entries:
        in_range = version is None or version_holds(entry.versions, version)
        if entry.ends and in_range and any(fnmatchcase(test, glob) for glob in entry.tests):
            return entry
    return None


def declared_for_others(
    entries: Iterable[Deviation], finding: Finding, where: Circumstances
) -> Deviation | None:
    """The first deviation that would declare this finding if its `versions` matched."""
    return next((e for e in entries if declares(replace(e, versions=""), finding, where)), None)
