# SPDX-License-Identifier: GPL-2.0-only
"""The story in its views: summary first, bounded columns, statuses, several files, nothing raw, --write."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dissectors.rules.inspector import Inspection
from dissectors.wire.constants import MsgcMain, MsgMain, Side
from fixtures.captures import DIRECTORY
from reports.commands.cli import main
from reports.run.exit_status import Exit
from suites.selftest.reports.inspection.scenes import DISPLAY, ID, Scene, init, story_of

A, B, CLIENT = "10.1.0.11", "10.1.0.12", "10.1.0.50"
UNKNOWN = 150  # a type that no channel has
EVIL = "host\x1b]0;title\x07\x1b[31mred\r\nNo rule was broken\x9b2J"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def told(*arguments: str | Path, columns: int = 100) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)], env={"COLUMNS": str(columns)})


@pytest.fixture
def lost(tmp_path: Path) -> Path:
    """A migration to a target that does not answer."""
    with Scene(tmp_path / "lost.pcapng") as scene:
        session = scene.session(CLIENT, A)
        scene.begin(session, B)
        scene.attempt(CLIENT, B)
        scene.tick(6)
        scene.client(session, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR)
        scene.switched(session, B)
        scene.close(session)
    return scene.path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A target that sends INIT before MIGRATE_END."""
    with Scene(tmp_path / "broken.pcapng") as scene:
        source = scene.session(CLIENT, A)
        scene.begin(source, B)
        target = scene.session(CLIENT, B, target=True)
        scene.server(target, MsgMain.SPICE_MSG_MAIN_INIT, init(ID))
        scene.client(source, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED)
        scene.server(source, MsgMain.SPICE_MSG_MAIN_MIGRATE_END)
    return scene.path


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_the_summary_comes_first_and_no_line_is_too_long(lost: Path, columns: int) -> None:
    result = told(lost, columns=columns)
    lines = result.output.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["Read", "SPICE", "Judged"]
    assert lines[4].startswith("Migration 1: semi-seamless, then switch-host, did not arrive (not answered)")
    assert max(map(len, lines)) <= min(columns, 100)
    assert not RAW.search(result.output.replace("\n", ""))  # no colour: this is no terminal


def test_colour_on_a_terminal_only(lost: Path) -> None:
    command = "import sys; from reports.commands.cli import main; main(['inspect', sys.argv[1]])"
    inside = f"import pty, sys; pty.spawn([{sys.executable!r}, '-c', {command!r}, {str(lost)!r}])"
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", inside],
        capture_output=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert b"\x1b[1" in done.stdout


def comments_of(capture: Path) -> str:
    """The packet comments, as tshark reads them."""
    command = ["tshark", "-r", str(capture), "-T", "fields", "-e", "frame.comment", "-Y", "frame.comment"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_nothing_of_a_capture_is_shown_raw(tmp_path: Path) -> None:
    with Scene(tmp_path / "evil.pcapng") as scene:
        session = scene.session(CLIENT, A)
        scene.begin(session, EVIL, subject="CN=\x1b[2J\u202e")
        scene.attempt(CLIENT, B)
        scene.client(session, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR)
    page, out = tmp_path / "page.html", tmp_path / "out.pcapng"
    views = [
        told(scene.path, "--html", page, "--write", out).output,
        told(scene.path, "--json").output,
        told(scene.path, "--messages").output,
        page.read_text(encoding="utf-8"),
        comments_of(out),
    ]
    for view in views:
        assert not RAW.search(view.replace("\n", ""))
        assert "\u202e" not in view
    assert r"host\x1b]0;title\x07\x1b[31mred\r\nNo rule was broken" in views[0]
    assert [line for line in views[0].splitlines() if line.startswith("No rule was broken")] == [
        views[0].splitlines()[-1]
    ]


def test_nothing_seen_is_not_clean(tmp_path: Path) -> None:
    with Scene(tmp_path / "web.pcapng") as scene:
        other = scene.connect(CLIENT, A, 80)
        scene.raw(other, Side.CLIENT, b"GET / HTTP/1.0\r\n\r\n")
        scene.raw(other, Side.SERVER, b"HTTP/1.0 200 OK\r\n\r\n")
    result = told(scene.path)
    assert result.exit_code == Exit.NOTHING_JUDGED
    assert "Judged: nothing, no SPICE session was found" in result.output
    assert result.output.splitlines()[-1].startswith("No SPICE session was found")


def test_statuses(lost: Path, broken: Path, tmp_path: Path) -> None:
    assert told(broken).exit_code == Exit.FINDINGS
    assert told(DIRECTORY / "semi-seamless.pcapng.gz").exit_code == Exit.CLEAN
    torn = tmp_path / "torn.pcapng"
    torn.write_bytes(lost.read_bytes()[:-5])
    assert told(torn).exit_code == Exit.UNREADABLE


def test_findings_of_two_files_name_their_file(lost: Path, broken: Path) -> None:
    result = told(lost, broken)
    found = [line for line in result.output.splitlines() if line.startswith("MIG-DST-002")]
    assert found
    assert all("broken.pcapng" in line for line in found) or f"file {broken}" in result.output
    story = story_of(lost, broken)
    assert {one["file"] for one in story["findings"]} == {str(broken)}


def test_what_a_capture_shows_is_never_denied() -> None:
    """Only requirements that packets can judge are listed, and none claims that something in the capture is
    missing."""
    from dissectors.rules.catalogue import CATALOGUE
    from dissectors.rules.judgement import Evidence

    story = story_of(DIRECTORY / "seamless.pcapng.gz")
    assert story["unjudged"]
    for entry in story["unjudged"]:
        assert CATALOGUE[entry["requirement"]].evidence is Evidence.PACKETS
        assert "not seen" not in entry["why"]


@pytest.mark.parametrize("name", ["semi-seamless", "seamless", "switch-host", "late", "tls"])
def test_what_is_written_tells_the_same_story(name: str, tmp_path: Path) -> None:
    """Also where TLS was opened: what is written needs no secrets."""
    capture, out = DIRECTORY / f"{name}.pcapng.gz", tmp_path / "out.pcapng"
    assert told(capture, "--write", out).exit_code == Exit.CLEAN
    before, after = story_of(capture), story_of(out)
    for key in ("scheme", "outcome", "source", "target", "session_id", "host"):
        assert [m[key] for m in after["migrations"]] == [m[key] for m in before["migrations"]]
    assert after["findings"] == before["findings"] == []
    assert after["capture"]["messages"] == before["capture"]["messages"]


def test_write_takes_files_that_are_not_the_captures(lost: Path, tmp_path: Path) -> None:
    size = lost.stat().st_size
    for arguments in (
        (lost, "--write", lost),
        ("-", "--write", tmp_path / "o"),
        (lost, "--write", "/none/o"),
    ):
        result = told(*arguments)
        assert result.exit_code == 2
        assert len(result.output.splitlines()) == 1
    assert lost.stat().st_size == size


def test_the_page_tells_the_same(lost: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    told(lost, "--html", page)
    text = page.read_text(encoding="utf-8")
    for words in ("The client did not arrive", "not answered", "Look at the firewall", "SYN not answered"):
        assert words in text


def test_keys_of_the_json_are_kept(lost: Path) -> None:
    story = json.loads(told(lost, "--json").output)
    assert story.keys() >= {
        "capture",
        "sessions",
        "migrations",
        "findings",
        "doubtful",
        "gaps",
        "unjudged",
        "error",
    }
    assert story.keys() >= {"attempts", "refused", "notes"}
    (migration,) = story["migrations"]
    assert migration.keys() >= {
        *("scheme", "outcome", "source", "target", "session_id", "target_session_id", "host", "port"),
        *("tls_port", "cert_subject", "steps", "reason", "why", "next", "phases", "attempts"),
    }


def test_attempts_elsewhere_are_one_line(tmp_path: Path) -> None:
    """A machine that tries every port and address of a network, beside a migration whose target is silent."""
    with Scene(tmp_path / "scanned.pcapng") as scene:
        session = scene.session(CLIENT, A)
        scene.begin(session, B)
        for number in range(600):
            scene.attempt("10.9.0.1", f"10.2.{number >> 8}.{number & 255}", 22)
            scene.attempt("10.9.0.1", A, 1000 + number)
        scene.attempt(CLIENT, B)
        scene.client(session, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR)
        scene.tick(10.0)  # time enough for an answer to the last attempts
        scene.client(session, MsgcMain.SPICE_MSGC_MAIN_CLIENT_INFO, bytes(8))
    story = json.loads(told(scene.path, "--json").output)
    assert story["capture"]["failed_streams"] == 1201
    assert len(story["attempts"]) < 50
    assert f"{B}:5900" in [one["server"] for one in story["attempts"]]
    text = told(scene.path).output
    assert re.search(r"Failed elsewhere: 1,\d\d\d connections", text)
    assert len(text.splitlines()) < 80


def test_every_finding_is_in_a_ladder(tmp_path: Path) -> None:
    """Also one on a connection outside of the migration: at its source, or at a host of another machine."""
    with Scene(tmp_path / "elsewhere.pcapng") as scene:
        source = scene.session(CLIENT, A)
        other = scene.session("10.1.0.77", "10.1.0.99", number=ID + 1)
        scene.begin(source, B)
        target = scene.session(CLIENT, B, target=True)
        scene.moved(source, target)
        scene.tick(3)
        old = scene.connect(CLIENT, A)
        scene.link(old, DISPLAY, ID)  # by the id of a session that is over
        scene.server(other, UNKNOWN)
        for connection in (old, other, target):
            scene.close(connection)
    result = told(scene.path)
    ladders = result.output.partition("Migration 1")[2]
    assert {"CONNID-008", "CHAN-001"} <= {f["requirement"] for f in story_of(scene.path)["findings"]}
    assert "^ CONNID-008" in ladders.partition("Elsewhere")[0]
    assert "^ CHAN-001" in ladders.partition("Elsewhere")[2]


def test_of_a_port_scan_some_attempts_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan must not fill the memory: further attempts are counted, except at ports of SPICE servers."""
    monkeypatch.setattr("dissectors.capture.reader.ATTEMPTS", 50)
    with Scene(tmp_path / "scanned.pcapng") as scene:
        for number in range(200):
            scene.attempt("10.9.0.1", f"10.2.0.{number}", 22)
        session = scene.session(CLIENT, A)
        scene.begin(session, B)
        scene.attempt(CLIENT, B)
        scene.client(session, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR)
        scene.tick(10.0)
        scene.close(session)
    inspection = Inspection([scene.path])
    inspection.finish()
    story = inspection.as_dict()
    assert len(inspection.oracle.conversation.connections) == 52
    assert story["capture"]["failed_streams"] == 201
    assert [m["reason"] for m in story["migrations"]] == ["not answered"]
