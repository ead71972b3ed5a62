# SPDX-License-Identifier: GPL-2.0-only
"""Captures of one rule each, provided to the project: the inspector reports what their `expected.json`
says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.inspector import Inspection
from suites.selftest.given_captures import GIVEN

#: Two captures that the catalogue could not judge, and the requirements that were added for them.
ADDED = {
    "b08-client-out-of-tokens.pcap.gz": "MIG-CLI-019",
    "g13-connected-before-secondaries.pcap.gz": "MIG-CLI-020",
}


def expectations() -> list[Any]:
    if GIVEN is None:
        return []
    result: dict[str, dict[str, Any]] = json.loads((GIVEN / "rules" / "expected.json").read_text())
    return [pytest.param(GIVEN / "rules" / name, one, id=name) for name, one in result.items()]


@pytest.mark.parametrize(("capture", "expected"), expectations())
def test_findings_are_as_expected(capture: Path, expected: dict[str, Any]) -> None:
    inspection = Inspection([capture])
    inspection.finish()
    found = inspection.findings
    if expected["whose"] is None:
        assert found == []
        return
    requirement = ADDED.get(capture.name, expected["requirement"])
    assert {one.requirement for one in found} == {requirement}
    assert found[0].frame in {expected["frame"], *expected.get("also", [])}
    assert CATALOGUE[requirement].duty == expected["whose"]


@pytest.mark.skipif(GIVEN is None, reason="the given captures are not beside the checkout")
@pytest.mark.parametrize(
    ("name", "requirement"), [("agent-lost", "MIG-CLI-015"), ("agent-tokens-overrun", "MIG-CLI-019")]
)
def test_findings_on_the_agent(name: str, requirement: str) -> None:
    assert GIVEN is not None
    inspection = Inspection([GIVEN / f"{name}.pcap"])
    inspection.finish()
    assert {one.requirement for one in inspection.findings} == {requirement}
