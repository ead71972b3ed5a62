# SPDX-License-Identifier: GPL-2.0-only
"""Processes of our own that take orders, and answer, in lines of JSON. They end with their standard input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

#: How long a process may take to end by itself, so that its hosts and files are cleaned up, s.
ENDS_WITHIN_S = 10.0


def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Starts `python -m module`. A Ctrl-C on the terminal does not reach it."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,
        bufsize=0,
    )


def order(process: subprocess.Popen[bytes], what: Mapping[str, Any]) -> None:
    """Gives a process an order; one that has ended gets none."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(what).encode() + b"\n")


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process. Can be called twice."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
