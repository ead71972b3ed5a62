# SPDX-License-Identifier: GPL-2.0-only
"""Planted faults for the client's requirements: a real conversation, recorded once, changed event by event.

The relay cannot plant these: the server would answer the changed message. So the recording is changed
instead, and the oracle must find the client's breach and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from dissectors.framing.events import ConnectionEvent, Event, HostEvent, LinkBytes, Message, Opened
from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import Finding
from dissectors.rules.oracle import judge
from dissectors.wire.constants import (
    ChannelType,
    MainCap,
    MsgBase,
    MsgcBase,
    MsgcInputs,
    MsgcMain,
    MsgMain,
    Side,
)
from fixtures.library import LibraryLauncher
from fixtures.peer import Client, Pump
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Settings

MAIN, INPUTS = ChannelType.SPICE_CHANNEL_MAIN, ChannelType.SPICE_CHANNEL_INPUTS
OLD_CLIENT = EVERYTHING.without(
    MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE, MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE
)
CONNECTION_ID = slice(16, 20)  # in a SpiceLinkMess
Events = list[Event]
Spoil = Callable[[Events], Events]


@dataclass(frozen=True)
class Which:
    """An event of a recording: the first with this name on this channel of this host."""

    name: str  # a message's, or the kind of a link packet
    host: str = "source"
    channel: int = MAIN

    def at(self, events: Events) -> int:
        hosts = {e.connection: e.host for e in events if isinstance(e, Opened)}
        channels = {
            e.connection: e.packet.channel_type
            for e in events
            if isinstance(e, LinkBytes) and e.kind == "mess"
        }
        for index, event in enumerate(events):
            if not isinstance(event, LinkBytes | Message):
                continue
            name = event.kind if isinstance(event, LinkBytes) else event.name
            if (name, hosts[event.connection], channels[event.connection]) == (
                self.name,
                self.host,
                self.channel,
            ):
                return index
        raise LookupError(f"no {self} in the recording")


#: What only the real client shows: suites/interop plants their faults.
SHOWN_BY_SPICE_GTK = {"MIG-CLI-022", "MIG-CLI-023"}


def waited(which: Which, seconds: float) -> Spoil:
    """This event and all later ones come later."""

    def spoil(events: Events) -> Events:
        at = which.at(events)
        return [*events[:at], *(replace(event, time=event.time + seconds) for event in events[at:])]

    return spoil


def moved(which: Which, before: Which) -> Spoil:
    """The event comes right before another one."""

    def spoil(events: Events) -> Events:
        event, then = events[which.at(events)], events[before.at(events)]
        rest = [e for e in events if e is not event]
        rest.insert(rest.index(then), replace(event, time=then.time))
        return rest

    return spoil


def said(after: Which, *what: tuple[int, bytes], sender: Side = Side.CLIENT) -> Spoil:
    """Additional messages on a connection, right after one of its events."""

    def spoil(events: Events) -> Events:
        index = after.at(events)
        place = events[index]
        assert isinstance(place, ConnectionEvent)
        new = [
            Message(
                time=place.time,
                connection=place.connection,
                sender=sender,
                channel=after.channel,
                type=int(kind),
                body=body,
                size=len(body),
            )
            for kind, body in what
        ]
        return [*events[: index + 1], *new, *events[index + 1 :]]

    return spoil


def altered(which: Which, **fields: object) -> Spoil:
    """Other values in the fields of an event."""

    def spoil(events: Events) -> Events:
        index = which.at(events)
        return [*events[:index], replace(events[index], **fields), *events[index + 1 :]]  # type: ignore[arg-type]

    return spoil


def linked_with(connection_id: bytes, which: Which) -> Spoil:
    """A link message with another connection_id."""

    def spoil(events: Events) -> Events:
        event = events[which.at(events)]
        assert isinstance(event, LinkBytes)
        raw = bytearray(event.raw)
        raw[CONNECTION_ID] = connection_id
        return altered(which, raw=bytes(raw))(events)

    return spoil


def without(which: Which) -> Spoil:
    """The event is left out."""
    return lambda events: [e for i, e in enumerate(events) if i != which.at(events)]


def cut_before(which: Which) -> Spoil:
    """The event is left out, and so is everything that its host's connections sent after it."""

    def spoil(events: Events) -> Events:
        index = which.at(events)
        hosts = {e.connection: e.host for e in events if isinstance(e, Opened)}
        gone = {number for number, host in hosts.items() if host == which.host}
        return events[:index] + [
            e for e in events[index:] if not (isinstance(e, ConnectionEvent) and e.connection in gone)
        ]

    return spoil


def later(which: Which, seconds: float) -> Spoil:
    """This event and all later ones come this much later."""

    def spoil(events: Events) -> Events:
        index = which.at(events)
        return events[:index] + [replace(e, time=e.time + seconds) for e in events[index:]]

    return spoil


def both(first: Spoil, second: Spoil) -> Spoil:
    """Several changes, one after the other."""
    return lambda events: second(first(events))


def watched_for(seconds: float) -> Spoil:
    """The recording goes on for this time after its last event."""

    def spoil(events: Events) -> Events:
        return [*events, HostEvent(time=events[-1].time + seconds, host="source", name="settled")]

    return spoil


LIST = Which("SPICE_MSG_MAIN_CHANNELS_LIST")
CONNECTED = Which("SPICE_MSGC_MAIN_MIGRATE_CONNECTED")
SEAMLESS = Which("SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS")
END = Which("SPICE_MSG_MAIN_MIGRATE_END")
CLIENT_END = Which("SPICE_MSGC_MAIN_MIGRATE_END", "target")
ACK = Which("SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK", "target")
QUESTION = Which("SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS", "target")
BROUGHT = Which("SPICE_MSGC_MIGRATE_DATA", "target", INPUTS)
MARK = Which("SPICE_MSGC_MIGRATE_FLUSH_MARK", channel=INPUTS)
INPUTS_INIT = Which("SPICE_MSG_INPUTS_INIT", channel=INPUTS)
TARGET_INPUTS = Which("mess", "target", INPUTS)
TARGET_MESS, TARGET_RESULT = Which("mess", "target"), Which("result", "target")


@dataclass(frozen=True)
class Spoiled:
    """A fault: its conversation, the change, and the other requirements that the same act breaks."""

    name: str
    conversation: str
    spoil: Spoil
    also: tuple[str, ...] = ()


FAULTS: Mapping[str, tuple[Spoiled, ...]] = {
    "MIG-CLI-001": (Spoiled("another id", "semi", linked_with(b"\1\2\3\4", TARGET_MESS)),),
    "MIG-CLI-002": (Spoiled("no answer", "semi", both(without(CONNECTED), later(END, 11))),),
    "MIG-CLI-003": (Spoiled("CONNECTED before the result", "semi", moved(CONNECTED, TARGET_RESULT)),),
    "MIG-CLI-004": (
        Spoiled("no MIGRATE_END", "semi", both(cut_before(CLIENT_END), watched_for(2))),
        Spoiled("MIGRATE_END to the source", "semi", said(LIST, (MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END, b""))),
    ),
    "MIG-CLI-005": (Spoiled("MIGRATE_END too early", "semi", moved(CLIENT_END, END)),),
    "MIG-CLI-006": (Spoiled("the old id", "switch", linked_with(b"\1\2\3\4", TARGET_MESS)),),
    "MIG-CLI-007": (
        Spoiled("before the ACK", "seamless", moved(SEAMLESS, ACK)),
        Spoiled(
            "to a plain BEGIN",
            "semi",
            altered(CONNECTED, type=int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS)),
        ),
    ),
    "MIG-CLI-008": (Spoiled("another version", "seamless", altered(QUESTION, body=b"\0\0\0\0")),),
    "MIG-CLI-009": (
        Spoiled("unasked", "seamless", said(INPUTS_INIT, (MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK, b""))),
    ),
    "MIG-CLI-010": (
        Spoiled("other data", "seamless", altered(BROUGHT, body=b"ICMD\1\0\0\0\7\0")),
        Spoiled(
            "to the source",
            "seamless",
            said(INPUTS_INIT, (MsgcBase.SPICE_MSGC_MIGRATE_DATA, b"ICMD\1\0\0\0\0\0")),
        ),
    ),
    "MIG-CLI-011": (
        Spoiled(
            "a key after the mark",
            "seamless",
            said(MARK, (MsgcInputs.SPICE_MSGC_INPUTS_KEY_DOWN, b"\x1e\0\0\0")),
        ),
    ),
    "MIG-CLI-013": (
        Spoiled("a PONG of no PING", "semi", said(LIST, (MsgcBase.SPICE_MSGC_PONG, b"\7" * 12))),
    ),
    "MIG-CLI-014": (
        Spoiled(
            "another generation",
            "semi",
            both(
                said(INPUTS_INIT, (MsgcBase.SPICE_MSGC_ACK_SYNC, b"\6\0\0\0")),
                said(INPUTS_INIT, (MsgBase.SPICE_MSG_SET_ACK, b"\5\0\0\0\7\0\0\0"), sender=Side.SERVER),
            ),
        ),
    ),
    "MIG-CLI-015": (
        Spoiled(
            "DO_SEAMLESS to the source",
            "semi",
            said(LIST, (MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS, b"\1\0\0\0")),
        ),
    ),
    "MIG-CLI-016": (
        Spoiled(
            "MIGRATE_END after the ACK",
            "seamless",
            said(ACK, (MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END, b"")),
        ),
    ),
    "MIG-CLI-017": (Spoiled("an unknown type", "semi", said(LIST, (399, b""))),),
    "MIG-CLI-018": (
        Spoiled("a short body", "semi", said(LIST, (MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST, b"\1"))),
    ),
    "MIG-CLI-019": (
        Spoiled(
            "eleven messages with ten tokens",
            "semi",
            both(
                said(
                    LIST,
                    (MsgcMain.SPICE_MSGC_MAIN_AGENT_START, b"\12\0\0\0"),
                    *[(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, b"\1")] * 11,
                ),
                said(
                    LIST,
                    (MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS, b"\12\0\0\0"),
                    sender=Side.SERVER,
                ),
            ),
        ),
    ),
    "MIG-CLI-020": (Spoiled("CONNECTED before inputs are linked", "semi", moved(CONNECTED, TARGET_INPUTS)),),
    "MIG-CLI-021": (
        Spoiled(
            "a PING without a PONG",
            "semi",
            both(
                said(Which("SPICE_MSG_MAIN_INIT"), (MsgBase.SPICE_MSG_PING, b"\7" * 12), sender=Side.SERVER),
                waited(LIST, 11.0),
            ),
        ),
    ),
}
CASES = [pytest.param(i, fault, id=f"{i}:{fault.name}") for i, faults in FAULTS.items() for fault in faults]


def record(launcher: LibraryLauncher, kind: str) -> Events:
    """A whole migration by a client that keeps every requirement."""
    settings = Settings(seamless=kind == "seamless")
    hosts = [launcher.start("source", settings), launcher.start("target", replace(settings, incoming=True))]
    source, target = hosts
    with Pump() as pump:
        for host in hosts:
            pump.add_host(host)
        client = Client(pump, source, capabilities=OLD_CLIENT if kind == "switch" else EVERYTHING)
        first = client.open()
        pump.settle()
        source.announce(target)
        pump.settle()
        source.complete(target)
        pump.until(lambda: client.session is not first and client.current.linked, what="the migration")
        pump.settle()
        events = pump.tape.events()
    for host in hosts:
        host.stop()
    return events


@pytest.fixture(scope="module")
def conversations() -> Iterator[dict[str, Events]]:
    """The three good conversations."""
    with LibraryLauncher() as launcher:
        yield {kind: record(launcher, kind) for kind in ("semi", "seamless", "switch")}


def clients(events: Events) -> list[Finding]:
    """The requirements that the client broke."""
    return [f for f in judge(events).findings if CATALOGUE[f.requirement].duty == "client"]


@pytest.mark.parametrize("kind", ["semi", "seamless", "switch"])
def test_good_conversation(conversations: dict[str, Events], kind: str) -> None:
    """A client and a server that keep every requirement have no findings."""
    events = conversations[kind]
    # those of one microsecond are in the order of recording, as in the file
    assert all(one.time - other.time < 1e-6 for one, other in pairwise(events))
    assert judge(events).findings == []


@pytest.mark.parametrize(("requirement", "fault"), CASES)
def test_spoiled(conversations: dict[str, Events], requirement: str, fault: Spoiled) -> None:
    """The oracle finds the breach, the other findings of the same act, and no more."""
    found = {f.requirement for f in clients(fault.spoil(list(conversations[fault.conversation])))}
    assert found == {requirement, *fault.also}


def test_every_duty_has_a_fault() -> None:
    """Every client requirement that is judged has a planted fault."""
    assert FAULTS.keys() == {i for i, r in CATALOGUE.items() if r.duty == "client"} - SHOWN_BY_SPICE_GTK
