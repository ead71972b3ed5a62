# SPDX-License-Identifier: GPL-2.0-only
"""The rules of every channel: known messages with their layout, serials, acknowledgement, MIGRATE_DATA."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from dissectors.conversation.connection_states import AFTER_MIGRATE, CONNECTED_SEAMLESS, MOVING, State
from dissectors.conversation.conversation import (
    GENERATION_BYTES,
    PONG_BYTES,
    Connection,
    Conversation,
    answers,
)
from dissectors.framing.events import Message
from dissectors.rules.order_rules import attempted_before
from dissectors.rules.rule_engine import EVERY, FIRST, SHOWN, Broken, Kept, Ruling, at_end, check, on
from dissectors.wire.constants import MESSAGE_NAMES, ChannelType, MsgBase, MsgcBase, MsgcMain, MsgMain, Side

#: Larger bodies (bytes) are bulk data: the rules do not dissect each of them.
LAYOUT_LIMIT = 1 << 16

#: The channels that wait for their client's ACK; the number of windows that they send before they wait; the
#: number of further messages that may be on their way when the server sends SET_ACK.
WINDOWED = frozenset({ChannelType.SPICE_CHANNEL_DISPLAY, ChannelType.SPICE_CHANNEL_CURSOR})
WINDOWS, SPARE = 2, 1

ACK, NACK = MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK, MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK
#: The bytes of magic and version.
SERIAL_IN_DISPLAY_DATA = struct.Struct("<8xQ")
#: Channel -> (magic, newest version) of its MIGRATE_DATA (server/migration-protocol.h).
MIGRATE_DATA: Mapping[int, tuple[bytes, int]] = MappingProxyType(
    {
        ChannelType.SPICE_CHANNEL_MAIN: (b"MNMD", 1),
        ChannelType.SPICE_CHANNEL_DISPLAY: (b"DCMD", 1),
        ChannelType.SPICE_CHANNEL_INPUTS: (b"ICMD", 1),
        ChannelType.SPICE_CHANNEL_USBREDIR: (b"SVMD", 1),
        ChannelType.SPICE_CHANNEL_PORT: (b"SVMD", 1),
        ChannelType.SPICE_CHANNEL_WEBDAV: (b"SVMD", 1),
        ChannelType.SPICE_CHANNEL_SMARTCARD: (b"SCMD", 1),
    }
)


@on(Message, SHOWN)
def layout(view: Conversation, event: Message) -> Iterator[Ruling]:
    """Each message has a type of its channel, and the layout of that type."""
    connection = view.connection(event)
    requirement, known = (
        ("CHAN-001", "CHAN-002") if event.sender is Side.SERVER else ("MIG-CLI-017", "MIG-CLI-018")
    )
    if not connection.certain or not event.whole:
        return
    if event.type not in MESSAGE_NAMES.get((event.channel, event.sender), {}):
        if event.channel in ChannelType.__members__.values():
            yield Broken(requirement, f"a message that the {event.sender} may send", event.name)
        return
    yield Kept(requirement)
    if event.size <= LAYOUT_LIMIT or event.type == MsgBase.SPICE_MSG_PING:
        problems = event.packet.problems() if event.size <= LAYOUT_LIMIT else []
        if problems:
            yield Broken(known, f"{event.name} in its layout", "; ".join(problems))
        else:
            yield Kept(known)


@on(Message, EVERY)
def serials(view: Conversation, event: Message) -> Iterator[Ruling]:
    """With full headers each message's serial is the previous one plus 1; the first is 1.

    The framer checks the serials of messages that it only counts, and shows each one with a wrong serial.
    """
    connection = view.connection(event)
    last = connection.serials[event.sender]
    if event.serial is None or event.sender is Side.CLIENT or not connection.certain:
        return
    if last is not None:
        yield check("CHAN-003", event.serial == last + 1, f"serial {last + 1}", f"serial {event.serial}")
    elif not connection.messages[event.sender] and connection.mess is not None:
        if not _restores(connection):
            yield check("CHAN-003", event.serial == 1, "serial 1", f"serial {event.serial}")


def _restores(connection: Connection) -> bool:
    """Whether a display channel restores its state and so continues the source's serial. After the target's
    NACK it starts again at 1. Where DST_DO_SEAMLESS is missing, the client's MIGRATE_DATA shows it too; where
    the main channel is missing, it may be so."""
    session = connection.session
    if connection.channel != ChannelType.SPICE_CHANNEL_DISPLAY:
        return False
    if session is None:
        return True
    asked = MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS in session.main.said
    given = MsgcBase.SPICE_MSGC_MIGRATE_DATA in connection.said
    shown = session.main.shown
    return bool(shown[Side.SERVER, ACK]) or ((asked or given) and not shown[Side.SERVER, NACK])


@on(Message, FIRST)
def serial_goes_on(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The first message of a display that has restored its state has the serial that comes next.

    The source's MIGRATE_DATA holds that serial (server/migration-protocol.h, SpiceMigrateDataDisplay)."""
    connection = view.connection(event)
    session = connection.session
    if event.serial is None or event.sender is Side.CLIENT or session is None or session.arrived is None:
        return
    data = session.arrived.data.get((connection.channel, connection.channel_id), b"")
    restored = _restores(connection) and connection.state is State.OPEN
    if restored and connection.certain and len(data) >= SERIAL_IN_DISPLAY_DATA.size:
        (due,) = SERIAL_IN_DISPLAY_DATA.unpack_from(data)
        yield check("MIG-DST-031", event.serial == due, f"serial {due}", f"serial {event.serial}")


@on(Message, MsgcBase.SPICE_MSGC_PONG, MsgcBase.SPICE_MSGC_ACK_SYNC)
def pong(view: Conversation, event: Message) -> Iterator[Ruling]:
    """A PONG repeats a PING's id and timestamp; an ACK_SYNC repeats a SET_ACK's generation."""
    connection = view.connection(event)
    if event.sender is Side.CLIENT and connection.certain and answers(connection, event):
        if event.type == MsgcBase.SPICE_MSGC_PONG:
            yield Kept("MIG-CLI-013")
            yield Kept("MIG-CLI-021")
        else:
            yield Kept("MIG-CLI-014")


@at_end
def strange_answers(view: Conversation) -> Iterator[Ruling]:
    """At the end: PONGs and ACK_SYNCs that answer no PING or SET_ACK of the connection."""
    for connection in view.connections.values():
        for event in connection.strange if connection.certain else ():
            if answers(connection, event):
                continue
            if event.type == MsgcBase.SPICE_MSGC_PONG:
                seen = event.body[:PONG_BYTES].hex()
                yield Broken("MIG-CLI-013", "a PING's id and timestamp", seen, event)
            else:
                seen = event.body[:GENERATION_BYTES].hex()
                yield Broken("MIG-CLI-014", "the generation of SET_ACK", seen, event)


@on(Message, MsgBase.SPICE_MSG_MIGRATE)
def migrate(view: Conversation, event: Message) -> Iterator[Ruling]:
    """SPICE_MSG_MIGRATE has known flags; the server sends it only to a client that migrates seamlessly."""
    if event.sender is not Side.SERVER or event.type != MsgBase.SPICE_MSG_MIGRATE or len(event.body) < 4:
        return
    connection = view.connection(event)
    (flags,) = struct.unpack_from("<I", event.body)
    yield check(
        "MIG-SRC-043", flags in AFTER_MIGRATE, "no flags but NEED_FLUSH and NEED_DATA_TRANSFER", hex(flags)
    )
    if connection.is_main:
        yield check(
            "MIG-SRC-046", flags == 3, "NEED_FLUSH and NEED_DATA_TRANSFER on the main channel", hex(flags)
        )
        return
    main = connection.session.main if connection.session is not None else None
    if main is not None and main.certain:
        if attempted_before(view, main):
            return
        moving = not {main.state, main.left}.isdisjoint(CONNECTED_SEAMLESS | MOVING)
        moving = moving or (main.state is State.ENDED and _goes_seamlessly(main))  # MIG-SRC-045 judges that
        believed = main.state is State.SEAMLESS_UNASKED
        yield check(
            "MIG-SRC-049" if believed else "MIG-SRC-040",
            moving,
            "MIGRATE only after the client's CONNECTED_SEAMLESS, the answer to BEGIN_SEAMLESS",
            f"main is '{main.state}'",
        )


def _goes_seamlessly(main: Connection) -> bool:
    return MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS in main.said


@on(Message, MsgBase.SPICE_MSG_MIGRATE_DATA)
def migrate_data(view: Conversation, event: Message) -> Iterator[Ruling]:
    """MIGRATE_DATA begins with its channel's magic and version, from the source and to the target."""
    if event.type != MsgBase.SPICE_MSG_MIGRATE_DATA or event.sender is not Side.SERVER:
        return
    magic, newest = MIGRATE_DATA.get(event.channel, (b"", 0))
    if not magic or not event.whole:
        return
    fine = event.body[:4] == magic and len(event.body) >= 8
    version = struct.unpack_from("<I", event.body, 4)[0] if len(event.body) >= 8 else 0
    yield check(
        "MIG-SRC-044",
        fine and 1 <= version <= newest,
        f"{magic!r} version 1..{newest}",
        f"{event.body[:4]!r} version {version}",
    )


@at_end
def flushed(view: Conversation) -> Iterator[Ruling]:
    """FLUSH_MARK was the client's last message on its channel (the order table finds any later one)."""
    for connection in view.connections.values():
        last = connection.last[Side.CLIENT]
        if connection.certain and last is not None and last.type == MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK:
            yield Kept("MIG-CLI-011")


def _arrived(connection: Connection) -> bool:
    """The client continued the session at the target before it left this channel."""
    migration = connection.session.migration if connection.session is not None else None
    target = migration.target.main if migration is not None and migration.target is not None else None
    if migration is None or (connection.channel, connection.channel_id) in migration.data:
        return False
    return connection.closed is not None and target is not None and target.state is State.READY


@at_end
def data_owed(view: Conversation) -> Iterator[Ruling]:
    """A channel that announced MIGRATE_DATA sends it after the client's FLUSH_MARK."""
    for connection in view.connections.values():
        died = connection.host >= 0 and view.hosts[connection.host].died is not None
        if connection.state is State.DATA_DUE and connection.certain and not died:
            closed_by_client = connection.closed is None or connection.closed.by is Side.CLIENT
            if not closed_by_client or _arrived(connection):
                yield Broken(
                    "MIG-SRC-047",
                    "MIGRATE_DATA after the flush mark",
                    "none before the end",
                    connection.closed,
                )
        elif connection.state is State.GONE and connection.last[Side.SERVER] is not None:
            yield Kept("MIG-SRC-047")


@on(Message, MsgBase.SPICE_MSG_SET_ACK, MsgcBase.SPICE_MSGC_ACK)
def window_kept(view: Conversation, event: Message) -> Iterator[Ruling]:
    """A channel sends no more messages than its window allows until the client sends an ACK."""
    yield from _within_window(view.connection(event))


@at_end
def window_kept_to_the_end(view: Conversation) -> Iterator[Ruling]:
    """At the end: the same rule for the messages after the last ACK."""
    for connection in view.connections.values():
        yield from _within_window(connection)


def _within_window(connection: Connection) -> Iterator[Ruling]:
    """Judges the count of messages: before an ACK reduces it, and at the end."""
    window = connection.window
    if not window or not connection.certain or connection.channel not in WINDOWED:
        return
    most = WINDOWS * window + 1
    if connection.unacked <= most + SPARE:
        yield Kept("CHAN-006")
    else:
        yield Broken(
            "CHAN-006",
            f"at most {most} messages without ACK: the window has {window}",
            f"{connection.unacked} messages",
            connection.last[Side.SERVER],
        )
