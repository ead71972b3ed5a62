# SPDX-License-Identifier: GPL-2.0-only
"""For each requirement that a server owes, a planted fault turns its check red. Prints the table."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from dissectors.rules.catalogue import CATALOGUE
from fixtures.faults import EXEMPT, FAULTS

ROOT = Path(__file__).parents[2]
SUITES = ("link", "main_channel", "migration", "robust")
#: pytest's short summary: outcome, and in the id the requirement and the fault.
LINE = re.compile(r"^(PASSED|FAILED|ERROR) .*?\[.*?((?:[A-Z]+-)+\d{3}):(.*)\]")
SECONDS = 400


def outcomes() -> dict[tuple[str, str], list[bool]]:
    """(requirement, fault as in the test's id) -> for each test whether it turned red."""
    command = [sys.executable, "-m", "pytest", *(f"suites/{name}" for name in SUITES), "--planted-faults"]
    more = ["--record-only", "-q", "-rpfE", "-n", "2", "-p", "no:cacheprovider", "--tb=no"]
    run = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    found: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for line in run.stdout.splitlines():
        if match := LINE.match(line):
            requirement, told = match[2], match[3]
            fault = next((f.name for f in FAULTS[requirement] if told.startswith(f.name)), told)
            found[requirement, fault].append(match[1] == "PASSED")
    assert found, run.stdout[-2000:] + run.stderr[-2000:]
    return found


@pytest.mark.slow
def test_each_fault_turns_its_check_red() -> None:
    seen = outcomes()
    green = []
    for requirement, faults in FAULTS.items():
        for fault in faults:
            tests = seen.get((requirement, fault.name), [])
            red = any(tests)
            print(f"{requirement:12} {fault.name:34} {'FAIL' if red else 'stays green'} ({len(tests)} tests)")
            if not red:
                green.append(f"{requirement}: {fault.name} ({len(tests)} tests)")
    assert not green


def test_each_requirement_has_a_fault() -> None:
    owed = {r.id for r in CATALOGUE.values() if r.duty == "server"}
    assert not owed - FAULTS.keys() - EXEMPT.keys()
    assert not EXEMPT.keys() & FAULTS.keys()
    assert FAULTS.keys() | EXEMPT.keys() <= owed
