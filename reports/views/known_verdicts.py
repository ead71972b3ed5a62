# SPDX-License-Identifier: GPL-2.0-only
"""Each requirement's verdict on the libspice-server releases that were certified: `known_verdicts.toml`.

`make known-verdicts RUNS="DIR..."` writes the file from run directories of `certify` on libraries. Releases
without a run keep their entries."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.version import Version

from dissectors.rules.catalogue import CATALOGUE
from fixtures.system.hosts import UsageError
from reports.views.certificate import load

FILE = Path(__file__).with_name("known_verdicts.toml")
#: {requirement: {release: verdict}}
Known = dict[str, dict[str, str]]
HEAD = """# SPDX-License-Identifier: GPL-2.0-only
# The verdict of each requirement on released libspice-server versions, as `certify` found it.
# Written by `make known-verdicts RUNS="DIR..."`; not to be edited.
"""


def read(path: Path = FILE) -> Known:
    """The known verdicts; empty if the file does not exist."""
    if not path.exists():
        return {}
    found: Known = tomllib.loads(path.read_text(encoding="utf-8"))
    return found


def of_run(directory: Path) -> Known:
    """The verdicts of a run on libraries. Raises UsageError if there is no run, or one of other servers."""
    certificate = load(directory)
    versions: dict[str, str] = {}
    for server in certificate["servers"]:
        builds = {(b["kind"], b["version"]) for b in server["builds"].values()}
        if len(builds) != 1 or (build := builds.pop())[0] != "library" or not build[1]:
            raise UsageError(f"{directory}: {server['spec']} is not one library of a known version")
        versions[server["spec"]] = build[1]
    found: Known = {}
    for requirement in certificate["requirements"]:
        for spec, result in requirement["results"].items():
            if result["verdict"]:
                found.setdefault(requirement["id"], {})[versions[spec]] = result["verdict"]
    return found


def merged(known: Known, runs: Iterable[Known]) -> Known:
    """The known verdicts together with these runs', for the catalogue's requirements, in its order."""
    found: Known = {i: dict(known.get(i, {})) for i in CATALOGUE}
    for run in runs:
        for identifier in found:
            found[identifier].update(run.get(identifier, {}))
    return {i: verdicts for i, verdicts in found.items() if verdicts}


def text(known: Mapping[str, Mapping[str, str]]) -> str:
    """The file's text: a line for each requirement, the releases in order."""
    lines = []
    for identifier, verdicts in known.items():
        pairs = [f'"{r}" = "{verdicts[r]}"' for r in sorted(verdicts, key=Version)]
        lines.append(f"{identifier} = {{ {', '.join(pairs)} }}")
    return HEAD + "\n" + "\n".join(lines) + "\n"


def main(directories: list[str]) -> int:
    """Writes the file from run directories."""
    if not directories:
        print("usage: python -m reports.views.known_verdicts RUN...", file=sys.stderr)
        return 2
    try:
        runs = [of_run(Path(directory)) for directory in directories]
    except UsageError as error:
        print(f"known_verdicts: {error}", file=sys.stderr)
        return 2
    FILE.write_text(text(merged(read(), runs)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
