# SPDX-License-Identifier: GPL-2.0-only
"""The tape: order, endings, and that a capture of it tells the same story."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dissectors import capture
from dissectors.constants import Side
from dissectors.events import Closed, ConnectionEvent, Ending, Endpoint, Event, HostEvent, Opened
from dissectors.framing import Framer
from dissectors.rules.oracle import judge
from fixtures.certificates import Authority
from fixtures.hosts import Settings
from fixtures.library import LibraryLauncher
from fixtures.peer import Client, Pump
from fixtures.peer.transport import trusting
from fixtures.recording import Tape

CLIENT, SERVER = Endpoint("127.0.0.1", 50_000), Endpoint("127.0.0.1", 5900)
CANCEL = b"\x66\x00\x00\x00\x00\x00"


def event(name: str, time: float, host: str = "source") -> HostEvent:
    return HostEvent(time=time, host=host, name=name)


def test_order_is_that_of_times_then_of_recording() -> None:
    tape = Tape()
    opened = tape.opened(CLIENT, SERVER, 1.0, host="source")
    tape.closed(opened.connection, Ending.CLOSED, 3.0, by=Side.CLIENT)
    tape.host_event(event("late", 3.0))
    tape.host_event(event("early", 0.5))  # read later than it happened
    assert [tape.describe(e) for e in tape.events()] == [
        "source early",
        "#1 opened to source",
        "#1 closed by the client",
        "source late",
    ]
    assert tape.last(1) == "source late"


@pytest.mark.parametrize(
    ("ended", "died", "host", "how"),
    [
        (3.00, 3.01, "source", Ending.DIED),  # the socket tells before the parent knows
        (3.02, 3.01, "source", Ending.DIED),
        (2.00, 3.01, "source", Ending.RESET),  # that was something else
        (3.00, 3.01, "target", Ending.RESET),
    ],
)
def test_a_death_explains_the_endings_it_caused(ended: float, died: float, host: str, how: Ending) -> None:
    tape = Tape()
    opened = tape.opened(CLIENT, SERVER, 1.0, host="source")
    tracks = tape.tracks[opened.connection]
    if ended < died:
        tape.closed(opened.connection, Ending.RESET, ended, by=Side.SERVER)
    tape.host_event(event("died", died, host))
    tape.closed(opened.connection, Ending.RESET, ended, by=Side.SERVER)
    assert tracks.closed
    assert tracks.closed.how is how


def test_a_host_that_was_started_anew_is_not_dead() -> None:
    tape = Tape()
    tape.host_event(event("died", 1.0))
    tape.host_event(event("configured", 2.0))
    number = tape.opened(CLIENT, SERVER, 3.0, host="source").connection
    assert tape.closed(number, Ending.CLOSED, 4.0, by=Side.SERVER).how is Ending.CLOSED


def test_the_first_end_counts() -> None:
    tape = Tape()
    number = tape.opened(CLIENT, SERVER, 1.0).connection
    tape.closed(number, Ending.CLOSED, 2.0, by=Side.SERVER)
    assert tape.closed(number, Ending.RESET, 3.0, by=Side.CLIENT).how is Ending.CLOSED
    assert [e.time for e in tape.events() if isinstance(e, Closed)] == [2.0]


# ---- the same story from the packets alone


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tape(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tape]:
    """A semi-seamless migration, with a link that is refused on the way."""
    certificate = Authority(tmp_path).server() if request.param else None
    settings = Settings(ticket="s3cret", tls=certificate.settings() if certificate else None)
    with LibraryLauncher() as launcher, Pump() as pump:
        source = launcher.start("source", settings)
        target = launcher.start("target", replace(settings, incoming=True))
        pump.add_host(source)
        pump.add_host(target)
        trust = trusting(certificate.ca) if certificate else None
        client = Client(pump, source, password="s3cret", tls=trust)
        client.open()
        source.announce(target)
        pump.settle()
        source.complete(target)
        pump.until(lambda: client.left)
        pump.settle()
        client.close()
        pump.settle()
        yield pump.tape


def read_back(path: Path) -> list[Event]:
    """The events of a recording, from its packets and journal entries."""
    framers: dict[int, Framer] = {}
    told: dict[str, dict[str, object]] = {}
    events: list[Event] = []
    for item in capture.read([path]):
        match item:
            case capture.HostRecord(fields={"SPICE_OPENED": known}):
                told[json.loads(known)["client"]] = json.loads(known)
            case capture.HostRecord(fields={"SPICE_HOST": host, "SPICE_NAME": name, "SPICE_ARGS": args}):
                clock = item.fields.get("SPICE_CLOCK_MS")
                events.append(
                    HostEvent(
                        time=item.time,
                        host=host,
                        name=name,
                        args=json.loads(args),
                        clock_ms=float(clock) if clock else None,
                    )
                )
            case capture.Begin():
                framers[item.connection] = Framer(item.connection)
                known_of = told[str(item.client)]
                events.append(
                    Opened(
                        time=item.time,
                        connection=item.connection,
                        client=item.client,
                        server=item.server,
                        host=known_of["host"],  # type: ignore[arg-type]
                        tls=bool(known_of["tls"]),
                    )
                )
            case capture.Chunk():
                for data, time, _ in item.pieces():
                    events += framers[item.connection].feed(item.sender, data, time)
            case capture.End():
                events += framers[item.connection].end(item.time)
                events.append(
                    Closed(
                        time=item.time, connection=item.connection, how=item.how or Ending.TIMEOUT, by=item.by
                    )
                )
    return events


def told(events: list[Event]) -> list[Event]:
    """Without what a capture cannot keep (times in one clock), and connections numbered as they appear."""
    numbers: dict[int, int] = {}
    out: list[Event] = []
    for e in events:
        if isinstance(e, ConnectionEvent):
            e = replace(e, connection=numbers.setdefault(e.connection, len(numbers) + 1))
        if isinstance(e, HostEvent):
            e = replace(e, args=json.loads(json.dumps(dict(e.args))))
        out.append(replace(e, time=0.0))
    return out


def of(connection: int, events: list[Event]) -> list[Event]:
    return [e for e in events if isinstance(e, ConnectionEvent) and e.connection == connection]


def test_the_capture_tells_the_same(tape: Tape, tmp_path: Path) -> None:
    path = tmp_path / "recording.pcapng"
    tape.write_pcapng(path)
    again = read_back(path)
    live, back = told(tape.events()), told(again)
    assert [e for e in back if isinstance(e, HostEvent)] == [e for e in live if isinstance(e, HostEvent)]
    for number in sorted(tape.tracks):
        of = [
            [e for e in es if isinstance(e, ConnectionEvent) and e.connection == number]
            for es in (live, back)
        ]
        assert of[0] == of[1]
    assert judge(again).broken == judge(tape.events()).broken
    assert b"s3cret" not in path.read_bytes()


@pytest.mark.skipif(not shutil.which("tshark"), reason="no tshark on this machine")
def test_wireshark_reads_the_capture(tape: Tape, tmp_path: Path) -> None:
    path = tmp_path / "recording.pcapng"
    tape.write_pcapng(path)
    messages = wireshark(path, "-T", "fields", "-e", "systemd_journal.message")
    assert "source: migrate_end_complete" in messages
    assert not wireshark(path, "-Y", "tcp.analysis.flags")  # as from a faultless network


def wireshark(path: Path, *options: str) -> str:
    done = subprocess.run(["tshark", "-r", str(path), *options], capture_output=True, text=True, check=True)
    return str(done.stdout)
