# SPDX-License-Identifier: GPL-2.0-only
"""Declared deviations: the valid content of a file, and the findings that an entry declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dissectors.rules.version_ranges import version_holds
from fixtures.system.hosts import NO_LOG, Identity, UsageError
from reports.run.deviations import (
    covers_all,
    covers_any,
    declared_for_others,
    declares,
    ends_the_server,
    load,
)
from reports.run.run_events import Circumstances
from suites.selftest.reports.run.report_samples import CRASH, DEVIATION, MUST, ROBUST, found, identity

WHERE = "suites/robust/test_survival.py::test_flush_mark"


def _where(builds: Mapping[str, Identity], test: str = WHERE, moves: tuple[str, ...] = ()) -> Circumstances:
    return Circumstances("system", builds, test, moves)


ENTRY = '[[deviation]]\nrequirement = "ROBUST-*"\ntests = ["*"]\nsymptom = "x"\nreason = "y"\n'


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
        (ENTRY.replace("ROBUST", "ROBUTS"), "no requirement 'ROBUTS-\\*'"),
        (ENTRY.replace("tests", "builds"), "add tests"),
        (ENTRY + 'symptm = "x"\n', "unknown key symptm"),
        (ENTRY + 'versions = "newer"\n', "no range"),
        (ENTRY + "reported = 7\n", "reported must be a text"),
        (ENTRY.replace('["*"]', '"*"'), "tests must be a list of texts"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "d.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load(file)
    assert "\n" not in str(caught.value)


def test_an_end_without_a_log_is_that_of_its_test(tmp_path: Path) -> None:
    """What a remote deployment shows of a death is declared for requirement, test and version, by an entry
    about an end."""
    file = tmp_path / "d.toml"
    file.write_text(ENTRY.replace('["*"]', f'["{WHERE}"]') + 'versions = "<=0.16.0"\nends = true\n')
    (entry,) = load(file)
    death = replace(found(ROBUST), seen=f"it ended: its connections ended at once; {NO_LOG}")
    here = {"source": identity("0.15.1")}
    assert declares(entry, death, _where(here))
    assert not declares(entry, replace(death, seen="it ended by SIGSEGV: no message"), _where(here))
    assert not declares(entry, death, _where(here, test="suites/other.py::test_else"))
    assert not declares(entry, death, _where({"source": identity("0.16.1")}))
    assert not declares(replace(entry, ends=False), death, _where(here))
    assert ends_the_server([entry], WHERE, None) == ends_the_server([entry], WHERE, "0.15.1") == entry
    assert ends_the_server([entry], WHERE, "0.16.1") is None


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
        ({"tests": ()}, True),
        ({"tests": ("*test_flush_mark*",)}, True),
        ({"tests": ("*test_well_behaved*",)}, False),
        ({"tests": ("*test_well_behaved*",), "moves": ("*: SPICE_MSGC_MIGRATE_FLUSH_MARK*",)}, False),
    ],
)
def test_what_an_entry_declares(change: dict[str, object], declared: bool) -> None:
    entry = replace(DEVIATION, **change)  # type: ignore[arg-type]
    assert declares(entry, found(ROBUST, CRASH), _where({"source": identity()})) is declared


def test_the_finding_s_host_decides_in_a_mixed_pair() -> None:
    builds = {"source": identity("0.14.3"), "target": identity("0.17")}
    entry = replace(DEVIATION, versions="<0.15")
    assert declares(entry, found(ROBUST, CRASH, "source"), _where(builds))
    assert not declares(entry, found(ROBUST, CRASH, "target"), _where(builds))
    assert declares(entry, found(ROBUST, CRASH), _where(builds))
    assert covers_any(entry, _where(builds))
    assert not covers_all(entry, _where(builds))
    theirs = replace(DEVIATION, builds=("debian:*",))
    mixed = {"source": identity(spec="debian:trixie"), "target": identity()}
    assert declares(theirs, found(ROBUST, CRASH, "source"), _where(mixed))
    assert not declares(theirs, found(ROBUST, CRASH, "target"), _where(mixed))
    assert not declares(entry, found(MUST, CRASH), _where(builds))


@pytest.mark.parametrize(
    ("moves", "declared"),
    [
        ((), False),
        (("client 0, main of the source: link with id zero",), False),
        (("client 0, main of the source: SPICE_MSGC_MIGRATE_FLUSH_MARK (mutation 7)",), True),
    ],
)
def test_a_play_is_excused_by_its_moves_alone(moves: tuple[str, ...], declared: bool) -> None:
    """A campaign that reaches a known crash by other moves has found something new."""
    entry = replace(DEVIATION, tests=("*test_flush*",), moves=("*: SPICE_MSGC_MIGRATE_FLUSH_MARK*",))
    where = _where({"source": identity()}, "fuzz::ROBUST-001-12345678", moves)
    assert declares(entry, found(ROBUST, CRASH), where) is declared


def test_a_newer_server_matches_what_is_declared_for_others() -> None:
    where = _where({"source": identity("0.17.0")})
    assert not declares(DEVIATION, found(ROBUST, CRASH), where)
    assert declared_for_others([DEVIATION], found(ROBUST, CRASH), where) is DEVIATION
    assert declared_for_others([DEVIATION], found(ROBUST, "another line"), where) is None
