# SPDX-License-Identifier: GPL-2.0-only
"""Rules on missing messages: judged at the end, and broken only where the sender had enough time."""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.conversation.connection_states import INIT_DUE, State
from dissectors.conversation.conversation import Connection, Conversation, Migration, Session
from dissectors.framing.events import Ending, Message
from dissectors.rules.migration_facts import END, SWITCH, WAIT_S, is_taken_over, server_of, speaks_first
from dissectors.rules.rule_engine import Broken, Kept, Ruling, at_end
from dissectors.wire.constants import (
    ChannelType,
    MsgBase,
    MsgcBase,
    MsgcMain,
    MsgMain,
    MsgPlayback,
    Side,
)

#: An answer comes within this time, seconds; it leaves room for a slow line and a busy machine.
ANSWER_S = 5.0
#: How late a server's timer may be, seconds.
LATE_S = 2.0
#: A client relays MIGRATE_DATA at once: at the latest this long after it left the source's channel, seconds.
RELAY_S = 0.1
#: A client reads in order: a client that sends a message this long (s) after a PING has read the PING.
PONG_S = 10.0
FLUSH_STATES = frozenset({State.FLUSH_DUE, State.FLUSH_ONLY_DUE})


def _until(view: Conversation, connection: Connection) -> float:
    """The time (s) until which the evidence shows the connection."""
    return view.now if connection.closed is None else connection.closed.time


def _by_client(connection: Connection) -> bool:
    return connection.closed is not None and connection.closed.by is Side.CLIENT


def _died(view: Conversation, connection: Connection) -> bool:
    host = server_of(view, connection)
    ended = connection.closed is not None and connection.closed.how is Ending.DIED
    return ended or (host is not None and host.died is not None)


@at_end
def client_stays(view: Conversation) -> Iterator[Ruling]:
    """The source drops a client that is still connected when the source's wait ends."""
    for migration in view.migrations:
        source, ended = migration.source.main, migration.ended
        host = server_of(view, source)
        virtual = host is not None and bool(host.settings.get("virtual_clock"))
        if ended is None or not source.certain or virtual or _died(view, source):
            continue
        waits = ended.type in (END, MsgBase.SPICE_MSG_MIGRATE)
        waits = waits or (ended.type == SWITCH and migration.begin is not None)
        stayed = _until(view, source) - ended.time
        if waits and stayed > WAIT_S + LATE_S:
            yield Broken(
                "MIG-SRC-037",
                f"the end of the connection {WAIT_S:.0f} s after {ended.name}",
                f"still open after {stayed:.0f} s",
                source.closed or ended,
            )


def _gone_on(migration: Migration | None) -> bool:
    """Whether the client has taken its session to the target."""
    target = migration.target if migration is not None else None
    return target is not None and target.main.state is State.READY


@at_end
def flush_mark_missing(view: Conversation) -> Iterator[Ruling]:
    """A client that continues the migration answers SPICE_MSG_MIGRATE with FLUSH_MARK."""
    for connection in view.connections.values():
        asked = connection.migrate
        if asked is None or connection.state not in FLUSH_STATES or not connection.certain:
            continue
        migration = connection.session.migration if connection.session is not None else None
        left = _by_client(connection) and _gone_on(migration)
        if _died(view, connection) or not (left or _until(view, connection) - asked.time > ANSWER_S):
            continue
        yield Broken("MIG-CLI-009", "FLUSH_MARK, for which SPICE_MSG_MIGRATE asks", "none", asked)


@at_end
def data_not_relayed(view: Conversation) -> Iterator[Ruling]:
    """The client sends the MIGRATE_DATA of a source's channel to the target's channel."""
    for migration in view.migrations:
        target = migration.target
        if target is None or not _gone_on(migration):
            continue
        for step in migration.steps:
            if step.sender is not Side.SERVER or step.type != MsgBase.SPICE_MSG_MIGRATE_DATA:
                continue
            if _not_relayed(view, view.connections[step.connection], list(target.connections())):
                yield Broken("MIG-CLI-010", "the target's channel gets this", "it does not", step)


def _not_relayed(view: Conversation, source: Connection, target: list[Connection]) -> bool:
    key = source.channel, source.channel_id
    twin = next((c for c in target if (c.channel, c.channel_id) == key), None)
    if twin is None or twin.state is not State.TARGET_RESTORING or not twin.certain:
        return False
    if _died(view, twin) or (twin.closed is not None and twin.closed.by is not Side.CLIENT):
        return False
    return _by_client(source) and _until(view, twin) - _until(view, source) > RELAY_S


@at_end
def answers_missing(view: Conversation) -> Iterator[Ruling]:
    """The server sends the answers that are due on main: INIT, DST_SEAMLESS_ACK or NACK, CHANNELS_LIST."""
    for connection in view.connections.values():
        if not connection.is_main or not connection.linked or not connection.certain:
            continue
        last = connection.last[Side.CLIENT]
        began = connection.result
        if began is None or _died(view, connection):
            continue
        since = last.time if last is not None else began.time
        if _until(view, connection) - since <= ANSWER_S:
            continue
        event = last or began
        if connection.state is State.LINKED:
            yield Broken("MAIN-001", "INIT", "nothing", began)
        elif connection.state is State.TARGET_ASKED:
            yield Broken("MIG-DST-020", "DST_SEAMLESS_ACK or NACK", "no answer to DST_DO_SEAMLESS", event)
        elif connection.state in INIT_DUE:
            yield Broken("MIG-DST-004", "INIT after the client's MIGRATE_END", "none", event)
        elif _list_owed(connection):
            yield Broken("MAIN-008", "CHANNELS_LIST after ATTACH_CHANNELS", "none", event)


def _list_owed(connection: Connection) -> bool:
    session = connection.session
    asked = MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS in connection.said
    ready = connection.state is State.READY
    listed = connection.shown[Side.SERVER, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST] > 0
    return asked and ready and session is not None and not listed and session.arrived is None


@at_end
def channels_silent(view: Conversation) -> Iterator[Ruling]:
    """At the target, a channel whose server speaks first does so once the session has begun."""
    for session in view.sessions:
        init = next((s for s in session.arrived.steps if _is_init(s)), None) if session.arrived else None
        if init is None or init.connection != session.main.number:
            continue
        for channel in session.channels:
            if channel.state is not State.OPEN or channel.messages[Side.SERVER] or not channel.certain:
                continue
            waited = min(_until(view, channel), _until(view, session.main)) - init.time
            linked = channel.result is not None and channel.result.time < init.time
            if linked and speaks_first(channel) and waited > ANSWER_S and not _died(view, channel):
                seen = f"not a message in {waited:.0f} s"
                yield Broken("MIG-DST-006", "the channel works after MIGRATE_END", seen, init)


def _is_init(step: Message) -> bool:
    return step.sender is Side.SERVER and step.name == "SPICE_MSG_MAIN_INIT"


@at_end
def pong_owed(view: Conversation) -> Iterator[Ruling]:
    """The client answers each PING before later PINGs, and before messages that it sends long after it on the
    same channel."""
    for connection in view.connections.values():
        if not connection.certain:
            continue
        if connection.passed_over is not None:
            seen = "none, though it has answered a later PING"
            yield Broken("MIG-CLI-021", "PONG", seen, connection.passed_over)
        elif connection.unanswered and (waited := _waited(connection, connection.unanswered[0])) > PONG_S:
            seen = f"none, {waited:.0f} s after the PING"
            yield Broken("MIG-CLI-021", "PONG", seen, connection.unanswered[0])


@at_end
def sync_owed(view: Conversation) -> Iterator[Ruling]:
    """The client answers SET_ACK before messages that it sends long after it on the same channel."""
    for connection in view.connections.values():
        asked = connection.unsynced
        if asked is not None and connection.certain and (waited := _waited(connection, asked)) > PONG_S:
            seen = f"none, {waited:.0f} s after SET_ACK"
            yield Broken("MIG-CLI-014", "ACK_SYNC with the generation of SET_ACK", seen, asked)


def _waited(connection: Connection, question: Message) -> float:
    """The time (s) from the server's question to the client's last message that the evidence shows."""
    last = connection.last[Side.CLIENT]
    return last.time - question.time if last is not None else 0.0


@at_end
def target_goes_on(view: Conversation) -> Iterator[Ruling]:
    """After MIGRATE_DATA on main the target continues the session and sends MULTI_MEDIA_TIME."""
    for migration in view.migrations:
        session, data = migration.target, _main_data(migration)
        if session is None or data is None or not session.main.certain or _died(view, session.main):
            continue
        if not session.main.shown[Side.SERVER, MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK]:
            continue  # the target has not agreed to a seamless migration
        if migration.data.get((session.main.channel, session.main.channel_id)) != data.body:
            continue  # not the source's data: the target may refuse it
        if _changed(migration, data):
            continue  # then it need only continue the session
        if session.clock is not None and session.clock[0] >= data.time:
            yield from map(Kept, ("MIG-DST-024", "MIG-DST-025"))
            continue
        waited = _until(view, session.main) - data.time
        spoke = any(last is not None and last.time > data.time for last in _last_words(session))
        if waited > ANSWER_S and spoke and not _plays(session):
            yield Broken(
                "MIG-DST-025", "MULTI_MEDIA_TIME after MIGRATE_DATA", f"none in {waited:.0f} s", data
            )
        elif not spoke and _by_server(session.main):
            if not (_another_changed(view, migration) or _may_end(view, session, data)):
                seen = "the end of the connection"
                yield Broken("MIG-DST-024", "the session goes on after MIGRATE_DATA", seen, data)
        elif not spoke and waited > ANSWER_S:
            # Releases before 0.14.3 send nothing on main: there a picture is the first word.
            alone = not any(c.channel == ChannelType.SPICE_CHANNEL_DISPLAY for c in session.connections())
            seen = f"not a message in {waited:.0f} s"
            if alone:
                yield Broken("MIG-DST-025", "MULTI_MEDIA_TIME after MIGRATE_DATA", seen, data)
            else:
                yield Broken("MIG-DST-024", "the session goes on after MIGRATE_DATA", seen, data)


def _may_end(view: Conversation, session: Session, data: Message) -> bool:
    """Whether the target may end the session after MIGRATE_DATA: another client takes it over, or the server
    refuses what the client has said since."""
    said = session.main.last[Side.CLIENT]
    answers = (MsgcBase.SPICE_MSGC_ACK_SYNC, MsgcBase.SPICE_MSGC_ACK, MsgcBase.SPICE_MSGC_PONG)
    asked = said is not None and said.time > data.time and said.type not in answers
    return asked or is_taken_over(view, session)


def _plays(session: Session) -> bool:
    """Whether its machine plays sound: then the sound's time counts, and main sends none (server/sound.cpp,
    playback_channel_client_start)."""
    sound = (c for c in session.channels if c.channel == ChannelType.SPICE_CHANNEL_PLAYBACK)
    return any(c.shown[Side.SERVER, MsgPlayback.SPICE_MSG_PLAYBACK_START] for c in sound)


def _main_data(migration: Migration) -> Message | None:
    """The client's MIGRATE_DATA on the target's main channel."""
    target = migration.target.main.number if migration.target is not None else None
    data = MsgcBase.SPICE_MSGC_MIGRATE_DATA
    steps = (s for s in migration.steps if s.sender is Side.CLIENT and s.type == data)
    return next((step for step in steps if step.connection == target), None)


def _another_changed(view: Conversation, migration: Migration) -> bool:
    """Whether the client brought other MIGRATE_DATA on any channel than the evidence has of the source: the
    target may refuse it."""
    data = (
        s for s in migration.steps if s.type == MsgcBase.SPICE_MSGC_MIGRATE_DATA and s.sender is Side.CLIENT
    )
    for step in data:
        channel = view.connection(step)
        given = migration.data.get((channel.channel, channel.channel_id))
        if given != step.body:
            return True
    return False


def _changed(migration: Migration, brought: Message) -> bool:
    """Whether the client's MIGRATE_DATA differs from the source's, where both were seen."""
    source, data = migration.source.main.number, MsgBase.SPICE_MSG_MIGRATE_DATA
    steps = (s for s in migration.steps if s.sender is Side.SERVER and s.type == data)
    given = [step.body for step in steps if step.connection == source]
    return bool(given) and brought.body not in given


def _last_words(session: Session) -> Iterator[Message | None]:
    """The server's last message on each channel."""
    return (connection.last[Side.SERVER] for connection in session.connections())


def _by_server(connection: Connection) -> bool:
    return connection.closed is not None and connection.closed.by is Side.SERVER
