# SPDX-License-Identifier: GPL-2.0-only
"""Did the client of a migration arrive, and if not, why: its attempts at the host that was announced.

A connection counts as an attempt where it goes to the announced address, or, since names, NAT and proxies
hide that, where the same client goes to the announced port after the announcement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from types import MappingProxyType

from dissectors.conversation.conversation import Conversation
from dissectors.conversation.order_tables import State
from dissectors.conversation.pairing import client_of, ended_by
from dissectors.conversation.parties import Connection, Migration, Session
from dissectors.framing.events import Closed, Ending, Endpoint, Event, Failure, Message
from dissectors.wire.constants import BASE_LAST, LinkErr, MsgcBase, MsgcMain, MsgMain, Side, channel_name

#: Two clocks, two interfaces: an attempt may seem to be this much older than its announcement (s).
SLACK_S = 0.05
#: A client that has waited so long for a link reply did not get one, seconds.
LINK_WAIT_S = 3.0
#: What a target says on main while the client's session is not there yet.
NOT_YET = frozenset(
    {MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK, MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK}
)
#: So many attempts of one migration are told.
MOST = 50


class Outcome(StrEnum):
    """How a migration went for the client."""

    COMPLETED = "completed"
    SWITCHED = "switched and arrived"
    CANCELLED = "cancelled"
    LOST = "did not arrive"
    NOT_SEEN = "not seen"
    ANNOUNCED = "announced"
    MOVING = "moving"


class Reason(StrEnum):
    """Why a client did not arrive, in a word that scripts can rely on."""

    DENIED = "permission denied"
    BAD_ID = "bad connection id"
    LINK = "link refused"
    REFUSED = "connection refused"
    PROHIBITED = "prohibited"
    UNREACHABLE = "unreachable"
    UNANSWERED = "not answered"
    WORDLESS = "closed without a word"
    SILENT = "link not answered"
    ALERT = "TLS alert"
    PROTOCOL = "wrong protocol"
    PROXY = "proxy refused"
    DROPPED = "dropped"
    HIDDEN = "not decrypted"
    CLIENT = "the client gave up"
    ABSENT = "no attempt seen"
    CUT = "the capture ends"
    HOLE = "bytes are missing"
    HALF = "one direction only"


_FAILURES: Mapping[Failure, Reason] = MappingProxyType(
    {
        Failure.REFUSED: Reason.REFUSED,
        Failure.PROHIBITED: Reason.PROHIBITED,
        Failure.UNREACHABLE: Reason.UNREACHABLE,
        Failure.UNANSWERED: Reason.UNANSWERED,
        Failure.WORDLESS: Reason.WORDLESS,
        Failure.OTHER: Reason.PROTOCOL,
    }
)


@dataclass(frozen=True)
class Attempt:
    """One connection of a client that came to nothing. `seen`: one line, `event`: the packet that tells."""

    connection: Connection
    reason: Reason
    seen: str
    event: Event


@dataclass(frozen=True)
class Arrival:
    """What became of the client, and why."""

    outcome: Outcome
    reason: Reason | None = None
    why: str = ""
    event: Event | None = None


def failure_of(connection: Connection) -> Attempt | None:
    """Why a connection came to nothing, if it did."""
    server = connection.server
    failed = connection.failed
    if failed is not None:
        plural = "s" if failed.attempts > 1 else ""
        times = f" ({failed.attempts} SYN{plural} in {failed.until - failed.first:.1f} s)"
        told = {
            Failure.UNANSWERED: f"{server} did not answer{times}",
            Failure.REFUSED: f"{server} refused the connection: {failed.why}",
            Failure.PROHIBITED: f"the way to {server} is prohibited: {failed.why}",
            Failure.UNREACHABLE: f"{server} cannot be reached: {failed.why}",
            Failure.WORDLESS: f"{server} closed the connection without a word",
            Failure.OTHER: f"at {server} {failed.why}",
        }[failed.how]
        return Attempt(connection, _FAILURES[failed.how], told, failed)
    refusal = connection.refusal
    if refusal is not None:
        error = error_name(int(refusal.packet.error))
        reasons = {"PERMISSION_DENIED": Reason.DENIED, "BAD_CONNECTION_ID": Reason.BAD_ID}
        seen = f"{server} refused {_channel(connection)} with {error}"
        return Attempt(connection, reasons.get(error, Reason.LINK), seen, refusal)
    if connection.tunnel is not None and (connection.tunnel.refused or connection.tunnel.answer is None):
        tunnel = connection.tunnel
        answer = tunnel.answer or "it does not answer"
        kind = "HTTP" if tunnel.protocol.startswith("HTTP") else tunnel.protocol.partition(" ")[0]
        return Attempt(
            connection, Reason.PROXY, f"the {kind} proxy {server} refused the tunnel: {answer}", tunnel
        )
    if connection.wrong is not None:
        return Attempt(connection, Reason.PROTOCOL, _wrong(connection), connection.wrong)
    fatal = [alert for alert in connection.alerts if alert.fatal]
    if fatal and not connection.messages[Side.SERVER]:
        alert = fatal[0]
        name = alert.name or "an encrypted alert, whose name needs the TLS secrets"
        who = "the client" if alert.sender is Side.CLIENT else str(server)
        return Attempt(connection, Reason.ALERT, f"{who} ended TLS with {name}", alert)
    return _broken_off(connection)


def _broken_off(connection: Connection) -> Attempt | None:
    """A link stage that ended before its result."""
    mess, closed = connection.mess, connection.closed
    if mess is None or closed is None or connection.result is not None or not connection.certain:
        return None
    server = connection.server
    if closed.by is Side.CLIENT:
        waited = closed.time - mess.time
        if connection.reply is not None or waited < LINK_WAIT_S:
            return None  # it has changed its mind
        seen = f"{server} accepted the connection and did not answer the link message in {waited:.1f} s"
        return Attempt(connection, Reason.SILENT, seen, closed)
    if connection.reply is None:
        seen = f"{server} {_how(closed)} the connection after the link message, without a reply"
        return Attempt(connection, Reason.WORDLESS, seen, closed)
    seen = f"{server} {_how(closed)} the connection in the link stage, before its result"
    return Attempt(connection, Reason.DROPPED, seen, closed)


def _channel(connection: Connection) -> str:
    """`the main link`, `the link of display 1`."""
    if connection.is_main or not connection.channel:
        return "the main link" if connection.is_main else "the link"
    return f"the link of {channel_name(connection.channel)} {connection.channel_id}"


def _wrong(connection: Connection) -> str:
    wrong = connection.wrong
    assert wrong is not None
    client, server = wrong.client_speaks or "nothing", wrong.server_speaks or "nothing"
    if client == "SPICE" and server == "TLS":
        alert = next((f" alert, {alert.name}" for alert in connection.alerts if alert.name), "")
        return f"{connection.server} answers plain SPICE with a TLS{alert}: this port wants TLS"
    if client == "TLS" and server == "SPICE":
        return f"{connection.server} answers TLS with plain SPICE: this port has no TLS"
    return f"at {connection.server} the client speaks {client} and the server {server}"


def error_name(number: int) -> str:
    """A link error as people write it: PERMISSION_DENIED."""
    try:
        return LinkErr(number).name.removeprefix("SPICE_LINK_ERR_")
    except ValueError:
        return str(number)


class Attempts:
    """The connections that came to nothing, by the port that they went to."""

    def __init__(self, view: Conversation) -> None:
        self.all: list[Attempt] = []
        self._by_port: dict[int, list[Attempt]] = {}
        self._hidden: dict[int, list[Connection]] = {}
        for connection in view.connections.values():
            attempt = failure_of(connection)
            server = connection.server
            if server is None:
                continue
            if attempt is not None:
                self.all.append(attempt)
                for port in {server.port, _via_port(connection)} - {None}:
                    self._by_port.setdefault(port, []).append(attempt)  # type: ignore[arg-type]
            elif connection.opened is not None and connection.opened.tls and connection.mess is None:
                self._hidden.setdefault(server.port, []).append(connection)

    def of(self, migration: Migration) -> list[Attempt]:
        """Those that went to the announced host, in the order of their times."""
        found = {
            id(attempt): attempt
            for port in migration.ports
            for attempt in self._by_port.get(port, ())
            if _belongs(migration, attempt.connection)
        }
        ordered = sorted(found.values(), key=lambda attempt: attempt.event.time)
        return ordered[:MOST]

    def hidden(self, migration: Migration) -> list[Connection]:
        """TLS connections to the announced host that could not be read."""
        return [
            connection
            for port in migration.ports
            for connection in self._hidden.get(port, ())
            if _belongs(migration, connection)
        ]


def _via_port(connection: Connection) -> int | None:
    """The port that a client asks a proxy for."""
    asked = connection.tunnel.target if connection.tunnel is not None else None
    port = asked.rpartition(":")[2] if asked else ""
    return int(port) if port.isdigit() else None


def _belongs(migration: Migration, connection: Connection) -> bool:
    """This connection is one that the announcement asked for."""
    known = connection.opened or connection.failed
    if known is None or connection.session is migration.source:
        return False
    begun = connection.failed.first if connection.failed is not None else known.time
    if begun < migration.begun - SLACK_S:
        return False
    later = migration.source.migration
    if later is not migration and later is not None and begun > later.begun + SLACK_S:
        return False
    asked = connection.tunnel.target if connection.tunnel is not None else None
    if asked and migration.host and asked.rpartition(":")[0].strip("[]") == migration.host:
        return True
    if known.server.host == migration.host:
        return True
    return known.client.host == client_of(migration.source) and not _other_literal(migration, known.server)


def _other_literal(migration: Migration, server: Endpoint) -> bool:
    """The source's own port again: a client that comes back is no attempt at the target."""
    opened = migration.source.main.opened
    return opened is not None and server == opened.server


def arrival(view: Conversation, migration: Migration, attempts: Attempts) -> Arrival:
    """What became of the client."""
    target, ended, answer = migration.target, migration.ended, migration.answer
    failed = attempts.of(migration)
    if ended is not None and ended.type == MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL:
        why = failed[-1].seen if failed else ""
        return Arrival(Outcome.CANCELLED, failed[-1].reason if failed else None, why, ended)
    if target is not None and begun(target, migration):
        return Arrival(Outcome.SWITCHED if switched(migration) else Outcome.COMPLETED)
    refused = answer is not None and answer.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR
    if failed and (target is None or refused or target.main.closed is not None):
        return Arrival(Outcome.LOST, failed[-1].reason, failed[-1].seen, failed[-1].event)
    hidden = attempts.hidden(migration)
    where = announced(migration)
    if hidden:
        why = f"TLS to {hidden[-1].server} is not decrypted: what happens there cannot be read"
        if refused:
            return Arrival(
                Outcome.LOST, Reason.HIDDEN, f"the client says that it could not connect; {why}", answer
            )
        return Arrival(Outcome.NOT_SEEN, Reason.HIDDEN, why, hidden[-1].opened)
    if half := _half_seen(migration):
        return Arrival(Outcome.NOT_SEEN, Reason.HALF, half)
    if target is not None and target.main.closed is not None and (ended is not None or refused):
        if not target.main.certain:
            why = (
                f"bytes of the connection to {target.main.server} are missing: whether the session had begun "
            )
            return Arrival(Outcome.NOT_SEEN, Reason.HOLE, why + "there cannot be seen")
        return _dropped(view, target)
    if refused and ended is None:
        why = f"the client says that it could not connect to {where}; no SPICE connection there is in this capture"
        return Arrival(Outcome.LOST, Reason.CLIENT, why, answer)
    if ended is None:
        return _unfinished(view, migration)
    if target is not None:
        why = "the capture ends before the target takes the session up"
        return Arrival(Outcome.MOVING, Reason.CUT, why)
    if refused:
        why = f"the client says that it could not connect to {where}; no SPICE connection there is in this capture"
        return Arrival(Outcome.NOT_SEEN, Reason.ABSENT, why)
    return Arrival(Outcome.NOT_SEEN, Reason.ABSENT, f"no SPICE connection to {where} is in this capture")


def switched(migration: Migration) -> bool:
    """SWITCH_HOST has ended it; or it was lost, and the client has an ordinary session at the target."""
    target = migration.target
    ordinary = target is not None and target.main.mess is not None and not target.main.as_target
    return ordinary or ended_by(migration, MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST)


def _half_seen(migration: Migration) -> str | None:
    """What the capture has of a connection that decides, where it has one direction only."""
    for session in filter(None, (migration.target, migration.source)):
        main = session.main
        if len(main.heard) == 1:
            (side,) = main.heard
            said = f"; the client has said {step.name}" if (step := _last_word(migration, main)) else ""
            return f"of the connection to {main.server} only what the {side} says is in the capture{said}"
    return None


def _last_word(migration: Migration, main: Connection) -> Message | None:
    """The last step of the client that is seen there."""
    said = [s for s in migration.steps if s.connection == main.number and s.sender is Side.CLIENT]
    return said[-1] if said else None


def _unfinished(view: Conversation, migration: Migration) -> Arrival:
    """The source has not ended the migration."""
    main, closed = migration.source.main, migration.source.main.closed
    if closed is None or closed.how is Ending.DIED:
        return Arrival(Outcome.ANNOUNCED)
    if not main.certain:
        why = f"bytes of the connection to {main.server} are missing: how the migration ended cannot be seen"
        return Arrival(Outcome.NOT_SEEN, Reason.HOLE, why)
    who = {Side.CLIENT: "the client", Side.SERVER: "the source", None: "somebody"}[closed.by]
    why = f"{who} {_how(closed)} the connection to {main.server} before the migration had ended"
    reason = Reason.CLIENT if closed.by is Side.CLIENT else Reason.DROPPED
    return Arrival(Outcome.LOST, reason, why + _taken_over(view, migration.source), closed)


def _how(closed: Closed) -> str:
    return "reset" if closed.how is Ending.RESET else "closed"


def _taken_over(view: Conversation, session: Session) -> str:
    """Who took a session's host over, where somebody did."""
    taker = next((s for s in reversed(view.sessions) if s.replaces is session and s.arrived is None), None)
    return f": {client_of(taker)} took it over" if taker is not None else ""


def _dropped(view: Conversation, target: Session) -> Arrival:
    closed = target.main.closed
    assert closed is not None
    who = {Side.CLIENT: "the client", Side.SERVER: "the target", None: "somebody"}[closed.by]
    why = f"{who} {_how(closed)} the link at {target.main.server} before the session had begun there"
    return Arrival(Outcome.LOST, Reason.DROPPED, why + _taken_over(view, target), closed)


def begun(target: Session, migration: Migration) -> bool:
    """The target has taken the session up: INIT, or the client's state after a seamless migration."""
    main = target.main
    unsure = Side.CLIENT not in main.heard or not main.certain
    begins = unsure and _speaks_as_begun(target, migration)
    return main.state is State.READY or begins or any(map(_begins_the_target, migration.steps))


def _speaks_as_begun(target: Session, migration: Migration) -> bool:
    """The target says what it says in a session that has begun, on main or, without seamless migration, on
    any other channel."""
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
    """Where the client was sent, in a word."""
    ports = [f"{port}" for port in sorted(migration.ports)]
    return f"{migration.host or 'an unknown host'} port {' or '.join(ports) or 'unknown'}"


def unfit_address(migration: Migration) -> str | None:
    """Why no client elsewhere can reach the announced address, if that is so."""
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
class Phase:
    """A step of a migration. `after`: ms since the announcement."""

    name: str
    after: float
    event: Event


def phases(migration: Migration) -> list[Phase]:
    """announced, linked, connected (or not), moved (or cancelled), ended, arrived: those that were seen."""
    found: list[tuple[str, Event]] = list(_phases(migration))
    if not found:
        return []
    found.sort(key=lambda pair: pair[1].time)
    zero = found[0][1].time
    return [Phase(name, (event.time - zero) * 1000, event) for name, event in found]


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
    told: dict[str, Message] = {}
    for step in here:
        match step:
            case Message(sender=Side.CLIENT, type=MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END):
                told.setdefault("ended", step)
            case Message(sender=Side.CLIENT, type=MsgcBase.SPICE_MSGC_MIGRATE_DATA):
                told.setdefault("arrived", step)
            case Message(sender=Side.SERVER, type=MsgMain.SPICE_MSG_MAIN_INIT):
                told.setdefault("arrived", step)
    yield from told.items()
