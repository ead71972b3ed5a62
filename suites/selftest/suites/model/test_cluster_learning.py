# SPDX-License-Identifier: GPL-2.0-only
"""Learns the installed library on the workers of a real Dask cluster on loopback."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from fixtures.library import LibraryLauncher
from reports.commands.cli import main
from suites.dask_cluster import LOCAL, DaskCluster
from suites.model import letters
from suites.model.answers import Answer
from suites.model.dask_players import DaskPlayers
from suites.model.equivalence_oracle import Effort
from suites.model.known_answers import Word
from suites.model.learning import learn_from
from suites.model.mealy import Model
from suites.model.player_processes import PlayerProcesses
from suites.model.subject import Subject

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

TARGET = Subject("target", seamless=False)
SMALL = ("main: link, id wrong", "main: MIGRATE_END", "main: close")
END_SECONDS = 30.0


def _model(player: PlayerProcesses | DaskPlayers | Killing, cache: Path) -> Model:
    with LibraryLauncher() as launcher:
        build = launcher.identity
    return learn_from(player, "system", build, TARGET, seed=1, effort=Effort(orders=0), cache=cache)


class Killing:
    """Kills a worker of a cluster while words are played."""

    def __init__(self, players: DaskPlayers, worker: int) -> None:
        self._players, self._worker = players, worker
        self.killed = False

    def many(self, words: Sequence[Word]) -> Iterator[tuple[Word, list[Answer]]]:
        """As `Player` says."""
        for result in self._players.many(words):
            if len(words) > 2 and not self.killed:
                os.kill(self._worker, signal.SIGKILL)
                self.killed = True
            yield result


def _players() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "suites.model.player_processes" in process.cmdline():
                found.append(process)
    return found


def test_a_cluster_learns_what_one_machine_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models are equal although a worker is killed; no process outlives the run."""
    monkeypatch.setattr(letters, "USUAL", {("target", False): SMALL})
    monkeypatch.setenv("SPICE_CONFORM_CACHE", str(tmp_path / "cache"))
    with closing(PlayerProcesses("system", TARGET, 1)) as players:
        local = _model(players, tmp_path / "local")
    with closing(DaskCluster(LOCAL, 2)) as cluster:
        killed, *_ = cluster.client.run(os.getpid).values()
        with closing(DaskPlayers(cluster, "system", TARGET)) as spread:
            player = Killing(spread, killed)
            found = _model(player, tmp_path / "spread")
            playing = _players()
        assert playing
        assert not psutil.wait_procs(playing, END_SECONDS)[1]
    assert player.killed
    assert found.steps == local.steps
    assert len(found) > 1


def test_learning_without_a_scheduler_is_one_line(tmp_path: Path) -> None:
    """Nothing is left in place of results."""
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["learn", "--cluster", "tcp://127.0.0.1:1", "--out", str(out)])
    assert done.exit_code == 3
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in done.output
    assert done.output.count("\n") == 1
    assert not out.exists()
