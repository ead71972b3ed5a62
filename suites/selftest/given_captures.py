# SPDX-License-Identifier: GPL-2.0-only
"""The captures that were given to the project, in `shared/captures` beside the checkout; they are not part
of it. Where the folder is not there, what needs it is skipped."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).parents[2]
_FOLDERS = [parent / "shared" / "captures" for parent in _ROOT.parents]

#: The folder, None where there is none.
GIVEN: Path | None = next((folder for folder in _FOLDERS if folder.is_dir()), None)


def given(pattern: str) -> list[Path]:
    """The files that a pattern matches, in the order of their names."""
    return sorted(GIVEN.glob(pattern)) if GIVEN is not None else []
