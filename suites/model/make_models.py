# SPDX-License-Identifier: GPL-2.0-only
"""Makes the models of the releases again: `python -m suites.model.make_models [SPEC]...` (`make models`).

It does not repeat plays that are known from an earlier run: an interrupted run continues. `--again SEED`
writes nothing: it learns without known answers and with another seed, and reports whether the same models
result (status 1 if not)."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fixtures.bench.launchers import Launchers
from fixtures.system.hosts import HarnessError, Identity, Unsupported, UsageError
from suites.model.conformance import MODELS, file_of
from suites.model.equivalence_oracle import USUAL
from suites.model.learning import identify, learn
from suites.model.letters import ROLES
from suites.model.mealy import Model, read
from suites.model.subject import Subject

RELEASES = ("debian:bullseye", "debian:bookworm", "debian:trixie", "debian:forky")
#: The seed of the order of all questions; `--again` uses another.
SEED = 1
SUBJECTS = tuple(Subject(role, seamless) for role in ROLES for seamless in (False, True))


def build_of(server: str) -> Identity:
    """Raises UsageError, HarnessError, Unsupported."""
    launchers = Launchers()
    try:
        build = identify(launchers, server)
    finally:
        launchers.close()
    if build.version is None:
        raise UsageError(f"{server}: its version is not known, and models are named after it")
    return build


def models(server: str, build: Identity, seed: int, cache: Path | None = None) -> Iterator[Model]:
    """The models of one build, each as soon as it is ready: both roles, both schemes. `cache`: see `learn`;
    without it another release's model is the first guess."""
    for subject in SUBJECTS:
        there = [read(file) for file in sorted(MODELS.glob(f"*-{subject.key}.json"))] if cache is None else []
        yield learn(
            server,
            build,
            subject,
            seed=seed,
            effort=USUAL,  # with less, a seed in some stops at a machine with too few states
            cache=cache,
            guess=there[-1] if there else None,
            say=lambda line: print(f"    {line}"),
        )


def make(server: str) -> None:
    """Writes the models of one build. Also raises OSError."""
    build = build_of(server)
    for model in models(server, build, SEED):
        model.write(file_of(build.version, model.subject))
        print(f"{model.name}: {len(model)} states, {model.about['asked']['known']} answers", flush=True)


def equal(server: str, seed: int) -> bool:
    """Whether another seed gives the committed models."""
    build, same = build_of(server), True
    with tempfile.TemporaryDirectory() as scratch:
        for model in models(server, build, seed, Path(scratch)):
            there = read(file_of(build.version, model.subject))
            equals = there.steps == model.steps
            same = same and equals
            plays = model.about["asked"]["plays"]
            result = "equal" if equals else f"NOT equal, {len(there)} there"
            print(f"{model.name}, seed {seed}: {len(model)} states after {plays} plays: {result}", flush=True)
    return same


def main(arguments: list[str]) -> int:
    """The exit status: 0, 1 if another seed gives another model, or 3 with one line."""
    parser = argparse.ArgumentParser(prog="make_models")
    parser.add_argument("servers", nargs="*", metavar="SPEC", default=RELEASES)
    parser.add_argument("--again", type=int, metavar="SEED")
    asked = parser.parse_args(arguments)
    MODELS.mkdir(exist_ok=True)
    try:
        if asked.again is not None:
            equals = [equal(server, asked.again) for server in asked.servers]
            return 0 if all(equals) else 1
        for server in asked.servers:
            make(server)
    except (UsageError, HarnessError, Unsupported, OSError) as error:
        print(f"make_models: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
