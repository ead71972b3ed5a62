# SPDX-License-Identifier: GPL-2.0-only
"""`spice-conform learn --compare`, and the replay of its findings, through the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from fixtures.library import LibraryLauncher
from reports.commands.cli import main
from reports.run.exit_status import Exit
from suites.model.conformance import model_of
from suites.model.mealy import Model
from suites.model.subject import Subject

TARGET = Subject("target", seamless=False)
WORD = ("main: link, id wrong", "main: MIGRATE_END")


@pytest.fixture(scope="module")
def model() -> Model:
    """Of the installed library."""
    with LibraryLauncher() as launcher:
        found = model_of(launcher.identity.version, TARGET)
    if found is None:
        pytest.skip("there is no model of the installed library: make models")
    return found


@pytest.fixture
def files(model: Model, tmp_path: Path) -> tuple[Path, Path]:
    """The model, and one that answers a word differently."""
    state = model.after(WORD[:-1])
    row = {**model.steps[state], WORD[-1]: ("main INIT(a new id)", model.steps[state][WORD[-1]][1])}
    other = replace(model, steps=[row if n == state else old for n, old in enumerate(model.steps)])
    model.write(tmp_path / "model.json")
    other.write(tmp_path / "other.json")
    return tmp_path / "model.json", tmp_path / "other.json"


def run(*words: object) -> tuple[int, str]:
    """Exit status and output."""
    done = CliRunner().invoke(main, [str(word) for word in words])
    return done.exit_code, done.output


def finding(left: Path, right: Path, out: Path) -> Path:
    """The finding of the only difference of two models."""
    status, told = run("learn", "--compare", left, right, "--out", out)
    assert status == Exit.NOT_CONFORMANT, told
    assert "1 differences" in told
    assert all(name in told for name in WORD)
    (file,) = out.glob("findings/*/finding.json")
    assert json.loads(file.read_text())["letters"] == list(WORD)
    return file


def test_equal_models(files: tuple[Path, Path]) -> None:
    status, told = run("learn", "--compare", files[0], files[0])
    assert status == Exit.CONFORMANT
    assert "equal" in told


def test_a_difference_shows_where_the_build_has_it(files: tuple[Path, Path], tmp_path: Path) -> None:
    file = finding(files[1], files[0], tmp_path / "out")
    status, told = run("replay", file, "--server", "system", "--out", tmp_path / "replay")
    assert status == Exit.NOT_CONFORMANT, told
    assert "expected: main INIT(a new id)" in told


def test_a_difference_does_not_show_elsewhere(files: tuple[Path, Path], tmp_path: Path) -> None:
    file = finding(files[0], files[1], tmp_path / "out")
    status, told = run("replay", file, "--server", "system", "--out", tmp_path / "replay")
    assert status == Exit.CONFORMANT, told
    assert "does not show" in told


def test_a_model_of_another_suite_version(files: tuple[Path, Path]) -> None:
    file = files[0]
    file.write_text(file.read_text().replace('"suite": ', '"suite": 9'))
    status, told = run("learn", "--compare", file, files[1])
    assert status == Exit.HARNESS
    assert "another suite version" in told
    assert told.count("\n") == 1
