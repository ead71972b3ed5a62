# SPDX-License-Identifier: GPL-2.0-only
"""Connections that never authenticate: how long they may stay, and how many there may be (house rule)."""

from __future__ import annotations

import pytest

from fixtures.bench import Bench
from fixtures.bench.planting import requirement, stuck_after
from fixtures.system.hosts import Ability

#: How long a link may take, ms, and how many may be unfinished at once.
LONGEST_MS, MOST = 600_000, 256
STAGES = ("nothing", "link message", "mechanism")

pytestmark = pytest.mark.needs(Ability.VIRTUAL_CLOCK)


@requirement("ROBUST-061", fault=stuck_after("reply", case="mechanism"))
@pytest.mark.parametrize("stage", STAGES)
def test_link_that_never_ends(bench: Bench, stage: str) -> None:
    """A client stops in the middle of its link: ten minutes later the server has closed it."""
    source = bench.start(ticket="correct horse")
    link = bench.connect(source)
    if stage != "nothing":
        link.send_mess()
        link.expect_reply()
    if stage == "mechanism":
        link.send_mechanism()
    bench.pass_time(source, LONGEST_MS)
    bench.claim(link.ending is not None, f"the link's end within {LONGEST_MS} ms", "it is open", source)


@requirement("ROBUST-062", fault=stuck_after("reply"))
def test_links_without_number(bench: Bench) -> None:
    """Strangers open 300 connections and send nothing: not all of them stay open."""
    source = bench.start(ticket="correct horse")
    links = [bench.connect(source) for _ in range(300)]
    bench.settle()
    still = sum(link.ending is None for link in links)
    for link in links:
        link.close()
    bench.claim(still <= MOST, f"at most {MOST} links that have not authenticated", f"{still} are open")
