# SPDX-License-Identifier: GPL-2.0-only
"""Which version of the suite a machine has, and which builds are behind its SPECs: a cluster's workers must
have those of the machine that gives them work.

`python -m reports.run.suite_and_builds [SPEC]...` prints them as JSON. It is a process of its own, because
hosts are forked and a Dask worker has threads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fixtures.bench.launchers import Launchers
from fixtures.library import LibraryLauncher
from fixtures.remote import RemoteLauncher
from fixtures.system.hosts import HarnessError, Identity, Settings, Unsupported, UsageError
from reports.run.environment import suite_version
from suites.dask_cluster import Alike

#: How long a machine may take to say what it has, s; it may have to fetch a build.
SECONDS = 900.0
SUITE, BUILDS, ERROR = "suite", "builds", "error"


def suite_and_builds(specs: Sequence[str]) -> Mapping[str, Any]:
    """`suite`: the version; `builds`: SPEC -> SHA-256 (hex) of its library. Raises HarnessError."""
    command = [sys.executable, "-m", "reports.run.suite_and_builds", *specs]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise HarnessError(f"the builds are not ready within {SECONDS:g} s") from None
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise HarnessError(f"the builds cannot be identified: {last}") from None
    if ERROR in found:
        raise HarnessError(found[ERROR])
    return found


def unlike(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """How another machine's answer differs from ours, in one line; None if it does not."""
    if theirs[SUITE] != ours[SUITE]:
        return f"it has suite {theirs[SUITE]}, this is {ours[SUITE]}"
    for spec, sha256 in ours[BUILDS].items():
        if theirs[BUILDS].get(spec) != sha256:
            return f"its build of {spec} is {theirs[BUILDS].get(spec)}, here it is {sha256}"
    return None


def alike(specs: Sequence[str]) -> Alike:
    """What the workers of a cluster must have to play these builds."""
    return Alike(suite_and_builds, unlike, tuple(dict.fromkeys(specs)))


def _identity(launchers: Launchers, spec: str) -> Identity:
    launcher = launchers.of(spec)
    if isinstance(launcher, RemoteLauncher):
        raise UsageError(f"{spec}: a deployment has one machine, so that --cluster cannot divide its tests")
    if isinstance(launcher, LibraryLauncher):
        return launcher.identity
    host = launcher.start("check", Settings(devices=()))
    host.stop()
    return host.identity


def main(specs: Sequence[str]) -> None:
    """Prints, as JSON, this machine's version of the suite and the SHA-256 of each build; or an error."""
    launchers = Launchers()
    try:
        builds = {spec: _identity(launchers, spec).sha256 for spec in specs}
        print(json.dumps({SUITE: suite_version(), BUILDS: builds}))
    except (HarnessError, Unsupported, UsageError) as error:
        print(json.dumps({ERROR: str(error)}))
    finally:
        launchers.close()


if __name__ == "__main__":
    main(sys.argv[1:])
