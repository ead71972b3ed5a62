# SPDX-License-Identifier: GPL-2.0-only
"""The command line: it starts fast, bad input is one line and a status, captures are shown in each view."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dissectors.framing.events import Closed, HostEvent, LinkBytes, Message, Opened
from dissectors.rules.unseen_behaviour import UNSEEN
from dissectors.wire.data_header import encode
from fixtures.system.tape import Tape
from reports.commands.cli import main
from reports.inspection.message_lines import Filter
from reports.run.environment import ROOT
from suites.selftest.reports.run.report_samples import conversation

HEAVY = ("pytest", "scapy", "rich", "jinja2", "allure", "cryptography", "psutil")
PATIENCE = 30.0  # seconds


def _invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """The constructed conversation as a pcapng: a target that sends INIT too early."""
    tape, serials = Tape(), Counter[str]()
    for event in conversation():
        match event:
            case Opened():
                tape.opened(event.client, event.server, event.time, tls=event.tls, host=event.host)
            case LinkBytes():
                tape.data(event.connection, event.sender, event.raw, event.time)
            case Message():
                serials[event.sender] += 1
                raw = encode(event.type, event.body, serial=serials[event.sender])
                tape.data(event.connection, event.sender, raw, event.time)
            case Closed():
                tape.closed(event.connection, event.how, event.time, by=event.by)
            case HostEvent():
                tape.host_event(event)
    path = tmp_path / "capture.pcapng"
    tape.write_pcapng(path)
    return path


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys, reports.commands.cli; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=PATIENCE
    )
    assert done.stdout.strip() == "[]"
    assert "certify" in _invoke("--help").output


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("certify", "--profile", "nope"), 2, "no profile 'nope'"),
        (("certify", "--requirement", "NOPE-*"), 2, "no requirement 'NOPE-*'"),
        (("certify", "--level", "MAY"), 2, "no level 'MAY'"),
        (("certify", "--shard", "5/4"), 2, "write I/N"),
        (("certify", "--deviations", "nope.toml"), 2, "nope.toml: No such file"),
        (("certify", "--server", "nope"), 2, "'nope' names no server"),
        (("certify", "--out", "/dev/null/x"), 2, "cannot write results to"),
        (
            (
                "certify",
                "--nope",
            ),
            2,
            "No such option",
        ),
        (("report", "nope"), 2, "does not exist"),
        (("inspect", "nope"), 2, "nope: no such file"),
        (("inspect", "/dev/null"), 2, "/dev/null"),
        (("inspect", "x", "--html", "/nope/x.html"), 2, "no such directory"),
        (("inspect",), 2, "Missing argument"),
        (("inspect", "\x1b[31m\x07no"), 2, r"\x1b[31m\x07no"),
        (("certify", "--server", "\x1b]0;title\x07"), 2, r"\x1b]0;title\x07"),
    ],
)
def test_bad_input_is_one_line_and_a_status(arguments: tuple[str, ...], status: int, words: str) -> None:
    done = _invoke(*arguments)
    assert done.exit_code == status
    assert words in done.output
    assert "Traceback" not in done.output
    assert "\x1b" not in done.output


def test_no_run_in_a_directory(tmp_path: Path) -> None:
    for command in (("report", tmp_path), ("compare", tmp_path, tmp_path), ("verify", tmp_path)):
        done = _invoke(*command)
        assert (done.exit_code, len(done.output.splitlines())) == (2, 1)


def test_profiles_are_listed() -> None:
    assert "smoke" in _invoke("certify", "--profile", "list").output


def test_story(capture: Path) -> None:
    done = _invoke("inspect", capture)
    assert done.exit_code == 1
    for words in ("semi-seamless", "0x6b8b4567", "host localhost, port 5902, TLS port 5903", "“CN=target”"):
        assert words in done.output
    assert "expected" in done.output
    assert "geheim" not in done.output


def test_a_file_that_is_named_twice_is_read_once(capture: Path) -> None:
    once, twice = _invoke("inspect", capture), _invoke("inspect", capture, capture)
    assert twice.exit_code == once.exit_code
    assert twice.output.splitlines()[1:] == once.output.splitlines()[1:]  # the first line has the time


def test_json_has_the_fixed_keys(capture: Path) -> None:
    document = json.loads(_invoke("inspect", capture, "--json").stdout)
    assert {"capture", "sessions", "migrations", "findings", "gaps", "unjudged"} <= document.keys()
    assert {"requirement", "level", "packet", "time", "connection", "expected", "seen"} <= document[
        "findings"
    ][0].keys()
    assert document["error"] is None


def test_messages_are_filtered(capture: Path) -> None:
    every = _invoke("inspect", capture, "--messages").output
    assert "SPICE_MSG_PING" in every
    some = _invoke("inspect", capture, "--messages", "--type", "MIGRATE_*").output
    assert "SPICE_MSG_MAIN_MIGRATE_BEGIN" in some
    assert "SPICE_MSG_PING" not in some
    assert "SPICE_MSG_PING" not in _invoke("inspect", capture, "--messages", "--channel", "inputs").output


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        (Filter(), True),
        (Filter(channels=["main"]), True),
        (Filter(channels=["display"]), False),
        (Filter(types=["PI*"]), True),
        (Filter(types=["SPICE_MSG_PI?G"]), True),
        (Filter(types=["PONG"]), False),
        (Filter(start=1.0, stop=2.0), True),
        (Filter(start=1.6), False),
        (Filter(stop=1.4), False),
    ],
)
def test_filter(chosen: Filter, wanted: bool) -> None:
    assert chosen.wants(1.5, "main", ("SPICE_MSG_PING", "PING")) is wanted


def test_page_of_a_capture(capture: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert _invoke("inspect", capture, "--html", page).exit_code == 1
    text = page.read_text()
    assert "SPICE_MSG_MAIN_MIGRATE_BEGIN" in text
    assert "data-event" in text
    assert "geheim" not in text
    assert "http://" not in text


def test_a_cut_capture_is_shown_as_far_as_it_goes(capture: Path) -> None:
    capture.write_bytes(capture.read_bytes()[:-3])
    done = _invoke("inspect", capture)
    assert done.exit_code == 2
    assert "Migration 1" in done.output


def test_follow_until_interrupted(capture: Path, tmp_path: Path) -> None:
    """Appended data is shown as it comes; an interruption ends with the story."""
    whole = capture.read_bytes()
    capture.write_bytes(whole[:2000])
    shown = tmp_path / "shown"
    with shown.open("w") as sink:
        program = "from reports.commands.cli import main; main()"
        command = [sys.executable, "-c", program, "inspect", "--follow", str(capture)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        follower = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=environment)
        try:
            with capture.open("ab") as file:
                file.write(whole[2000:])
            deadline = time.monotonic() + PATIENCE
            while "MIGRATE_CONNECTED" not in shown.read_text():
                assert time.monotonic() < deadline, shown.read_text()
                time.sleep(0.05)
            follower.send_signal(signal.SIGINT)
            assert follower.wait(PATIENCE) == 1
        finally:
            follower.kill()
            follower.wait()
    assert "Migration 1: semi-seamless" in shown.read_text()


def test_each_requirement_has_a_test() -> None:
    """As in `requirements --json`; it collects all suites, like a plain `pytest`. Requirements that cannot be
    seen have a reason instead."""
    document = json.loads(_invoke("requirements", "--json").output)
    assert len(document) > 100
    assert [r["id"] for r in document if not r["tests"] and r["id"] not in UNSEEN] == []
