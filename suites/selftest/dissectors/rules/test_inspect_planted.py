# SPDX-License-Identifier: GPL-2.0-only
"""Breaches planted on the wire: the real client's migrations, rewritten with one change.

The inspector must find this breach, at this frame as Wireshark counts, and no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest

from dissectors.capture.pcapng_writer import PcapngWriter
from dissectors.capture.reader import events
from dissectors.framing.events import Closed, Ending, LinkBytes, Message, Opened
from dissectors.framing.framer import MINI
from dissectors.rules.inspector import Inspection
from dissectors.wire.constants import ChannelType, MsgBase, MsgcMain, MsgMain, Side
from fixtures.captures import DIRECTORY
from suites.selftest.dissectors.capture.capture_mutations import packets, save

MAIN, DISPLAY = ChannelType.SPICE_CHANNEL_MAIN, ChannelType.SPICE_CHANNEL_DISPLAY
JUST = 1e-6  # s
CONNECTION_ID = slice(16, 20)  # in a link message
OTHER_ID = b"\x11\x22\x33\x44"


@dataclass
class Said:
    """One unit that an end sent: a packet of the link stage or a message."""

    time: float
    connection: int
    sender: Side
    name: str
    data: bytes


@dataclass
class Wire:
    """A conversation that can be rewritten. `hosts`: connection -> source or target."""

    said: list[Said] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    hosts: dict[int, str] = field(default_factory=dict)
    channels: dict[int, int] = field(default_factory=dict)

    def get(self, host: str, name: str, channel: int = MAIN) -> Said:
        """The first message of that name (without SPICE_MSG_ or SPICE_MSGC_)."""
        for one in self.said:
            if (self.hosts[one.connection], self.channels[one.connection]) == (host, channel):
                if one.name == name:
                    return one
        raise LookupError(name)

    def write(self, path: Path) -> dict[int, int]:
        """A plain pcap file; gives the frame of each of `said` by its identity."""
        frames: dict[int, int] = {}
        steps: list[tuple[float, int, object]] = [(one.time, 1, one) for one in self.said]
        steps += [(opened.time, 0, opened) for opened in self.opened]
        steps += [(closed.time, 2, closed) for closed in self.closed]
        with (path.with_suffix(".own")).open("wb") as file:
            writer = PcapngWriter(file, epoch=0.0)
            for time, _, step in sorted(steps, key=lambda one: one[:2]):
                match step:
                    case Said():
                        frames[id(step)] = writer.segment(step.connection, step.sender, step.data, time)
                    case Opened():
                        writer.open_connection(step.connection, step.client, step.server, time)
                    case Closed(by=Side() as by):
                        for side in (by, *(s for s in Side if s is not by and step.how is Ending.CLOSED)):
                            writer.close_connection(step.connection, step.how, side, time)
        save(path, packets(path.with_suffix(".own")))
        return frames


@cache
def recorded(name: str) -> Wire:
    """A recording of the project."""
    wire = Wire()
    for event in events([DIRECTORY / f"{name}.pcapng.gz"]):
        match event:
            case Opened():
                wire.opened.append(event)
                first = wire.opened[0].server == event.server
                wire.hosts[event.connection] = "source" if first else "target"
            case Closed():
                wire.closed.append(event)
            case LinkBytes():
                wire.channels[event.connection] = event.channel
                wire.said.append(Said(event.time, event.connection, event.sender, event.kind, event.raw))
            case Message():
                short = event.name.removeprefix("SPICE_MSG_").removeprefix("SPICE_MSGC_")
                data = MINI.pack(event.type, event.size) + event.body
                wire.said.append(Said(event.time, event.connection, event.sender, short, data))
    return wire


Spoil = Callable[[Wire], Said]


def moved(what: tuple[str, str], before: tuple[str, str], channel: int = MAIN) -> Spoil:
    """The message comes just before another one."""

    def spoil(wire: Wire) -> Said:
        one = wire.get(*what, channel)
        one.time = wire.get(*before, channel).time - JUST
        return one

    return spoil


def dropped(host: str, name: str, then: tuple[str, str], channel: int = MAIN) -> Spoil:
    """The message is left out; the breach is the one that comes `then`."""

    def spoil(wire: Wire) -> Said:
        wire.said.remove(wire.get(host, name, channel))
        return wire.get(*then, channel)

    return spoil


def added(host: str, after: str, sender: Side, kind: int, body: bytes = b"", channel: int = MAIN) -> Spoil:
    """An additional message, just after (or before: `-name`) one of that connection."""

    def spoil(wire: Wire) -> Said:
        place = wire.get(host, after.removeprefix("-"), channel)
        time = place.time + (-JUST if after.startswith("-") else JUST)
        wire.said.append(Said(time, place.connection, sender, "planted", MINI.pack(kind, len(body)) + body))
        return wire.said[-1]

    return spoil


def again(host: str, name: str) -> Spoil:
    """The message is sent twice."""

    def spoil(wire: Wire) -> Said:
        one = wire.get(host, name)
        wire.said.append(replace(one, time=one.time + JUST))
        return wire.said[-1]

    return spoil


def bytes_of(host: str, name: str, place: slice, value: bytes, channel: int = MAIN) -> Spoil:
    """Other bytes at a place of the message."""

    def spoil(wire: Wire) -> Said:
        one = wire.get(host, name, channel)
        data = bytearray(one.data)
        data[place] = value
        one.data = bytes(data)
        return one

    return spoil


def other_id(wire: Wire) -> Said:
    """The client links to the target with an id of its own, and the target accepts it."""
    for one in wire.said:
        if wire.hosts[one.connection] == "target" and one.name == "mess":
            one.data = one.data[: CONNECTION_ID.start] + OTHER_ID + one.data[CONNECTION_ID.stop :]
    init = wire.get("target", "MAIN_INIT")
    init.data = init.data[:6] + OTHER_ID + init.data[10:]
    return wire.get("target", "mess")


S, C = Side.SERVER, Side.CLIENT
MODE, PING = MsgMain.SPICE_MSG_MAIN_MOUSE_MODE, MsgBase.SPICE_MSG_PING
END = MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END
CLIENT_END = ("target", "MAIN_MIGRATE_END")
SEMI: Sequence[tuple[str, str, Spoil]] = [
    ("MIG-DST-002", "INIT before MIGRATE_END", moved(("target", "MAIN_INIT"), CLIENT_END)),
    ("MIG-DST-002", "no MIGRATE_END", dropped(*CLIENT_END, ("target", "MAIN_INIT"))),
    ("MAIN-002", "INIT twice at the target", again("target", "MAIN_INIT")),
    ("MAIN-002", "INIT twice at the source", again("source", "MAIN_INIT")),
    ("MIG-CLI-001", "another connection_id", other_id),
    ("CONNID-005", "another session id", bytes_of("target", "MAIN_INIT", slice(6, 10), OTHER_ID)),
    (
        "MIG-SRC-015",
        "END without CONNECTED",
        dropped("source", "MAIN_MIGRATE_CONNECTED", ("source", "MAIN_MIGRATE_END")),
    ),
    ("MIG-CLI-005", "no END of the source", dropped("source", "MAIN_MIGRATE_END", CLIENT_END)),
    ("MIG-CLI-003", "CONNECTED too early", moved(("source", "MAIN_MIGRATE_CONNECTED"), ("target", "result"))),
    ("MIG-DST-003", "the target's main speaks", added("target", "-MAIN_MIGRATE_END", S, PING, bytes(12))),
    ("MIG-DST-004", "PING before INIT", added("target", "-MAIN_INIT", S, PING, bytes(12))),
    ("MIG-SRC-023", "talk after END", added("source", "MAIN_MIGRATE_END", S, MODE, b"\3\0\1\0")),
    ("MIG-CLI-004", "the client's END to the source", added("source", "MAIN_MIGRATE_END", C, END)),
    ("MIG-CLI-013", "a PONG of its own", bytes_of("source", "PONG", slice(6, 10), b"\xaa" * 4)),
    ("CHAN-001", "an unknown message", added("source", "MAIN_CHANNELS_LIST", S, 149, b"??")),
    ("LINK-002", "another version", bytes_of("source", "reply", slice(8, 12), b"\7\0\0\0", DISPLAY)),
]
ASK, ACK = "MAIN_MIGRATE_DST_DO_SEAMLESS", "MAIN_MIGRATE_DST_SEAMLESS_ACK"
SEAMLESS: Sequence[tuple[str, str, Spoil]] = [
    ("MIG-DST-020", "ACK without a request", dropped("target", ASK, ("target", ACK))),
    ("MIG-DST-020", "ACK twice", again("target", ACK)),
    ("MIG-CLI-008", "another version", bytes_of("target", ASK, slice(6, 10), bytes(4))),
    ("MIG-SRC-041", "talk after MIGRATE_DATA", added("source", "MIGRATE_DATA", S, MODE, b"\3\0\1\0")),
    (
        "MIG-SRC-042",
        "MIGRATE_DATA before the mark",
        moved(("source", "MIGRATE_DATA"), ("source", "MIGRATE_FLUSH_MARK"), DISPLAY),
    ),
    ("MIG-SRC-043", "unknown flags", bytes_of("source", "MIGRATE", slice(6, 7), b"\7", DISPLAY)),
    (
        "MIG-CLI-010",
        "other MIGRATE_DATA",
        bytes_of("target", "MIGRATE_DATA", slice(-1, None), b"\xee", DISPLAY),
    ),
    ("MIG-CLI-011", "talk after the mark", added("source", "MIGRATE_FLUSH_MARK", C, 105, bytes(2))),
    ("MIG-CLI-016", "MIGRATE_END for MIGRATE_DATA", added("target", "-MIGRATE_DATA", C, END)),
]
CASES = [
    pytest.param(name, requirement, spoil, id=f"{requirement}: {what}")
    for name, cases in (("semi-seamless", SEMI), ("seamless", SEAMLESS))
    for requirement, what, spoil in cases
]


def judged(wire: Wire, path: Path) -> tuple[dict[int, int], list[tuple[str, int | None]]]:
    frames = wire.write(path)
    inspection = Inspection([path])
    inspection.finish()
    assert inspection.error is None
    return frames, [(found.requirement, found.frame) for found in inspection.findings]


def copied(name: str) -> Wire:
    wire = recorded(name)
    return replace(wire, said=[replace(one) for one in wire.said])


@pytest.mark.parametrize("name", ["semi-seamless", "seamless"])
def test_written_again_nothing_is_broken(name: str, tmp_path: Path) -> None:
    assert judged(copied(name), tmp_path / "same.pcap")[1] == []


@pytest.mark.parametrize(("name", "requirement", "spoil"), CASES)
def test_the_breach_and_no_other(name: str, requirement: str, spoil: Spoil, tmp_path: Path) -> None:
    wire = copied(name)
    breach = spoil(wire)
    frames, findings = judged(wire, tmp_path / "planted.pcap")
    assert findings == [(requirement, frames[id(breach)])]


def test_migrate_data_that_never_comes(tmp_path: Path) -> None:
    """Found at the end of the channel."""
    wire = copied("seamless")
    wire.said = [
        one for one in wire.said if one.name != "MIGRATE_DATA" or wire.channels[one.connection] != DISPLAY
    ]
    assert [requirement for requirement, _ in judged(wire, tmp_path / "a.pcap")[1]] == ["MIG-SRC-047"]
