# SPDX-License-Identifier: GPL-2.0-only
"""Findings of a campaign on the installed library, replayed on QEMUs with real migrations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from dissectors.wire.constants import MsgcBase, MsgcMain
from fixtures.library import LibraryLauncher
from reports.commands.cli import main
from reports.commands.verify import verify
from suites.fuzz import qemu_play
from suites.fuzz.finding_file import FuzzFailure, play
from suites.fuzz.moves import MAIN, Call, End, Id, Link, Move, Send, Setup

QEMU = "qemu-system-x86_64"
pytestmark = pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"UNSUPPORTED: no {QEMU}")

LINK = Link(0, "source", MAIN)
FLUSH_MARK = int(MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK)
ON_SOURCE: Sequence[Move] = (LINK, Send(0, "source", MAIN, FLUSH_MARK))
#: The client arrives at a target that has taken the machine over, and sends a flush mark there.
AFTER_MIGRATION: Sequence[Move] = (
    LINK,
    Call("source", "announce"),
    Link(0, "target", MAIN, Id.OWN),
    Send(0, "source", MAIN, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED)),
    Call("source", "migrate_start"),
    Call("source", "vm_stop"),
    Call("target", "vm_start"),
    Call("source", "finish"),
    End(0, "source", MAIN),
    Send(0, "target", MAIN, int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)),
    Send(0, "target", MAIN, FLUSH_MARK),
)


def _finding(moves: Sequence[Move], place: Path) -> Path:
    with LibraryLauncher() as launcher:
        played = play({"source": launcher, "target": launcher}, Setup(), moves)
    assert list(played.played) == list(moves)
    (found,) = (f for f in played.failed().values() if f.requirement == "ROBUST-001")
    failure = FuzzFailure(found, Setup(), moves, "system", 0, 0, len(moves))
    place.write_text(json.dumps(failure.as_dict()))
    return place


def _replay(finding: Path, out: Path, *more: str) -> tuple[int, str]:
    done = CliRunner().invoke(
        main, ["replay", str(finding), "--server", f"qemu:{QEMU}", "--out", str(out), *more]
    )
    return done.exit_code, done.output


@pytest.mark.parametrize("moves", [ON_SOURCE, AFTER_MIGRATION], ids=["source", "after-migration"])
def test_a_finding_shows_on_qemu(moves: Sequence[Move], tmp_path: Path) -> None:
    """The same failure; its run is sealed."""
    finding = _finding(moves, tmp_path / "finding.json")
    status, result = _replay(finding, tmp_path / "run", "--deviations", "/dev/null")
    assert status == 1, result
    assert "does not show" not in result
    text, holds = verify(tmp_path / "run")
    assert holds, text
    (build, *_) = json.loads((tmp_path / "run" / "certificate.json").read_text())["servers"][0][
        "builds"
    ].values()
    assert build["kind"] == "qemu"


def test_a_finding_that_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_play, "LONG_S", 0.5)
    finding = _finding(ON_SOURCE, tmp_path / "finding.json")
    data = json.loads(finding.read_text())
    finding.write_text(json.dumps(data | {"moves": data["moves"][:1]}))
    status, result = _replay(finding, tmp_path / "run", "--deviations", "/dev/null")
    assert (status, "does not show" in result) == (0, True), result


def test_a_move_that_qemu_cannot_make(tmp_path: Path) -> None:
    """One line that names it."""
    finding = _finding(ON_SOURCE, tmp_path / "finding.json")
    data = json.loads(finding.read_text())
    draw = {"move": "call", "host": "source", "name": "draw"}
    finding.write_text(json.dumps(data | {"moves": [*data["moves"], draw]}))
    status, result = _replay(finding, tmp_path / "run")
    assert (status, result.count("\n")) == (3, 1), result
    assert "cannot make the move 'hypervisor of the source: draw'" in result
