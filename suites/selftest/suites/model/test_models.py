# SPDX-License-Identifier: GPL-2.0-only
"""Models as files, their comparison, and the learner itself, with a committed model in place of a server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.system.hosts import HarnessError, Identity, UsageError
from suites.model import model_findings, model_picture
from suites.model.answer_store import Store
from suites.model.answers import IMPOSSIBLE, Answer, death, said
from suites.model.comparison import differences
from suites.model.conformance import MODELS, compared, difference, words
from suites.model.equivalence_oracle import SCHEMES, Effort
from suites.model.known_answers import KnownAnswers, Undecided, Word
from suites.model.learning import learn_from
from suites.model.letters import CHANNELS, ROLES, USUAL, alphabet, names
from suites.model.mealy import Model, OtherSuite, fatal, read
from suites.model.separating_words import separating_words
from suites.model.subject import Subject

FILES = sorted(MODELS.glob("*.json"))
BUILD = Identity(spec="model", kind="library", version="0", sha256="ab" * 32)
#: The effort of tests that do not need the whole machine.
LITTLE = Effort(orders=0)


@pytest.fixture(scope="module")
def model() -> Model:
    if not FILES:
        pytest.skip("there are no models: make models")
    return read(min(FILES, key=lambda file: file.stat().st_size))


class ModelPlayer:
    """Answers as a model; answers the `wrong` words in two ways by turns."""

    def __init__(self, model: Model, wrong: Word = ()) -> None:
        self._model, self._wrong = model, wrong
        self.played = 0

    def many(self, asked: Sequence[Word]) -> Iterable[tuple[Word, list[Answer]]]:
        """As `Player` says."""
        for word in asked:
            self.played += 1
            state, answers = 0, []
            for index, name in enumerate(word):
                text, state = self._model.steps[state][name]
                if word[: index + 1] == self._wrong and self.played % 2:
                    text += ", something else"
                answers.append(Answer(text, self._open(state), over=fatal(text), calls=self._calls(state)))
            yield word, answers

    def answers(self, word: Word, *, from_nothing: bool = False) -> list[Answer]:
        """As `AnswersWords` says."""
        ((_, answers),) = self.many([word])
        return answers

    def _open(self, state: int) -> frozenset[str]:
        row = self._model.steps[state]
        return frozenset(
            name.split(":")[0]
            for name, (answer, _) in row.items()
            if answer != IMPOSSIBLE and ": " in name and ": link" not in name
        )

    def _calls(self, state: int) -> frozenset[str]:
        row = self._model.steps[state]
        return frozenset(
            n.removeprefix("call ") for n, (a, _) in row.items() if a != IMPOSSIBLE and "call " in n
        )


def test_letters_of_the_schemes_are_in_the_alphabets() -> None:
    for role in ROLES:
        wide = [letter.name for letter in alphabet(role)]
        assert len(set(wide)) == len(wide)
        assert {name for scheme in SCHEMES[role] for name in scheme} <= set(wide)
        for seamless in (False, True):  # in the wide alphabet's order
            usual = USUAL[role, seamless]
            assert [name for name in wide if name in usual] == list(usual)
        assert {letter.move.channel for letter in alphabet(role) if hasattr(letter.move, "channel")} == set(
            CHANNELS
        )


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_learned_of_a_model_is_the_model(model: Model, seed: int, tmp_path: Path) -> None:
    learned = learn_from(ModelPlayer(model), "model", BUILD, model.subject, seed=seed, cache=tmp_path)
    assert learned.steps == model.steps
    assert differences(learned, model) == []


def test_a_second_run_asks_little(model: Model, tmp_path: Path) -> None:
    def run() -> int:
        player = ModelPlayer(model)
        learn_from(player, "model", BUILD, model.subject, effort=LITTLE, cache=tmp_path)
        return player.played

    first = run()
    assert run() < first / 10  # AALpy's sets have no order: a few words differ


def test_a_server_that_answers_differently_is_reported(model: Model, tmp_path: Path) -> None:
    word = tuple(name for name in SCHEMES[model.subject.role][0] if name in model.alphabet)[:3]
    with pytest.raises(Undecided, match="differently each time") as result:
        learn_from(ModelPlayer(model, word), "model", BUILD, model.subject, effort=LITTLE, cache=tmp_path)
    assert result.value.word == word
    assert len(result.value.seen) == 2
    (file,) = tmp_path.iterdir()
    assert len(file.read_text().splitlines()) > 1  # other answers are kept


def test_a_cache_of_another_suite_version_is_not_used(model: Model, tmp_path: Path) -> None:
    player = ModelPlayer(model)
    learn_from(player, "model", BUILD, model.subject, effort=LITTLE, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    first, *rest = file.read_text().splitlines(keepends=True)
    file.write_text(first.replace('"suite": ', '"suite": 9') + "".join(rest))
    lines: list[str] = []
    store = Store(KnownAnswers(model.subject), BUILD, lines.append, tmp_path)
    store.close()
    assert store.loaded == 0
    assert [line for line in lines if "another suite version" in line]


def test_a_full_disk_is_one_line(model: Model, tmp_path: Path) -> None:
    store = Store(KnownAnswers(model.subject), BUILD, lambda _: None, tmp_path)
    store.close()
    store._file = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - full, it cannot be closed
    with pytest.raises(HarnessError, match="No space left on device; what was written before is kept"):
        store.add(("main: link, id zero",), [Answer("linked")])
    store.close()


# ---- files


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_model_is_whole_and_small(file: Path, tmp_path: Path) -> None:
    model = read(file)
    model.write(tmp_path / "again.json")
    assert read(tmp_path / "again.json").steps == model.steps
    assert file.stat().st_size < 100_000
    assert file.name.startswith(f"{model.about['version']}-{model.subject.role}-")
    assert names(model.subject.role, model.subject.seamless) == tuple(model.alphabet)
    for number, way in enumerate(model.shortest()):
        assert model.after(way) == number


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"suite": 99}, "another suite version"),
        ({"states": [[[0, 0, 7777]]]}, "an incomplete or damaged model"),
        ({"states": []}, "an incomplete or damaged model"),
        ({"letters": None}, "an incomplete or damaged model"),
        ({"states": [[[0, -1, 0]]]}, "state 0 names answer -1, which is not there"),
        ({"states": [[[-1, 0, 0]]]}, "state 0 names letter -1, which is not there"),
        ({"states": [[], []]}, "nothing leads to state 1"),
        ({"letters": ["main: close"] * 9}, "a letter is named twice"),
        ({"suite": "\x1b[31m\n"}, r"\(1\.\\x1b\[31m\\n, this is"),
    ],
)
def test_a_wrong_model_is_one_line(
    model: Model, change: dict[str, object], told: str, tmp_path: Path
) -> None:
    file = tmp_path / "model.json"
    file.write_text(json.dumps(model.as_dict() | change))
    with pytest.raises((UsageError, OtherSuite), match=told) as error:
        read(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", '{"states": [', "[" * 100_000, "\x1b"], ids=["empty", "cut", "deep", "control"]
)
def test_a_file_that_is_no_json_is_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    file.write_text(text)
    with pytest.raises(UsageError, match="not JSON, or not all of it") as error:
        read(file)
    assert str(error.value).isprintable()


def test_what_a_model_says_is_visible(model: Model, tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    file.write_text(json.dumps(model.as_dict() | {"about": {"version": "0.15\x1b[31m\n"}}))
    assert read(file).name.startswith(r"0.15\x1b[31m\n (")


# ---- comparison


def changed(model: Model, word: Word, answer: str) -> Model:
    """The model with another answer at the end of a word."""
    state = model.after(word[:-1])
    row = {**model.steps[state], word[-1]: (answer, model.steps[state][word[-1]][1])}
    return replace(model, steps=[row if n == state else old for n, old in enumerate(model.steps)])


def test_a_difference_has_its_shortest_word_and_a_finding(model: Model, tmp_path: Path) -> None:
    word = model.shortest()[-1]
    other = changed(model, word, "something else")
    (found,) = differences(model, other)
    assert found.word == word
    assert (found.left, found.right) == (model.answers(word)[-1], "something else")
    (file,) = model_findings.write_findings(model, other, [found], tmp_path)
    again = model_findings.read(file)
    assert again is not None
    assert (again.word, again.expected[-1], again.seen) == (word, found.left, "something else")
    seen = difference(model, word, other.answers(word))
    assert seen is not None
    assert seen.word == word


def test_a_difference_that_only_a_long_word_shows_is_shortened(model: Model) -> None:
    """A server with a state that the model lacks: the shortest way into the model's state shows nothing."""
    state, counted = next(
        (number, name)
        for number, row in enumerate(model.steps)
        for name, (answer, following) in row.items()
        if following == number and answer != IMPOSSIBLE and number
    )
    hidden = len(model)
    letter, (_, following) = next(
        (name, step) for name, step in model.steps[state].items() if step[0] != IMPOSSIBLE and name != counted
    )
    steps = [dict(row) for row in model.steps]
    steps.append({**steps[state], counted: (steps[state][counted][0], hidden), letter: ("other", following)})
    steps[state][counted] = (steps[state][counted][0], hidden)
    player = ModelPlayer(replace(model, steps=steps))
    way = model.shortest()[state]
    long = (*way, "main: close", *way, counted, counted, letter, counted)
    (found,) = compared(model, player, [long])
    assert found.word == (*way, counted, letter)
    assert found.seen == "other"
    assert " / ".join(found.word) in found.finding().expected  # a certificate shows the whole word


def test_deaths_in_other_words_are_equal(model: Model) -> None:
    state, letter = next(
        (n, name) for n, row in enumerate(model.steps) for name, (a, _) in row.items() if fatal(a)
    )
    word = (*model.shortest()[state], letter)
    assert differences(model, changed(model, word, death("SIGABRT", "another line"))) == []


def test_two_subjects_are_not_compared(model: Model) -> None:
    other = replace(model, subject=Subject(model.subject.role, not model.subject.seamless))
    with pytest.raises(UsageError, match="different subjects"):
        differences(model, other)


def test_words_take_every_transition(model: Model) -> None:
    asked = set()
    for word in words(model):
        for index, name in enumerate(word):
            asked.add((model.after(word[:index]), name))
    possible = {
        (n, name) for n, row in enumerate(model.steps) for name, (a, _) in row.items() if a != IMPOSSIBLE
    }
    assert asked == possible
    assert words(model) == words(model)


def test_separating_words_tell_all_states_apart(model: Model) -> None:
    telling = separating_words(model)
    states = [state for state in range(len(model)) if state not in model.ends()]
    answers = {tuple(tuple(model.answers(word, state)) for word in telling) for state in states}
    assert len(answers) == len(states)


def test_picture(model: Model) -> None:
    text = model_picture.dot(model)
    assert all(f"state {n}<" in text for n in range(len(model)) if n not in model.ends())
    deadly = sum(any(fatal(answer) for answer, _ in row.values()) for row in model.steps)
    assert text.count("the end<") == deadly
    drawn = model_picture.svg(model)
    assert drawn is None or b"</svg>" in drawn


# ---- answers


def test_death_lines_lose_what_moves_between_builds() -> None:
    line = "../server/red-channel-client.cpp:1299:handle_message: unexpected flush mark"
    assert death("SIGTRAP", line) == "process died (SIGTRAP: handle_message: unexpected flush mark)"
    assert "0x" not in death("SIGABRT", "free(): invalid pointer 0x55d0")


def test_a_run_of_pings_is_one_answer() -> None:
    assert said(["PING", "PING", "INIT", "INIT", "PING"]) == ["PING", "INIT", "INIT", "PING"]
