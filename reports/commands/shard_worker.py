# SPDX-License-Identifier: GPL-2.0-only
"""Runs one shard of `certify` in a process of its own, which ends with its standard input.

It reads its order as one line of JSON: `out`, `shard` ("I/N"), the fields of `Request` with `deviations` as
text, and `tests` (ids) if only these run. It writes the events into `out`, and prints a line of JSON for each
test, and one with `error` if nothing can run."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from fixtures.system.hosts import HarnessError, UsageError
from reports.commands.certify import Request, mark_end, trouble
from reports.run.run_events import EVENTS, CaseFinished, RunEvent
from reports.run.runner import pytest_command, run_pytest, signals
from reports.run.tally import Run

#: The names of the files that a shard writes beside its results.
DEVIATIONS, TESTS_FILE = "deviations.toml", "tests.txt"


def _options(order: dict[str, Any], out: Path) -> list[str]:
    """The request as options of pytest on this machine."""
    asked = dict(order["request"])
    if asked["deviations"] is not None:
        (out / DEVIATIONS).write_text(asked["deviations"], encoding="utf-8")
        asked["deviations"] = out / DEVIATIONS
    options = Request(**asked, workers="0").options()
    if order["tests"]:
        (out / TESTS_FILE).write_text("\n".join(order["tests"]), encoding="utf-8")
        options.append(f"--tests-from={out / TESTS_FILE}")
    shard = order["shard"]
    return [*options, "--shard", shard, f"--scope=--shard {shard}"]


def _say(**line: object) -> None:
    """Prints a line, also if nobody reads it any more: then the shard was ended, which is no error here."""
    try:
        print(json.dumps(line), flush=True)
    except BrokenPipeError:
        with Path(os.devnull).open("wb") as nowhere:  # takes what is left in the buffer
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _show(event: RunEvent) -> None:
    if isinstance(event, CaseFinished):
        _say(test=event.nodeid)


def _end_with_input() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """The process' life; its status is 0 if the shard is complete."""
    order = json.loads(sys.stdin.readline())
    out = Path(order["out"])
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        with signals():
            options = [*_options(order, out), f"--basetemp={out}.tmp"]
            status = run_pytest(pytest_command(options, out), out, _show)
            if status is None:
                return 3
            if not (out / EVENTS).exists() or not (out / EVENTS).stat().st_size:
                raise trouble(out, status)
            if Run.read(out).finished is None:
                mark_end(out, status)
    except (HarnessError, UsageError) as error:
        _say(error=str(error))
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
