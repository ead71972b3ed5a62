# SPDX-License-Identifier: GPL-2.0-only
"""The death of a host whose input a test has named is told once; that of another host is told too."""

from __future__ import annotations

import pytest

from dissectors.framing.events import CLAIM, HostEvent
from dissectors.rules.oracle import Oracle


def claimed(about: str | None) -> HostEvent:
    """A test's claim that an input has ended a host's process, or one of its hosts'."""
    found = {"kept": False, "expected": "the server lives on", "seen": "it ended by SIGABRT", "about": about}
    return HostEvent(time=2.0, host="target", name=CLAIM, args={"requirement": "ROBUST-034", **found})


def died(host: str, time: float) -> HostEvent:
    return HostEvent(time=time, host=host, name="died", args={"signal": 6})


@pytest.mark.parametrize(
    ("about", "told"),
    [("target", [("ROBUST-001", "source"), ("ROBUST-034", "target")]), (None, [("ROBUST-034", None)])],
)
@pytest.mark.parametrize("first", ["source", "target"])
def test_both_hosts_die(first: str, about: str | None, told: list[tuple[str, str | None]]) -> None:
    """The claim concerns one host; or it does not say which, and then no death is told twice."""
    second = {"source": "target", "target": "source"}[first]
    oracle = Oracle()
    for event in (died(first, 1.0), claimed(about), died(second, 3.0)):
        oracle.observe(event)
    found = [(f.requirement, f.host) for f in oracle.close().findings]
    assert sorted(found, key=str) == told
