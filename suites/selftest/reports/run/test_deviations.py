# SPDX-License-Identifier: GPL-2.0-only
"""Declared deviations: what a file may hold, and which findings an entry declares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.system.hosts import UsageError
from reports.run.deviations import covers_all, covers_any, declares, load, version_holds
from suites.selftest.reports.run.report_samples import CRASH, DEVIATION, MUST, ROBUST, found, identity

ENTRY = '[[deviation]]\nrequirement = "ROBUST-*"\nsymptom = "x"\nreason = "y"\n'


def test_shipped_file_is_right() -> None:
    assert all(entry.reason for entry in load())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "not TOML"),
        ("x = 1\n", r"only \[\[deviation\]\] tables"),
        ("deviation = 3\n", r"only \[\[deviation\]\] tables"),
        ("deviation = [3]\n", "entry 1: not a table"),
        ('[[deviation]]\nrequirement = "A"\nreason = "r"\n', "symptom is missing"),
        (ENTRY + 'symptm = "x"\n', "unknown key symptm"),
        (ENTRY + 'versions = "newer"\n', "no range"),
        (ENTRY + "reported = 7\n", "reported must be a text"),
        (ENTRY + 'tests = "a"\n', "tests must be a list of texts"),
    ],
)
def test_wrong_files_are_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "d.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load(file)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("versions", "version", "holds"),
    [
        ("", None, True),
        (">=0.12", None, False),
        (">=0.12,<=0.16.0", "0.15.1", True),
        ("<=0.16.0", "0.16.1", False),
        ("<=0.15.1", "0.15.1-1+deb12u1", True),
        ("==0.14.3", "1:0.14.3-2.1+deb11u1", True),
        (">=0.14.90", "0.14.91", True),
        (">=0.12", "unknown", False),
    ],
)
def test_versions(versions: str, version: str | None, holds: bool) -> None:
    assert version_holds(versions, version) is holds


@pytest.mark.parametrize(
    ("change", "declared"),
    [
        ({}, True),
        ({"requirement": ROBUST.id}, True),
        ({"requirement": "LINK-*"}, False),
        ({"symptom": "spice-ERROR: * mark"}, True),
        ({"symptom": "another line"}, False),
        ({"versions": "<0.15"}, False),
        ({"builds": ("debian:*",)}, False),
        ({"builds": ("debian:*", "system")}, True),
    ],
)
def test_what_an_entry_declares(change: dict[str, object], declared: bool) -> None:
    entry = replace(DEVIATION, **change)  # type: ignore[arg-type]
    assert declares(entry, found(ROBUST, CRASH), "system", {"source": identity()}) is declared


def test_the_finding_s_host_decides_in_a_mixed_pair() -> None:
    builds = {"source": identity("0.14.3"), "target": identity("0.17")}
    entry = replace(DEVIATION, versions="<0.15")
    assert declares(entry, found(ROBUST, CRASH, "source"), "a > b", builds)
    assert not declares(entry, found(ROBUST, CRASH, "target"), "a > b", builds)
    assert declares(entry, found(ROBUST, CRASH), "a > b", builds)
    assert covers_any(entry, "a > b", builds)
    assert not covers_all(entry, "a > b", builds)
    theirs = replace(DEVIATION, builds=("debian:*",))
    mixed = {"source": identity(spec="debian:trixie"), "target": identity()}
    assert declares(theirs, found(ROBUST, CRASH, "source"), "debian:trixie > system", mixed)
    assert not declares(theirs, found(ROBUST, CRASH, "target"), "debian:trixie > system", mixed)
    assert not declares(entry, found(MUST, CRASH), "a > b", builds)
