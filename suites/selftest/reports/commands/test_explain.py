# SPDX-License-Identifier: GPL-2.0-only
"""`spice-conform explain`: a whole requirement in 80 columns, and its verdicts on releases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dissectors.rules.catalogue import CATALOGUE
from fixtures.system.hosts import UsageError
from reports.commands.cli import main
from reports.commands.explain import WIDTH, explanation
from reports.commands.requirements import marked_tests
from reports.views import known_verdicts
from reports.views.certificate import FILE, FORMAT


def explain(identifier: str) -> Result:
    return CliRunner().invoke(main, ["explain", identifier])


def test_one_requirement() -> None:
    result = explain("mig-dst-011").output
    wanted = (
        "MIG-DST-011",
        CATALOGUE["MIG-DST-011"].text,
        CATALOGUE["MIG-DST-011"].why,
        "Yonit Halperin, spice-devel@lists.freedesktop.org, 2011-09-19",
        "suites/migration/test_semi_seamless.py",
        "test_ticket_that_expires_during_the_migration",
        "closed after INIT (target)",
        "0.15.1    PASS",
    )
    for words in wanted:
        assert words in " ".join(result.split()) or words in result, words


def test_every_requirement() -> None:
    """Each has a test and planted faults, and fits the width."""
    collected = marked_tests(*CATALOGUE)
    for requirement, (tests, spoiled) in zip(CATALOGUE.values(), collected, strict=True):
        result = explanation(requirement, tests, spoiled)
        assert max(map(len, result.splitlines())) <= WIDTH
        assert "\n  none" not in result, requirement.id


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("MIG-DST-999", "no requirement MIG-DST-999; did you mean MIG-DST-"),
        ("LINK", "no requirement LINK; did you mean LINK-001, "),
        ("?", "no requirement ?; spice-conform requirements lists them"),
        ("a\x1b[31m", "no requirement a\\x1b[31m; spice-conform requirements lists them"),
    ],
)
def test_no_such_requirement(wrong: str, said: str) -> None:
    done = explain(wrong)
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert done.output.startswith(f"spice-conform: {said}")


def certificate(directory: Path, kind: str = "library", version: str = "0.16.0") -> Path:
    """The parts of a run's certificate that this code reads."""
    builds = {"source": {"kind": kind, "version": version}, "target": {"kind": kind, "version": version}}
    results = {"lib": {"verdict": "PASS"}}
    rows = [{"id": "LINK-001", "results": results}, {"id": "LINK-002", "results": {"lib": {"verdict": None}}}]
    whole = {"format": FORMAT, "servers": [{"spec": "lib", "builds": builds}], "requirements": rows}
    (directory / FILE).write_text(json.dumps(whole), encoding="utf-8")
    return directory


def test_verdicts_of_a_run(tmp_path: Path) -> None:
    run = known_verdicts.of_run(certificate(tmp_path))
    assert run == {"LINK-001": {"0.16.0": "PASS"}}
    known = {"LINK-001": {"0.16.0": "FAIL", "0.9.2": "PASS"}, "LINK-000": {"0.9.2": "PASS"}}
    path = tmp_path / "known.toml"
    path.write_text(known_verdicts.text(known_verdicts.merged(known, [run])), encoding="utf-8")
    assert known_verdicts.read(path) == {"LINK-001": {"0.9.2": "PASS", "0.16.0": "PASS"}}
    assert path.read_text(encoding="utf-8").endswith('LINK-001 = { "0.9.2" = "PASS", "0.16.0" = "PASS" }\n')


@pytest.mark.parametrize(("kind", "version"), [("qemu", "7.2.0"), ("library", "")])
def test_verdicts_of_other_servers(tmp_path: Path, kind: str, version: str) -> None:
    with pytest.raises(UsageError, match="is not one library of a known version"):
        known_verdicts.of_run(certificate(tmp_path, kind, version))


def test_known_verdicts_are_of_requirements_that_there_are() -> None:
    assert known_verdicts.read().keys() <= CATALOGUE.keys()
