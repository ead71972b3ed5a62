# SPDX-License-Identifier: GPL-2.0-only
"""Rules for the source: the announcement, and the message that ends the migration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dissectors.conversation.connection_states import CONNECTED as CONNECTED_PLAIN
from dissectors.conversation.connection_states import CONNECTED_SEAMLESS, WAITING, State
from dissectors.conversation.conversation import ANSWERS, Connection, Conversation, Migration, Server
from dissectors.conversation.main_order import ACCEPTANCES, ANNOUNCEMENTS
from dissectors.framing.events import Closed, Ending, HostEvent, Message
from dissectors.rules.migration_facts import (
    BEGIN,
    BEGIN_SEAMLESS,
    CONNECTED,
    END,
    NEWEST_VERSION,
    SETTLED_S,
    SWITCH,
    WAIT_S,
    last_call,
    server_of,
    watched,
)
from dissectors.rules.rule_engine import Broken, Kept, Ruling, check, on
from dissectors.wire.constants import MainCap, MsgBase, MsgMain, Side

CANCEL = MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL
CONNECTED_STATES = CONNECTED_PLAIN | CONNECTED_SEAMLESS
TIMER_EARLY_S = 0.005  # a host's timer on the real clock
UNSET_PORT = 0xFFFF


@on(Message, *ANNOUNCEMENTS)
def announcement(view: Conversation, event: Message) -> Iterator[Ruling]:
    """BEGIN, BEGIN_SEAMLESS and SWITCH_HOST: the client's capabilities, the time, and the address."""
    connection = view.connection(event)
    if event.sender is not Side.SERVER or not connection.is_main or event.type not in ANNOUNCEMENTS:
        return
    packet = event.packet
    switch = event.type == SWITCH
    if not packet.problems():
        yield check("MIG-SRC-007", bool(packet.host), "a host name or address inside the message", "none")
        yield from _terminated(packet)
    if connection.mess is not None and not switch:
        cap = MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE
        if event.type == BEGIN_SEAMLESS:
            cap = MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE
        able = cap in connection.client_caps
        yield check("MIG-SRC-002", able, f"no announcement to a client without {cap.name[15:]}", event.name)
    if event.type == BEGIN_SEAMLESS:
        yield from _seamless_terms(connection, event)
    if switch:
        yield from _switch_repeats(connection, event)
    elif _cancelled_before(connection):
        yield Kept("MIG-SRC-025")
    host = server_of(view, connection)
    if watched(host) and event.whole:
        yield from _as_called(host, event, packet)


def _seamless_terms(connection: Connection, event: Message) -> Iterator[Ruling]:
    """BEGIN_SEAMLESS: both sides' capabilities, and the version of the migration data."""
    both = connection.client_caps & connection.server_caps
    able = MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE in both or connection.mess is None
    yield check("MIG-SRC-009", able, "BEGIN: not both sides have SEAMLESS_MIGRATE", event.name)
    tokens = MainCap.SPICE_MAIN_CAP_AGENT_CONNECTED_TOKENS in connection.client_caps
    able = tokens or connection.mess is None
    yield check("MIG-SRC-009", able, "BEGIN: the client has no AGENT_CONNECTED_TOKENS", event.name)
    if not event.holds("src_mig_version"):
        return
    version = int(event.packet.src_mig_version)
    yield check(
        "MIG-SRC-010", 1 <= version <= NEWEST_VERSION, f"src_mig_version 1..{NEWEST_VERSION}", version
    )


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


def _switch_repeats(connection: Connection, event: Message) -> Iterator[Ruling]:
    """SWITCH_HOST names the same address as BEGIN."""
    session = connection.session
    migration = session.migration if session is not None else None
    if migration is None or migration.begin is None or migration.ended is not None:
        return
    if not event.whole or not migration.known:
        return
    packet = event.packet
    announced = (migration.host, migration.port, migration.tls_port, migration.subject)
    now = (_text(packet.host), int(packet.port), int(packet.sport), packet.cert_subject)
    yield check("MIG-SRC-019", now == announced, f"the address of BEGIN: {announced}", now)


def _as_called(host: Server | None, event: Message, packet: Any) -> Iterator[Ruling]:
    """The announced address is the one of migrate_connect."""
    called = last_call(host, "migrate_connect", event.time) or last_call(host, "migrate_info", event.time)
    if called is None:
        yield Broken("MIG-SRC-014", "no announcement before migrate_connect", event.name)
        return
    yield Kept("MIG-SRC-014")
    args = called.args
    subject = args.get("subject")
    wanted = {
        "MIG-SRC-003": ("host", args.get("host"), _text(packet.host)),
        "MIG-SRC-004": ("port", _port(args.get("port"), packet.port), int(packet.port)),
        "MIG-SRC-005": ("sport", _port(args.get("tls_port"), packet.sport), int(packet.sport)),
        "MIG-SRC-006": ("subject", subject, _text(packet.cert_subject)),
    }
    for requirement, (what, due, seen) in wanted.items():
        yield check(requirement, due == seen, f"{what} {due!r}", f"{what} {seen!r}")
    if event.type in (BEGIN, BEGIN_SEAMLESS) and host is not None and "seamless" in host.settings:
        yield from _scheme(host, event)


def _scheme(host: Server, event: Message) -> Iterator[Ruling]:
    if not host.settings.get("seamless"):
        yield check("MIG-SRC-009", event.type == BEGIN, "BEGIN: seamless migration is off", event.name)


@on(Message, BEGIN)
def seamless_offered(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The source sends BEGIN_SEAMLESS where both sides have SEAMLESS_MIGRATE and it is switched on."""
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


def _port(value: object, seen: int) -> int:
    """A port as on the wire. A port that was left out is -1 (QEMU), or 0 (some orchestrators)."""
    if value is None:
        return 0 if seen == 0 else UNSET_PORT
    return int(str(value)) & 0xFFFF


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


@on(Message, END, SWITCH, CANCEL, MsgBase.SPICE_MSG_MIGRATE)
def source_end(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The client's answer and the host's calls decide which message ends the migration at the source."""
    connection = view.connection(event)
    session = connection.session
    if event.sender is not Side.SERVER or session is None or not connection.is_main or not connection.certain:
        return
    if event.type not in (END, SWITCH, CANCEL, MsgBase.SPICE_MSG_MIGRATE):
        return
    host = server_of(view, connection)
    if watched(host):
        yield from _after_call(host, connection, event)
    if event.type == SWITCH and connection.state in CONNECTED_STATES:
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
    elif event.type == CANCEL and connection.state in CONNECTED_STATES:
        yield Kept("MIG-SRC-017")


def _cancelled_before(connection: Connection) -> bool:
    """Whether the source cancelled the earlier migration, which its client had accepted."""
    earlier = connection.session.migration if connection.session is not None else None
    if earlier is None or earlier.answer is None or earlier.ended is None:
        return False
    return earlier.answer.type in ACCEPTANCES and earlier.ended.type == CANCEL


def _in_time(host: Server | None, migration: Migration | None, answer: Message, event: Message) -> bool:
    """Whether the answer surely reached the source during its wait, before the migration ended."""
    begin = migration.begin if migration else None
    if begin is None or answer.time - begin.time > WAIT_S:
        return False
    if host is not None and host.settings.get("callbacks"):
        done = [c.time for c in host.calls if c.name == "migrate_connect_complete" and c.time >= begin.time]
        ended = last_call(host, "migrate_end", event.time)
        return bool(done) and done[0] >= answer.time and ended is not None and done[0] < ended.time
    return event.time - answer.time > SETTLED_S


def _after_call(host: Server | None, connection: Connection, event: Message) -> Iterator[Ruling]:
    """END, SWITCH_HOST and MIGRATE come only after migrate_end(1), CANCEL only for a documented cause."""
    called = last_call(host, "migrate_end", event.time)
    switched = last_call(host, "migrate_switch", event.time)
    connected = last_call(host, "migrate_connect", event.time)
    if event.type in (END, SWITCH, MsgBase.SPICE_MSG_MIGRATE):
        fine = called is not None and bool(called.args.get("completed"))
        fine = fine and (connected is None or connected.time < called.time)  # type: ignore[union-attr]
        fine = fine or (event.type == SWITCH and switched is not None)
        yield check("MIG-SRC-016", fine, "nothing that ends the migration before migrate_end(1)", event.name)
    elif event.type == CANCEL and connection.state in CONNECTED_STATES:
        failed = called is not None and not called.args.get("completed")
        again = connected is not None and _answered_before(connection, connected)
        yield Kept("MIG-SRC-024")  # an announcement came before it
        if not failed and not again and _came_late(host, connection):
            return
        yield check(
            "MIG-SRC-017",
            failed or again,
            "CANCEL only after migrate_end(0) or a new migrate_connect",
            event.name,
        )


def _came_late(host: Server | None, connection: Connection) -> bool:
    """Whether the source no longer waited when the client's answer came. On a slow line the client may have
    sent it earlier."""
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
    timed_out = any(seconds >= WAIT_S - TIMER_EARLY_S for seconds in waited)
    too_late = any(begun <= c.time < migration.answer.time for c in done)
    return migration.answer.time - begun > WAIT_S or too_late or timed_out


def _passed(call: HostEvent | None, event: HostEvent) -> float:
    """Seconds from the call to the event on the host's own clock; 0 if that clock is unknown."""
    if call is None or call.clock_ms is None or event.clock_ms is None:
        return 0.0
    return (event.clock_ms - call.clock_ms) / 1000


def _answered_before(connection: Connection, call: HostEvent) -> bool:
    """Whether the client had answered the current announcement before the hypervisor's new call."""
    migration = connection.session.migration if connection.session is not None else None
    return migration is not None and migration.answer is not None and migration.answer.time < call.time


@on(Closed)
def source_owes(view: Conversation, event: Closed) -> Iterator[Ruling]:
    """After migrate_end the source sends the message that ends the migration before the connection closes."""
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
    }.get((_stands_for(connection.state), completed))
    if owed is not None:
        yield Broken(owed[0], owed[1], f"nothing; the connection ended: {event.how}")


def _stands_for(state: State) -> State:
    """The state without repeated answers: they change nothing."""
    if state in CONNECTED_PLAIN:
        return State.CONNECTED
    return State.CONNECTED_SEAMLESS if state in CONNECTED_SEAMLESS else state


@on(Closed)
def silent_to_the_end(view: Conversation, event: Closed) -> Iterator[Ruling]:
    """The message that ends the migration is the source's last (the order table finds any later one)."""
    connection = view.connection(event)
    if connection.is_main and connection.certain and connection.state in (State.ENDED, State.SWITCHED):
        last = connection.last[Side.SERVER]
        if last is not None and last.type in (END, SWITCH, CANCEL, MsgBase.SPICE_MSG_PING):
            yield Kept("MIG-SRC-023")


@on(Message, CANCEL)
def late_answer(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The source answers a late CONNECTED with MIGRATE_CANCEL, and nothing else."""
    connection = view.connection(event)
    if event.sender is not Side.SERVER or event.type != CANCEL or not connection.is_main:
        return
    if connection.state not in {State.READY, State.SWITCHED, *WAITING}:
        return
    late = any(kind in connection.said for kind in CONNECTED)
    if connection.mess is not None and connection.certain:  # each late CONNECTED has its CANCEL
        answers = sum(connection.shown[Side.CLIENT, kind] for kind in CONNECTED)
        late = connection.shown[Side.SERVER, CANCEL] < answers
    session = connection.session
    migration = session.migration if session is not None else None
    announced = migration is not None and migration.ended is None and connection.state is State.READY
    yield check("MIG-SRC-024", late or announced, "CANCEL only if something was announced", event.name)
