# SPDX-License-Identifier: GPL-2.0-only
"""Reads pcap and pcapng files into ordered bytes: the chunks of each direction of each SPICE connection.

`read` yields the items (`capture_items`) of one or several files in the order of their times. It reassembles
IP fragments and TCP segments, decrypts TLS with known secrets, unwraps WebSocket, and reports missing bytes.
`write` makes pcapng files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence, Set
from heapq import merge
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from dissectors.capture.capture_files import CaptureFile
from dissectors.capture.capture_items import (
    AnyItem,
    Begin,
    CaptureError,
    CaptureItem,
    Chunk,
    End,
    Gap,
    HostRecord,
    Note,
    Wait,
)
from dissectors.capture.pcapng_reader import journal_fields, journal_object
from dissectors.capture.reading_notes import link_name, reading_notes, unread_tls
from dissectors.capture.record import JOURNAL, SECRETS, Progress, Record
from dissectors.capture.stream_context import StreamContext, StreamStage, announced
from dissectors.capture.streams import Opening
from dissectors.capture.tcp import Reassembler
from dissectors.capture.tcp_connections import ENDED
from dissectors.capture.tls_keylog import KeyLog
from dissectors.framing.events import AttemptFailure, ConnectFailed, ConnectionEvent

__all__ = [
    "AnyItem",
    "Begin",
    "Capture",
    "CaptureError",
    "CaptureItem",
    "Chunk",
    "End",
    "Gap",
    "HostRecord",
    "Note",
    "Wait",
    "read",
]


MERGED = 256  # records of several files that are passed on at a time


class Capture(Iterator[AnyItem]):
    """One reading of one or several files; an iterator of items.

    Where a file is damaged, cut, empty or no capture, CaptureError is raised after everything that could be
    read. `drop` ignores the rest of a connection. The counters are up to date at any moment.
    """

    def __init__(
        self, paths: Sequence[Path], keylog: Path | None, follow: Wait | None, progress: Progress | None
    ) -> None:
        if follow is not None and len(paths) != 1:
            raise CaptureError("only one capture at a time can be followed")
        self._errors: list[CaptureError] = []
        self._tcp = Reassembler()
        self._context = StreamContext(KeyLog(keylog), self.drop, self._is_own, opening=Opening)
        self._files: list[CaptureFile] = []
        for index, path in enumerate(paths):
            self._files.append(CaptureFile(path, index, follow, progress))
        self._stages: dict[int, StreamStage] = {}
        self._recorded: dict[tuple[int, str, str], dict[str, Any]] = {}  # by file and the connection's ends
        self._ended: deque[int] = deque()  # connections whose last bytes may still come
        self._items = self._run()

    def __next__(self) -> AnyItem:
        return next(self._items)

    @property
    def packets(self) -> int:
        """The number of packets read so far."""
        return self._tcp.packets

    @property
    def bytes(self) -> int:
        """The number of bytes that these packets had on the wire."""
        return self._tcp.bytes

    @property
    def seconds(self) -> float:
        """Seconds from the first record to the last one so far."""
        starts = [file.first for file in self._files if file.first is not None]
        return max(max(file.last for file in self._files) - min(starts), 0.0) if starts else 0.0

    @property
    def streams(self) -> int:
        """The number of TCP connections so far."""
        return self._tcp.connections.count

    @property
    def other_streams(self) -> int:
        """The number of TCP connections that carry no SPICE."""
        return self._context.other_streams

    @property
    def failed_streams(self) -> int:
        """The number of connection attempts that failed."""
        return self._tcp.connections.failed

    @property
    def mixed(self) -> Set[int]:
        """Files (by index) that show a connection's two directions in another order than on the wire."""
        return self._tcp.mixed

    @property
    def several(self) -> Set[int]:
        """Files (by index) with packets of several interfaces, whose times need not agree."""
        return {index for index, file in enumerate(self._files) if file.several_interfaces}

    def drop(self, connection: int) -> None:
        """Ignores the rest of this connection (it is no SPICE)."""
        self._tcp.connections.ignore(connection)
        self._stages.pop(connection, None)

    def _is_own(self, file: int) -> bool:
        return self._files[file].own

    def _run(self) -> Iterator[AnyItem]:
        readers = [self._batches(file) for file in self._files]
        for item in self._tcp.items(readers[0] if len(readers) == 1 else _merged(readers)):
            if isinstance(item, tuple):
                yield from self._record(item)
            else:
                yield from self._item(item)
        for last in self._tcp.finish(max((file.last for file in self._files), default=0.0)):
            yield from self._item(last)
        end = max((file.last for file in self._files), default=0.0)
        for text in self._notes():
            yield Note(text=text, time=end, frame=0)
        self._complain()

    def _notes(self) -> Iterator[str]:
        """Raises the errors of the files, after all other items."""
        for file in self._files:
            if file.broken_off:
                yield f"{file.name}: the following ended in the middle of a record"
        yield from reading_notes(self._tcp.finder, self.packets)
        yield from unread_tls(self._context.tls_unread)

    def _batches(self, file: CaptureFile) -> Iterator[list[Record]]:
        """The records of a file; its error is kept until all other items have been yielded."""
        try:
            yield from file.batches()
        except CaptureError as error:
            self._errors.append(error)

    def _record(self, record: Record) -> Iterator[AnyItem]:
        time, frame, kind, buffer, start, end, _, file = record
        if kind == SECRETS:
            self._context.keys.add(buffer[start:end])
        elif kind == JOURNAL:
            fields = journal_fields(buffer[start:end])
            if self._is_own(file) and "SPICE_OPENED" in fields:
                opened = journal_object(fields["SPICE_OPENED"])
                self._recorded[file, str(opened.get("client")), str(opened.get("server"))] = opened
            yield HostRecord(time=time, frame=frame, file=file, fields=fields)

    def _item(self, item: AnyItem) -> Iterator[AnyItem]:
        if isinstance(item, Begin):
            item.recorded = self._recorded.pop((item.file, str(item.client), str(item.server)), None)
            self._stages[item.connection] = Opening(item, self._context)
            if item.recorded is not None:
                yield from announced(item)
        elif isinstance(item, Chunk | Gap | End) and (stage := self._stages.get(item.connection)):
            yield from stage.feed(item)
            if isinstance(item, End):
                self._ended.append(item.connection)
                if len(self._ended) > ENDED:
                    self._stages.pop(self._ended.popleft(), None)
        elif isinstance(item, ConnectionEvent):
            if isinstance(item, ConnectFailed) and item.how in (
                AttemptFailure.REFUSED,
                AttemptFailure.UNANSWERED,
            ):
                self._stages.pop(item.connection, None)
            yield item

    def _complain(self) -> None:
        """Raises the error of the input as a whole, after all other items."""
        unsupported = sorted(self._tcp.finder.unsupported)
        if self._errors:
            raise self._errors[0]
        if unsupported and not self._tcp.connections.count:
            noun = "link type" if len(unsupported) == 1 else "link types"
            numbers = ", ".join(map(link_name, unsupported))
            advice = "capture on an Ethernet interface or with tcpdump -i any"
            raise CaptureError(f"no packet could be read: {noun} {numbers}; {advice}")
        context = self._context
        if context.keys.path is not None and context.tls_unfit and not context.tls_opened:
            raise CaptureError(f"{context.keys.path}: fits none of the {context.tls_unfit} TLS connections")


def _merged(readers: Sequence[Iterator[list[Record]]]) -> Iterator[list[Record]]:
    """The records of several files in the order of their times."""
    records = merge(*map(chain.from_iterable, readers), key=itemgetter(0))
    while batch := list(islice(records, MERGED)):
        yield batch


def read(
    paths: Sequence[Path],
    *,
    keylog: Path | None = None,
    follow: Wait | None = None,
    progress: Progress | None = None,
) -> Capture:
    """Read captures (pcap or pcapng, plain, gzip, xz or bzip2; "-" is standard input) as one.

    `keylog`: TLS secrets (SSLKEYLOGFILE), besides those in the captures. `follow`: the file grows or is a
    pipe; the function is called whenever there is nothing new, waits a while and returns whether to continue.
    `progress`: called with the bytes read and the size of the file, if it has one. CaptureError (one line)
    if a file cannot be opened.
    """
    return Capture(paths, keylog, follow, progress)
