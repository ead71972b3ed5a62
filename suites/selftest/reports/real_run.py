# SPDX-License-Identifier: GPL-2.0-only
"""Real runs over a few tests, for self-tests that look at a run's directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from reports.run.environment import ROOT

PATIENCE_S = 120.0


def real_run(out: Path, *selected: str) -> Path:
    """Runs these tests on the installed library, in another process; returns `out`, the run's directory."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *selected, "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=False, timeout=PATIENCE_S, capture_output=True)
    return out
