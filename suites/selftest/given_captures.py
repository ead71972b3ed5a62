# SPDX-License-Identifier: GPL-2.0-only
"""The captures provided to the project, in `shared/captures` beside the checkout; they are not part of the
repository. If the folder is missing, tests that need it are skipped."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).parents[2]
_FOLDERS = [parent / "shared" / "captures" for parent in _ROOT.parents]

#: The folder; None if it is missing.
GIVEN: Path | None = next((folder for folder in _FOLDERS if folder.is_dir()), None)


def given(pattern: str) -> list[Path]:
    """The files that match a pattern, in the order of their names."""
    return sorted(GIVEN.glob(pattern)) if GIVEN is not None else []
