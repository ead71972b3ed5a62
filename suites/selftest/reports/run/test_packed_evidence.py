# SPDX-License-Identifier: GPL-2.0-only
"""A run whose evidence is packed: every command reads it as before, also after a kill in the middle."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from dissectors.rules.judgement import Verdict
from reports.commands.cli import main
from reports.commands.compare import comparison
from reports.commands.report import report
from reports.commands.verify import verify
from reports.run import packed_evidence
from reports.run.exit_status import Exit
from reports.run.run_directory import prepare
from reports.run.run_events import EVENTS, PACKED_EVENTS
from reports.run.selection import failed_last
from reports.run.tally import Run
from reports.views.publish import publish
from suites.selftest.reports.real_run import real_run

#: Eighteen tests that pass, more than one archive holds, and one that deviates.
SELECTED = (
    "suites/link/test_authentication.py",
    "suites/robust/test_survival.py::test_unsolicited_flush_mark",
)
CELLS = ("suites/matrix", "--cell", "main: connected / SPICE_MSGC_[PM][OI][NG][GR]*")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over some tests of the installed library: too small to be packed."""
    return real_run(tmp_path_factory.mktemp("small") / "run", *SELECTED)


@pytest.fixture
def run(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy; from now on even the smallest run is packed."""
    monkeypatch.setattr(packed_evidence, "FEW", 0)
    return Path(shutil.copytree(small, tmp_path / "run"))


def _holds(run: Path) -> None:
    text, holds = verify(run)
    assert holds, text
    assert not (run / EVENTS).exists()
    assert list((run / "tests").glob("passed-*.tar.xz"))


def test_small_run_stays_as_it_was_written(small: Path) -> None:
    assert (small / EVENTS).exists()
    assert not list((small / "tests").glob("*.tar.xz"))


def test_packed_run(small: Path, run: Path) -> None:
    """Archives hold what passed, others are files; verdicts are the same, and each link leads to a file."""
    before, files = Run.read(small), len(list((run / "tests").iterdir()))
    publish(run)
    _holds(run)
    after = Run.read(run)
    assert [(c.nodeid, c.verdict, c.kept) for c in after.cases] == [
        (c.nodeid, c.verdict, c.kept) for c in before.cases
    ]
    assert comparison(before, after)[1] is False
    for case in after.cases:
        alone = (run / case.artefacts["pcapng"]).is_file()
        assert alone is (case.verdict is not Verdict.PASS), case.nodeid
    assert len(list((run / "tests").iterdir())) < files
    links = set(_links(run / "index.html"))
    assert {path.name for path in (run / "tests").iterdir()} == {Path(link).name for link in links}
    assert all((run / link).is_file() for link in links)


def _links(page: Path) -> Iterator[str]:
    """The links to evidence in the parts of a page that its script unpacks."""
    for part in re.findall(r'<script type="application/json" id="[^"]+">([^<]+)<', page.read_text()):
        text = gzip.decompress(base64.b64decode(part)).decode()
        yield from re.findall(r'href=\\"(tests/[^"]+)\\"', text)


def test_recording_in_an_archive_is_inspected(run: Path) -> None:
    publish(run)
    packed = [case for case in Run.read(run).cases if ".tar.xz/" in case.artefacts["pcapng"]]
    case = next(case for case in packed if "test_right_ticket" in case.nodeid)  # whose session opens
    told = CliRunner().invoke(main, ["inspect", "--json", str(run / case.artefacts["pcapng"])])
    assert told.exit_code == Exit.CLEAN, told.output
    assert json.loads(told.stdout)["findings"] == []


def test_reports_again(run: Path) -> None:
    """What is packed stays so; a copy is packed anew, and so are two runs side by side."""
    publish(run)
    report([run], None)
    _holds(run)
    report([run], run.parent / "copy")
    report([run, run.parent / "copy"], run.parent / "both")
    for place in (run.parent / "copy", run.parent / "both"):
        _holds(place)
        assert all("pcapng" in case.artefacts for case in Run.read(place).cases)


@pytest.mark.parametrize("step", ["_archive", "_put", "_remove_originals"])
def test_kill_in_the_middle(run: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """After a kill before or after any step, all evidence can be read, and `report` completes the packing."""
    verdicts = [case.verdict for case in Run.read(run).cases]
    done: Callable[..., object] = getattr(packed_evidence, step)
    for after in (False, True):
        copy = Path(shutil.copytree(run, run.parent / f"copy-{after}"))

        def killed(*args: object, after: bool = after) -> object:
            if after:
                done(*args)
            raise KeyboardInterrupt

        monkeypatch.setattr(packed_evidence, step, killed)
        with pytest.raises(KeyboardInterrupt):
            publish(copy)
        monkeypatch.setattr(packed_evidence, step, done)
        assert [case.verdict for case in Run.read(copy).cases] == verdicts
        publish(copy)
        _holds(copy)


def test_a_change_in_an_archive_is_reported(run: Path) -> None:
    """Also when the run was sealed again: the packets contradict the verdicts."""
    publish(run)
    first, second = sorted((run / "tests").glob("passed-*.tar.xz"))[:2]
    second.write_bytes(first.read_bytes())
    assert verify(run)[1] is False
    publish(run)
    assert verify(run)[1] is False


def test_last_failed_and_a_second_run_in_one_directory(run: Path) -> None:
    publish(run)
    with pytest.raises(Exception, match="nothing failed in"):
        failed_last(run)
    with pytest.raises(Exception, match="nothing failed in"):
        failed_last(run.parent)
    prepare(run)
    assert not (run / PACKED_EVENTS).exists()
    assert list(run.iterdir()) == []


def test_cells_that_deviate_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Allure gets their packets as files."""
    run = real_run(tmp_path / "run", *CELLS)
    monkeypatch.setattr(packed_evidence, "FEW", 0)
    publish(run, tmp_path / "allure")
    _holds(run)
    (cell,) = [case for case in Run.read(run).cases if case.cell]
    assert ".tar.xz/" in cell.artefacts["pcapng"]
    assert list((tmp_path / "allure").glob("*-attachment.pcapng.gz"))
