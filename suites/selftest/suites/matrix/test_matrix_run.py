# SPDX-License-Identifier: GPL-2.0-only
"""Cells on the installed library: selected by name, judged, reported, and verified from their packets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reports.run.environment import ROOT

PONG, MARK = "SPICE_MSGC_PONG", "SPICE_MSGC_MIGRATE_FLUSH_MARK"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of two cells in each state of a source whose client has answered."""
    directory = tmp_path_factory.mktemp("run") / "out"
    command = [sys.executable, "-m", "pytest", "suites/matrix", "-q", "-p", "no:cacheprovider"]
    glob = "main: connected / SPICE_MSGC_[PM][OI][NG][GR]*"
    done = subprocess.run(
        [*command, "--cell", glob, "--out", str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Matrix: 3 of 3 cells driven (100 %)" in done.stdout
    return directory


def test_outcomes_of_cells_are_reported(out: Path) -> None:
    document = json.loads((out / "matrix.json").read_text())
    (channel,) = document["channels"]
    (state,) = channel["states"]
    (place,) = state["places"]
    assert (channel["channel"], state["state"], place["place"]) == ("main", "connected", "connected")
    assert place["cells"][PONG] == {"outcome": "silence", "verdict": "PASS"}
    assert place["cells"][MARK]["verdict"] == "DEVIATES"
    assert place["cells"][MARK]["outcome"].startswith("died: SIGTRAP")


def test_a_cell_with_findings_is_a_case(out: Path) -> None:
    events = [json.loads(line) for line in (out / "events.ndjson").read_text().splitlines()]
    (case,) = [event for event in events if event.get("cell")]
    assert case["nodeid"].endswith(f"main: connected]/{MARK}")
    assert case["requirements"] == ["ROBUST-004"]
    assert case["moves"][-1] == f"client 1, main of the source: {MARK}"
    assert (out / case["artefacts"]["pcapng"]).is_file()


def test_it_is_verified_from_its_packets(out: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reports.commands.cli", "verify", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
