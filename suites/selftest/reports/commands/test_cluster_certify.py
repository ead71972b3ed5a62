# SPDX-License-Identifier: GPL-2.0-only
"""`certify --cluster` on a real Dask scheduler and workers, each a process of its own on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from fixtures.system.hosts import HarnessError
from reports.commands.certify import Request
from reports.commands.cli import main
from reports.commands.cluster_certify import _portable
from reports.commands.verify import verify
from reports.run.environment import ROOT
from reports.run.run_events import CaseFinished, read_events
from reports.run.suite_and_builds import alike
from suites.dask_cluster import LOCAL, DaskCluster
from suites.selftest.suites.dask_processes import END_SECONDS, HERE, Killer, real_cluster

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

#: Two cells, one deadly, in several states of a source.
CELLS = ("suites/matrix", "--cell", "main: [cr]* / SPICE_MSGC_[PM][OI][NG][GR]*")
#: Processes below that of a shard in the middle of it: pytest and its hosts.
BUSY = 3
LIBRARY = next((p for p in Path("/usr/lib").glob("*/libspice-server.so.1")), None)


def _certify(out: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["certify", "--out", str(out), *options])
    return done.exit_code, done.output


def _cases(out: Path) -> Mapping[str, Any]:
    """Everything but times and packets."""
    return {
        e.nodeid: (
            e.verdict,
            e.reason,
            e.kept,
            [(f.requirement, f.level, f.expected, f.seen) for f in e.findings],
            e.identities,
            e.moves,
            e.matrix,
        )
        for e in read_events(out)
        if isinstance(e, CaseFinished)
    }


def _below(*pids: int) -> list[psutil.Process]:
    return [child for pid in pids for child in psutil.Process(pid).children(recursive=True)]


def test_a_cluster_judges_what_one_machine_judges(tmp_path: Path) -> None:
    """Cells of the matrix, although a worker is killed in the middle; no process outlives the run."""
    status, result = _certify(tmp_path / "one", "-n", "0", "--", *CELLS)
    assert status == 0, result
    with real_cluster(tmp_path, 2) as cluster:
        killer = Killer([worker.pid for worker in cluster.workers], "reports.commands.shard_worker", BUSY)
        killer.start()
        try:
            allure = ("--alluredir", str(tmp_path / "allure"))
            options = ("--cluster", cluster.address, "-n", "3", *allure, "--", *CELLS)
            status, result = _certify(tmp_path / "many", *options)
        finally:
            killer.stop()
        assert status == 0, result
        killed, other = sorted(cluster.workers, key=lambda worker: worker.pid != killer.killed)
        assert killed.wait(END_SECONDS) < 0
        assert not psutil.wait_procs(killer.below + _below(other.pid), END_SECONDS)[1]
    one, many = _cases(tmp_path / "one"), _cases(tmp_path / "many")
    assert many == one
    assert any(name.endswith("MIGRATE_FLUSH_MARK") for name in many)
    assert len(list((tmp_path / "allure").glob("*-result.json"))) == len(many)
    text, holds = verify(tmp_path / "many")
    assert holds, text
    certificates = [json.loads((tmp_path / d / "certificate.json").read_text()) for d in ("one", "many")]
    for key in ("verdict", "exit_status", "scope", "servers", "seed", "interrupted"):
        assert certificates[0][key] == certificates[1][key]


def test_a_scheduler_that_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line and status 3; the shards that are complete are kept, in a run that says so and holds."""
    shards = import_module("reports.commands.dask_shard")
    unpack, out = shards.unpack, tmp_path / "out"
    with real_cluster(tmp_path, 1) as cluster:

        def unpack_and_kill(data: bytes, place: Path) -> None:
            unpack(data, place)
            cluster.scheduler.kill()

        monkeypatch.setattr(shards, "unpack", unpack_and_kill)
        options = ("--cluster", cluster.address, "-n", "2", "--requirement", "LINK-004")
        status, result = _certify(out, *options)
        assert not psutil.wait_procs(_below(cluster.workers[0].pid), END_SECONDS)[1]
    assert (status, "has gone away" in result.splitlines()[-1]) == (3, True), result
    certificate = json.loads((out / "certificate.json").read_text())
    assert "has gone away" in certificate["interrupted"]
    text, holds = verify(out)
    assert holds, text


@pytest.fixture
def other_suite(tmp_path: Path) -> Mapping[str, str]:
    """The environment of a worker that has another version of this suite."""
    metadata = tmp_path / "other" / "spice_conformance-9.9.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: spice-conformance\nVersion: 9.9\n")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "other"), HERE["PYTHONPATH"]])}


def test_a_worker_with_another_suite(tmp_path: Path, other_suite: Mapping[str, str]) -> None:
    """One line and status 3, before anything is played."""
    with real_cluster(tmp_path, 0) as cluster:
        cluster.add_worker(environment=other_suite)
        cluster.wait(1)
        for command in ("certify", "fuzz", "learn"):
            words = [command, "--cluster", cluster.address, "--out", str(tmp_path / "out")]
            done = CliRunner().invoke(main, words)
            lines = [line for line in done.output.splitlines() if line.startswith("spice-conform: ")]
            assert (done.exit_code, len(lines)) == (3, 1), done.output
            assert "it has suite 9.9" in lines[0]
            assert not (tmp_path / "out").exists()


def test_a_worker_that_comes_late_with_another_suite(tmp_path: Path, other_suite: Mapping[str, str]) -> None:
    """It gets no work either."""
    with real_cluster(tmp_path, 1) as cluster:
        client = DaskCluster(cluster.address, 1, alike(["system"]))
        try:
            cluster.add_worker(environment=other_suite)
            cluster.wait(2)
            cluster.workers[0].kill()
            cluster.workers[0].wait()
            client.submit(1, os.getpid)
            _, future = client.came.get(timeout=END_SECONDS)
            with pytest.raises(HarnessError, match=r"it has suite 9\.9"):
                client.result(future)
        finally:
            client.close()


@pytest.mark.skipif(LIBRARY is None, reason="UNSUPPORTED: no installed libspice-server")
def test_a_worker_with_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same SPEC is another library there."""
    assert LIBRARY is not None
    for name, more in (("here", b""), ("there", b"\0")):
        (tmp_path / name).mkdir()
        shutil.copyfile(LIBRARY, tmp_path / name / "server.so")
        with (tmp_path / name / "server.so").open("ab") as file:
            file.write(more)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", HERE["PYTHONPATH"])
    with real_cluster(tmp_path, 0) as cluster:
        cluster.add_worker(tmp_path / "there")
        cluster.wait(1)
        options = ("--cluster", cluster.address, "--server", "lib:server.so")
        status, result = _certify(tmp_path / "out", *options)
    last = result.splitlines()[-1]
    assert (status, "its build of lib:server.so is" in last) == (3, True), result


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    for options in (("--shard", "1/2"), ("-n", "auto")):
        status, result = _certify(tmp_path / "out", "--cluster", "tcp://127.0.0.1:1", *options)
        assert (status, result.count("\n")) == (2, 1), result


@pytest.mark.parametrize("command", ["certify", "fuzz", "learn"])
def test_a_deployment_is_not_tested_by_a_cluster(command: str, tmp_path: Path) -> None:
    """Refused before a scheduler is asked and before the file is read."""
    words = [command, "--server", "vendor.toml", "--cluster", "local", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
    assert "the deployment vendor.toml is tested by one machine" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scheme", ["tls", "wss"])
def test_a_scheduler_by_tls_without_certificates(scheme: str, tmp_path: Path) -> None:
    """One line and status 2, also from the interpreter's end."""
    words = ["certify", "--cluster", f"{scheme}://127.0.0.1:1", "--out", str(tmp_path / "out")]
    program = [sys.executable, "-c", "from reports.commands.cli import main; main()", *words]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=END_SECONDS, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "distributed.comm.tls" in done.stderr


def test_a_shard_whose_output_nobody_reads(tmp_path: Path) -> None:
    """A worker that was interrupted has closed the pipe; the shard's process prints no traceback."""
    request = _portable(Request(requirements=["NO-SUCH"]))
    order = {"request": request, "tests": [], "shard": "1/1", "out": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "reports.commands.shard_worker"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.flush()
    with process.stdin, process.stderr:
        assert (process.stderr.read(), process.wait(END_SECONDS)) == (b"", 3)


def test_an_interrupt_does_not_end_our_own_workers() -> None:
    """A Ctrl-C reaches every process of the terminal's group; we alone end the workers."""
    cluster = DaskCluster(LOCAL, 1)

    def done(task: Callable[..., Any], *arguments: Any) -> Any:
        cluster.submit(None, task, *arguments)
        return cluster.result(cluster.came.get(timeout=END_SECONDS)[1])

    try:
        worker = done(os.getpid)
        done(os.kill, worker, signal.SIGINT)
        assert done(os.getpid) == worker
    finally:
        cluster.close()
