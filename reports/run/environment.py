# SPDX-License-Identifier: GPL-2.0-only
"""The machine and the suite version of a run: what one needs to repeat it."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import ssl
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: The directory that holds the rooms: a checkout or the wheel's own directory, with the same layout.
ROOT = Path(__file__).resolve().parents[2]

_PACKAGES = ("scapy", "pytest", "hypothesis", "cryptography")


def suite_version() -> str:
    """The package's version; in a checkout with the commit, and "+" where files differ from it."""
    with suppress(PackageNotFoundError):
        return version("spice-conformance") + _commit()
    return "unknown" + _commit()


def suite_seed() -> int:
    """The seed of a run's random choices: the same for each run of one version of the suite."""
    try:
        own = version("spice-conformance")
    except PackageNotFoundError:
        own = "unknown"
    return int.from_bytes(hashlib.sha256(f"spice-conformance {own}".encode()).digest()[:4], "big")


def _commit() -> str:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return ""
    command = [git, "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    with suppress(subprocess.SubprocessError, OSError):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
        return f" ({done.stdout.strip()})"
    return ""


def environment() -> dict[str, str]:
    """The machine that the tests run on, without anything about the user."""
    found = {
        "system": _system(),
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
    }
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(terse=True)
