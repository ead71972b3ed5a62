# SPDX-License-Identifier: GPL-2.0-only
"""Reads captures into events: passes the ordered bytes through a framer for each connection.

After lost bytes it finds the next message boundary (`dissectors.framing.resync`). It reads back the host
events of a recording.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from heapq import merge
from pathlib import Path

from dissectors import capture
from dissectors.capture import Begin, Chunk, End, HostRecord, Note, Wait
from dissectors.capture.midstream import OTHER, Directory, LateStart, Recognised, turned
from dissectors.capture.pcapng_reader import journal_object
from dissectors.capture.record import Progress
from dissectors.capture.undecrypted_tls import Kept, SealedTls
from dissectors.framing.events import (
    Closed,
    ConnectFailed,
    ConnectionEvent,
    Ending,
    Endpoint,
    Event,
    HostEvent,
    Message,
    Opened,
    WrongProtocol,
)
from dissectors.framing.framer import NO_QUIET, Framer, Mark
from dissectors.framing.resync import KEPT, Found, Resync
from dissectors.wire.constants import ChannelType, MsgcMain, MsgMain, Side

Quieter = Callable[[int, Side], frozenset[int]]
UNKNOWN = Recognised(flip=False)
#: The most connections whose only message may be a MIGRATE_END, kept until the end of the capture.
FAREWELLS = 1000
#: The most failed connections that are reported: to any port, and to the ports of SPICE servers too.
ATTEMPTS, MOST_ATTEMPTS = 2_000, 10_000
_ANNOUNCE = frozenset(
    {
        MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN,
        MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS,
        MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST,
    }
)


class Lost:
    """A direction without a known boundary: the search, and the marks of the bytes that it holds."""

    def __init__(self, resync: Resync) -> None:
        self.resync = resync
        self._fed = 0
        self._marks: deque[Mark] = deque()

    def feed(self, data: bytes, marks: Sequence[Mark]) -> Found | None:
        """More bytes, and when each segment came."""
        self._marks += [(self._fed + at, time, frame) for at, time, frame in marks]
        self._fed += len(data)
        while len(self._marks) > 1 and self._marks[1][0] <= self._fed - KEPT - len(data):
            self._marks.popleft()
        return self.resync.feed(data, [at for at, *_ in marks])

    def marks_of(self, size: int) -> list[Mark]:
        """The marks of the last `size` bytes."""
        begin = self._fed - size
        before = [mark for mark in self._marks if mark[0] <= begin][-1:]
        first: list[Mark] = [(0, time, frame) for _, time, frame in before]
        return first + [(at - begin, time, frame) for at, time, frame in self._marks if at > begin]


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
        self._speak: dict[int, set[Side]] = {}  # connection -> sides that have sent bytes
        self._lost: dict[tuple[int, Side], Lost] = {}
        self._directory = Directory()
        self._late: dict[int, LateStart] = {}  # connections that are not recognised yet
        self._places: dict[int, Recognised] = {}  # results for those that began before the capture
        self._left: list[tuple[LateStart, End | None]] = []  # those with nothing but a MIGRATE_END
        self._clients: dict[int, str] = {}  # connection -> its client's address
        self._arrived: set[str] = set()  # addresses of clients that have come to a target
        self.turned: set[int] = set()  # connections whose two ends were swapped
        self._without_spice = 0
        self._failed = 0  # failed connections
        self.more_failed = 0  # those that are only counted
        self._sealed = SealedTls(self._directory.is_host)
        self._recorded: set[int] = set()  # connections that this project's recorder wrote
        self._died: set[int] = set()  # connections that ended with their server's process

    @property
    def other_streams(self) -> int:
        """TCP connections that carry no SPICE, as far as is known."""
        return self.reader.other_streams + self._without_spice + self._sealed.dropped

    @property
    def mixed(self) -> Set[int]:
        """Files (by index) that show the two directions of a connection in another order than they had."""
        return self.reader.mixed

    @property
    def several(self) -> Set[int]:
        """Files (by index) with packets of several interfaces."""
        return self.reader.several

    def __iter__(self) -> Iterator[Event]:
        for item in self.reader:
            match item:
                case Chunk() | capture.Gap() | End():
                    yield from self._noting_servers(self._item(item))
                case Begin():
                    yield from self._begin(item)
                case HostRecord():
                    yield from self._host(item)
                case ConnectFailed() if not self._matters(item):
                    self.more_failed += 1
                case ConnectionEvent():
                    self._note_speakers(item)
                    yield from self._fact(item)
                case Note():
                    self.notes.append(item.text)
        yield from self._still_late()
        for sealed in self._sealed.rest(tell=not self._directory.servers):
            for kept in sealed:
                yield from self._unseal(kept)
        if alone := sum(len(sides) == 1 for sides in self._speak.values()):
            which = "1 connection" if alone == 1 else f"{alone} connections"
            self.notes.append(f"in {which} only one end says anything: the other direction may be missing")

    def _matters(self, event: ConnectFailed) -> bool:
        """Whether a failed connection is reported: of a port scan, which may have millions, only some are."""
        self._failed += 1
        usual = self._failed <= ATTEMPTS or self._directory.is_port(event.server.port)
        return usual and self._failed - self.more_failed <= MOST_ATTEMPTS

    def _note_speakers(self, item: ConnectionEvent) -> None:
        """Notes the sides that have sent something other than SPICE."""
        sender = getattr(item, "sender", None)
        speakers = set(Side) if isinstance(item, WrongProtocol) or sender is None else {sender}
        if speakers and item.connection in self.framers:
            self._speak.setdefault(item.connection, set()).update(speakers)

    def _fact(self, event: ConnectionEvent) -> Iterator[Event]:
        """Passes on facts about a connection that only the capture layer sees."""
        if not self._sealed.holds(event.connection):
            yield event
            return
        for kept in self._sealed.event(event):
            yield from self._unseal(kept)

    def _unseal(self, kept: Kept) -> Iterator[Event]:
        """Yields the held events of a TLS connection that cannot be decrypted."""
        match kept:
            case Begin():
                yield from self._admit(kept, UNKNOWN)
            case End():
                yield from self._item(kept)
            case _:
                yield kept

    def _begin(self, item: Begin) -> Iterator[Event]:
        if item.midstream and not item.tls:
            self._late[item.connection] = LateStart(item, self._directory)
            return
        if not item.tls:
            self._directory.add_server(item.server)
        elif not item.directed and self._directory.is_server(item.client):
            self.turned.add(item.connection)
            turned(item)
        if item.tls and not item.readable and not self._sealed.begin(item):
            return
        yield from self._admit(item, UNKNOWN)

    def _admit(self, item: Begin, place: Recognised) -> Iterator[Event]:
        """Yields the `Opened` of a connection; where it began before the capture, a gap in each direction."""
        number = item.connection
        self.files[number] = item.file
        self._clients[number] = item.client.host
        self.framers[number] = Framer(number, lambda sender: self._quiet(number, sender))
        recorded = item.recorded or {}
        if item.recorded is not None:
            self._recorded.add(number)
        if recorded.get("died"):
            self._died.add(number)
        yield Opened(
            time=item.time,
            frame=item.frame,
            connection=number,
            client=item.client,
            server=item.server,
            tls=item.tls or bool(recorded.get("tls")),
            host=recorded.get("host"),
            midstream=item.midstream,
            readable=item.readable,
            via=item.via,
            origin=item.origin,
        )
        if item.midstream:
            self._places[number] = place
            for sender in Side:
                lost = capture.Gap(
                    time=item.time, frame=item.frame, connection=number, sender=sender, size=None
                )
                yield from self._gap(lost)

    def _late_item(self, item: Chunk | capture.Gap | End) -> Iterator[Event]:
        """Takes the next item of a connection that is not recognised yet."""
        late = self._late[item.connection]
        place = late.place(final=True) if isinstance(item, End) else late.feed(item)
        if place is not None:
            yield from self._recognise(late, place)
            if isinstance(item, End):
                yield from self._item(item)
        elif isinstance(item, End) and late.farewell is not None and len(self._left) < FAREWELLS:
            self._left.append((late, item))
            del self._late[item.connection]
        elif isinstance(item, End) or late.hopeless(len(self._late)):
            self._give_up(item.connection)

    def _still_late(self) -> Iterator[Event]:
        """At the end of the capture: decides about the connections that are not recognised yet."""
        for late in list(self._late.values()):
            place = late.place(final=True)
            if place is not None:
                yield from self._noting_servers(self._recognise(late, place))
            else:
                self._left.append((late, None))
        for late, end in self._left:
            yield from self._farewell(late, end)

    def _farewell(self, late: LateStart, end: End | None) -> Iterator[Event]:
        """Yields connections whose only message may be a MIGRATE_END, if the client came to a target."""
        number, place = late.begin.connection, late.farewell
        self._late[number] = late
        client = late.begin.server if place is not None and place.flip else late.begin.client
        if place is not None and client.host in self._arrived:
            yield from self._noting_servers(self._recognise(late, place))
            if end is not None:
                yield from self._item(end)
        else:
            self._give_up(number)

    def _recognise(self, late: LateStart, place: Recognised) -> Iterator[Event]:
        """Yields the events of a connection that is SPICE, from the first held byte on."""
        number = late.begin.connection
        del self._late[number]
        if place.flip:
            self.turned.add(number)
            turned(late.begin)
        self._directory.add_server(late.begin.server)
        yield from self._admit(late.begin, place)
        for item in late.items:
            yield from self._item(item)

    def _give_up(self, number: int) -> None:
        """Forgets a connection that is no SPICE."""
        del self._late[number]
        self.reader.drop(number)
        self._without_spice += 1

    def _item(self, item: Chunk | capture.Gap | End) -> Iterator[Event]:
        if item.connection in self._late:
            yield from self._late_item(item)
            return
        if isinstance(item, End) and self._sealed.holds(item.connection):
            self._sealed.end(item)
            return
        if item.connection not in self.framers:
            return  # it is ignored, or not reported
        if item.connection in self.turned:
            turned(item)
        match item:
            case Chunk():
                yield from self._chunk(item)
            case capture.Gap():
                yield from self._gap(item)
            case End():
                yield from self._end(item)

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
        elif (found := lost.feed(item.data, marks)) is not None:
            yield from self._resume(item.connection, item.sender, found, lost)

    def _seek(self, item: Chunk, sender: Side, marks: Sequence[Mark]) -> Iterator[Event]:
        """Looks for a boundary in the rest of a direction that has just lost it."""
        lost = self._look(item.connection, sender)
        left = self.framers[item.connection].spilled(sender)
        if not left:
            return
        before = len(item.data) - len(left) if sender is item.sender else 0
        if sender is item.sender:
            first = [mark for mark in marks if mark[0] <= before][-1:]
            begun = [(0, *mark[1:]) for mark in first]
            begun += [(at - before, time, frame) for at, time, frame in marks if at > before]
        else:
            begun = [(0, *marks[-1][1:])]
        if (found := lost.feed(left, begun)) is not None:
            yield from self._resume(item.connection, sender, found, lost)

    def _look(self, number: int, sender: Side) -> Lost:
        """Begins to look for a boundary, with what is known of the connection."""
        framer, place = self.framers[number], self._places.get(number, UNKNOWN)
        channel = framer.channel or place.channel
        mini = framer.known_header if framer.known_header is not None else place.mini
        found = self._lost[number, sender] = Lost(Resync(channel, sender, mini, trusting=bool(channel)))
        return found

    def _resume(self, number: int, sender: Side, found: Found, lost: Lost) -> Iterator[Event]:
        """Continues from a boundary that was found."""
        framer = self.framers[number]
        del self._lost[number, sender]
        framer.resume(found.channel, mini=found.mini, sender=sender)
        here = framer.stream(sender, found.data, lost.marks_of(len(found.data)))
        other = self._lost.get((number, OTHER[sender]))
        more = other.resync.narrow(found.channel, mini=found.mini) if other is not None else None
        if other is None or more is None:
            yield from here
            return
        there = self._resume(number, OTHER[sender], more, other)  # the held events of both, by their times
        yield from merge(list(here), list(there), key=lambda event: event.time)

    def _gap(self, item: capture.Gap) -> Iterator[Event]:
        framer = self.framers[item.connection]
        yield from framer.gap(item.sender, item.size, item.time, item.frame, cut=item.cut)
        for sender in Side:
            if framer.lost(sender) and (sender is item.sender or (item.connection, sender) not in self._lost):
                self._look(item.connection, sender)

    def _noting_servers(self, events: Iterator[Event]) -> Iterator[Event]:
        """The same events; notes the server's address from each announcement."""
        for event in events:
            yield event
            if not isinstance(event, Message) or event.channel != ChannelType.SPICE_CHANNEL_MAIN:
                continue
            if event.sender is Side.CLIENT and event.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END:
                self._arrived.add(self._clients[event.connection])
            elif event.sender is Side.SERVER and event.type in _ANNOUNCE:
                packet = event.packet
                host = (packet.host or b"").decode("ascii", "replace")
                for port in {int(packet.port), int(packet.sport)} - {0, 0xFFFF}:
                    self._directory.add_server(Endpoint(host, port))

    def _end(self, item: End) -> Iterator[Event]:
        if item.how is None and item.connection in self._recorded:
            return  # it was open when the recorder stopped: nothing is cut
        yield from self.framers[item.connection].end(item.time, item.frame)
        if item.how is not None:
            how = Ending.DIED if item.connection in self._died else item.how
            yield Closed(time=item.time, frame=item.frame, connection=item.connection, how=how, by=item.by)

    def _host(self, item: HostRecord) -> Iterator[Event]:
        fields = item.fields
        if "SPICE_NAME" in fields:
            clock = fields.get("SPICE_CLOCK_MS")
            yield HostEvent(
                time=item.time,
                frame=item.frame,
                host=fields.get("SPICE_HOST", ""),
                name=fields["SPICE_NAME"],
                args=journal_object(fields.get("SPICE_ARGS", "{}")),
                clock_ms=float(clock) if clock else None,
            )


def events(paths: Sequence[Path], *, keylog: Path | None = None) -> Iterator[Event]:
    """Every event of captures, one for each message. Raises CaptureError at the end of what can be read."""
    yield from EventReader(paths, keylog=keylog)
