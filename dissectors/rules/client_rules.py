# SPDX-License-Identifier: GPL-2.0-only
"""The client's duties between source and target."""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.conversation.connection_states import CONNECTED as CONNECTED_PLAIN
from dissectors.conversation.connection_states import (
    CONNECTED_SEAMLESS,
    INIT_DUE,
    NOT_BEGUN,
    WAITING,
    State,
)
from dissectors.conversation.conversation import Connection, Conversation, Migration
from dissectors.conversation.failed_links import asked_for
from dissectors.conversation.pairing import goes_there
from dissectors.framing.events import AttemptFailure, Closed, LinkBytes, Message, Opened
from dissectors.rules.migration_facts import CONNECTED, END, SETTLED_S, SWITCH, WAIT_S
from dissectors.rules.rule_engine import Broken, Kept, Ruling, at_end, check, on
from dissectors.wire.constants import MsgBase, MsgcBase, MsgcMain, Side, channel_name

#: A client that has left the source sends MIGRATE_END to the target within this time, seconds.
ARRIVES_S = 1.0
#: States of a source whose client is on its way to the target.
WAITS_FOR_CLIENT = CONNECTED_PLAIN | CONNECTED_SEAMLESS | {State.ANNOUNCED, State.ANNOUNCED_SEAMLESS}


@on(LinkBytes)
def client_links(view: Conversation, event: LinkBytes) -> Iterator[Ruling]:
    """The link to the target carries the source's session id and goes where BEGIN said."""
    connection = view.connection(event)
    if event.kind != "mess" or event.sender is not Side.CLIENT or connection.opened is None:
        return
    packet = event.packet
    if packet.problems() or int(packet.channel_type) != 1:
        return
    seen = int(packet.connection_id)
    waiting = [m for m in view.migrations if _waits_for_link(m) and goes_there(m, connection)]
    waiting = [m for m in waiting if seen or _same_client(m, connection)]  # else another client's session
    due = [m.source.id for m in waiting]
    if seen in due:
        yield Kept("MIG-CLI-001")
    elif due and None not in due:  # else its INIT was not seen
        waiting[-1].misnamed.append(event)


@at_end
def client_misnames(view: Conversation) -> Iterator[Ruling]:
    """At the end: the client named another id at the target. Where the right one came there as well, the
    other one is another client's, whose source is not in the evidence."""
    for migration in view.migrations:
        if migration.misnamed and not _linked_rightly(view, migration):
            expected = f"connection_id {_hex(migration.source.id)}, the source's session id"
            for event in migration.misnamed:
                yield Broken("MIG-CLI-001", expected, _hex(int(event.packet.connection_id)), event)


def _linked_rightly(view: Conversation, migration: Migration) -> bool:
    """Whether a main channel came to the target with the source's session id."""
    mains = (c for c in view.connections.values() if c.is_main and c.mess is not None)
    return any(c.connection_id == migration.source.id and goes_there(migration, c) for c in mains)


def _waits_for_link(migration: Migration) -> bool:
    """Whether the source waits for its client to link to the target."""
    source = migration.source
    over = migration.ended or migration.target or source.main.closed
    latest = source.migration is migration and source.main.state in WAITS_FOR_CLIENT
    return migration.begin is not None and over is None and latest


@on(LinkBytes)
def client_links_late(view: Conversation, event: LinkBytes) -> Iterator[Ruling]:
    """After CONNECTED the client links no more channels: the target's machine may be stopped from then on."""
    connection = view.connection(event)
    if event.kind != "mess" or event.sender is not Side.CLIENT or event.packet.problems():
        return
    key = int(event.packet.channel_type), int(event.packet.channel_id)
    for migration in reversed(view.migrations):
        answer, target = migration.answer, migration.target
        if target is None or answer is None or answer.type not in CONNECTED or event.time < answer.time:
            continue
        if connection.host != target.host or int(event.packet.connection_id) != target.main.connection_id:
            continue
        begins = migration.ended is None and target.main.state not in NOT_BEGUN  # another rule judges that
        if target.main.closed is not None or begins or not _had(migration, key, answer):
            continue
        again = any(
            (c.channel, c.channel_id) == key
            for c in view.connections.values()
            if c is not connection and c.host == target.host and c.connection_id == target.main.connection_id
        )
        arrived = target.main.result is not None and target.main.result.time < answer.time
        if arrived and not again:  # MIG-CLI-003 judges an answer before main's own link
            yield Broken(
                "MIG-CLI-020",
                "CONNECTED only when the channels that the client has are linked to the target",
                f"a link to {channel_name(key[0])} {key[1]} after it",
                answer,
            )
        return


def _had(migration: Migration, key: tuple[int, int], answer: Message) -> bool:
    """Whether the client had this channel at the source when it answered. A channel that it has opened since
    the announcement may follow when the client has arrived."""
    begin, ended = migration.begin, migration.ended
    if ended is not None and begin is None:
        return False  # it is not known since when
    since = begin.time if ended is not None and begin is not None else answer.time
    return any(
        c.result is not None and c.result.time < since and (c.closed is None or c.closed.time > answer.time)
        for c in migration.source.channels
        if (c.channel, c.channel_id) == key
    )


@on(Message, *CONNECTED)
def client_has_linked_all(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The client sends CONNECTED once each of the source's channels has its link to the target."""
    session = view.connection(event).session
    migration = session.migration if session is not None else None
    target = migration.target if migration is not None else None
    if event.sender is not Side.CLIENT or migration is None or target is None:
        return
    linked = {
        (c.channel, c.channel_id)
        for c in view.connections.values()
        if c.host == target.host and c.connection_id == target.main.connection_id and c.result is not None
    }
    if {(c.channel, c.channel_id) for c in migration.source.channels if c.closed is None} <= linked:
        yield Kept("MIG-CLI-020")


def _same_client(migration: Migration, connection: Connection) -> bool:
    """Whether both links come from one client address."""
    one, other = migration.source.main.opened, connection.opened
    return one is not None and other is not None and one.client.host == other.client.host


def _hex(value: int | None) -> str:
    return "unknown" if value is None else f"0x{value:08x}"


@on(Message, *CONNECTED)
def client_answers(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The client sends CONNECTED only after the target's link result, CONNECTED_SEAMLESS after its ACK."""
    connection = view.connection(event)
    if event.sender is not Side.CLIENT or not connection.is_main or connection.session is None:
        return
    migration = connection.session.migration
    seamless = event.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS
    if migration is None or not (seamless or event.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED):
        return
    target = migration.target
    if target is None:
        if _target_visible(view, migration):
            yield Broken("MIG-CLI-003", "CONNECTED only after the target's link result", event.name)
        return
    yield check(
        "MIG-CLI-003", target.main.linked, "CONNECTED only after the target's link result", event.name
    )
    if seamless:
        yield check(
            "MIG-CLI-007",
            target.main.state in (State.TARGET_SEAMLESS, State.TARGET_REASKED, State.READY),
            "only after DST_SEAMLESS_ACK",
            event.name,
        )


def _target_visible(view: Conversation, migration: Migration) -> bool:
    """Whether the evidence shows a connection to the target that is main, or may be."""
    may_be = (c for c in view.connections.values() if c.is_main or c.mess is None)
    return any(goes_there(migration, c) for c in may_be)


@on(
    Message,
    MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END,
    MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS,
    MsgcBase.SPICE_MSGC_MIGRATE_DATA,
)
def client_moves(view: Conversation, event: Message) -> Iterator[Ruling]:
    """To the target the client sends MIGRATE_END only after the source's, with the announced version, and
    the source's MIGRATE_DATA unchanged."""
    connection = view.connection(event)
    session = connection.session
    if event.sender is not Side.CLIENT or session is None:
        return
    migration = session.arrived
    if migration is None:
        return
    if connection.is_main and event.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END:
        if connection.state in (State.TARGET_SEAMLESS, State.TARGET_REASKED):
            return  # MIGRATE_DATA was due: MIG-CLI-016 judges that
        moves = [m.ended for m in view.migrations if m.source is migration.source]
        ended = any(end is not None and end.type == END for end in moves)
        yield check(
            "MIG-CLI-005",
            ended or not migration.source.main.certain,
            "only after the source's MIGRATE_END",
            event.name,
        )
    elif (
        connection.is_main
        and event.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS
        and len(event.body) >= 4
    ):
        version = int(event.packet.src_version)
        if migration.begin is None or migration.begin.holds("src_mig_version"):
            announced = f"version {migration.version}, as announced"
            yield check("MIG-CLI-008", version == migration.version, announced, version)
    elif event.type == MsgcBase.SPICE_MSGC_MIGRATE_DATA:
        sent = migration.data.get((connection.channel, connection.channel_id))
        if sent is not None and event.whole:
            yield check(
                "MIG-CLI-010",
                sent == event.body,
                f"the source's {len(sent)} bytes",
                f"{len(event.body)} other bytes",
            )


@at_end
def data_invented(view: Conversation) -> Iterator[Ruling]:
    """The client sends no MIGRATE_DATA for a channel of which the source has sent none."""
    for migration in view.migrations:
        target = migration.target.main.number if migration.target is not None else None
        for step in migration.steps:
            if step.sender is not Side.CLIENT or step.type != MsgcBase.SPICE_MSGC_MIGRATE_DATA:
                continue
            there = view.connections[step.connection]
            if step.connection != target and _gave_none(migration, there):
                yield Broken("MIG-CLI-010", "no MIGRATE_DATA: the source has sent none", step.name, step)


def _gave_none(migration: Migration, there: Connection) -> bool:
    """Whether the source's channel, seen from its link to its end, moved without MIGRATE_DATA."""
    key = there.channel, there.channel_id
    here = [c for c in migration.source.channels if (c.channel, c.channel_id) == key and c.linked_whole]
    given = MsgBase.SPICE_MSG_MIGRATE_DATA
    moved = [c for c in here if c.certain and c.migrate is not None and c.closed is not None]
    return bool(moved) and not any(c.shown[Side.SERVER, given] for c in here)


@on(Opened)
def client_switches(view: Conversation, event: Opened) -> Iterator[Ruling]:
    """After SWITCH_HOST the client connects to the address in that message."""
    for migration in reversed(view.migrations):
        if migration.ended is not None and migration.ended.type == SWITCH:
            if event.server.port in (migration.port, migration.tls_port):
                yield Kept("MIG-CLI-006")
            return


@on(LinkBytes)
def client_fresh(view: Conversation, event: LinkBytes) -> Iterator[Ruling]:
    """After SWITCH_HOST the client opens a new session: connection_id 0."""
    connection = view.connection(event)
    if event.kind != "mess" or connection.opened is None or event.packet.problems():
        return
    if int(event.packet.channel_type) != 1 or int(event.packet.connection_id) == 0:
        return
    for migration in reversed(view.migrations):
        switched = migration.ended is not None and migration.ended.type == SWITCH
        if migration.begin is not None and int(event.packet.connection_id) == migration.source.id:
            return  # a link for the earlier announcement; its client may not have read the end yet
        if switched and migration.target is None and goes_there(migration, connection):
            yield Broken(
                "MIG-CLI-006",
                "a link with connection_id 0 after SWITCH_HOST",
                _hex(int(event.packet.connection_id)),
            )
            return


@at_end
def client_silent(view: Conversation) -> Iterator[Ruling]:
    """The client answers an announcement before the source's timeout."""
    for migration in view.migrations:
        begin, source = migration.begin, migration.source.main
        over = migration.ended or source.closed
        if begin is None or migration.answer is not None or over is None or not source.certain:
            continue
        if migration.source.migration is not migration:
            continue  # a later announcement took its place: the client owes one answer
        waited = over.time - begin.time
        if waited > WAIT_S and not _still_tries(view, migration, over.time):
            expected = "CONNECTED, CONNECTED_SEAMLESS or CONNECT_ERROR"
            yield Broken("MIG-CLI-002", expected, f"no answer in {waited:.0f} s", over)


def _still_tries(view: Conversation, migration: Migration, until: float) -> bool:
    """Whether the client waited until then (s) for a target that does not answer, which is not its fault."""
    return any(
        asked_for(migration, c) and (c.failed is None or c.failed.how is AttemptFailure.UNANSWERED)
        for c in view.connections.values()
        if c.result is None and _open_at(c, until)
    )


def _open_at(connection: Connection, time: float) -> bool:
    """Whether the client had begun the connection, and nobody had ended it."""
    known, closed = connection.opened or connection.failed, connection.closed
    began = connection.failed.first if connection.failed is not None else known.time if known else time
    return began < time and (closed is None or closed.time > time)


def _left_waiting(migration: Migration, target: Connection) -> bool:
    """Whether the target's main channel stayed open long enough for the client to send its MIGRATE_END."""
    ended, closed = migration.ended, target.closed
    if ended is None or closed is None:
        return True
    return closed.by is Side.CLIENT and closed.time - ended.time > SETTLED_S


def _ignored(migration: Migration, closed: Closed) -> bool:
    """Whether the client left the source, or stayed until the source dropped it at the end of its wait."""
    ended = migration.ended
    return closed.by is not Side.SERVER or (ended is not None and closed.time - ended.time > SETTLED_S)


@at_end
def client_owes(view: Conversation) -> Iterator[Ruling]:
    """After the source's MIGRATE_END the client sends its own to the target."""
    for migration in view.migrations:
        source, target = migration.source.main, migration.target
        if target is None or not target.main.certain or not source.certain:
            continue
        left = source.closed.time if source.closed is not None else view.now
        ended = migration.ended is not None and migration.ended.type == END
        if (
            ended
            and target.main.linked
            and target.main.state in WAITING
            and _left_waiting(migration, target.main)
            and (view.now - left > ARRIVES_S or target.main.closed is not None)
        ):
            if source.closed is not None and _ignored(migration, source.closed):
                yield Broken(
                    "MIG-CLI-004",
                    "MIGRATE_END to the target",
                    "the source was left without it",
                    migration.ended,
                )
        elif ended and target.main.state in {State.READY, *INIT_DUE}:
            yield Kept("MIG-CLI-004")
