# SPDX-License-Identifier: GPL-2.0-only
"""The relevant part of captures as one pcapng: SPICE without tunnels and TLS, findings as packet comments.

The captures are read once more: connections have the same numbers each time. Packets are built anew from the
capture's addresses, ports, times and bytes, so that Wireshark's SPICE dissector can read what TLS and
WebSocket carried. A comment names the frame of the capture that it is about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dissectors import capture
from dissectors.capture import Begin, CaptureError, Chunk, End
from dissectors.capture.midstream import turned
from dissectors.capture.pcapng_writer import PcapngWriter
from dissectors.framing.events import ConnectFailed, Ending
from dissectors.rules.inspector import Inspection
from dissectors.wire.constants import Side

APPLICATION = "spice-conform inspect"
Place = tuple[int, int]  # file, frame


def export(inspection: Inspection, path: Path, keylog: Path | None) -> None:
    """Writes the file. Raises OSError."""
    with path.open("wb") as file:
        names = ", ".join(name.name for name in inspection.paths)
        writer = PcapngWriter(file, application=APPLICATION, comment=f"What inspect found in {names}")
        _Export(inspection, writer).run(keylog)


class _Export:
    def __init__(self, inspection: Inspection, writer: PcapngWriter) -> None:
        self._inspection = inspection
        self._writer = writer
        self._wanted = _spice(inspection)
        self._comments = _comments(inspection)
        self._begun: set[int] = set()

    def run(self, keylog: Path | None) -> None:
        """Exports everything; an unreadable place ends the export, as it ended the inspection."""
        try:
            for item in capture.read(self._inspection.paths, keylog=keylog):
                if getattr(item, "connection", None) in self._wanted:
                    self._item(item)
        except CaptureError:
            return

    def _item(self, item: Any) -> None:
        number = item.connection
        if number in self._inspection.source.turned:
            turned(item)
        match item:
            case Begin():
                self._note(item.file, item.frame)
                self._writer.open_connection(
                    number, item.client, item.server, item.time, handshake=not item.midstream
                )
                self._begun.add(number)
            case ConnectFailed():
                self._note(self._inspection.source.files.get(number, 0), item.frame)
                self._writer.attempt(item.client, item.server, item.time)
            case Chunk() if number in self._begun:
                for data, time, frame in item.pieces():
                    self._note(item.file, frame)
                    self._writer.segment(number, item.sender, data, time)
            case capture.Gap() if number in self._begun and item.size:
                self._writer.skip(number, item.sender, item.size)
            case End() if number in self._begun and item.how in (Ending.CLOSED, Ending.RESET):
                self._note(item.file, item.frame)
                self._writer.close_connection(number, item.how, item.by or Side.CLIENT, item.time)

    def _note(self, file: int, frame: int | None) -> None:
        """Attaches the comments about this frame to the next packet."""
        found = self._comments.pop((file, frame), None) if frame is not None else None
        if found:
            self._writer.note("\n".join(found))


def _spice(inspection: Inspection) -> set[int]:
    """The connections of sessions, refused links, and the connection attempts that belong to them."""
    view = inspection.oracle.conversation
    wanted = {connection.number for session in view.sessions for connection in session.connections()}
    wanted |= {known.number for known in view.connections.values() if known.mess is not None}
    story = inspection.as_dict()
    return wanted | {one["connection"] for one in story["attempts"]}


def _comments(inspection: Inspection) -> dict[Place, list[str]]:
    """The comments, by file and frame."""
    comments: defaultdict[Place, list[str]] = defaultdict(list)
    files = inspection.source.files
    for connection, frame, words in _words(inspection.as_dict()):
        if frame is not None:
            place = (files.get(connection, 0), frame)
            text = f"frame {frame}: {words}"
            if text not in comments[place]:
                comments[place].append(text)
    return comments


def _words(story: Mapping[str, Any]) -> Iterator[tuple[int, int | None, str]]:
    for found in story["findings"]:
        words = f"{found['requirement']} {found['level']}: {found['text']} "
        words += f"Expected {found['expected']}; seen: {found['seen']}"
        yield found["connection"] or 0, found["packet"], words
    for found in story["doubtful"]:
        words = f"doubtful: {found['requirement']}: {found['seen']} ({found['why']})"
        yield found["connection"] or 0, found["packet"], words
    for one in story["refused"]:
        yield one["connection"], one["packet"], f"refused: {one['error']} ({one['why']})"
    for one in story["attempts"]:
        yield one["connection"], one["packet"], one["seen"]
    for note in story["notes"]:
        yield note["connection"], note["packet"], note["text"]
