# SPDX-License-Identifier: GPL-2.0-only
"""`spice-conform learn`, its `--compare` and the replay of findings, through the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from fixtures.library import LibraryLauncher
from fixtures.system.hosts import HarnessError
from reports.commands import learn as command
from reports.commands.cli import main
from reports.commands.verify import verify
from reports.run.exit_status import Exit
from reports.views.publish import publish
from suites.model import letters
from suites.model.conformance import model_of
from suites.model.mealy import Model, read
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
    status, result = run("learn", "--compare", left, right, "--out", out)
    assert status == Exit.NOT_CONFORMANT, result
    assert "1 differences" in result
    assert all(name in result for name in WORD)
    (file,) = out.glob("findings/*/finding.json")
    assert json.loads(file.read_text())["letters"] == list(WORD)
    return file


def test_equal_models(files: tuple[Path, Path]) -> None:
    status, result = run("learn", "--compare", files[0], files[0])
    assert status == Exit.CONFORMANT
    assert "equal" in result


def test_a_difference_shows_where_the_build_has_it(files: tuple[Path, Path], tmp_path: Path) -> None:
    file = finding(files[1], files[0], tmp_path / "out")
    status, result = run("replay", file, "--server", "system", "--out", tmp_path / "replay")
    assert status == Exit.NOT_CONFORMANT, result
    assert "expected: main INIT(a new id)" in result
    text, holds = verify(tmp_path / "replay")
    assert holds, text


def test_a_difference_does_not_show_elsewhere(files: tuple[Path, Path], tmp_path: Path) -> None:
    file = finding(files[0], files[1], tmp_path / "out")
    status, result = run("replay", file, "--server", "system", "--out", tmp_path / "replay")
    assert status == Exit.CONFORMANT, result
    assert "does not show" in result
    text, holds = verify(tmp_path / "replay")
    assert holds, text


def test_a_model_of_another_suite_version(files: tuple[Path, Path]) -> None:
    file = files[0]
    file.write_text(file.read_text().replace('"suite": ', '"suite": 9'))
    status, result = run("learn", "--compare", file, files[1])
    assert status == Exit.HARNESS
    assert "another suite version" in result
    assert result.count("\n") == 1


def test_two_builds_of_one_version_are_told_apart(files: tuple[Path, Path]) -> None:
    """The columns name the builds."""
    data = json.loads(files[1].read_text())
    files[1].write_text(json.dumps(data | {"about": data["about"] | {"server": "lib:mine.so"}}))
    _, result = run("learn", "--compare", *files)
    version = data["about"]["version"]
    assert f"{version} (lib:mine.so)" in result
    assert f"{version} ({data['about']['server']})" in result


def test_models_without_the_wanted_role_are_not_equal(files: tuple[Path, Path]) -> None:
    """A comparison of nothing is no success."""
    status, result = run("learn", "--compare", files[0], files[0], "--role", "source")
    assert status == Exit.USAGE
    assert "these are models of the target only" in result
    assert result.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "change", "line"),
    [
        (["--seamless"], {}, "a model of another scheme: leave --seamless out"),
        ([], {"letters": ["main: knock"]}, "a model with other letters than this version plays"),
    ],
)
def test_a_server_is_not_learned_in_vain(
    model: Model, options: list[str], change: dict[str, object], line: str, tmp_path: Path
) -> None:
    """What cannot be compared is reported before a server is learned."""
    file = tmp_path / "model.json"
    states: dict[str, object] = {"states": [[]]} if change else {}
    file.write_text(json.dumps(model.as_dict() | change | states))
    status, result = run("learn", "--compare", file, "system", *options)
    assert status == Exit.USAGE
    assert line in result
    assert result.count("\n") == 1


def test_a_server_is_learned_as_the_model_that_it_is_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scheme and letters, without further options."""
    with LibraryLauncher() as launcher:
        there = model_of(launcher.identity.version, Subject("target", seamless=True))
    if there is None:
        pytest.skip("there is no model of the installed library: make models")
    asked: list[Subject] = []

    def learn(_server: str, _build: object, subject: Subject, **_options: object) -> Model:
        asked.append(subject)
        return there

    monkeypatch.setattr(command, "learn", learn)
    there.write(tmp_path / "model.json")
    status, result = run("learn", "--compare", tmp_path / "model.json", "system")
    assert status == Exit.CONFORMANT, result
    assert asked == [Subject("target", seamless=True)]


@pytest.fixture
def learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run of a learned model with three letters."""
    monkeypatch.setattr(letters, "USUAL", {("target", False): (*WORD, "main: close")})
    monkeypatch.setenv("SPICE_CONFORM_CACHE", str(tmp_path / "cache"))
    options = ("--role", "target", "--orders", 0, "-n", 1, "--out", tmp_path / "run")
    status, result = run("learn", "--server", "system", *options)
    assert status == Exit.CONFORMANT, result
    return tmp_path / "run"


def _changed(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])


def _one_more_state(learned: Path) -> None:
    file = learned / "model.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | {"states": [*data["states"], []]}))


def _another_build(learned: Path) -> None:
    file = learned / "model.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | {"about": data["about"] | {"build": "ab" * 32}}))


def test_a_learned_model_is_a_sealed_run(learned: Path) -> None:
    """An untouched run holds; changed files are told, also after a new seal."""
    text, holds = verify(learned)
    assert holds, text
    assert json.loads((learned / "certificate.json").read_text())["kind"] == "learn"
    assert read(learned).alphabet == [*WORD, "main: close"]
    files = ("model.json", "states.txt", "model.dot")
    whole = {name: (learned / name).read_bytes() for name in files}
    for name in files:
        _changed(learned / name)
        text, holds = verify(learned)
        assert (holds, f"{name}: was changed" in text) == (False, True), text
        publish(learned)
        text, holds = verify(learned)
        assert (holds, name in text) == (False, True), text
        (learned / name).write_bytes(whole[name])
    for change in (_one_more_state, _another_build):
        change(learned)
        publish(learned)
        text, holds = verify(learned)
        assert (holds, "model.json" in text) == (False, True), text
        (learned / "model.json").write_bytes(whole["model.json"])
    publish(learned)
    assert verify(learned)[1]


def test_comparisons_are_sealed_runs(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Equal models and different ones."""
    assert run("learn", "--compare", files[0], files[0], "--out", tmp_path / "equal")[0] == Exit.CONFORMANT
    file = finding(files[0], files[1], tmp_path / "different")
    for name, status in (("equal", Exit.CONFORMANT), ("different", Exit.NOT_CONFORMANT)):
        text, holds = verify(tmp_path / name)
        assert holds, text
        assert json.loads((tmp_path / name / "certificate.json").read_text())["exit_status"] == status
    _changed(file)
    assert not verify(tmp_path / "different")[1]


def test_a_run_that_cannot_learn_is_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory says why it is not complete, and holds."""

    def learn(*_: object, **__: object) -> None:
        raise HarnessError("the server answers differently each time")

    monkeypatch.setattr(command, "learn", learn)
    out = tmp_path / "run"
    status, result = run("learn", "--server", "system", "--role", "target", "--out", out)
    assert (status, result.splitlines()[-1]) == (3, "spice-conform: the server answers differently each time")
    assert "answers differently" in json.loads((out / "certificate.json").read_text())["interrupted"]
    assert verify(out)[1]
