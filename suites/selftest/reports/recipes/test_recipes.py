# SPDX-License-Identifier: GPL-2.0-only
"""The recipes for CI: short, sound YAML, and their own commands run here on the installed library."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dissectors.rules.judgement import Verdict
from fixtures.bench.launchers import Launchers
from reports.run.environment import ROOT
from reports.views.job_summary import github_errors, markdown
from suites.fuzz.finding_file import FuzzFailure, play
from suites.fuzz.moves import MAIN, Call, Link, Move, Setup
from suites.selftest.reports.run.report_samples import MUST, case, found, run

yaml = pytest.importorskip("yaml", reason="UNSUPPORTED: PyYAML is not installed")

RECIPES = ROOT / "reports" / "recipes"
TOOL = Path(sys.executable).with_name("spice-conform")
SECONDS = 240.0
#: A short profile, so that a recipe runs in seconds.
QUICK = "--requirement LINK-004"
LIBRARY = next((str(p) for p in Path("/usr/lib").glob("*/libspice-server.so.1")), "")
needs_library = pytest.mark.skipif(not LIBRARY, reason="UNSUPPORTED: no installed libspice-server")


def _read(name: str) -> Any:
    text = (RECIPES / name).read_text()
    assert len([line for line in text.splitlines() if not line.startswith("#")]) <= 15
    return yaml.safe_load(text)


def _shell(line: str, directory: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment: Mapping[str, str] = {**os.environ, "OPTIONS": QUICK, "LIBRARY": LIBRARY, **more}
    return subprocess.run(
        ["sh", "-c", line], cwd=directory, env=environment, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip


@needs_library
@pytest.mark.parametrize("name", ["gitlab.yml", "github.yml"])
def test_a_job_certifies(name: str, tmp_path: Path) -> None:
    """The recipe's certify line, in a directory that has the suite as the job would have it."""
    job = _read(name)
    lines = (
        job["spice-conformance"]["script"]
        if name == "gitlab.yml"
        else [s.get("run", "") for s in job["steps"]]
    )
    assert any("make -C conformance setup" in line for line in lines)
    (tmp_path / "conformance").symlink_to(ROOT)
    certify = next(line for line in lines if "spice-conform certify" in line)
    done = _shell(certify, tmp_path)
    assert done.returncode == 0, done.stderr
    for written in ("junit.xml", "certificate.html", "summary.md", "index.html"):
        assert (tmp_path / "report" / written).exists()
    if name == "github.yml":
        summary = next(line for line in lines if "GITHUB_STEP_SUMMARY" in line)
        assert _shell(summary, tmp_path, GITHUB_STEP_SUMMARY=str(tmp_path / "told")).returncode == 0
        assert "## SPICE conformance: NOTHING FAILED" in (tmp_path / "told").read_text()


@needs_library
def test_baseline_and_shards(tmp_path: Path) -> None:
    """Two shards make the baseline run; compared with itself, nothing is worse."""
    more = {"SPICE_CONFORM": str(TOOL)}
    done = _shell(f"{RECIPES}/shards.sh lib:{LIBRARY} 2 base", tmp_path, OPTIONS="--profile smoke", **more)
    assert done.returncode == 0, done.stderr
    line = f"{RECIPES}/baseline.sh {LIBRARY} base now"
    done = _shell(line, tmp_path, OPTIONS="--profile smoke", **more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of" in done.stdout


@needs_library
@pytest.mark.parametrize(("requirement", "build", "status"), [
    ("LINK-004", "true", 0), ("LINK-004", "false", 125), ("NONE-*", "true", 125),
])  # fmt: skip
def test_bisect_tells_git(requirement: str, build: str, status: int, tmp_path: Path) -> None:
    """0 for a good commit, 125 for one that does not build or cannot be judged."""
    line = f"{RECIPES}/bisect.sh '{requirement}' {LIBRARY} {build}"
    assert _shell(line, tmp_path, SPICE_CONFORM=str(TOOL)).returncode == status


#: Prints where in a library's file a function begins.
PLACE = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
address = ctypes.cast(getattr(library, sys.argv[2]), ctypes.c_void_p).value
for line in open("/proc/self/maps"):
    begin, end = (int(word, 16) for word in line.split()[0].split("-"))
    if begin <= address < end:
        print(address - begin + int(line.split()[2], 16))
"""
RETURN, TRAP = b"\xc3", b"\xcc"  # x86-64


def _git(directory: Path, *words: str) -> str:
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=lab", "-c", "user.email=lab"]
    return subprocess.run(
        ["git", *who, *words], cwd=directory, env={**os.environ, "SPICE_CONFORM": str(TOOL), **alone},
        check=True, capture_output=True, text=True, timeout=SECONDS,
    ).stdout  # fmt: skip


def _planted(tmp_path: Path, function: str, code: bytes) -> None:
    """`good.so`: the installed library; `bad.so`: the same with other code at the beginning of a function."""
    program = [sys.executable, "-c", PLACE, LIBRARY, function]
    place = int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)
    good = Path(LIBRARY).read_bytes()
    (tmp_path / "good.so").write_bytes(good)
    (tmp_path / "bad.so").write_bytes(good[:place] + code + good[place + 1 :])


def _bisected(tmp_path: Path, what: str) -> None:
    """Git finds the first bad commit of a repository with good servers, one that does not build, and bad
    ones."""
    repository = tmp_path / "server"
    repository.mkdir()
    _git(repository, "init", "-q")
    commits = []
    for number, built in enumerate(["good", "good", "unbuildable", "good", "bad", "bad"]):
        (repository / "source").write_text(f"{built} {number}\n")
        _git(repository, "add", "source")
        _git(repository, "commit", "-qm", f"{built} {number}")
        commits.append(_git(repository, "rev-parse", "HEAD").strip())
    _git(repository, "bisect", "start", "HEAD", commits[0])
    build = "read built number < source && cp ../$built.so libspice-server.so.1"
    recipe = [f"{RECIPES}/bisect.sh", what, "libspice-server.so.1", "sh", "-c", build]
    output = _git(repository, "bisect", "run", *recipe)
    assert f"{commits[4]} is the first bad commit" in output
    log = _git(repository, "bisect", "log")
    for word, commit in (("good", commits[3]), ("bad", commits[4]), ("skip", commits[2])):
        assert f"git bisect {word} {commit}" in log


x86 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="UNSUPPORTED: a fault is planted in x86-64 code"
)
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="UNSUPPORTED: git is not installed")


@needs_library
@x86
@needs_git
def test_bisect_finds_the_commit(tmp_path: Path) -> None:
    """The first server that forgets the machine's name."""
    _planted(tmp_path, "spice_server_set_name", RETURN)
    _bisected(tmp_path, "MAIN-007")


def _died_at_announcement(bad: Path) -> FuzzFailure:
    """The finding of a server that ends when a migration is announced."""
    link = Link(0, "source", MAIN)
    moves: list[Move] = [link, Call("source", "announce")]
    launchers = Launchers()
    try:
        launcher = launchers.of(f"lib:{bad}")
        played = play({"source": launcher, "target": launcher}, Setup(), moves)
    finally:
        launchers.close()
    (found,) = (f for f in played.failed().values() if f.requirement == "ROBUST-001")
    return FuzzFailure(found, Setup(), moves, f"lib:{bad}", 0, 0, len(moves))


@needs_library
@x86
@needs_git
def test_bisect_finds_the_commit_of_a_finding(tmp_path: Path) -> None:
    """The first server on which a finding shows; one on which something else shows is left out."""
    _planted(tmp_path, "spice_server_migrate_connect", TRAP)
    finding = tmp_path / "finding.json"
    failure = _died_at_announcement(tmp_path / "bad.so")
    finding.write_text(json.dumps(failure.as_dict()))
    _bisected(tmp_path, str(finding))
    other = replace(failure, finding=replace(failure.finding, seen="it ended by SIGABRT: something else"))
    finding.write_text(json.dumps(other.as_dict()))
    line = f"{RECIPES}/bisect.sh {finding} {tmp_path / 'bad.so'} true"
    assert _shell(line, tmp_path, SPICE_CONFORM=str(TOOL)).returncode == 125


def test_summary_and_errors() -> None:
    """The failures, with expected and seen; no text of a server becomes markup or a command."""
    made = run(case("a", Verdict.FAIL, MUST, [found(MUST, "a | b\n::error::<b>")]))
    result = markdown(made)
    assert "NOT CONFORMANT" in result
    assert "a \\| b ::error::\\<b\\>" in result
    (line,) = github_errors(made)
    assert line.startswith("::error file=suites/migration/test_x.py,title=MIG-DST-900 on system::")
    assert "\n" not in line
