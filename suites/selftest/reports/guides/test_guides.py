# SPDX-License-Identifier: GPL-2.0-only
"""The guides: their quick commands run, and the files and options that they name exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from reports.run.environment import ROOT

GUIDES = sorted((ROOT / "reports" / "guides").glob("*.md"))
TOOL = Path(sys.executable).with_name("spice-conform")
SECONDS = 120.0
QUICK = ("inspect", "explain")


def _commands() -> list[str]:
    lines = [
        line.strip() for guide in GUIDES for line in guide.read_text().splitlines() if line[:4] == "    "
    ]
    return [line for line in lines if "spice-conform" in line]


@pytest.mark.parametrize("line", [line for line in _commands() if line.split()[1] in QUICK])
def test_a_quick_command_runs(line: str) -> None:
    words = line.split()[1:]
    done = subprocess.run(
        [str(TOOL), *words], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_options_are_those_that_there_are() -> None:
    """The command's help lists each of its options that a guide uses."""
    for line in _commands():
        command, *words = line.split()[1:]
        done = subprocess.run(
            [str(TOOL), command, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for word in words:
            assert not word.startswith("--") or re.search(rf"{word}\b", done), line


def test_files_that_guides_name_are_there() -> None:
    for guide in GUIDES:
        for path in re.findall(r"`((?:reports|fixtures|dissectors|suites)/[^` ]+)`", guide.read_text()):
            assert (ROOT / path).exists(), f"{guide.name}: {path}"
