# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of inspections share."""

from __future__ import annotations

from pathlib import Path

import pytest

from suites.selftest.reports.inspection.scenes import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A capture to be written."""
    return Scene(tmp_path / "scene.pcapng")
