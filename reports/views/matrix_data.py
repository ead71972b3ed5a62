# SPDX-License-Identifier: GPL-2.0-only
"""The matrix of a run: how many cells of each channel and state were played, and their outcomes.

`matrix.json`: {"driven": n, "all": n, "left_out": n, "channels": [{"channel": name, "driven", "all",
"left_out", "states": [{"state": words, "driven", "all", "left_out", "places": [{"server": SPEC, "place":
words, "test": id, "cells": {name: {"outcome": words, "verdict": word} or {"left_out": why}}}]}]}]}. `all`
counts the cells that are not left out with a reason."""

from __future__ import annotations

import json
from typing import Any

from dissectors.conversation.connection_states import State
from dissectors.rules.judgement import Verdict
from dissectors.wire.constants import channel_name
from reports.run.run_events import CaseFinished
from reports.run.tally import Run

FILE = "matrix.json"
Counts = dict[str, Any]


def matrix(run: Run) -> Counts:
    """The matrix as JSON; `channels` is empty if no cell was played."""
    cases = sorted((case for case in run.cases if case.matrix), key=_place_in_order)
    broken = {case.nodeid: case.verdict for case in run.cases if case.cell}
    channels = sorted({int(case.matrix["channel"]) for case in cases})
    rows = []
    for channel in channels:
        own = [case for case in cases if int(case.matrix["channel"]) == channel]
        rows.append(_summed({"channel": channel_name(channel)}, "states", _states(own, broken)))
    return _summed({}, "channels", rows)


def text(run: Run) -> str:
    """The matrix as the file's text: each cell is a line."""
    return _laid_out(matrix(run))


def _laid_out(value: Any, depth: int = 1) -> str:
    """JSON in which each object or list that holds no other is a line."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not any(isinstance(part, dict | list) for part in parts):
        return json.dumps(value, ensure_ascii=False)
    names = [f"{json.dumps(name, ensure_ascii=False)}: " for name in value] if isinstance(value, dict) else []
    lines = [_laid_out(part, depth + 1) for part in parts]
    lines = [name + line for name, line in zip(names, lines, strict=True)] if names else lines
    first, last = ("{", "}") if names else ("[", "]")
    return f"{first}\n{' ' * depth}" + f",\n{' ' * depth}".join(lines) + f"\n{' ' * (depth - 1)}{last}"


def _place_in_order(case: CaseFinished) -> tuple[int, str]:
    """States in the order of a session, not in the order in which their tests ended."""
    states = [str(state) for state in State]
    state = case.matrix["state"]
    return states.index(state) if state in states else len(states), case.nodeid


def _states(cases: list[CaseFinished], broken: dict[str, Verdict]) -> list[Counts]:
    states = dict.fromkeys(case.matrix["state"] for case in cases)
    return [
        _summed(
            {"state": state},
            "places",
            [_place(case, broken) for case in cases if case.matrix["state"] == state],
        )
        for state in states
    ]


def _place(case: CaseFinished, broken: dict[str, Verdict]) -> Counts:
    matrix = case.matrix
    cells = {
        name: {"outcome": came, "verdict": broken.get(f"{case.nodeid}/{name}", Verdict.PASS).value}
        for name, came in matrix["driven"].items()
    }
    cells |= {name: {"left_out": why} for name, why in matrix["left_out"].items()}
    undriven = case.verdict in (Verdict.ERROR, Verdict.UNSUPPORTED)
    return {
        "server": case.server,
        "place": matrix["place"],
        "test": case.nodeid,
        "driven": len(matrix["driven"]),
        "all": len(matrix["driven"]) + undriven,  # the test did not reach at least one cell
        "left_out": len(matrix["left_out"]),
        "cells": cells,
    }


def _summed(head: Counts, key: str, parts: list[Counts]) -> Counts:
    sums = {name: sum(part[name] for part in parts) for name in ("driven", "all", "left_out")}
    return {**head, **sums, key: parts}


def line(run: Run) -> str | None:
    """The matrix in one line; None if no cell was played."""
    found = matrix(run)
    if not found["driven"]:
        return None
    by_channel = ", ".join(f"{c['channel']} {c['driven']}" for c in found["channels"])
    share = 100 * found["driven"] / found["all"]
    return (
        f"Matrix: {found['driven']} of {found['all']} cells driven ({share:.4g} %), "
        f"{found['left_out']} left out with a reason: {by_channel}"
    )
