# SPDX-License-Identifier: GPL-2.0-only
"""Makes the models of the releases anew: `python -m suites.model.make_models [SPEC]...` (`make models`).

What is known from an earlier run is not asked again: a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import sys

from fixtures.bench.launchers import Launchers
from fixtures.system.hosts import HarnessError, Unsupported, UsageError
from suites.model.conformance import MODELS, file_of
from suites.model.learning import identify, learn
from suites.model.letters import ROLES
from suites.model.subject import Subject

RELEASES = ("debian:bullseye", "debian:bookworm", "debian:trixie", "debian:forky")
SEED = 1


def make(server: str) -> None:
    """The models of one build: both roles, both schemes. Raises UsageError, HarnessError, Unsupported."""
    launchers = Launchers()
    try:
        build = identify(launchers, server)
    finally:
        launchers.close()
    if build.version is None:
        raise UsageError(f"{server}: its version is not known, and models are named after it")
    for role in ROLES:
        for seamless in (False, True):
            subject = Subject(role, seamless)
            model = learn(
                server, build, subject, seed=SEED, say=lambda line: print(f"    {line}", flush=True)
            )
            model.write(file_of(build.version, subject))
            print(f"{build.version}, {subject}: {len(model)} states, {model.about['asked']['plays']} plays")


def main(servers: list[str]) -> int:
    """The exit status: 0, or 3 with one line."""
    MODELS.mkdir(exist_ok=True)
    try:
        for server in servers or RELEASES:
            make(server)
    except (UsageError, HarnessError, Unsupported, OSError) as error:
        print(f"make_models: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
