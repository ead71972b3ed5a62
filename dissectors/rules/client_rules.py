# SPDX-License-Identifier: GPL-2.0-only
"""The client's duties between source and target."""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.conversation.connection_states import INIT_DUE, NOT_BEGUN, WAITING, State
from dissectors.conversation.conversation import Connection, Conversation, Migration
from dissectors.framing.events import LinkBytes, Message, Opened
from dissectors.rules.migration_facts import CONNECTED, END, SETTLED_S, SWITCH, WAIT_S
from dissectors.rules.rule_engine import Broken, Kept, Ruling, at_end, check, on
from dissectors.wire.constants import MsgcBase, MsgcMain, Side, channel_name

#: A client that has left the source sends MIGRATE_END to the target within this time, seconds.
ARRIVES_S = 1.0


@on(LinkBytes)
def client_links(view: Conversation, event: LinkBytes) -> Iterator[Ruling]:
    """The link to the target carries the source's session id and goes where BEGIN said."""
    connection = view.connection(event)
    if event.kind != "mess" or event.sender is not Side.CLIENT or connection.opened is None:
        return
    packet = event.packet
    if packet.problems() or int(packet.channel_type) != 1:
        return
    opened = connection.opened
    for migration in reversed(view.migrations):
        if migration.begin is None or migration.target is not None or migration.ended is not None:
            continue
        if (
            opened.server.port not in (migration.port, migration.tls_port)
            or migration.source.host == connection.host
        ):
            continue
        due = migration.source.id
        if due is None:
            return  # its INIT was not seen
        seen = int(packet.connection_id)
        if seen == 0 and not _same_client(migration, connection):
            continue  # another client's new session
        yield check(
            "MIG-CLI-001", seen == due, f"connection_id {_hex(due)}, the source's session id", _hex(seen)
        )
        return


@on(LinkBytes)
def client_links_late(view: Conversation, event: LinkBytes) -> Iterator[Ruling]:
    """After CONNECTED the client links no more channels: the target's machine may be stopped from then on."""
    connection = view.connection(event)
    if event.kind != "mess" or event.sender is not Side.CLIENT or event.packet.problems():
        return
    kind, number = int(event.packet.channel_type), int(event.packet.channel_id)
    for migration in reversed(view.migrations):
        answer, target = migration.answer, migration.target
        if target is None or answer is None or answer.type not in CONNECTED or migration.ended is not None:
            continue
        here = connection.host == target.host and int(event.packet.connection_id) == target.main.connection_id
        if not here or target.main.state not in NOT_BEGUN:
            continue
        at_source = [c for c in migration.source.channels if (c.channel, c.channel_id) == (kind, number)]
        before = any(c.result is not None and c.result.time < answer.time for c in at_source)
        again = any(
            (c.channel, c.channel_id) == (kind, number)
            for c in view.connections.values()
            if c is not connection and c.host == target.host and c.connection_id == target.main.connection_id
        )
        arrived = target.main.result is not None and target.main.result.time < answer.time
        if before and arrived and not again:  # MIG-CLI-003 judges an answer before main's own link
            yield Broken(
                "MIG-CLI-020",
                "CONNECTED only when the channels that the client has are linked to the target",
                f"a link to {channel_name(kind)} {number} after it",
                answer,
            )
        return


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
    """Whether the evidence shows any connection to the target."""
    return any(
        c.opened is not None
        and c.opened.server.port in (migration.port, migration.tls_port)
        and c.host != migration.source.host
        for c in view.connections.values()
    )


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
        here = connection.opened.server.port in (migration.port, migration.tls_port)
        if migration.begin is not None and int(event.packet.connection_id) == migration.source.id:
            return  # a link for the earlier announcement; its client may not have read the end yet
        if switched and here and migration.source.host != connection.host:
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
        waited = over.time - begin.time
        if waited > WAIT_S:
            expected = "CONNECTED, CONNECTED_SEAMLESS or CONNECT_ERROR"
            yield Broken("MIG-CLI-002", expected, f"no answer in {waited:.0f} s", over)


def _left_waiting(migration: Migration, target: Connection) -> bool:
    """Whether the target's main channel stayed open long enough for the client to send its MIGRATE_END."""
    ended, closed = migration.ended, target.closed
    if ended is None or closed is None:
        return True
    return closed.by is Side.CLIENT and closed.time - ended.time > SETTLED_S


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
            if source.closed is not None and source.closed.by is not Side.SERVER:
                yield Broken(
                    "MIG-CLI-004",
                    "MIGRATE_END to the target",
                    "the source was left without it",
                    migration.ended,
                )
        elif ended and target.main.state in {State.READY, *INIT_DUE}:
            yield Kept("MIG-CLI-004")
