# SPDX-License-Identifier: GPL-2.0-only
"""The real tshark reads our writer's files without a warning, and our reader reads them as tshark does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dissectors.capture import Begin, Chunk, End, HostRecord
from dissectors.capture.pcapng_writer import PcapngWriter
from dissectors.framing.events import Ending, Endpoint, HostEvent
from dissectors.wire.constants import Side
from suites.selftest.dissectors.capture.capture_mutations import (
    CLIENT,
    LINK,
    SERVER,
    START,
    dialogue,
    duplicated,
    packets,
    record,
    said,
    save,
    story,
)

needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")

THIRD = Endpoint(CLIENT.host, 40_001)
SECOND = (Endpoint("::1", 50_000), Endpoint("target.test", 65_535))


def tshark(path: Path, *arguments: str) -> list[str]:
    """Lines that tshark prints; on stderr it may only remark that it runs as root."""
    command = ["tshark", "-r", str(path), "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=True)
    assert [line for line in done.stderr.splitlines() if "root" not in line] == []
    return done.stdout.splitlines()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two connections, host events, secrets; every kind of end; more bytes than a packet holds."""
    with (tmp_path / "recording.pcapng").open("wb") as file:
        writer = PcapngWriter(file, epoch=START, comment="a comment")
        assert writer.open_connection(7, CLIENT, SERVER, 0.0) == 3
        assert writer.segment(7, Side.CLIENT, LINK, 0.1) == 4
        assert writer.host_event(HostEvent(time=0.2, host="source", name="migrate_connect")) == 5
        writer.secrets("# nothing\n")
        assert writer.segment(7, Side.SERVER, LINK + bytes(200_000), 0.3) == 9
        writer.open_connection(9, *SECOND, 0.4)
        writer.segment(9, Side.CLIENT, LINK, 0.5)
        writer.segment(9, Side.SERVER, LINK + bytes(3_000_000), 0.6)
        writer.close_connection(9, Ending.RESET, Side.CLIENT, 0.7)
        writer.close_connection(7, Ending.CLOSED, Side.CLIENT, 0.8)
        writer.close_connection(7, Ending.CLOSED, Side.SERVER, 0.8)
        writer.close_connection(7, Ending.CLOSED, Side.SERVER, 0.9)
        frame = writer.open_connection(11, THIRD, SERVER, 1.0)
        assert writer.close_connection(11, Ending.DIED, Side.SERVER, 1.1) == frame == writer.frame
    return tmp_path / "recording.pcapng"


def test_comes_back_as_it_was(recording: Path) -> None:
    found = story(recording)
    assert [(b.client, b.server) for b in found.begins] == [
        (CLIENT, SERVER),
        (SECOND[0], Endpoint("::ffff:c612:1", 65_535)),
        (THIRD, SERVER),
    ]
    assert found.says(1) == {Side.CLIENT: LINK, Side.SERVER: LINK + bytes(200_000)}
    assert found.says(2) == {Side.CLIENT: LINK, Side.SERVER: LINK + bytes(3_000_000)}
    assert [(e.connection, e.how, e.by) for e in found.ends] == [
        (2, Ending.RESET, Side.CLIENT),
        (1, Ending.CLOSED, Side.CLIENT),
        (3, None, None),
    ]
    kinds = [type(item) for item in found.items if not isinstance(item, Begin | End)]
    assert kinds[:3] == [Chunk, HostRecord, Chunk]
    frames = [item.frame or 0 for item in found.items if not isinstance(item, End)]
    assert frames == sorted(frames)


@needs_tshark
def test_tshark_has_no_warning(recording: Path) -> None:
    assert (
        tshark(recording, "-Y", "tcp.analysis.flags || tcp.checksum.status == 0 || ip.checksum.status == 0")
        == []
    )
    assert tshark(recording, "-Y", "_ws.malformed") == []
    numbers = tshark(recording, "-T", "fields", "-e", "frame.number", "-Y", "systemd_journal")
    assert numbers == ["5"]
    magic = tshark(recording, "-d", f"tcp.port=={SERVER.port},spice", "-T", "fields", "-e", "spice.magic")
    assert magic[3] == magic[5] != ""


@needs_tshark
@pytest.mark.parametrize("segment", [100, 1448])
def test_tshark_follows_to_the_same_bytes(tmp_path: Path, segment: int) -> None:
    turns = dialogue(4, turns=12, longest=5000)
    every = packets(record(tmp_path / "a", turns, segment=segment))
    for mutated in (every, duplicated(every, 3)):  # it loses bytes that were acknowledged before they came
        path = save(tmp_path / "b", mutated)
        lines = tshark(path, "-q", "-z", "follow,tcp,raw,0")
        lines = [line for line in lines if line.strip() and set(line.strip()) <= set("0123456789abcdef")]
        client = b"".join(bytes.fromhex(line.strip()) for line in lines if not line.startswith("\t"))
        server = b"".join(bytes.fromhex(line.strip()) for line in lines if line.startswith("\t"))
        assert {Side.CLIENT: client, Side.SERVER: server} == said(turns) == story(path).says()
