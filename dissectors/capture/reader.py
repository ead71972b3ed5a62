# SPDX-License-Identifier: GPL-2.0-only
"""Captures to events: the capture's ordered bytes through a framer for each connection.

What is lost is sought again (`dissectors.framing.resync`); host events that a recording holds are read back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dissectors import capture
from dissectors.capture import Begin, Chunk, End, HostRecord, Note, Wait
from dissectors.capture.record import Progress
from dissectors.framing.events import Closed, ConnectionEvent, Ending, Event, HostEvent, Opened
from dissectors.framing.framer import NO_QUIET, Framer, Mark
from dissectors.framing.resync import Found, Resync
from dissectors.wire.constants import Side

Quieter = Callable[[int, Side], frozenset[int]]


class EventReader:
    """The events of captures. `reader`: the capture's own counters; `framers`: one for each connection;
    `notes`: what a reader of the capture should know, one line each."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        keylog: Path | None = None,
        follow: Wait | None = None,
        progress: Progress | None = None,
        quiet: Quieter = lambda *_: NO_QUIET,
    ) -> None:
        self.reader = capture.read(paths, keylog=keylog, follow=follow, progress=progress)
        self.framers: dict[int, Framer] = {}
        self.notes: list[str] = []
        self.files: dict[int, int] = {}  # connection -> index of its file
        self._quiet = quiet
        self._speak: dict[int, set[Side]] = {}  # who has said anything, by connection
        self._lost: dict[tuple[int, Side], Resync] = {}
        self._known: dict[tuple[str, str], dict[str, Any]] = {}

    def __iter__(self) -> Iterator[Event]:
        for item in self.reader:
            match item:
                case Chunk():
                    yield from self._chunk(item)
                case Begin():
                    yield from self._begin(item)
                case capture.Gap():
                    yield from self._gap(item)
                case End():
                    yield from self._end(item)
                case HostRecord():
                    yield from self._host(item)
                case ConnectionEvent():
                    yield item
                case Note():
                    self.notes.append(item.text)
        if alone := sum(len(sides) == 1 for sides in self._speak.values()):
            which = "1 connection" if alone == 1 else f"{alone} connections"
            self.notes.append(f"in {which} only one end says anything: the other direction may be missing")

    def _begin(self, item: Begin) -> Iterator[Event]:
        number = item.connection
        self.files[number] = item.file
        self.framers[number] = Framer(number, lambda sender: self._quiet(number, sender))
        known = self._known.pop((str(item.client), str(item.server)), {})
        yield Opened(
            time=item.time,
            frame=item.frame,
            connection=number,
            client=item.client,
            server=item.server,
            tls=item.tls or bool(known.get("tls")),
            host=known.get("host"),
            midstream=item.midstream,
            readable=item.readable,
            via=item.via,
            origin=item.origin,
        )
        if item.midstream:
            for sender in Side:
                yield from self._gap(
                    capture.Gap(time=item.time, frame=item.frame, connection=number, sender=sender, size=None)
                )

    def _chunk(self, item: Chunk) -> Iterator[Event]:
        framer = self.framers[item.connection]
        self._speak.setdefault(item.connection, set()).add(item.sender)
        starts = (0, *item.ends[:-1])
        marks: list[Mark] = list(zip(starts, item.times, item.frames, strict=True))
        lost = self._lost.get((item.connection, item.sender))
        if lost is None:
            yield from framer.stream(item.sender, item.data, marks)
            for sender in Side:
                if framer.lost(sender) and (item.connection, sender) not in self._lost:
                    yield from self._seek(item, sender, marks)
        elif (found := lost.feed(item.data, starts)) is not None:
            yield from self._resume(item, item.sender, found, marks)

    def _seek(self, item: Chunk, sender: Side, marks: Sequence[Mark]) -> Iterator[Event]:
        """A direction has just lost its boundary: look for one in what it has left."""
        framer = self.framers[item.connection]
        lost = Resync(framer.channel, sender, framer.known_header)
        self._lost[item.connection, sender] = lost
        left = framer.spilled(sender)
        before = len(item.data) - len(left) if sender is item.sender else 0
        starts = {0, *(at - before for at, *_ in marks if at > before)} if sender is item.sender else {0}
        if left and (found := lost.feed(left, sorted(starts))) is not None:
            yield from self._resume(item, sender, found, marks if sender is item.sender else marks[-1:])

    def _resume(self, item: Chunk, sender: Side, found: Found, marks: Sequence[Mark]) -> Iterator[Event]:
        """A boundary was found: on from there."""
        framer = self.framers[item.connection]
        del self._lost[item.connection, sender]
        framer.resume(found.channel, mini=found.mini, sender=sender)
        behind = len(found.data) - len(item.data)
        shifted: list[Mark] = [(max(0, at + behind), time, frame) for at, time, frame in marks]
        yield from framer.stream(sender, found.data, [(0, *shifted[0][1:]), *shifted[1:]])

    def _gap(self, item: capture.Gap) -> Iterator[Event]:
        framer = self.framers[item.connection]
        yield from framer.gap(item.sender, item.size, item.time, item.frame)
        for sender in Side:
            if framer.lost(sender) and (sender is item.sender or (item.connection, sender) not in self._lost):
                self._lost[item.connection, sender] = Resync(framer.channel, sender, framer.known_header)

    def _end(self, item: End) -> Iterator[Event]:
        yield from self.framers[item.connection].end(item.time, item.frame)
        how = item.how or Ending.TIMEOUT
        if item.how is not None:
            yield Closed(time=item.time, frame=item.frame, connection=item.connection, how=how, by=item.by)

    def _host(self, item: HostRecord) -> Iterator[Event]:
        fields = item.fields
        if opened := fields.get("SPICE_OPENED"):
            known = _json(opened)
            self._known[str(known.get("client")), str(known.get("server"))] = known
        elif "SPICE_NAME" in fields:
            clock = fields.get("SPICE_CLOCK_MS")
            yield HostEvent(
                time=item.time,
                frame=item.frame,
                host=fields.get("SPICE_HOST", ""),
                name=fields["SPICE_NAME"],
                args=_json(fields.get("SPICE_ARGS", "{}")),
                clock_ms=float(clock) if clock else None,
            )


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def events(paths: Sequence[Path], *, keylog: Path | None = None) -> Iterator[Event]:
    """Every event of captures, one for each message. Raises CaptureError at the end of what can be read."""
    yield from EventReader(paths, keylog=keylog)
