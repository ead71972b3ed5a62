# SPDX-License-Identifier: GPL-2.0-only
"""The main channel's content, and connection_id: who may join which session."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from dissectors.conversation.connection_states import NOT_BEGUN
from dissectors.conversation.conversation import Connection, Conversation, Migration, Session, link_error
from dissectors.conversation.pairing import goes_there
from dissectors.framing.events import Closed, Ending, LinkBytes, Message
from dissectors.rules.rule_engine import Broken, Kept, Ruling, at_end, check, on
from dissectors.wire.constants import ChannelType, CommonCap, LinkErr, MainCap, MsgMain, Side
from dissectors.wire.enums import MouseMode

#: The most earlier sessions whose ids are compared.
LATEST = 500
#: The most that the multimedia time may deviate from the time passed between two messages, ms.
LATENCY_MS = 10_000
OK = LinkErr.SPICE_LINK_ERR_OK
MAIN = ChannelType.SPICE_CHANNEL_MAIN


@on(Message, MsgMain.SPICE_MSG_MAIN_INIT)
def init(view: Conversation, event: Message) -> Iterator[Ruling]:
    """INIT's fields are valid; its session id is new, or on a target the link message's connection_id."""
    connection = view.connection(event)
    if event.sender is not Side.SERVER or not connection.is_main or event.type != MsgMain.SPICE_MSG_MAIN_INIT:
        return
    packet = event.packet
    if packet.problems():
        return
    session_id = int(packet.session_id)
    modes, mode = int(packet.supported_mouse_modes), int(packet.current_mouse_mode)
    fine = mode in (1, 2) and mode & modes == mode and not modes & ~3
    yield check(
        "MAIN-004", fine, "a current mouse mode among the supported ones", f"modes {modes}, current {mode}"
    )
    yield check(
        "MAIN-005",
        int(packet.agent_connected) in (0, 1),
        "agent_connected 0 or 1",
        int(packet.agent_connected),
    )
    yield check("CONNID-001", session_id != 0, "a session id other than 0", "0")
    if connection.as_target:
        expected = f"0x{connection.connection_id:08x}, the connection_id of the link"
        yield check("CONNID-005", session_id == connection.connection_id, expected, f"0x{session_id:08x}")
    elif connection.host >= 0 and view.hosts[connection.host].ids:
        others = (s for s in islice(reversed(view.sessions), LATEST) if s.id == session_id)
        again = any(
            s.host == connection.host and _lives_on(view, s)
            for s in others
            if s.main is not connection and not _comes_from(connection, s)
        )
        yield check("CONNID-004", not again, "an id that no earlier session had", f"0x{session_id:08x}")


def _comes_from(connection: Connection, source: Session) -> bool:
    """Whether a migration brought its client from that session: both hosts may be behind one address."""
    arrived = connection.session.arrived if connection.session is not None else None
    return arrived is not None and arrived.source is source


def _lives_on(view: Conversation, session: Session) -> bool:
    """Whether the session's server process surely still runs. One that is started again at the same address
    may repeat the ids: released servers do."""
    return bool(view.hosts[session.host].settings) or session.main.closed is None


@on(Message, MsgMain.SPICE_MSG_MAIN_NAME, MsgMain.SPICE_MSG_MAIN_UUID)
def names(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The server sends NAME and UUID only to clients with NAME_AND_UUID, with the configured values."""
    connection = view.connection(event)
    if event.sender is not Side.SERVER or not connection.is_main:
        return
    if (
        event.type not in (MsgMain.SPICE_MSG_MAIN_NAME, MsgMain.SPICE_MSG_MAIN_UUID)
        or connection.mess is None
    ):
        return
    able = MainCap.SPICE_MAIN_CAP_NAME_AND_UUID in connection.client_caps
    yield check("MAIN-006", able, "to clients with NAME_AND_UUID only", event.name)
    settings = view.hosts[connection.host].settings if connection.host >= 0 and event.whole else {}
    if event.type == MsgMain.SPICE_MSG_MAIN_NAME and isinstance(wanted := settings.get("name"), str):
        raw = bytes(event.packet.vm_name)
        seen = raw.removesuffix(b"\0").decode("utf-8", "replace")
        fine = seen == wanted and raw.endswith(b"\0")
        yield check("MAIN-007", fine, f"{wanted!r} with its NUL", repr(raw))
    elif event.type == MsgMain.SPICE_MSG_MAIN_UUID and isinstance(wanted := settings.get("uuid"), str):
        seen = bytes(event.packet.uuid).hex()
        yield check("MAIN-007", seen == wanted, wanted, seen)


@on(Message, MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED, MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS)
def agent(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The client's capability decides which message announces the agent's arrival."""
    connection = view.connection(event)
    if event.sender is not Side.SERVER or not connection.is_main or connection.mess is None:
        return
    able = MainCap.SPICE_MAIN_CAP_AGENT_CONNECTED_TOKENS in connection.client_caps
    if event.type == MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS:
        yield check("MAIN-009", able, "AGENT_CONNECTED: the client has no AGENT_CONNECTED_TOKENS", event.name)
    elif event.type == MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED:
        yield check("MAIN-009", not able, "AGENT_CONNECTED_TOKENS: the client can take it", event.name)


@at_end
def talked(view: Conversation) -> Iterator[Ruling]:
    """At the end: each side that sent messages on main kept the order (the order table finds breaches)."""
    for session in view.sessions:
        if session.main.certain and session.main.messages[Side.SERVER]:
            yield Kept("MAIN-003")
        if session.main.certain and session.main.messages[Side.CLIENT]:
            yield Kept("MIG-CLI-015")


@on(Message, MsgMain.SPICE_MSG_MAIN_MOUSE_MODE)
def mouse(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The current mouse mode is one of the supported ones."""
    if (
        event.sender is Side.SERVER
        and event.channel == MAIN
        and event.type == MsgMain.SPICE_MSG_MAIN_MOUSE_MODE
    ):
        modes, mode = int(event.packet.supported_modes), int(event.packet.current_mode)
        fine = mode in tuple(map(int, MouseMode)) and mode & modes == mode
        yield check(
            "MAIN-004",
            fine,
            "a current mouse mode among the supported ones",
            f"modes {modes}, current {mode}",
        )


@on(Message, MsgMain.SPICE_MSG_MAIN_MULTI_MEDIA_TIME)
def multimedia_time(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The multimedia time advances with the real time: it goes neither back nor ahead.

    The server sends its clock minus the sound's latency, which may change by seconds. The clock of a machine
    that slept is behind."""
    connection = view.connection(event)
    session = connection.session
    if session is None or session.clock is None or not connection.certain or event.packet.problems():
        return
    then, stated = session.clock
    went = ((int(event.packet.multi_media_time) - stated + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
    passed = (event.time - then) * 1000
    if passed >= 0:
        yield check(
            "MAIN-018",
            -LATENCY_MS <= went <= passed + LATENCY_MS,
            f"about {stated} ms and the {passed:.0f} ms that have passed since",
            f"{int(event.packet.multi_media_time)} ms",
        )


@at_end
def let_in(view: Conversation) -> Iterator[Ruling]:
    """At the end: the server let a channel in that names an id which no session had. Where more than one
    channel names it, or the client was sent there, the capture lacks the main channel that gave the id."""
    strangers = [c for c in view.connections.values() if _is_stranger(view, c)]
    for connection in strangers:
        place = connection.host, connection.connection_id
        alike = sum((c.host, c.connection_id) == place for c in strangers)
        if alike > 1 or any(_sent_there(m, connection) for m in view.migrations):
            continue
        known = [s for s in view.sessions if s.id is not None and s.host == connection.host]
        before = any(s.main.result is None or _later(connection, s.main) for s in known)
        yield Broken(
            "CONNID-003" if before else "CONNID-009",
            "SPICE_LINK_ERR_BAD_CONNECTION_ID",
            "SPICE_LINK_ERR_OK",
            connection.result,
        )


def _is_stranger(view: Conversation, connection: Connection) -> bool:
    """Whether a channel was let in without a session, on a host whose main channel was seen."""
    if (
        connection.is_main
        or connection.mess is None
        or not connection.linked
        or connection.session is not None
    ):
        return False
    host = connection.host
    settings = view.hosts[host].settings if host >= 0 else {}
    ids = (s.id for s in view.sessions if s.host == host)
    if settings or connection.connection_id in ids or not mechanism_known(connection):
        return False
    earlier = [c for c in view.connections.values() if c.opened is not None and not _later(c, connection)]
    main = any(c.is_main and c.host == host for c in earlier)
    return main and all(c.mess is not None for c in earlier)


def _later(one: Connection, other: Connection) -> bool:
    """Whether one connection was opened after the other's link result."""
    opened, result = one.opened, other.result
    return opened is not None and result is not None and opened.time > result.time


def _sent_there(migration: Migration, connection: Connection) -> bool:
    """Whether a migration sends the channel's client to this host, where its main channel was not seen."""
    target = migration.target
    arrived = target is not None and target.main.state not in NOT_BEGUN
    return not arrived and goes_there(migration, connection)


def _sessions_seen(view: Conversation, host: int) -> bool:
    """Whether all connections were seen from their beginning, and this host's main channel is among them."""
    known = view.connections.values()
    return all(c.mess is not None for c in known) and any(c.is_main and c.host == host for c in known)


@on(LinkBytes)
def joins(view: Conversation, event: LinkBytes) -> Iterator[Ruling]:
    """A channel other than main joins the session that its connection_id names, and no other."""
    connection = view.connection(event)
    if (
        event.kind != "result"
        or connection.is_main
        or connection.mess is None
        or not mechanism_known(connection)
    ):
        return
    error = link_error(event)
    if error is LinkErr.SPICE_LINK_ERR_PERMISSION_DENIED:
        return
    host = connection.host
    sessions = [s for s in view.sessions if s.id is not None and s.host == host]
    session = view.session(connection.connection_id, connection)
    settings = view.hosts[host].settings if host >= 0 else {}
    if session is not None:
        which = "CONNID-007" if session.main.as_target else "CONNID-002"
        if error == OK:
            yield Kept(which)
        elif error is LinkErr.SPICE_LINK_ERR_BAD_CONNECTION_ID:
            yield Broken(which, "SPICE_LINK_ERR_OK: the id is the session's", error.name)
        return
    if not settings and not _sessions_seen(view, host):
        return  # the session may be older than the capture, or the capture may lack its main channel
    requirement = "CONNID-003" if sessions else "CONNID-009"
    if any(s.id == connection.connection_id for s in sessions):
        requirement = "CONNID-008"  # the id of a session that is over
        if error == OK and not _surely_over(view, connection):
            return
    elif error == OK and not settings:
        return  # `let_in` judges it at the end
    yield check(
        requirement,
        error == LinkErr.SPICE_LINK_ERR_BAD_CONNECTION_ID,
        "SPICE_LINK_ERR_BAD_CONNECTION_ID",
        getattr(error, "name", error),
    )


@at_end
def one_init(view: Conversation) -> Iterator[Ruling]:
    """The server sends INIT once; the order tables find a second one."""
    for session in view.sessions:
        main = session.main
        if main.certain and main.linked_whole and main.shown[Side.SERVER, MsgMain.SPICE_MSG_MAIN_INIT] == 1:
            yield Kept("MAIN-002")


def mechanism_known(connection: Connection) -> bool:
    """Whether the client chose SPICE or SASL; servers refuse any other mechanism for that alone."""
    if connection.mechanism is None:
        return True
    known = (CommonCap.SPICE_COMMON_CAP_AUTH_SPICE, CommonCap.SPICE_COMMON_CAP_AUTH_SASL)
    return int(connection.mechanism.packet.auth_mechanism) in known


def _surely_over(view: Conversation, connection: Connection) -> bool:
    """Whether the server closed the main channel, or had 1 s to notice that the client did."""
    ends = [
        s.main.closed for s in view.sessions if s.id == connection.connection_id and s.main.closed is not None
    ]
    opened = connection.opened
    return (
        bool(ends)
        and opened is not None
        and all(e.by is Side.SERVER or opened.time - e.time > 1.0 for e in ends)
    )


@on(LinkBytes)
def main_accepted(view: Conversation, event: LinkBytes) -> Iterator[Ruling]:
    """The server accepts a main link without fault and with the right ticket, also a migrating client's."""
    connection = view.connection(event)
    if event.kind != "result" or not connection.is_main or connection.mess is None:
        return
    if link_error(event) == OK:
        yield Kept("MIG-DST-001" if connection.as_target else "CONNID-012")
    elif link_error(event) == LinkErr.SPICE_LINK_ERR_BAD_CONNECTION_ID and not connection.as_target:
        yield Broken(
            "CONNID-012", "a main link with id 0 opens a new session", "SPICE_LINK_ERR_BAD_CONNECTION_ID"
        )


@on(Closed)
def duplicate(view: Conversation, event: Closed) -> Iterator[Ruling]:
    """The server closes a second link to an open channel; the first one stays open."""
    connection = view.connection(event)
    session = connection.session
    if (
        session is None
        or connection.is_main
        or connection.mess is None
        or event.by is Side.CLIENT
        or event.how not in (Ending.CLOSED, Ending.RESET)
    ):
        return
    links = session.links_to(connection)
    first = links[0]
    if first is not connection and first.closed is None and connection.messages[Side.SERVER] == 0:
        yield Kept("CONNID-010")
    elif first is connection and session.main.closed is None and len(links) > 1:
        second = links[1]
        if second.opened is not None and event.time > second.opened.time and second.closed is None:
            yield Broken(
                "CONNID-010",
                "the channel that was open lives on",
                "it was closed when a second one was linked",
            )


@at_end
def both_are_served(view: Conversation) -> Iterator[Ruling]:
    """The second of two links to one channel gets no messages while the first is still open.

    A server that serves the second instead of the first closes the first, which `duplicate` finds: chance
    decides which of the two a client reads first.
    """
    for session in view.sessions:
        for second in session.channels:
            first = session.links_to(second)[0]
            served = first.closed is None or first.closed.by is Side.CLIENT
            if second.beside is not None and served:
                wanted = "a second link to an open channel is closed"
                yield Broken("CONNID-010", wanted, second.beside.name, second.beside)
