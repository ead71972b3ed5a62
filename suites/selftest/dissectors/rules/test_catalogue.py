# SPDX-License-Identifier: GPL-2.0-only
"""The catalogue itself: its ids, its words, and that each requirement is judged somewhere."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from dissectors.rules.catalogue import CATALOGUE, citations
from dissectors.rules.judgement import Evidence, Level, Requirement
from dissectors.rules.unseen_behaviour import UNSEEN

HERE = Path(__file__).resolve().parents[4]
#: Files that report breaches; tests judge the requirements that `conversation/owed_answers.py` names.
RULES = [
    *sorted((HERE / "dissectors/rules").glob("*.py")),
    *sorted((HERE / "dissectors/conversation").glob("*order*.py")),
]
TESTS = sorted(p for p in (HERE / "suites").rglob("*.py") if "selftest" not in p.parts)
ID = r"(?:[A-Z]{4,8}|MIG-(?:SRC|DST|CLI))-\d{3}"
QUOTED = re.compile(rf'"({ID})"')
DEFINED = re.compile(rf"^\[[a-z_]+\.({ID})\]$", re.MULTILINE)
VERSIONS = re.compile(r"|[<>]=?\d+(\.\d+)*")
#: The beginning of a requirement names its actor.
ACTOR = re.compile(
    r"(The (server|source|target|client|channel)|A (host|client|channel|target)|Source and target"
    r"|migrate_\w+)\b"
)
#: Passive forms that hide the actor.
RIDDLE = re.compile(r"\b(is|are) (survived|met|believed|heard|hurt)\b", re.IGNORECASE)
#: `needs` that cannot be understood without the requirement's sentence.
VAGUE = re.compile(r"\bsuch\b|^it\b")

every = pytest.mark.parametrize("requirement", CATALOGUE.values(), ids=CATALOGUE.keys())


def named(paths: list[Path]) -> set[str]:
    """The ids that stand in these files as strings."""
    return {found for path in paths for found in QUOTED.findall(path.read_text(encoding="utf-8"))}


def test_ids_are_unique() -> None:
    """No id is given twice, and each one that the file defines arrives in the catalogue."""
    text = (HERE / "dissectors/rules/catalogue.toml").read_text(encoding="utf-8")
    counts = Counter(DEFINED.findall(text))
    assert [i for i, count in counts.items() if count > 1] == []
    assert counts.keys() == CATALOGUE.keys()


@every
def test_words(requirement: Requirement) -> None:
    """A well-formed id, plain sentences, cited sources, what is needed to judge it, level and duty."""
    assert re.fullmatch(ID, requirement.id)
    assert ACTOR.match(requirement.text)
    for sentence in (requirement.text, requirement.why):
        assert re.fullmatch(r"\S.*\S\.", sentence)
        assert not RIDDLE.search(sentence)
    assert citations(requirement)
    assert re.fullmatch(r"\S.*[^.]", requirement.needs)
    assert not VAGUE.search(requirement.needs)
    assert requirement.level in set(Level)
    assert requirement.duty == ("client" if requirement.id.startswith("MIG-CLI-") else "server")
    assert VERSIONS.fullmatch(requirement.versions)


def test_ids_in_use_exist() -> None:
    """Rules and tests name only existing requirements."""
    assert sorted(named([*RULES, *TESTS]) - CATALOGUE.keys()) == []


def test_every_requirement_is_judged() -> None:
    """The oracle has a rule for each requirement, or a test claims it."""
    assert sorted(CATALOGUE.keys() - named([*RULES, *TESTS])) == []


def test_evidence() -> None:
    """What a capture or the host's events judge has a rule; what only a test can show has none."""
    wrong = {
        r.id: r.evidence
        for r in CATALOGUE.values()
        if (r.evidence is Evidence.TEST) == (r.id in named(RULES))
    }
    assert wrong == {}


def test_what_cannot_be_seen() -> None:
    """Each line says what cannot be judged, why not, and where it is reported; no requirement has its id."""
    for unseen in UNSEEN.values():
        assert re.fullmatch(r"UNSEEN-\d{3}", unseen.id)
        assert re.fullmatch(r"\S.*\.", unseen.text)
        assert re.fullmatch(r"\S.*\.", unseen.reason)
        assert unseen.source
    assert not UNSEEN.keys() & CATALOGUE.keys()
