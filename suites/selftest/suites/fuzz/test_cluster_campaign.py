# SPDX-License-Identifier: GPL-2.0-only
"""Campaigns on a real Dask scheduler and workers, each a process of its own on loopback."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from dissectors.wire.constants import MsgBase, MsgcBase
from fixtures.system.hosts import HarnessError
from reports.commands import cli
from suites.fuzz.dask_workers import DaskWorkers
from suites.fuzz.local_workers import LocalWorkers
from suites.fuzz.parallel_campaign import ParallelCampaign
from suites.fuzz.play_state import Key
from suites.fuzz.shares import Workers
from suites.selftest.suites.dask_processes import END_SECONDS, Killer, real_cluster

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

#: Few plays, and a seed with which they find a failure: each shortening costs seconds.
SEED, EXAMPLES = 5, 24
#: Hosts of a process in the middle of its plays.
BUSY = 5


#: Whether a PING is due depends on the server's own, real clock: sender and type.
PINGS = {("server", int(MsgBase.SPICE_MSG_PING)), ("client", int(MsgcBase.SPICE_MSGC_PONG))}


def _figures(campaign: ParallelCampaign) -> dict[str, Any]:
    result = campaign.as_dict()
    hits: Counter[Key] = campaign.hits
    steps = [step for step in result["steps"] if (step["sender"], step["type"]) not in PINGS]
    return {"failures": set(campaign.failures), "hits": hits, "steps": steps} | {
        name: result[name] for name in ("examples", "moves", "visits", "provoked")
    }


def _campaign(out: Path, workers: Workers, width: int = 2) -> ParallelCampaign:
    return ParallelCampaign("system", SEED, out, width, workers=workers, progress_seconds=0.1)


def test_a_cluster_plays_what_one_machine_plays(tmp_path: Path) -> None:
    """Plays and findings are the same although a worker is killed in the middle; nothing outlives them."""
    local = _campaign(tmp_path / "local", LocalWorkers())
    local.run(examples=EXAMPLES)
    assert local.failures
    with real_cluster(tmp_path, 2) as cluster:
        killer = Killer([worker.pid for worker in cluster.workers], "suites.fuzz.fuzz_worker", BUSY)
        killer.start()
        spread = _campaign(tmp_path / "spread", DaskWorkers(cluster.address, 1))
        try:
            spread.run(examples=EXAMPLES)
        finally:
            killer.stop()
        killed, other = sorted(cluster.workers, key=lambda worker: worker.pid != killer.killed)
        assert killed.wait(END_SECONDS) == -signal.SIGKILL
        below = killer.below + psutil.Process(other.pid).children(recursive=True)
        assert not psutil.wait_procs(below, END_SECONDS)[1]
    assert _figures(spread) == _figures(local)
    for failure in spread.failures.values():
        own = tmp_path / "spread" / "findings" / failure.name
        assert json.loads((own / "finding.json").read_text())["moves"]
        assert (own / "conversation.pcapng.gz").stat().st_size


def test_a_scheduler_that_goes_away(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One line; what was gathered is kept, and what was still played ends."""
    below: list[psutil.Process] = []
    with real_cluster(tmp_path, 1) as cluster:
        campaign = _campaign(tmp_path / "out", DaskWorkers(cluster.address, 1), 1)

        def say(_: str) -> None:
            if campaign.examples and not below:
                below.extend(psutil.Process(cluster.workers[0].pid).children(recursive=True))
                cluster.scheduler.kill()

        campaign.say = say
        with pytest.raises(HarnessError, match="has gone away") as caught:
            campaign.run(examples=100_000)
        assert not psutil.wait_procs(below, END_SECONDS)[1]
    assert "\n" not in str(caught.value)
    assert not capfd.readouterr().err
    assert campaign.examples


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("tcp://127.0.0.1:1", 3, "no Dask scheduler answers at tcp://127.0.0.1:1"),
        ("ftp://\x1b[1m", 2, "not a scheduler's address"),
        ("nowhere", 2, "not a scheduler's address"),
    ],
)
def test_a_cluster_that_cannot_be_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], address: str, status: int, words: str
) -> None:
    """One line that says why, and nothing is left in place of results."""
    _refused(tmp_path, capfd, address, status, words)


def test_a_cluster_without_the_extra(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that names the extra."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    _refused(tmp_path, capfd, "local", 2, "install the extra `cluster`")


def _refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], address: str, status: int, words: str
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        cli.main(["fuzz", "--examples", "2", "--cluster", address, "--out", str(out)])
    said = capfd.readouterr().err
    assert ended.value.code == status, said
    assert len(said.splitlines()) == 1
    assert words in said
    assert "\x1b" not in said
    assert not out.exists()
