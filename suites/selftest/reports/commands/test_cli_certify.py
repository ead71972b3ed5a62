# SPDX-License-Identifier: GPL-2.0-only
"""`certify` over a small suite: its files, its exit status, and the results of an interrupted run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree as ET

import psutil
import pytest

from dissectors.rules.judgement import Verdict
from fixtures.system.hosts import HarnessError, UsageError
from reports.commands.certify import Request, certify
from reports.run.environment import ROOT
from reports.run.exit_status import Exit
from reports.run.tally import Run
from suites.selftest.reports.run.report_samples import CRASH, little_suite

PATIENCE = 30.0  # seconds

GOOD = """
    @pytest.mark.requirement("LINK-001")
    def test_good(tell):
        "A good one"
        tell(kept={"LINK-002": 2})
"""

MANY = f"""
    FINDING = {{"requirement": "LINK-002", "level": "MUST", "expected": "2.2", "seen": "3.0", "time": 9.5,
               "frame": 4, "connection": 1, "host": None}}
    DIED = {{**FINDING, "requirement": "ROBUST-001", "level": "ROBUST", "seen": "{CRASH}"}}

    @pytest.mark.requirement("LINK-001")
    def test_good(tell):
        "A good one"
        tell()

    @pytest.mark.requirement("LINK-002")
    def test_found(tell):
        tell(FINDING)
        raise AssertionError("the oracle found something")

    @pytest.mark.requirement("ROBUST-001")
    def test_unsolicited_flush_mark(tell):
        tell(DIED)
        raise AssertionError("died")

    @pytest.mark.requirement("ROBUST-002")
    def test_well_behaved_client(tell):
        tell({{**DIED, "requirement": "ROBUST-002"}})
        raise AssertionError("died")

    @pytest.mark.requirement("LINK-003")
    def test_assertion(tell):
        tell()
        assert 1 == 2

    @pytest.mark.requirement("LINK-004")
    def test_unsupported():
        pytest.skip("UNSUPPORTED: no clock")

    @pytest.mark.requirement("LINK-005")
    def test_trouble(tell):
        raise OSError("port in use")

    @pytest.mark.requirement("LINK-006")
    def test_worker_dies(tell):
        if os.environ.get("PYTEST_XDIST_WORKER"):
            os._exit(1)
        raise OSError("would have died")
"""

SLOW = """
    @pytest.mark.requirement("LINK-001")
    def test_1_good(tell):
        tell()

    @pytest.mark.requirement("LINK-002")
    def test_2_slow(tell):
        import subprocess
        with subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
            with open(os.environ["SPICE_TEST_DIRECTORY"] + "/child", "w") as file:
                file.write(str(child.pid))
            try:
                child.wait()
            finally:
                child.kill()
"""

KINDS = {
    "test_good": Verdict.PASS,
    "test_found": Verdict.FAIL,
    "test_unsolicited_flush_mark": Verdict.DEVIATES,
    "test_well_behaved_client": Verdict.FAIL,
    "test_assertion": Verdict.FAIL,
    "test_unsupported": Verdict.UNSUPPORTED,
    "test_trouble": Verdict.ERROR,
    "test_worker_dies": Verdict.ERROR,
}


def _run(tmp_path: Path, tests: str, **more: object) -> tuple[Exit, Path]:
    root, out = little_suite(tmp_path / "root", tests), tmp_path / "out"
    return certify(Request(out=out, root=root, check=False, more=["-p", "no:hypothesispytest"], **more)), out  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [None, "2"])
def test_every_verdict_in_every_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: str | None
) -> None:
    status, out = _run(tmp_path, MANY, workers=workers)
    assert status is Exit.NOT_CONFORMANT
    cases = {case.nodeid.partition("::")[2]: case for case in Run.read(out).cases}
    assert {name: case.verdict for name, case in cases.items()} == KINDS
    certificate = json.loads((out / "certificate.json").read_text())
    assert certificate["verdict"] == "NOT CONFORMANT"
    assert certificate["exit_status"] == 1
    rows = {row["id"]: row for row in certificate["requirements"]}
    assert rows["LINK-002"]["verdict"] == "FAIL"
    assert rows["LINK-002"]["tests"] == ["suites/link/test_little.py::test_found"]
    assert rows["ROBUST-001"]["verdict"] == "DEVIATES"
    assert rows["MAIN-001"]["verdict"] is None
    suite = ET.parse(out / "junit.xml").getroot()[0]
    assert [suite.get(k) for k in ("tests", "failures", "errors", "skipped")] == ["8", "3", "2", "1"]
    assert "A good one" in (out / "index.html").read_text()
    printed = capsys.readouterr().out
    assert "NOT CONFORMANT" in printed
    assert "seen      3.0" in printed
    wide = [line for line in printed.splitlines() if len(line) > 100]
    assert [line for line in wide if str(tmp_path) not in line] == []  # a path is never broken


def test_conformant(tmp_path: Path) -> None:
    status, out = _run(tmp_path, GOOD)
    assert status is Exit.CONFORMANT
    certificate = json.loads((out / "certificate.json").read_text())
    assert certificate["servers"][0]["builds"]["source"]["version"] == "0.15.1"


COUNTED = """
    @pytest.mark.requirement("LINK-001")
    @pytest.mark.parametrize("number", range(8))
    def test_counted(tell, number):
        "Tells how many processes there are"
        processes = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        assert processes == len(os.sched_getaffinity(0)) + 2
        tell()
"""


def test_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-n auto`, the default, is two processes more than CPUs."""
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    assert _run(tmp_path, COUNTED)[0] is Exit.CONFORMANT


def test_a_deviation_that_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "d.toml"
    file.write_text('[[deviation]]\nrequirement = "LINK-001"\nsymptom = "x"\nreason = "y"\n')
    status, _ = _run(tmp_path, GOOD, deviations=file)
    assert status is Exit.STALE_DEVIATION


def test_the_same_directory_again(tmp_path: Path) -> None:
    """A later run in a directory replaces the earlier one, and keeps files that are not its own."""
    _, out = _run(tmp_path, GOOD)
    (out / "notes.txt").write_text("mine")
    certify(Request(out=out, root=tmp_path / "root", check=False, more=["-p", "no:hypothesispytest"]))
    assert len(Run.read(out).cases) == 1
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("tests", "error", "why"),
    [
        ("raise OSError('no library')", HarnessError, "no library"),
        ("x = 1", UsageError, "no test matches this profile"),
    ],
)
def test_nothing_ran(tmp_path: Path, tests: str, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        _run(tmp_path, tests)


def test_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match=r"cannot write results to .*out"):
        _run(tmp_path, GOOD)


_PROGRAM = """
import sys
from pathlib import Path
import reports.commands.certify
from reports.commands.cli import main
place = Path(sys.argv.pop())
Request = reports.commands.certify.Request
here = dict(out=place / "out", root=place / "root", check=False)
reports.commands.certify.Request = lambda **asked: Request(**here)
main(["certify"])
"""


def _start(tmp_path: Path) -> subprocess.Popen[str]:
    little_suite(tmp_path / "root", SLOW)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPICE_TEST_DIRECTORY": str(tmp_path)}
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _wait_for(condition: object) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _second_test(tmp_path: Path) -> Path:
    """Waits until the second test runs and the first one's case is on disk; the file with the pid of its
    child."""
    child, events = tmp_path / "child", tmp_path / "out" / "events.ndjson"
    _wait_for(lambda: child.exists() and child.read_text())
    _wait_for(lambda: "CaseFinished" in events.read_text())
    return child


def _gone(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    return True


@pytest.fixture
def started(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = _start(tmp_path)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path: Path, started: subprocess.Popen[str], number: signal.Signals) -> None:
    """An interruption gives one line and status 3; the results so far are kept and shown; no process is
    left."""
    _second_test(tmp_path)
    family = psutil.Process(started.pid).children(recursive=True)
    assert len(family) >= 2
    started.send_signal(number)
    printed, _ = started.communicate(timeout=PATIENCE)
    assert started.returncode == Exit.HARNESS
    assert "Traceback" not in printed
    assert "NOT COMPLETE" in printed
    assert all(_gone(process.pid) for process in family)
    certificate = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert [test["verdict"] for test in certificate["tests"]] == ["PASS"]
    assert "interrupted" in certificate["interrupted"]


def test_pytest_is_killed(tmp_path: Path, started: subprocess.Popen[str]) -> None:
    """The run's events are on disk, so the reports can still be written."""
    child = _second_test(tmp_path)
    runner = psutil.Process(started.pid).children()[0]
    runner.kill()
    printed, _ = started.communicate(timeout=PATIENCE)
    os.kill(int(child.read_text()), signal.SIGKILL)
    assert started.returncode == Exit.HARNESS
    assert "1 of 2 tests ran: pytest ended early with status -9" in printed


def test_certify_itself_is_killed(tmp_path: Path, started: subprocess.Popen[str]) -> None:
    """The kernel signals the child, which tears its tests down."""
    _second_test(tmp_path)
    family = psutil.Process(started.pid).children(recursive=True)
    started.kill()
    started.wait()
    _wait_for(lambda: all(_gone(process.pid) for process in family))
    assert len(Run.read(tmp_path / "out").cases) >= 1
