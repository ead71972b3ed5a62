# SPDX-License-Identifier: GPL-2.0-only
"""Modules that an inspection does not load because only other views need them."""

from __future__ import annotations

import subprocess
import sys

from fixtures.captures import recorded

PROGRAM = """
import sys
from reports.commands.cli import main
try:
    main(["inspect", sys.argv[1], "--json"])
except SystemExit:
    pass
unneeded = {"rich", "cryptography.hazmat.primitives.ciphers.aead", "jinja2"}
print(sorted(unneeded & sys.modules.keys()), file=sys.stderr)
"""


def test_only_what_is_needed_is_loaded() -> None:
    command = [sys.executable, "-c", PROGRAM, str(recorded()[0])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.split("\n")[-2] == "[]"
