# SPDX-License-Identifier: GPL-2.0-only
"""The ranges of versions for which a requirement or a declared deviation applies."""

from __future__ import annotations

import re
from functools import cache

from packaging.specifiers import SpecifierSet
from packaging.version import Version


@cache
def version_holds(versions: str, version: str | None) -> bool:
    """Whether a version is in a range. A packager's version (`1:0.15.1-1+deb12u1`) counts as its upstream
    version; an unknown version is in no range but the empty one."""
    if not versions:
        return True
    upstream = re.match(r"\d+(\.\d+)*", (version or "").rpartition(":")[2])
    if upstream is None:
        return False
    return SpecifierSet(versions).contains(Version(upstream.group()), prereleases=True)
