# SPDX-License-Identifier: GPL-2.0-only
"""Every disagreement of a release and the rules is explained, and what is called declared is declared.

The models of all releases are equal but for the words of a process' end. What is played on the installed
library therefore holds for the other releases; the ends of the process are checked for each release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import Finding
from fixtures.bench.launchers import Launcher
from fixtures.library import LibraryLauncher
from fixtures.system.hosts import Identity
from reports.run import deviations
from reports.run.run_events import Circumstances
from suites.model import disagreements, explained
from suites.model.comparison import differences
from suites.model.conformance import MODELS, file_of, ways
from suites.model.disagreements import Disagreement
from suites.model.letters import alphabet
from suites.model.mealy import Model, Word, fatal, read
from suites.model.subject import Subject

FILES = sorted(MODELS.glob("*.json"))
SEAMLESS = (Subject("source", seamless=True), Subject("target", seamless=True))


def death(model: Model, word: Word) -> Finding:
    """The finding that judges a process' end behind a word."""
    return Finding(
        requirement="ROBUST-001",
        level=CATALOGUE["ROBUST-001"].level,
        expected="the server process lives",
        seen=model.answers(word)[-1].removesuffix(")"),
        time=0.0,
        host=model.subject.role,
    )


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_every_end_of_a_release_is_declared_and_explained(file: Path) -> None:
    model, known = read(file), deviations.load()
    moves = {letter.name: str(letter.move) for letter in alphabet(model.subject.role)}
    build = {model.subject.role: Identity("model", "library", version=str(model.about["version"]))}
    ends = [word for word in ways(model) if fatal(model.answers(word)[-1])]
    assert ends
    for word in ends:
        found = death(model, word)
        where = Circumstances("model", test="", builds=build, moves=tuple(moves[name] for name in word))
        assert deviations.declared(known, found, where), f"not declared: {' / '.join(word)}: {found.seen}"
        assert explained.explanation(found, word), f"not explained: {' / '.join(word)}: {found.seen}"


@pytest.mark.parametrize("key", sorted({read(file).subject.key for file in FILES}))
def test_releases_answer_alike(key: str) -> None:
    first, *others = [read(file) for file in FILES if read(file).subject.key == key]
    for other in others:
        assert differences(first, other) == [], f"{first.name} and {other.name}: look into each difference"


@pytest.mark.parametrize("subject", SEAMLESS, ids=str)
def test_every_disagreement_is_explained(
    subject: Subject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer explanations, the command says which disagreement is not explained."""
    with LibraryLauncher() as launcher:
        file = file_of(launcher.identity.version, subject)
    if not file.is_file():
        pytest.skip("there is no model of the installed library: make models")
    found: list[Disagreement] = []
    asked = disagreements.disagreements

    def kept(model: Model, launcher: Launcher) -> Iterator[Disagreement]:
        found.extend(asked(model, launcher))
        return iter(found)

    monkeypatch.setattr(disagreements, "disagreements", kept)
    assert disagreements.main(str(file)) == 0
    output = capsys.readouterr().out
    assert "0 not explained" in output
    assert "declared: " in output
    monkeypatch.setattr(disagreements, "disagreements", lambda *_: iter(found))
    monkeypatch.setattr(explained, "EXPLAINED", explained.EXPLAINED[:-5:-1])
    assert disagreements.main(str(file)) == 1
    assert "NOT EXPLAINED" in capsys.readouterr().out
