# SPDX-License-Identifier: GPL-2.0-only
"""CHANNELS_LIST: it answers ATTACH_CHANNELS, names what can be opened, and agrees with INIT's displays."""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.conversation.connection_states import WAITING
from dissectors.conversation.conversation import Connection, Conversation, Session, link_error
from dissectors.framing.events import Closed, Ending, LinkBytes, Message
from dissectors.rules.link_rules import mess_fault
from dissectors.rules.migration_facts import is_recorded
from dissectors.rules.rule_engine import Broken, Kept, Ruling, at_end, check, on
from dissectors.rules.session_rules import mechanism_known
from dissectors.wire.constants import ChannelType, LinkErr, MsgBase, MsgcMain, MsgDisplay, MsgMain, Side

#: A display may be plugged in only this long after INIT, a device plugged out after CHANNELS_LIST, seconds.
PLUGGED_S, UNPLUGGED_S = 1.0, 5.0
OK = LinkErr.SPICE_LINK_ERR_OK
MAIN, DISPLAY = ChannelType.SPICE_CHANNEL_MAIN, ChannelType.SPICE_CHANNEL_DISPLAY
#: The messages of a display that draws what a guest's driver says.
DRAWS = frozenset(kind for kind in MsgDisplay if "_DRAW_" in kind.name) - {
    MsgDisplay.SPICE_MSG_DISPLAY_DRAW_FILL
}
#: Errors that say nothing against a channel that CHANNELS_LIST names.
_OTHER_REASONS = frozenset(
    {
        LinkErr.SPICE_LINK_ERR_NEED_SECURED,
        LinkErr.SPICE_LINK_ERR_NEED_UNSECURED,
        LinkErr.SPICE_LINK_ERR_PERMISSION_DENIED,
        LinkErr.SPICE_LINK_ERR_BAD_CONNECTION_ID,
    }
)


@on(Message, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST)
def channels_list(view: Conversation, event: Message) -> Iterator[Ruling]:
    """CHANNELS_LIST answers ATTACH_CHANNELS, names each channel once, and never main."""
    if event.sender is not Side.SERVER or event.channel != MAIN:
        return
    if event.type != MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST or event.packet.problems():
        return
    listed = [(int(c.type), int(c.id)) for c in event.packet.channels]
    yield check("MAIN-010", len(set(listed)) == len(listed), "each channel once", listed)
    yield check("MAIN-010", all(kind != MAIN for kind, _ in listed), "no main channel in the list", listed)


@on(Message, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST)
def displays(view: Conversation, event: Message) -> Iterator[Ruling]:
    """INIT's display_channels_hint is the number of displays in the first CHANNELS_LIST, which may name the
    displays of stream devices besides (see `more_displays`)."""
    session = view.connection(event).session
    if session is None or session.displays is None or session.listed or session.clock is None:
        return
    if event.packet.problems() or view.hosts[session.host].settings:
        return
    listed = sum(int(c.type) == DISPLAY for c in event.packet.channels)
    if session.displays >= listed:
        fine = session.displays == listed
        yield check("MAIN-017", fine, _hint_of(f"{listed}, as CHANNELS_LIST names them"), session.displays)
    elif event.time - session.clock[0] <= PLUGGED_S:
        session.fewer = True


@at_end
def more_displays(view: Conversation) -> Iterator[Ruling]:
    """At the end: where INIT hints at fewer displays than CHANNELS_LIST names, no more of them draw than the
    hint says. The display of a stream device fills its surface and sends streams."""
    for session in view.sessions:
        if not session.fewer or session.displays is None:
            continue
        drawing = {c.channel_id for c in session.channels if c.channel == DISPLAY and _draws(c)}
        if len(drawing) > session.displays:
            expected = _hint_of(f"{len(drawing)} at least, as many displays draw")
            yield Broken("MAIN-017", expected, str(session.displays), session.init)


def _hint_of(text: str) -> str:
    return f"a display_channels_hint of {text}"


def _draws(display: Connection) -> bool:
    return any(display.shown[Side.SERVER, kind] for kind in DRAWS)


@on(Message, MsgMain.SPICE_MSG_MAIN_INIT)
def same_displays(view: Conversation, event: Message) -> Iterator[Ruling]:
    """A target's display_channels_hint is the source's: it is the same machine."""
    connection = view.connection(event)
    session = connection.session
    if session is None or session.arrived is None or not connection.as_target or event.packet.problems():
        return
    source = session.arrived.source
    listed = {sum(kind == DISPLAY for kind, _ in source.offered)} if source.offered else set[int]()
    known = listed | ({source.displays} if source.displays is not None else set[int]())
    if known and not is_recorded(view, connection):
        hint = int(event.packet.display_channels_hint)
        expected = _hint_of(f"{' or '.join(map(str, sorted(known)))}, as at the source")
        yield check("MAIN-017", hint in known, expected, hint)


@on(Message, MsgMain.SPICE_MSG_MAIN_MIGRATE_END, MsgBase.SPICE_MSG_MIGRATE)
def attach_passed_over(view: Conversation, event: Message) -> Iterator[Ruling]:
    """A server that acts on the client's CONNECTED has read the ATTACH_CHANNELS before it."""
    connection = view.connection(event)
    session = connection.session
    if not connection.is_main or session is None or not connection.certain or not session.channels:
        return  # a client that opens no channels needs no list
    if connection.shown[Side.SERVER, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST]:
        return
    attached, answer = session.attached, session.migration.answer if session.migration is not None else None
    if attached is not None and answer is not None and attached.time < answer.time:
        yield Broken("MAIN-008", "CHANNELS_LIST after ATTACH_CHANNELS", f"{event.name} without it", attached)


@on(Closed)
def attach_answered(view: Conversation, event: Closed) -> Iterator[Ruling]:
    """The server answers ATTACH_CHANNELS in a running session with CHANNELS_LIST."""
    connection = view.connection(event)
    session = connection.session
    if connection.is_main and session is not None and session.listed:
        yield Kept("MAIN-008")


@on(LinkBytes)
def listed(view: Conversation, event: LinkBytes) -> Iterator[Ruling]:
    """A channel that CHANNELS_LIST names can be opened."""
    connection = view.connection(event)
    if event.kind not in ("reply", "result") or not _is_listed(view, connection):
        return
    error = link_error(event)
    if error == OK and event.kind == "result":
        yield Kept("MAIN-011")
    elif (
        error not in (OK, *_OTHER_REASONS)
        and mechanism_known(connection)
        and not is_recorded(view, connection)
    ):
        seen = error.name if isinstance(error, LinkErr) else str(error)
        yield Broken("MAIN-011", "SPICE_LINK_ERR_OK: CHANNELS_LIST names the channel", seen)


@on(Closed)
def listed_and_closed(view: Conversation, event: Closed) -> Iterator[Ruling]:
    """The server answers the link of a channel that CHANNELS_LIST names."""
    connection = view.connection(event)
    silent = connection.reply is None and event.by is Side.SERVER and connection.certain
    if silent and _is_listed(view, connection) and not is_recorded(view, connection):
        yield Broken("MAIN-011", "a link reply: CHANNELS_LIST names the channel", f"no reply; {event.how}")


def _is_listed(view: Conversation, connection: Connection) -> bool:
    """Whether a link message without fault names a channel from an open session's CHANNELS_LIST."""
    if connection.mess is None or connection.is_main or mess_fault(connection.mess.raw) is not None:
        return False
    session = view.session(connection.connection_id, connection)
    key = connection.channel, connection.channel_id
    return session is not None and key in session.offered and not _unplugged(session, connection)


def _unplugged(session: Session, connection: Connection) -> bool:
    """Whether the channel may have gone with its device, of which no message tells the client: the server has
    closed it before, or the list is old."""
    earlier = session.links_to(connection)
    gone = any(
        c.closed is not None and c.closed.by is not Side.CLIENT for c in earlier if c is not connection
    )
    listed, opened = session.offered_at, connection.opened
    return gone or opened is None or opened.time - listed > UNPLUGGED_S


@at_end
def attach_owed(view: Conversation) -> Iterator[Ruling]:
    """The server answers ATTACH_CHANNELS before the main channel ends."""
    for session in view.sessions:
        main = session.main
        last = main.last[Side.CLIENT]
        if session.listed or not main.certain or main.state in WAITING or last is None:
            continue
        if (
            last.type == MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS
            and main.closed is not None
            and main.closed.how is Ending.TIMEOUT
        ):
            yield Broken("MAIN-008", "CHANNELS_LIST after ATTACH_CHANNELS", "none", main.closed)
