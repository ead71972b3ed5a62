# SPDX-License-Identifier: GPL-2.0-only
"""Requirements that tests of a live server prove, and that packets alone can show to be broken: the smallest
change of a recording breaks each of them, and a smaller change does not."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import pytest

from dissectors.capture.reader import events
from dissectors.framing.events import Closed, Ending, Endpoint, Event, HostEvent, LinkBytes, Message, Opened
from dissectors.rules.oracle import Oracle
from dissectors.wire.constants import ChannelType, LinkErr, MsgBase, MsgcBase, MsgcMain, MsgMain, Side
from dissectors.wire.link_packets import SpiceLinkMess, SpiceLinkReply
from fixtures.captures import DIRECTORY

DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
LATER_S = 10.0
WINDOW = 4


@cache
def recording(name: str) -> tuple[Event, ...]:
    return tuple(events([DIRECTORY / f"{name}.pcapng.gz"]))


def broken(every: Sequence[Event]) -> set[str]:
    oracle = Oracle()
    for event in sorted(every, key=lambda event: event.time):
        oracle.observe(event)
    return set(oracle.close().broken)


def first(every: Sequence[Event], wanted: Callable[[Event], bool]) -> Event:
    return next(event for event in every if wanted(event))


def target_data() -> Message:
    """The client's MIGRATE_DATA on the target's main channel."""
    found = first(
        recording("seamless"),
        lambda e: (
            isinstance(e, Message)
            and e.channel == ChannelType.SPICE_CHANNEL_MAIN
            and e.sender is Side.CLIENT
            and e.type == MsgcBase.SPICE_MSGC_MIGRATE_DATA
        ),
    )
    assert isinstance(found, Message)
    return found


def after_data(keep: Callable[[Message], bool], closed: float = LATER_S) -> list[Event]:
    """The seamless migration with those of the server's messages that come after main's MIGRATE_DATA, and the
    end so much later."""
    data = target_data()
    kept: list[Event] = []
    for event in recording("seamless"):
        if isinstance(event, Message) and event.sender is Side.SERVER and event.time > data.time:
            if not keep(event):
                continue
        if isinstance(event, Closed) and event.time > data.time:
            event = replace(event, time=event.time + closed)
        kept.append(event)
    return kept


def is_time(message: Message) -> bool:
    return message.channel == 1 and message.type == MsgMain.SPICE_MSG_MAIN_MULTI_MEDIA_TIME


def test_a_target_without_the_multimedia_time() -> None:
    assert broken(after_data(lambda message: True)) == set()
    assert broken(after_data(lambda message: not is_time(message))) == {"MIG-DST-025"}
    assert broken(after_data(lambda message: not is_time(message), closed=1.0)) == set()


def test_a_target_that_falls_silent() -> None:
    assert broken(after_data(lambda message: False)) == {"MIG-DST-024"}
    assert broken(after_data(lambda message: False, closed=1.0)) == set()


@pytest.mark.parametrize("asked", [False, True])
def test_a_target_that_ends_the_session(asked: bool) -> None:
    """The target may end a session for what its client says after MIGRATE_DATA, not without reason."""
    data = target_data()
    every = [
        replace(e, time=data.time + 0.01, by=Side.SERVER, how=Ending.CLOSED)
        if isinstance(e, Closed) and e.connection == data.connection
        else e
        for e in after_data(lambda message: False)
    ]
    request = int(MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST)
    asks = replace(data, time=data.time + 0.005, type=request, body=b"\1\0", size=2)
    assert ("MIG-DST-024" in broken([*every, asks] if asked else every)) != asked


def test_main_alone_falls_silent() -> None:
    """Releases before 0.14.3 owe nothing on main after MIGRATE_DATA: its silence ends no session."""
    main = {
        e.connection
        for e in recording("seamless")
        if isinstance(e, LinkBytes) and e.channel == ChannelType.SPICE_CHANNEL_MAIN
    }
    every = [e for e in after_data(lambda message: False) if getattr(e, "connection", None) in main]
    assert broken(every) == {"MIG-DST-025"}


def display(every: Sequence[Event]) -> int:
    """The source's display connection."""
    link = first(every, lambda e: isinstance(e, LinkBytes) and e.kind == "result" and e.channel == DISPLAY)
    assert isinstance(link, LinkBytes)
    return link.connection


@pytest.mark.parametrize(("more", "wanted"), [(0, set()), (1, {"CHAN-006"})])
def test_more_than_two_windows(more: int, wanted: set[str]) -> None:
    """A small window after which the server sends as if there was a larger one. One message to spare: a
    channel that begins may have one on its way."""
    every = recording("semi-seamless")
    number = display(every)
    shown = next(
        e
        for e in every
        if isinstance(e, Message) and e.connection == number and e.name == "SPICE_MSG_DISPLAY_MARK"
    )
    asked = replace(shown, type=int(MsgBase.SPICE_MSG_SET_ACK), body=struct.pack("<II", 77, WINDOW), size=8)
    draws = [replace(shown, time=shown.time + n * 1e-9) for n in range(2 * WINDOW + 2 + more)]
    after = [e for e in every if e.time > shown.time and getattr(e, "connection", None) == number]
    rest = [e for e in every if e not in after and e is not shown]
    ends = [e for e in after if isinstance(e, Closed)]
    begun = replace(asked, time=shown.time - 1e-9)
    assert broken([*rest, begun, *draws, *ends]) == wanted


def refused(error: LinkErr) -> list[Event]:
    """The source's display link ends with an error, and is closed."""
    every = recording("semi-seamless")
    number, changed = display(every), list[Event]()
    for event in every:
        if getattr(event, "connection", None) != number:
            changed.append(event)
        elif isinstance(event, LinkBytes):
            if event.kind == "result":
                event = replace(event, raw=struct.pack("<I", error))
                changed += [event, ended(event)]
            else:
                changed.append(event)
        elif not isinstance(event, Message | Closed):
            changed.append(event)
    return changed


def ended(event: LinkBytes) -> Closed:
    """The server closes the connection then."""
    return Closed(
        time=event.time + 1e-9,
        connection=event.connection,
        how=Ending.CLOSED,
        by=Side.SERVER,
        frame=event.frame,
    )


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (LinkErr.SPICE_LINK_ERR_ERROR, {"MAIN-011"}),
        (LinkErr.SPICE_LINK_ERR_CHANNEL_NOT_AVAILABLE, {"MAIN-011"}),
        (LinkErr.SPICE_LINK_ERR_BAD_CONNECTION_ID, {"CONNID-002"}),
        (LinkErr.SPICE_LINK_ERR_PERMISSION_DENIED, set()),
    ],
)
def test_a_listed_channel_that_is_refused(error: LinkErr, wanted: set[str]) -> None:
    assert broken(refused(error)) == wanted


def test_a_listed_channel_that_is_closed_without_a_reply() -> None:
    every = recording("semi-seamless")
    number, changed = display(every), list[Event]()
    for event in every:
        if getattr(event, "connection", None) != number:
            changed.append(event)
        elif isinstance(event, LinkBytes) and event.kind == "mess":
            changed += [event, ended(event)]
        elif not isinstance(event, LinkBytes | Message | Closed):
            changed.append(event)
    assert broken(changed) == {"MAIN-011"}


@pytest.mark.parametrize("incoming", [True, False])
def test_an_id_that_is_refused(incoming: bool) -> None:
    """A host that waits for a migration must accept the source's id; another host need not know it."""
    server = Endpoint("127.0.0.1", 5900)
    opened = Opened(
        time=1.0, connection=1, client=Endpoint("127.0.0.1", 40000), server=server, tls=False, host="one"
    )
    mess = bytes(SpiceLinkMess(connection_id=0x8A000001, channel_type=1, common_caps=[9], channel_caps=[]))
    parts = [
        ("mess", Side.CLIENT, mess),
        ("reply", Side.SERVER, bytes(SpiceLinkReply(error=0))),
        ("result", Side.SERVER, struct.pack("<I", LinkErr.SPICE_LINK_ERR_BAD_CONNECTION_ID)),
    ]
    result: list[Event] = [
        HostEvent(time=0.5, host="one", name="configured", args={"incoming": incoming}),
        opened,
    ]
    result += [
        LinkBytes(time=2.0 + n, connection=1, sender=side, kind=kind, raw=raw, channel=1)
        for n, (kind, side, raw) in enumerate(parts)
    ]
    assert ("MIG-DST-001" in broken(result)) == incoming
