# SPDX-License-Identifier: GPL-2.0-only
"""Captures as users have them: each story must say what its reader needs. They are kept beside the
checkout."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reports.commands import inspect
from reports.run.exit_status import Exit

ABOVE = Path(__file__).parents[5:7]  # of the checkout; of a work tree that has a folder of its own
CAPTURES = next((up / "shared/captures" for up in ABOVE if (up / "shared/captures").is_dir()), Path("none"))
MIGRATED = ("completed", None)

pytestmark = pytest.mark.skipif(not CAPTURES.is_dir(), reason=f"{CAPTURES.name}: not beside this checkout")


@dataclass(frozen=True)
class Wanted:
    """What the story must contain (the outcome of each migration, and words), and what it must not."""

    outcomes: tuple[tuple[str, str | None], ...] = ()
    words: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    status: int = Exit.CLEAN
    sessions: int | None = None


TUNNEL = Wanted((MIGRATED,), sessions=2)
WANTED = {
    "late-semi-seamless.pcap": Wanted(
        (MIGRATED,), ("source     10.1.0.11:5900", "client     10.1.0.50"), sessions=2
    ),
    "no-link-stage-wrong-channel.pcap.gz": Wanted(
        (("not seen", "no attempt seen"),),
        ("source     10.0.0.2:5900", "client     10.0.0.1", "main INIT"),
        ("inputs", "FLUSH_MARK"),
        sessions=1,
    ),
    "tls-alert-at-target.pcap": Wanted(
        (("did not arrive", "TLS alert"),),
        ("the client ended TLS with bad_certificate", "CN=host9.example.com", "OU=Testing", "10.1.0.12"),
        sessions=1,
    ),
    "ticket-expired.pcap": Wanted(
        (("did not arrive", "permission denied"),),
        ("refused the main link with PERMISSION_DENIED", "frame 33", "frame 52"),
        sessions=1,
    ),
    "target-firewalled.pcap": Wanted(
        (("did not arrive", "not answered"),),
        ("10.1.0.12:5900 did not answer (3 SYNs", "SYN not answered"),
        sessions=1,
    ),
    "connect-spiceproxy.pcap": Wanted((MIGRATED,), sessions=2),
    "connect-refused.pcap": Wanted(
        words=("the HTTP proxy", "refused the tunnel: 401"), status=Exit.NOTHING_JUDGED, sessions=0
    ),
    "vxlan.pcap": TUNNEL,
    "geneve_opt.pcap": TUNNEL,
    "gre.pcap": TUNNEL,
    "mpls1.pcap": TUNNEL,
    "llcsnap.pcap": TUNNEL,
    "link-message-lost.pcap": Wanted((("not seen", "no attempt seen"),), ("1 gap",), sessions=1),
    "bad-connection-id.pcap": Wanted(
        words=("10.1.0.13:5900 refuses display 0", "BAD_CONNECTION_ID", "open at 10.1.0.11:5900"), sessions=1
    ),
    "one-address.pcap": Wanted((MIGRATED,), sessions=2),
    "same-id-crossed.pcap": Wanted((MIGRATED, MIGRATED), ("target     10.1.0.22:5900",), sessions=4),
    "same-id-false-finding.pcap": Wanted(never=("CONNID-010",), sessions=2),
    "busy-host.pcap": Wanted((MIGRATED,), ("12 without SPICE",), (":22", ":2049", ":3260"), sessions=2),
    "proxy-protocol-v1.pcap": Wanted(
        (("not seen", "no attempt seen"),), ("PROXY protocol 1",), ("LINK-004", "CHAN-003"), sessions=1
    ),
    "page-then-upgrade.pcap": Wanted((("not seen", "no attempt seen"),), sessions=1),
    "plain-client-on-tls-port.pcap": Wanted(
        words=("TLS alert", "this port wants TLS"),
        never=("is cut",),
        status=Exit.NOTHING_JUDGED,
        sessions=0,
    ),
    "escape-in-host.pcap": Wanted(
        (("did not arrive", "the client gave up"),), (r"host\x1b]0;", r"\r\n", r"CN=\x1b[2J"), sessions=1
    ),
    "agent-tokens-overrun.pcap": Wanted(words=("the client's",), status=Exit.FINDINGS, sessions=1),
    "agent-lost.pcap": Wanted(
        (MIGRATED,), ("the agent was connected at the source",), status=Exit.FINDINGS, sessions=2
    ),
    "snaplen-96.pcap": Wanted((MIGRATED,), ("-s 0",), ("bytes of the server are missing",), sessions=2),
    "two-clients.pcap": Wanted(
        words=("10.1.0.51 took 10.1.0.11:5900 over", "client 10.1.0.50", "client 10.1.0.51"), sessions=2
    ),
}


def test_every_file_has_its_line() -> None:
    """The captures in the folder without an entry in this file are covered by the tests of the capture
    layer."""
    there = {path.name for path in CAPTURES.iterdir() if path.is_file() and path.name != "README.md"}
    assert there - WANTED.keys() == {"nflog-beside-ethernet.pcapng", "solaris.snoop"}
    assert WANTED.keys() <= there


@pytest.mark.parametrize("name", WANTED)
def test_story_says_what_its_reader_needs(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wanted = WANTED[name]
    page = tmp_path / "page.html"
    status = inspect.main(captures=[CAPTURES / name], html=page)
    output = capsys.readouterr().out
    flat = " ".join(output.split())
    assert status == wanted.status, output
    for words in wanted.words:
        assert " ".join(words.split()) in flat, output
    for words in wanted.never:
        assert words not in output
    assert max(map(len, output.splitlines())) <= 100
    inspect.main(captures=[CAPTURES / name], as_json=True)
    story: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert tuple((m["outcome"], m["reason"]) for m in story["migrations"]) == wanted.outcomes
    if wanted.sessions is not None:
        assert len(story["sessions"]) == wanted.sessions
    for text in (output, page.read_text(encoding="utf-8"), json.dumps(story, ensure_ascii=False)):
        assert not [c for c in text if ord(c) < 32 and c not in "\n\t"]


@pytest.mark.parametrize("name", ["ticket-expired.pcap", "target-firewalled.pcap", "agent-lost.pcap"])
def test_wireshark_shows_what_was_found(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "told.pcapng"
    inspect.main(captures=[CAPTURES / name], write=out, as_json=True)
    story = json.loads(capsys.readouterr().out)
    command = ["tshark", "-r", str(out), "-T", "fields", "-e", "frame.comment", "-Y", "frame.comment"]
    comments = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    wanted = [one["requirement"] for one in story["findings"]]
    wanted += [one["seen"] for one in story["attempts"]] + [note["text"] for note in story["notes"]]
    assert wanted
    assert all(words in comments for words in wanted)
