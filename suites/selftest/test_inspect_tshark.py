# SPDX-License-Identifier: GPL-2.0-only
"""tshark as a second opinion: the types of all messages, by connection and direction, equal ours."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from dissectors.constants import MsgBase, MsgcBase, Side
from dissectors.events import Message, Opened
from dissectors.inspection import events
from fixtures.captures import recorded
from reports.bench_inspect import make_capture
from suites.selftest.capture_mutations import duplicated, packets, save, shuffled

pytestmark = pytest.mark.slow  # not steady yet: run with -m slow

pytestmark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")

#: (client's port, server's port, sender): the types in their order.
Types = dict[tuple[int, int, Side], list[int]]

#: What tshark 4.0 and 4.6 do wrong: the type, and whether the rest of that direction is lost to them.
KNOWN_ERRORS: Mapping[tuple[Side, int], str] = {
    (Side.SERVER, MsgBase.SPICE_MSG_MIGRATE_DATA): "is not shown",
    (Side.CLIENT, MsgcBase.SPICE_MSGC_MIGRATE_DATA): "loses its place",
}


def ours(path: Path) -> Types:
    """What our reader finds."""
    result: Types = defaultdict(list)
    ports: dict[int, tuple[int, int]] = {}
    for event in events([path]):
        match event:
            case Opened():
                ports[event.connection] = (event.client.port, event.server.port)
            case Message():
                result[*ports[event.connection], event.sender].append(event.type)
    return result


def theirs(path: Path) -> Types:
    """What tshark finds. The client is who sent the SYN."""
    servers = {event.server.port for event in events([path]) if isinstance(event, Opened)}
    command = ["tshark", "-r", str(path), "-o", "tcp.reassemble_out_of_order:TRUE", "-Y", "spice"]
    for port in sorted(servers):
        command += ["-d", f"tcp.port=={port},spice"]
    command += ["-T", "fields", "-e", "tcp.srcport", "-e", "tcp.dstport", "-e", "spice.message_type"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    result: Types = defaultdict(list)
    for line in done.stdout.splitlines():
        source, target, types = line.split("\t")
        found = [int(kind) for kind in types.split(",") if kind]
        if found and int(source) in servers:
            result[int(target), int(source), Side.SERVER] += found
        elif found:
            result[int(source), int(target), Side.CLIENT] += found
    return result


def as_tshark_errs(types: Types) -> Types:
    """Ours, with tshark's known errors."""
    result: Types = {}
    for (client, server, sender), sequence in types.items():
        shown: list[int] = []
        for kind in sequence:
            error = KNOWN_ERRORS.get((sender, kind))
            if error == "loses its place":
                break
            if error is None:
                shown.append(kind)
        if shown:
            result[client, server, sender] = shown
    return result


@pytest.mark.xfail(strict=False, reason="known: real captures are told differently")
@pytest.mark.parametrize(
    "path", [p for p in recorded() if not p.name.startswith("tls")], ids=lambda p: p.name
)
def test_the_real_clients_captures(path: Path) -> None:
    seen = ours(path)
    assert sum(map(len, seen.values())) > 50
    assert theirs(path) == as_tshark_errs(seen)


@pytest.mark.parametrize("segment", [1, 7, 1448, 16_384])
def test_many_messages_in_any_segments(tmp_path: Path, segment: int) -> None:
    path = tmp_path / "bulk.pcapng"
    make_capture(path, 2_000_000 if segment > 7 else 1, segment)
    seen = ours(path)
    assert sum(map(len, seen.values())) > 2_000
    assert theirs(path) == seen


def test_tshark_agrees_where_packets_come_twice_or_late(tmp_path: Path) -> None:
    make_capture(tmp_path / "whole.pcapng", 1, 16_384)
    whole = packets(tmp_path / "whole.pcapng")
    path = save(tmp_path / "duplicated.pcap", duplicated(whole, seed=3))
    assert theirs(path) == ours(path) == ours(tmp_path / "whole.pcapng")
    swapped = save(tmp_path / "shuffled.pcap", whole[:12] + shuffled(whole[12:-8], 3, 3) + whole[-8:])
    assert ours(swapped) == ours(tmp_path / "whole.pcapng")
