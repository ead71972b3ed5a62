# SPDX-License-Identifier: GPL-2.0-only
"""Did the client of a migration arrive, and if not, why; and how long each phase took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from dissectors.conversation.connection_states import State
from dissectors.conversation.conversation import Conversation
from dissectors.conversation.failed_links import Attempts, FailedLink, Reason, asked_for, how_closed
from dissectors.conversation.pairing import client_of, ended_by, sent_elsewhere
from dissectors.conversation.parties import Connection, Migration, Session
from dissectors.framing.events import Ending, Event, Message
from dissectors.wire.constants import BASE_LAST, MsgcBase, MsgcMain, MsgMain, Side

#: The messages that a target sends on main before the client's session has arrived.
NOT_YET = frozenset(
    {MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK, MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK}
)


class MigrationOutcome(StrEnum):
    """A migration's outcome for the client."""

    COMPLETED = "completed"
    SWITCHED = "switched and arrived"
    CANCELLED = "cancelled"
    LOST = "did not arrive"
    NOT_SEEN = "not seen"
    ANNOUNCED = "announced"
    MOVING = "moving"


@dataclass(frozen=True)
class Arrival:
    """The client's outcome, and the reason."""

    outcome: MigrationOutcome
    reason: Reason | None = None
    why: str = ""
    event: Event | None = None


_CUT_OFF = Arrival(
    MigrationOutcome.MOVING, Reason.CUT, "the capture ends before the target takes the session up"
)


def arrival(view: Conversation, migration: Migration, attempts: Attempts) -> Arrival:
    """A migration's outcome for its client."""
    target, ended = migration.target, migration.ended
    failed = attempts.of(migration)
    cancelled = ended is not None and ended.type == MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL
    elsewhere = target is not None and sent_elsewhere(migration, target) and begun(target, migration)
    if cancelled and not elsewhere:
        why = failed[-1].seen if failed else ""
        return Arrival(MigrationOutcome.CANCELLED, failed[-1].reason if failed else None, why, ended)
    if target is not None and begun(target, migration):
        return Arrival(MigrationOutcome.SWITCHED if switched(migration) else MigrationOutcome.COMPLETED)
    if _still_coming(view, migration, failed):
        return _CUT_OFF
    if failed and (target is None or _refused(migration) or target.main.closed is not None):
        return Arrival(MigrationOutcome.LOST, failed[-1].reason, failed[-1].seen, failed[-1].event)
    if hidden := attempts.hidden(migration):
        return _hidden(migration, hidden[-1])
    if half := _half_seen(migration):
        return Arrival(MigrationOutcome.NOT_SEEN, Reason.HALF, half)
    if target is not None and target.main.closed is not None and (ended is not None or _refused(migration)):
        return _dropped(view, target)
    return _without_target(view, migration) if ended is None or target is None else _CUT_OFF


def _still_coming(view: Conversation, migration: Migration, failed: Sequence[FailedLink]) -> bool:
    """Whether the capture ends while a link to the target is open that the client made after SWITCH_HOST:
    earlier failed links then do not decide the outcome."""
    ended = migration.ended
    if ended is None or ended.type != MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST:
        return False
    if any(attempt.event.time > ended.time for attempt in failed):
        return False
    return any(
        c.opened is not None and c.opened.time > ended.time and c.closed is None and c.session is None
        for c in view.connections.values()
        if asked_for(migration, c)
    )


def _refused(migration: Migration) -> bool:
    """The reason after the client's CONNECT_ERROR."""
    answer = migration.answer
    return answer is not None and answer.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR


def _hidden(migration: Migration, connection: Connection) -> Arrival:
    why = f"TLS to {connection.server} is not decrypted: what happens there cannot be read"
    if not _refused(migration):
        return Arrival(MigrationOutcome.NOT_SEEN, Reason.HIDDEN, why, connection.opened)
    said = f"the client says that it could not connect; {why}"
    return Arrival(MigrationOutcome.LOST, Reason.HIDDEN, said, migration.answer)


def _without_target(view: Conversation, migration: Migration) -> Arrival:
    """The reason where no target is seen, or where the source has not ended the migration."""
    where, refused = announced(migration), _refused(migration)
    if refused:
        why = f"the client says that it could not connect to {where}, of which nothing is in this capture"
        if migration.ended is None:
            return Arrival(MigrationOutcome.LOST, Reason.CLIENT, why, migration.answer)
        return Arrival(MigrationOutcome.NOT_SEEN, Reason.ABSENT, why)
    if migration.ended is None:
        return _unfinished(view, migration)
    return Arrival(
        MigrationOutcome.NOT_SEEN, Reason.ABSENT, f"no SPICE connection to {where} is in this capture"
    )


def switched(migration: Migration) -> bool:
    """Whether SWITCH_HOST ended it, or was lost and the client has a new session at the target."""
    target = migration.target
    ordinary = target is not None and target.main.mess is not None and not target.main.as_target
    return ordinary or ended_by(migration, MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST)


def _half_seen(migration: Migration) -> str | None:
    """The reason where the capture has only one direction of the deciding connection."""
    for session in filter(None, (migration.target, migration.source)):
        main = session.main
        if len(main.heard) == 1:
            (side,) = main.heard
            said = f"; the client has said {step.name}" if (step := _last_word(migration, main)) else ""
            return f"of the connection to {main.server} only what the {side} says is in the capture{said}"
    return None


def _last_word(migration: Migration, main: Connection) -> Message | None:
    """The client's last step that the capture shows on that connection."""
    said = [s for s in migration.steps if s.connection == main.number and s.sender is Side.CLIENT]
    return said[-1] if said else None


def _unfinished(view: Conversation, migration: Migration) -> Arrival:
    """The reason where the source has not ended the migration."""
    main, closed = migration.source.main, migration.source.main.closed
    if closed is None or closed.how is Ending.DIED:
        return Arrival(MigrationOutcome.ANNOUNCED)
    if not main.certain:
        why = f"bytes of the connection to {main.server} are missing: how the migration ended cannot be seen"
        return Arrival(MigrationOutcome.NOT_SEEN, Reason.HOLE, why)
    who = {Side.CLIENT: "the client", Side.SERVER: "the source", None: "somebody"}[closed.by]
    why = f"{who} {how_closed(closed)} the connection to {main.server} before the migration had ended"
    reason = Reason.CLIENT if closed.by is Side.CLIENT else Reason.DROPPED
    return Arrival(MigrationOutcome.LOST, reason, why + _taken_over(view, migration.source), closed)


def _taken_over(view: Conversation, session: Session) -> str:
    """The client that took over a session's host, as a text; empty if there is none."""
    taker = next((s for s in reversed(view.sessions) if s.replaces is session and s.arrived is None), None)
    return f": {client_of(taker)} took it over" if taker is not None else ""


def _dropped(view: Conversation, target: Session) -> Arrival:
    closed = target.main.closed
    assert closed is not None
    if not target.main.certain:
        why = f"bytes of the connection to {target.main.server} are missing: the beginning may be among them"
        return Arrival(MigrationOutcome.NOT_SEEN, Reason.HOLE, why)
    who = {Side.CLIENT: "the client", Side.SERVER: "the target", None: "somebody"}[closed.by]
    why = f"{who} {how_closed(closed)} the link at {target.main.server} before the session had begun there"
    return Arrival(MigrationOutcome.LOST, Reason.DROPPED, why + _taken_over(view, target), closed)


def begun(target: Session, migration: Migration) -> bool:
    """Whether the target has continued the session: INIT, or the state after a seamless migration."""
    main = target.main
    unsure = Side.CLIENT not in main.heard or not main.certain
    begins = unsure and _speaks_as_begun(target, migration)
    return main.state is State.READY or begins or any(map(_begins_the_target, migration.steps))


def _speaks_as_begun(target: Session, migration: Migration) -> bool:
    """Whether the target sends messages of a running session, on main or, without seamless migration, on any
    other channel."""
    shown = target.main.shown
    on_main = any(s is Side.SERVER and kind > BASE_LAST and kind not in NOT_YET for s, kind in shown)
    elsewhere = any(channel.messages[Side.SERVER] for channel in target.channels)
    return on_main or (elsewhere and migration.ended is not None and not migration.seamless)


def _begins_the_target(step: Message) -> bool:
    match step:
        case Message(sender=Side.SERVER, type=MsgMain.SPICE_MSG_MAIN_INIT):
            return True
        case Message(sender=Side.CLIENT, type=MsgcBase.SPICE_MSGC_MIGRATE_DATA):
            return True
    return False


def announced(migration: Migration) -> str:
    """The announced address as text."""
    ports = [f"{port}" for port in sorted(migration.ports)]
    return f"{migration.host or 'an unknown host'} port {' or '.join(ports) or 'unknown'}"


def unfit_address(migration: Migration) -> str | None:
    """Why no client on another machine can reach the announced address; None if one can."""
    client = client_of(migration.source)
    try:
        host, from_ = ip_address(migration.host or ""), ip_address(client or "")
    except ValueError:
        local = (migration.host or "").rstrip(".").lower() in ("localhost", "localhost.localdomain")
        if not local or client is None or client.startswith("127.") or client == "::1":
            return None
        return f"{migration.host} is the client's own machine (the client is at {client})"
    if host.is_loopback and not from_.is_loopback:
        return f"{host} is the client's own machine (the client is at {from_})"
    if host.is_unspecified:
        return f"{host} is no address that anybody can connect to"
    if host.is_link_local and not from_.is_link_local:
        return f"{host} is link-local: it cannot be reached from {from_} without an interface"
    if host.version != from_.version and migration.target is None:
        return f"{host} is IPv{host.version}, and the client comes by IPv{from_.version} ({from_})"
    return None


@dataclass(frozen=True)
class MigrationPhase:
    """A step of a migration. `after`: ms since the announcement."""

    name: str
    after: float
    event: Event


def phases(migration: Migration) -> list[MigrationPhase]:
    """The phases seen, of: announced, linked, connected (or not), moved (or cancelled), ended, arrived."""
    found: list[tuple[str, Event]] = list(_phases(migration))
    if not found:
        return []
    found.sort(key=lambda pair: pair[1].time)
    zero = found[0][1].time
    return [MigrationPhase(name, (event.time - zero) * 1000, event) for name, event in found]


def _phases(migration: Migration) -> Iterator[tuple[str, Event]]:
    target = migration.target
    if migration.begin is not None:
        yield "announced", migration.begin
    if target is not None and target.main.result is not None:
        yield "linked", target.main.result
    if migration.answer is not None:
        error = migration.answer.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR
        yield "not connected" if error else "connected", migration.answer
    if migration.ended is not None:
        cancelled = migration.ended.type == MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL
        yield "cancelled" if cancelled else "moved", migration.ended
    yield from _at_target(migration, migration.steps)


def _at_target(migration: Migration, steps: Sequence[Message]) -> Iterator[tuple[str, Event]]:
    target = migration.target.main.number if migration.target is not None else None
    here = [step for step in steps if step.connection == target]
    found: dict[str, Message] = {}
    for step in here:
        match step:
            case Message(sender=Side.CLIENT, type=MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END):
                found.setdefault("ended", step)
            case Message(sender=Side.CLIENT, type=MsgcBase.SPICE_MSGC_MIGRATE_DATA):
                found.setdefault("arrived", step)
            case Message(sender=Side.SERVER, type=MsgMain.SPICE_MSG_MAIN_INIT):
                found.setdefault("arrived", step)
    yield from found.items()
