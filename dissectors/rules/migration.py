# SPDX-License-Identifier: GPL-2.0-only
"""What source, target and client owe each other across connections and hosts in a migration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dissectors.constants import LinkErr, MainCap, MsgBase, MsgcBase, MsgcMain, MsgMain, Side
from dissectors.conversation import ANSWERS, Connection, Conversation, Migration, Server, link_error
from dissectors.events import Closed, Ending, HostEvent, LinkBytes, Message, Opened
from dissectors.rules.engine import Broken, Kept, Ruling, at_end, check, on
from dissectors.rules.tables import ANNOUNCEMENTS, INIT_DUE, WAITING, State

BEGIN = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN
BEGIN_SEAMLESS = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS
SWITCH = MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST
END = MsgMain.SPICE_MSG_MAIN_MIGRATE_END
CANCEL = MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL

CONNECTED = (
    MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED,
    MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS,
)

#: How long the source waits for the client's answer (server/reds-private.h, MIGRATE_TIMEOUT), seconds.
WAIT_S = 10.0
TIMER_EARLY_S = 0.005  # a host's timer on the real clock
#: An answer that is this old when the migration ends has surely arrived, seconds.
SETTLED_S = 2.0
UNSET_PORT = 0xFFFF
#: The newest format of MIGRATE_DATA (server/migration-protocol.h, SPICE_MIGRATION_PROTOCOL_VERSION).
NEWEST_VERSION = 1


def server_of(view: Conversation, connection: Connection) -> Server | None:
    """The host that a connection leads to."""
    return view.hosts[connection.host] if connection.host >= 0 else None


def last_call(host: Server | None, name: str, before: float) -> HostEvent | None:
    """The latest call of that name."""
    calls = [c for c in host.calls if c.name == f"call:{name}" and c.time <= before] if host else []
    return calls[-1] if calls else None


def watched(host: Server | None) -> bool:
    """What the host was told to do is known."""
    return host is not None and bool(host.settings)


@on(Message)
def announcement(view: Conversation, event: Message) -> Iterator[Ruling]:
    """BEGIN, BEGIN_SEAMLESS and SWITCH_HOST: to whom, when, and with whose address."""
    connection = view.connection(event)
    if event.sender is not Side.SERVER or not connection.is_main or event.type not in ANNOUNCEMENTS:
        return
    packet = event.packet
    switch = event.type == SWITCH
    if not packet.problems():
        yield check("MIG-SRC-007", bool(packet.host), "a host name or address inside the message", "none")
        yield from _terminated(packet)
    if connection.mess is not None and not switch:
        able = MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE in connection.client_caps
        yield check("MIG-SRC-002", able, "no BEGIN to a client without SEMI_SEAMLESS_MIGRATE", event.name)
    if event.type == BEGIN_SEAMLESS:
        both = connection.client_caps & connection.server_caps
        able = MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE in both or connection.mess is None
        yield check("MIG-SRC-009", able, "BEGIN: not both sides have SEAMLESS_MIGRATE", event.name)
        tokens = MainCap.SPICE_MAIN_CAP_AGENT_CONNECTED_TOKENS in connection.client_caps
        able = tokens or connection.mess is None
        yield check("MIG-SRC-009", able, "BEGIN: the client has no AGENT_CONNECTED_TOKENS", event.name)
        version = int(packet.src_mig_version)
        yield check(
            "MIG-SRC-010", 1 <= version <= NEWEST_VERSION, f"src_mig_version 1..{NEWEST_VERSION}", version
        )
    if switch:
        yield from _switch_repeats(connection, packet)
    host = server_of(view, connection)
    if watched(host):
        yield from _as_called(host, event, packet)


def _terminated(packet: Any) -> Iterator[Ruling]:
    """The sizes count the NUL that ends each string."""
    tail = getattr(packet, "tail", b"") or b""
    for name in ("host", "cert_subject"):
        size, offset = getattr(packet, f"{name}_size"), getattr(packet, f"{name}_offset")
        if not size or not offset:
            continue
        start = offset - (len(bytes(packet)) - len(tail))
        block = tail[start : start + size]
        yield check("MIG-SRC-008", block.endswith(b"\0"), f"{name} with its NUL", repr(block[-12:]))


def _switch_repeats(connection: Connection, packet: Any) -> Iterator[Ruling]:
    """SWITCH_HOST leads to where BEGIN led."""
    session = connection.session
    migration = session.migration if session is not None else None
    if migration is None or migration.begin is None or migration.ended is not None:
        return
    told = (migration.host, migration.port, migration.tls_port, migration.subject)
    now = (_text(packet.host), int(packet.port), int(packet.sport), packet.cert_subject)
    yield check("MIG-SRC-019", now == told, f"the address of BEGIN: {told}", now)


def _as_called(host: Server | None, event: Message, packet: Any) -> Iterator[Ruling]:
    """The address is the one that the hypervisor gave."""
    called = last_call(host, "migrate_connect", event.time) or last_call(host, "migrate_info", event.time)
    if called is None:
        yield Broken("MIG-SRC-014", "no announcement before migrate_connect", event.name)
        return
    yield Kept("MIG-SRC-014")
    args = called.args
    subject = args.get("subject")
    wanted = {
        "MIG-SRC-003": ("host", args.get("host"), _text(packet.host)),
        "MIG-SRC-004": ("port", _port(args.get("port")), int(packet.port)),
        "MIG-SRC-005": ("sport", _port(args.get("tls_port")), int(packet.sport)),
        "MIG-SRC-006": ("subject", subject, _text(packet.cert_subject)),
    }
    for requirement, (what, due, seen) in wanted.items():
        yield check(requirement, due == seen, f"{what} {due!r}", f"{what} {seen!r}")
    if event.type in (BEGIN, BEGIN_SEAMLESS) and host is not None and "seamless" in host.settings:
        yield from _scheme(host, event)


def _scheme(host: Server, event: Message) -> Iterator[Ruling]:
    if not host.settings.get("seamless"):
        yield check("MIG-SRC-009", event.type == BEGIN, "BEGIN: seamless migration is off", event.name)


@on(Message)
def seamless_offered(view: Conversation, event: Message) -> Iterator[Ruling]:
    """Where both sides can do it, the announcement is the seamless one."""
    connection = view.connection(event)
    if (
        event.sender is not Side.SERVER
        or not connection.is_main
        or event.type != BEGIN
        or connection.mess is None
    ):
        return
    both = connection.client_caps & connection.server_caps
    host = server_of(view, connection)
    if host is None or not host.settings.get("seamless"):
        return  # whether it is switched on cannot be seen
    needed = {MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE, MainCap.SPICE_MAIN_CAP_AGENT_CONNECTED_TOKENS}
    others = [s for s in view.sessions if s.host == connection.host and s.main.closed is None]
    if needed <= both and len(others) == 1:
        yield Broken("MIG-SRC-011", "BEGIN_SEAMLESS: both sides have SEAMLESS_MIGRATE", event.name)


def _port(value: object) -> int:
    """As it goes on the wire: a port that was left out is -1."""
    return UNSET_PORT if value is None else int(str(value)) & 0xFFFF


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


@on(Message)
def source_end(view: Conversation, event: Message) -> Iterator[Ruling]:
    """How a migration ends at the source follows from the client's answer and from the host's calls."""
    connection = view.connection(event)
    session = connection.session
    if event.sender is not Side.SERVER or session is None or not connection.is_main or not connection.certain:
        return
    if event.type not in (END, SWITCH, CANCEL, MsgBase.SPICE_MSG_MIGRATE):
        return
    host = server_of(view, connection)
    if watched(host):
        yield from _after_call(host, connection, event)
    if event.type == SWITCH and connection.state in (State.CONNECTED, State.CONNECTED_SEAMLESS):
        migration = session.migration
        answer = migration.answer if migration else None
        begin = migration.begin if migration else None
        if answer is not None and begin is not None and _in_time(host, migration, answer, event):
            yield Broken("MIG-SRC-015", "MIGRATE_END (or MIGRATE) to a client that is connected", event.name)
    elif event.type == SWITCH and connection.state in (
        State.REFUSED,
        State.ANNOUNCED,
        State.ANNOUNCED_SEAMLESS,
        State.READY,
    ):
        yield Kept("MIG-SRC-018")
    elif event.type == CANCEL and connection.state in (State.CONNECTED, State.CONNECTED_SEAMLESS):
        yield Kept("MIG-SRC-017")


def _in_time(host: Server | None, migration: Migration | None, answer: Message, event: Message) -> bool:
    """The answer surely reached the source while it waited, and before the migration ended."""
    begin = migration.begin if migration else None
    if begin is None or answer.time - begin.time > WAIT_S:
        return False
    if host is not None and host.settings.get("callbacks"):
        done = [c.time for c in host.calls if c.name == "migrate_connect_complete" and c.time >= begin.time]
        ended = last_call(host, "migrate_end", event.time)
        return bool(done) and done[0] >= answer.time and ended is not None and done[0] < ended.time
    return event.time - answer.time > SETTLED_S


def _after_call(host: Server | None, connection: Connection, event: Message) -> Iterator[Ruling]:
    """END, SWITCH_HOST and MIGRATE only after a successful migrate_end, CANCEL only for a reason."""
    called = last_call(host, "migrate_end", event.time)
    switched = last_call(host, "migrate_switch", event.time)
    connected = last_call(host, "migrate_connect", event.time)
    if event.type in (END, SWITCH, MsgBase.SPICE_MSG_MIGRATE):
        fine = called is not None and bool(called.args.get("completed"))
        fine = fine and (connected is None or connected.time < called.time)  # type: ignore[union-attr]
        fine = fine or (event.type == SWITCH and switched is not None)
        yield check("MIG-SRC-016", fine, "nothing that ends the migration before migrate_end(1)", event.name)
    elif event.type == CANCEL and connection.state in (State.CONNECTED, State.CONNECTED_SEAMLESS):
        failed = called is not None and not called.args.get("completed")
        again = connected is not None and host is not None and _announced_twice(host)
        if not failed and not again and _came_late(host, connection):
            yield Kept("MIG-SRC-024")
            return
        yield check(
            "MIG-SRC-017",
            failed or again,
            "CANCEL only after migrate_end(0) or a new migrate_connect",
            event.name,
        )


def _came_late(host: Server | None, connection: Connection) -> bool:
    """The client's answer came when the source had stopped to wait for it: on a slow line it may have been
    said before that."""
    migration = connection.session.migration if connection.session is not None else None
    if migration is None or migration.answer is None or migration.begin is None:
        return False
    begun = migration.begin.time
    answers = [step for step in migration.steps if step.sender is Side.CLIENT and step.type in ANSWERS]
    if len(answers) > 1:
        return True  # the first one ended the wait
    done = [c for c in host.calls if c.name == "migrate_connect_complete"] if host else []
    called = last_call(host, "migrate_connect", begun)
    waited = [_passed(called, c) for c in done if c.time >= begun]
    in_vain = any(seconds >= WAIT_S - TIMER_EARLY_S for seconds in waited)
    too_late = any(begun <= c.time < migration.answer.time for c in done)
    return migration.answer.time - begun > WAIT_S or too_late or in_vain


def _passed(call: HostEvent | None, event: HostEvent) -> float:
    """Seconds on the host's own clock; 0 if it does not tell."""
    if call is None or call.clock_ms is None or event.clock_ms is None:
        return 0.0
    return (event.clock_ms - call.clock_ms) / 1000


def _announced_twice(host: Server) -> bool:
    return sum(c.name == "call:migrate_connect" for c in host.calls) > 1


@on(Closed)
def source_owes(view: Conversation, event: Closed) -> Iterator[Ruling]:
    """A client that waited in vain for the end of a migration which the host has ended."""
    connection = view.connection(event)
    host = server_of(view, connection)
    session = connection.session
    if session is None or not connection.is_main or not connection.certain or event.how is Ending.DIED:
        return
    if not watched(host) or host is None or not host.settings.get("calls"):
        return
    called = last_call(host, "migrate_end", event.time)
    migration = session.migration
    if called is None or migration is None or migration.begin is None or migration.begin.time > called.time:
        return
    if event.by is Side.CLIENT and event.time - called.time < 1.0:
        return
    completed = bool(called.args.get("completed"))
    if migration.ended is not None:
        return
    owed = {
        (State.CONNECTED, True): ("MIG-SRC-015", "MIGRATE_END after migrate_end(1)"),
        (State.CONNECTED_SEAMLESS, True): ("MIG-SRC-040", "SPICE_MSG_MIGRATE after migrate_end(1)"),
        (State.CONNECTED, False): ("MIG-SRC-017", "MIGRATE_CANCEL after migrate_end(0)"),
        (State.CONNECTED_SEAMLESS, False): ("MIG-SRC-017", "MIGRATE_CANCEL after migrate_end(0)"),
        (State.REFUSED, True): ("MIG-SRC-018", "SWITCH_HOST after migrate_end(1)"),
        (State.ANNOUNCED, True): ("MIG-SRC-018", "SWITCH_HOST after migrate_end(1)"),
        (State.ANNOUNCED_SEAMLESS, True): ("MIG-SRC-018", "SWITCH_HOST after migrate_end(1)"),
    }.get((connection.state, completed))
    if owed is not None:
        yield Broken(owed[0], owed[1], f"nothing; the connection ended: {event.how}")


@on(Closed)
def silent_to_the_end(view: Conversation, event: Closed) -> Iterator[Ruling]:
    """Nothing followed the message that ended the migration (the order table finds what did)."""
    connection = view.connection(event)
    if connection.is_main and connection.certain and connection.state in (State.ENDED, State.SWITCHED):
        last = connection.last[Side.SERVER]
        if last is not None and last.type in (END, SWITCH, CANCEL, MsgBase.SPICE_MSG_PING):
            yield Kept("MIG-SRC-023")


@on(Message)
def late_answer(view: Conversation, event: Message) -> Iterator[Ruling]:
    """A CONNECTED that comes when nobody waits for it is met with MIGRATE_CANCEL; nothing else is."""
    connection = view.connection(event)
    if event.sender is not Side.SERVER or event.type != CANCEL or not connection.is_main:
        return
    if connection.state not in {State.READY, State.SWITCHED, *WAITING}:
        return
    late = any(kind in connection.said for kind in CONNECTED)
    session = connection.session
    announced = session is not None and session.migration is not None and connection.state is State.READY
    yield check("MIG-SRC-024", late or announced, "CANCEL only if something was announced", event.name)


@on(Message)
def target_answers(view: Conversation, event: Message) -> Iterator[Ruling]:
    """ACK for a version that the target knows, NACK for a later one."""
    connection = view.connection(event)
    question = connection.last[Side.CLIENT]
    ack, nack = (
        MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK,
        MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK,
    )
    if event.sender is not Side.SERVER or not connection.is_main or event.type not in (ack, nack):
        return
    if (
        question is None
        or question.type != MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS
        or len(question.body) < 4
    ):
        return
    version = int(question.packet.src_version)
    if version > NEWEST_VERSION:
        yield check(
            "MIG-DST-022",
            event.type == nack,
            f"NACK: version {version} is later than {NEWEST_VERSION}",
            event.name,
        )
    elif connection.state is State.TARGET_ASKED:
        host = server_of(view, connection)
        many = host is not None and bool(host.settings.get("many_clients"))
        again = connection.messages[Side.SERVER] > 0
        if not many and not again:
            yield check("MIG-DST-021", event.type == ack, f"ACK: version {version} is known", event.name)


@on(Message)
def channels_begin(view: Conversation, event: Message) -> Iterator[Ruling]:
    """After MIGRATE_END the channels that waited begin to speak."""
    connection = view.connection(event)
    if event.sender is not Side.SERVER or connection.is_main or connection.messages[Side.SERVER]:
        return
    main = connection.session.main if connection.session is not None else None
    if main is not None and main.as_target and connection.state is State.OPEN:
        yield Kept("MIG-DST-005")
        yield Kept("MIG-DST-006")


@on(Closed)
def channels_dead(view: Conversation, event: Closed) -> Iterator[Ruling]:
    """A channel that was linked to a target and never spoke once the session had begun."""
    connection = view.connection(event)
    session = connection.session
    if session is None or connection.is_main or not session.main.as_target or session.main.closed is not None:
        return
    if (
        connection.state is State.OPEN
        and not connection.messages[Side.SERVER]
        and session.main.state is State.READY
    ):
        first = next(
            c
            for c in session.channels
            if (c.channel, c.channel_id) == (connection.channel, connection.channel_id)
        )
        if first is connection and event.by is not Side.CLIENT and event.how is not Ending.DIED:
            yield Broken(
                "MIG-DST-006",
                "the channel works after MIGRATE_END",
                f"it ended without a message: {event.how}",
            )


# ---- the client's duties


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
            continue  # somebody else's new session
        yield check(
            "MIG-CLI-001", seen == due, f"connection_id {_hex(due)}, the source's session id", _hex(seen)
        )
        return


def _same_client(migration: Migration, connection: Connection) -> bool:
    """Both links come from one address."""
    one, other = migration.source.main.opened, connection.opened
    return one is not None and other is not None and one.client.host == other.client.host


def _hex(value: int | None) -> str:
    return "unknown" if value is None else f"0x{value:08x}"


@on(Message)
def client_answers(view: Conversation, event: Message) -> Iterator[Ruling]:
    """CONNECTED only once the target has accepted the link; seamless only once it has said ACK."""
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
    """Something of the target is in the evidence."""
    return any(
        c.opened is not None
        and c.opened.server.port in (migration.port, migration.tls_port)
        and c.host != migration.source.host
        for c in view.connections.values()
    )


@on(Message)
def client_moves(view: Conversation, event: Message) -> Iterator[Ruling]:
    """To the target: MIGRATE_END only after the source's, its version, its data unchanged."""
    connection = view.connection(event)
    session = connection.session
    if event.sender is not Side.CLIENT or session is None:
        return
    migration = session.arrived
    if migration is None:
        return
    if connection.is_main and event.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END:
        if connection.state in (State.TARGET_SEAMLESS, State.TARGET_REASKED):
            return  # MIGRATE_DATA was due: MIG-CLI-016 tells that
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
        yield check(
            "MIG-CLI-008", version == migration.version, f"version {migration.version}, as announced", version
        )
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
    """After SWITCH_HOST the client comes to the address that it was told."""
    for migration in reversed(view.migrations):
        if migration.ended is not None and migration.ended.type == SWITCH:
            if event.server.port in (migration.port, migration.tls_port):
                yield Kept("MIG-CLI-006")
            return


@on(LinkBytes)
def client_fresh(view: Conversation, event: LinkBytes) -> Iterator[Ruling]:
    """A session that follows SWITCH_HOST is a new one: connection_id 0."""
    connection = view.connection(event)
    if event.kind != "mess" or connection.opened is None or event.packet.problems():
        return
    if int(event.packet.channel_type) != 1 or int(event.packet.connection_id) == 0:
        return
    for migration in reversed(view.migrations):
        switched = migration.ended is not None and migration.ended.type == SWITCH
        here = connection.opened.server.port in (migration.port, migration.tls_port)
        if migration.begin is not None and int(event.packet.connection_id) == migration.source.id:
            return  # a link that answers the announcement before; its client may not have seen the end
        if switched and here and migration.source.host != connection.host:
            yield Broken(
                "MIG-CLI-006",
                "a link with connection_id 0 after SWITCH_HOST",
                _hex(int(event.packet.connection_id)),
            )
            return


@at_end
def client_silent(view: Conversation) -> Iterator[Ruling]:
    """An announcement that the client has let lie for longer than the source waits."""
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
    """The target's main channel was still there, or the client left it when it had had the time to speak."""
    ended, closed = migration.ended, target.closed
    if ended is None or closed is None:
        return True
    return closed.by is Side.CLIENT and closed.time - ended.time > SETTLED_S


@on(Closed)
def target_owes(view: Conversation, event: Closed) -> Iterator[Ruling]:
    """A target that ends the connection instead of beginning the session."""
    connection = view.connection(event)
    if connection.is_main and connection.certain and connection.state in INIT_DUE:
        host = server_of(view, connection)
        if event.by is Side.SERVER and event.how is Ending.CLOSED and not (host and host.died):
            yield Broken("MIG-DST-004", "INIT after the client's MIGRATE_END", f"the end: {event.how}")


@at_end
def client_owes(view: Conversation) -> Iterator[Ruling]:
    """After the source's MIGRATE_END the client sends its own to the target."""
    for migration in view.migrations:
        source, target = migration.source.main, migration.target
        if target is None or not target.main.certain or not source.certain:
            continue
        ended = migration.ended is not None and migration.ended.type == END
        if (
            ended
            and target.main.linked
            and target.main.state in WAITING
            and _left_waiting(migration, target.main)
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


@at_end
def refused_link_error(view: Conversation) -> Iterator[Ruling]:
    """A target that refuses the source's id where nothing else is wrong loses the session."""
    for connection in view.connections.values():
        if connection.as_target and connection.result is not None:
            if link_error(connection.result) == LinkErr.SPICE_LINK_ERR_BAD_CONNECTION_ID:
                yield Broken(
                    "MIG-DST-001",
                    "a main link with a connection_id is a migration's",
                    "BAD_CONNECTION_ID",
                    connection.result,
                )
