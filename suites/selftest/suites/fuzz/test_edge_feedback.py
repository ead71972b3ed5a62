# SPDX-License-Identifier: GPL-2.0-only
"""Campaigns that new edges of the server's code steer, and the corpus that they share with other builds.

Those with real edges need `source:fuzz` in the cache, whose build takes minutes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fixtures.bench.launchers import Launcher
from fixtures.builds import parse
from fixtures.builds.cache import Cache
from fixtures.library import EDGES, LibraryLauncher
from fixtures.system.hosts import HarnessError
from suites.fuzz.campaign import Campaign
from suites.fuzz.corpus import MANIFEST_KEY, Corpus, Entry
from suites.fuzz.explorer import Explorer
from suites.fuzz.moves import MAIN, Call, Link, Move, Setup
from suites.fuzz.parallel_campaign import ParallelCampaign
from suites.selftest.suites.fuzz.fuzz_samples import LINK

TRACED = "source:fuzz"
needs_traced = pytest.mark.skipif(
    not Cache().has(parse(TRACED).entry), reason=f"{TRACED} is not in the cache (builds fetch {TRACED})"
)
PLAYS = 60


@pytest.fixture(scope="module")
def traced() -> Iterator[Mapping[str, Launcher]]:
    """The traced build, for source and target."""
    with LibraryLauncher(spec=TRACED) as launcher:
        yield {"source": launcher, "target": launcher}


def explored(
    launchers: Mapping[str, Launcher], corpus: Corpus, *, examples: int, steered: bool = True
) -> Explorer:
    """Plays with a corpus; returns the explorer that has played."""
    explorer = Explorer(launchers, 1, steered=steered)
    run = Campaign(launchers, "server", 1, shorten=False, explorer=explorer, corpus=corpus)
    try:
        run.run(examples=examples)
    finally:
        explorer.close()
    return explorer


def test_a_build_that_counts_no_edges_drops_no_play_for_them(tmp_path: Path) -> None:
    """Of three plays that show the same, the one that another build executed new edges with stays."""
    corpus = Corpus(str(tmp_path / "corpus"))
    for client in (0, 1):
        corpus.add(Setup(), [Link(client, "source", MAIN)])
    corpus.add_for_edges(Setup(), [Link(2, "source", MAIN)], 0)
    with LibraryLauncher() as launcher:
        explored({"source": launcher, "target": launcher}, corpus, examples=1)
    links = [entry for entry in corpus.entries() if entry.setup == Setup() and len(entry.moves) == 1]
    assert links == [
        Entry(Setup(), [Link(0, "source", MAIN)]),
        Entry(Setup(), [Link(2, "source", MAIN)], by_edges=True),
    ]


def test_a_longer_play_takes_the_place_of_its_beginning(tmp_path: Path) -> None:
    """A play that goes on from a stored one, and executes new edges, is stored instead."""
    corpus = Corpus(str(tmp_path / "corpus"))
    moves: list[Move] = [LINK, Call("source", "announce")]
    corpus.add_for_edges(Setup(), moves[:1], 0)
    corpus.add_for_edges(Setup(), moves, 1)
    assert corpus.entries() == [Entry(Setup(), moves, by_edges=True)]


def test_the_manifest_of_a_corpus(tmp_path: Path) -> None:
    """It says the most that each build has reached; what is no manifest is one line."""
    corpus = Corpus(str(tmp_path / "corpus"))
    corpus.note_reached({"build": "a", "server": "system", "edges": None, "states": 3, "steps": 9})
    corpus.note_reached({"build": "b", "server": TRACED, "edges": 90, "states": 3, "steps": 9})
    corpus.note_reached({"build": "b", "server": TRACED, "edges": 70, "states": 5, "steps": 9})
    reached = {one["build"]: (one["edges"], one["states"]) for one in corpus.reached()}
    assert reached == {"a": (None, 3), "b": (90, 5)}
    corpus._database.save(MANIFEST_KEY, b"{")
    with pytest.raises(HarnessError, match="not a corpus of this suite"):
        corpus.reached()


@needs_traced
def test_new_edges_steer(traced: Mapping[str, Launcher], tmp_path: Path) -> None:
    """A play with new edges goes into the corpus, which another campaign plays first: it then knows them.
    Edges that do not steer are counted all the same."""
    corpus = Corpus(str(tmp_path / "corpus"))
    first = explored(traced, corpus, examples=PLAYS)
    assert 1000 < first.edges.count < EDGES
    assert first.fruitful
    assert any(entry.by_edges for entry in corpus.entries())
    second = explored(traced, corpus, examples=1)
    assert second.edges.count > first.edges.count * 0.9  # the last plays' ends are no part of the corpus
    free = explored(traced, Corpus(str(tmp_path / "other")), examples=PLAYS, steered=False)
    assert free.edges.count > 1000
    assert not free.fruitful


@needs_traced
def test_several_processes_count_together(tmp_path: Path) -> None:
    """The edges of a campaign are those of all its processes, over time."""
    campaign = ParallelCampaign(TRACED, 4, tmp_path, 2, str(tmp_path / "corpus"))
    campaign.run(examples=PLAYS)
    assert campaign.edges is not None
    assert campaign.points[-1]["edges"] == campaign.edges == campaign.as_dict()["edges"]
    assert f"{campaign.edges} edges" in campaign.progress
    assert campaign.edges > 1000
