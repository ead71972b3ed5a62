# SPDX-License-Identifier: GPL-2.0-only
"""The repository itself: each file name is used once, and each file names its licence."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
#: Names that Python, pytest and packaging fix.
FIXED = {"__init__.py", "__main__.py", "conftest.py"}
#: The rooms from the lowest to the highest: each imports only from those before it.
ROOMS = ("dissectors", "fixtures", "suites", "reports")


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows, relative to the root. Skips if the suite is no checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("UNSUPPORTED: not a checkout")
    command = ["git", "ls-files", "--", *patterns]
    return [Path(p) for p in subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split()]


def test_each_file_name_is_used_once() -> None:
    """A name shows a file's purpose; two files of one name would hide it."""
    names = Counter(path.name for path in tracked("*.py") if path.name not in FIXED)
    assert [name for name, count in names.items() if count > 1] == []


def test_each_file_has_its_licence() -> None:
    """Each source file begins with the SPDX header (a program: after the line that names its interpreter)."""
    files = [ROOT / path for path in tracked("*.py", "*.toml", "*.c", "*.sh", "Makefile", ".ci/*")]
    missing = [f for f in files if "SPDX-License-Identifier: GPL-2.0-only" not in f.read_text("utf-8")[:200]]
    assert [str(f.relative_to(ROOT)) for f in missing] == []


def test_rooms_hold_the_files_of_dissectors() -> None:
    """The top folder of the dissectors holds rooms, not files."""
    assert [p.name for p in (ROOT / "dissectors").glob("*.py")] == ["__init__.py"]


def test_module_names_in_strings_point_down() -> None:
    """A string that names one of our modules (`python -m`, resources, a worker's module) keeps to the import
    contract too, which sees only imports; and the module exists."""
    wrong: list[str] = []
    for path in tracked(*(f"{room}/*.py" for room in ROOMS)):
        if path.parts[:2] == ("suites", "selftest"):
            continue
        for name in re.findall(rf'"((?:{"|".join(ROOMS)})(?:\.\w+)+)"', (ROOT / path).read_text("utf-8")):
            parts = name.split(".")
            there = (ROOT / f"{'/'.join(parts)}.py").exists() or (ROOT / "/".join(parts)).is_dir()
            if ROOMS.index(parts[0]) > ROOMS.index(path.parts[0]) or not there:
                wrong.append(f"{path}: {name}")
    assert wrong == []
