# SPDX-License-Identifier: GPL-2.0-only
"""Campaigns whose plays start from kept situations, in several processes, with a corpus."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from dissectors.conversation.connection_states import State
from fixtures.bench.launchers import Launcher
from fixtures.library import LibraryLauncher
from fixtures.system.hosts import HarnessError, UsageError
from reports.views.campaign_page import campaign_page
from suites.fuzz import choices
from suites.fuzz.branch_play import BranchPlay
from suites.fuzz.campaign import Campaign
from suites.fuzz.corpus import KEY, Corpus, Entry
from suites.fuzz.explorer import MOST, Explorer
from suites.fuzz.finding_file import play
from suites.fuzz.fresh_play import FreshPlay
from suites.fuzz.likeness import move_likeness
from suites.fuzz.local_workers import LocalWorkers
from suites.fuzz.moves import MAIN, Call, Carrier, Id, Link, Setup, Slot
from suites.fuzz.parallel_campaign import ParallelCampaign
from suites.fuzz.prepared_hosts import PreparedHosts
from suites.selftest.open_descriptors import OpenDescriptors
from suites.selftest.suites.fuzz.fuzz_samples import FLUSH_MARK, LINK

#: Of Debian's redis-tools: the server is the same file under another name.
REDIS = shutil.which("redis-check-rdb")
PLAYS = int(os.environ.get("PLAYS", "400"))
#: The most processes of hosts right after set-up: for each setting a root and a branch.
GROUNDS = 2 * 2 * 24 + 4
#: How much a process may grow between the half and the end of many plays, bytes.
MEMORY = 24 << 20
#: Differences that come from one key for every link, and from a clock of the server's own: PINGs.
OTHERWISE = {"LINK-010", "MIG-CLI-013", "MIG-CLI-021"}


@pytest.fixture(scope="module")
def launchers() -> Iterator[Mapping[str, Launcher]]:
    """The installed library, for source and target."""
    with LibraryLauncher() as launcher:
        yield {"source": launcher, "target": launcher}


@pytest.fixture
def prepared(launchers: Mapping[str, Launcher]) -> Iterator[PreparedHosts]:
    """Hosts after set-up, that plays branch from."""
    made = PreparedHosts(launchers)
    yield made
    made.close()


def test_a_branch_goes_on_for_itself(launchers: Mapping[str, Launcher], prepared: PreparedHosts) -> None:
    """A branch in the middle of a migration continues like a play on fresh hosts, twice."""
    first = BranchPlay(prepared, Setup())
    first.play_all([LINK, Link(0, "source", 3, Id.OWN), Call("source", "announce")])
    for _ in range(2):
        branch = first.copy()
        branch.play_all(choices.owed(branch)[0])
        assert branch.known(Slot(0, "source", MAIN)).state is State.CONNECTED
        assert first.known(Slot(0, "source", MAIN)).state is State.ANNOUNCED
        branch.leave(everywhere=True)
        branch.close()
        fresh = play(launchers, Setup(), branch.played)
        assert branch.failed().keys() == fresh.failed().keys()
        assert branch.judgement is not None
        assert branch.judgement.kept.keys() - OTHERWISE == fresh.oracle.judgement.kept.keys() - OTHERWISE
    first.abandon()


@pytest.mark.parametrize("many", [False, True])
def test_ends_of_processes_are_those_on_fresh_hosts(
    launchers: Mapping[str, Launcher], prepared: PreparedHosts, many: bool
) -> None:
    """A process that ends in a branch gives the same failure as with real sockets; its origin lives."""
    branch_play = BranchPlay(prepared, Setup(many_clients=many))
    branch_play.play_all([LINK])
    for _ in range(2):
        branch = branch_play.copy()
        assert branch.play_all([FLUSH_MARK]) == [FLUSH_MARK]
        assert branch.over
        branch.close(judge=False)
        fresh = play(launchers, branch_play.setup, branch.played)
        assert branch.failed().keys() == fresh.failed().keys()
    assert not branch_play.over
    branch_play.abandon()


def test_leftovers_are_those_on_fresh_hosts(
    launchers: Mapping[str, Launcher], prepared: PreparedHosts
) -> None:
    """A branch too counts the descriptors that a target keeps after everybody has left."""
    moves = [Link(0, "target", MAIN, Id.WRONG), Link(0, "target", 3, Id.WRONG)]
    branch_play = BranchPlay(prepared, Setup())
    branch_play.play_all(moves)
    branch_play.leave()
    branch_play.close()
    assert branch_play.failed().keys() == play(launchers, Setup(), moves).failed().keys()


def test_a_known_end_becomes_rare(launchers: Mapping[str, Launcher]) -> None:
    """After two plays in which one move in one state ended the process, the move is rarely chosen in this
    state."""
    explorer = Explorer(launchers, 1)
    for _ in range(3):
        explorer.again(Setup(), [LINK, FLUSH_MARK]).close()
    fresh = FreshPlay(launchers, Setup())
    fresh.play(LINK)
    like = move_likeness(fresh, FLUSH_MARK)
    avoided = sum(explorer._avoids(like) for _ in range(200))
    fresh.close()
    explorer.close()
    assert avoided > 180


def test_the_same_seed_explores_the_same(launchers: Mapping[str, Launcher]) -> None:
    """Two explorers with one seed make the same moves."""
    result = []
    for _ in range(2):
        explorer = Explorer(launchers, 7)
        plays = [explorer.play() for _ in range(40)]
        for branch_play in reversed(plays):
            if not branch_play.kept and not branch_play.goes_on:
                branch_play.close()
        result.append([[str(move) for move in branch_play.played] for branch_play in plays])
        explorer.close()
    assert result[0] == result[1]


def test_the_first_plays_are_migrations_by_duty(launchers: Mapping[str, Launcher]) -> None:
    """A seamless and a semi-seamless migration come first and run to their end, whatever the seed; then those
    over TLS and WebSocket."""
    explorer = Explorer(launchers, 11)
    reached: set[tuple[bool, State]] = set()
    carriers = []
    while explorer._dutiful or explorer._next is not None:
        branch_play = explorer.play()
        if not branch_play.kept and not branch_play.goes_on:
            branch_play.close()
            carriers.append(branch_play.setup.carrier)
        if branch_play.setup.carrier is Carrier.TCP:
            assert not branch_play.failures()
            reached |= {(slot.channel == MAIN, branch_play.known(slot).state) for slot in branch_play.slots}
    explorer.close()
    assert carriers == [Carrier.TCP, Carrier.TCP, Carrier.TLS, Carrier.WEBSOCKET]
    assert {(True, State.GONE), (False, State.GONE), (False, State.TARGET_RESTORING)} <= reached
    assert {(True, State.ENDED), (False, State.TARGET_SILENT)} <= reached


def _states(us: psutil.Process) -> Counter[str]:
    """How many processes below this one live, and how many have ended and are not reaped yet."""
    found: Counter[str] = Counter()
    for child in us.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found["zombie" if child.status() == psutil.STATUS_ZOMBIE else "alive"] += 1
    return found


def test_many_plays_leave_nothing_behind(tmp_path: Path) -> None:
    """A few hundred plays leave no processes, descriptors or files, and memory stays flat.

    `PLAYS=100000` plays this many."""
    us = psutil.Process()
    before, children, descriptors = us.num_fds(), set(us.children(recursive=True)), OpenDescriptors()
    sizes = []
    with LibraryLauncher() as launcher:
        explorer = Explorer({"source": launcher, "target": launcher}, 3)
        run = Campaign({"source": launcher, "target": launcher}, "system", 3, shorten=False)
        run.explorer = explorer
        for part in range(1, 5):
            run.run(examples=PLAYS * part // 4)
            sizes.append(us.memory_info().rss)
            states = _states(us)
            assert states["alive"] < 2 * MOST + GROUNDS
            assert states["zombie"] <= states["alive"]  # a process reaps its copies at its next fork
            assert us.num_fds() < before + 2 * MOST + 6 * GROUNDS
        explorer.close()
    assert not descriptors.since()
    assert not set(us.children(recursive=True)) - children
    assert sizes[-1] - sizes[1] < MEMORY
    assert run.examples == PLAYS
    assert run.inconsistent == 0


def test_a_killed_worker_loses_no_finding(tmp_path: Path) -> None:
    """Two processes share findings and a corpus; one is killed in the middle, and all examples are played."""
    workers = LocalWorkers()
    campaign = ParallelCampaign("system", 4, tmp_path, 2, str(tmp_path / "corpus"), workers)
    killed: list[int] = []

    def say(_: str) -> None:
        if not killed and campaign.examples and workers.processes[0].poll() is None:
            killed.append(workers.processes[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    campaign.say = say
    campaign.progress_seconds = 0.1
    campaign.run(examples=400)  # long enough for a progress line in the middle
    assert killed
    assert campaign.examples >= 400  # and what the corpus had kept until then, played first
    assert Corpus(str(tmp_path / "corpus")).entries()
    assert campaign.points[-1]["plays"] == campaign.examples
    for failure in campaign.failures.values():
        assert (tmp_path / "findings" / failure.name / "finding.json").exists()


def test_a_corpus_is_played_first_and_minimised(launchers: Mapping[str, Launcher], tmp_path: Path) -> None:
    """Stored entries are read back; an entry that shows nothing beyond a shorter one is dropped."""
    corpus = Corpus(str(tmp_path / "corpus"))
    corpus.add(Setup(), [LINK])
    corpus.add(Setup(), [LINK, Call("source", "announce")])
    assert [len(entry.moves) for entry in corpus.entries()] == [1, 2]
    corpus.drop(corpus.entries()[0])
    assert [len(entry.moves) for entry in corpus.entries()] == [2]
    kept = corpus.entries()[0]
    fresh = play(launchers, kept.setup, kept.moves)
    assert fresh.played == kept.moves


@pytest.mark.parametrize("raw", [b"{", b"[]", json.dumps({"format": 99}).encode(), b'{"format": 1}'])
def test_a_corpus_of_another_suite_is_one_line(tmp_path: Path, raw: bytes) -> None:
    """A corpus that this suite cannot read is refused in one line (status 3)."""
    corpus = Corpus(str(tmp_path / "corpus"))
    corpus._database.save(KEY, raw)
    with pytest.raises(HarnessError) as caught:
        corpus.entries()
    assert "\n" not in str(caught.value)


def test_a_corpus_that_cannot_be_one(tmp_path: Path) -> None:
    """A file is no corpus."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="not a directory"):
        Corpus(str(tmp_path / "file"))


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real Redis of the test's own, behind a socket in a directory of its own."""
    pytest.importorskip("redis", reason="the extra `corpus` is not installed")
    if REDIS is None:
        pytest.skip("no Redis: Debian's redis-tools has it")
    socket = tmp_path / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path), "--save", ""]
    process = subprocess.Popen(
        ["redis-server", *options], executable=REDIS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 20
    while not socket.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    try:
        yield f"unix://{socket}", process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


def test_a_corpus_in_a_redis(redis_server: tuple[str, subprocess.Popen[bytes]]) -> None:
    """Two campaigns share it; if it goes away half way, the campaign ends with one line."""
    place, process = redis_server
    one, other = Corpus(place), Corpus(place)
    one.add(Setup(seamless=True), [LINK])
    assert other.entries() == [Entry(Setup(seamless=True), [LINK])]
    process.kill()
    process.wait()
    with pytest.raises(HarnessError, match="cannot be reached") as caught:
        other.add(Setup(), [LINK])
    assert "\n" not in str(caught.value)


def test_the_page_of_a_campaign(tmp_path: Path) -> None:
    """Curves and states are drawn from the campaign's data, also if nothing was played."""
    campaign = ParallelCampaign("<system>", 1, tmp_path, 1)
    assert "&lt;system&gt;" in campaign_page(campaign.as_dict())
    campaign.points = [
        {"seconds": float(n), "plays": n, "states": n, "steps": n, "outcomes": n, "findings": 0}
        for n in range(3)
    ]
    assert campaign_page(campaign.as_dict()).count("<svg") == 5
    campaign._groups = 1  # of a build that counts its edges
    campaign.points[-1]["edges"] = campaign.edges or 0
    assert campaign_page(campaign.as_dict()).count("<svg") == 6
