# SPDX-License-Identifier: GPL-2.0-only
"""Allure's own command line, from the npm registry into the user's cache."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from fixtures.system.user_cache import cache_directory

ALLURE = "allure@3.18.0"
SECONDS = 240


def allure_command() -> Path:
    """Its path; the first call installs it. Raises OSError if this fails."""
    place = cache_directory() / ALLURE.replace("@", "-")
    tool = place / "node_modules" / ".bin" / "allure"
    if not tool.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise OSError("no npm here")
        command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(place), ALLURE]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        if done.returncode:
            raise OSError(f"Allure cannot be installed: {done.stderr[-200:]}")
    return tool


def generate(tool: Path, results: Path, report: Path) -> None:
    """The report of a run's `allure/`. Raises CalledProcessError."""
    command = [str(tool), "generate", str(results), "-o", str(report)]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS, cwd=report.parent)
