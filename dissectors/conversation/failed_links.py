# SPDX-License-Identifier: GPL-2.0-only
"""Clients' failed connections, the reasons, and which of them belong to a migration's announcement.

A connection counts as an attempt of a migration if it goes to the announced address. Names, NAT and proxies
hide that address: a connection of the same client to the announced port after the announcement counts too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from dissectors.conversation.conversation import Conversation
from dissectors.conversation.pairing import client_of
from dissectors.conversation.parties import Connection, Migration
from dissectors.framing.events import AttemptFailure, Closed, ConnectFailed, Ending, Endpoint, Event
from dissectors.wire.constants import LinkErr, Side, channel_name

#: With two clocks or two interfaces an attempt may seem older than its announcement by this much (s).
SLACK_S = 0.05
#: A single SYN may still be answered if the capture ends within this time (s) after it.
ANSWERED_S = 1.0
#: After this wait without a link reply a client's link counts as not answered, seconds.
LINK_WAIT_S = 3.0
#: The most attempts of one migration that the story shows.
MOST = 50


class Reason(StrEnum):
    """Why a client did not arrive; scripts may rely on the values."""

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


_FAILURES: Mapping[AttemptFailure, Reason] = MappingProxyType(
    {
        AttemptFailure.REFUSED: Reason.REFUSED,
        AttemptFailure.PROHIBITED: Reason.PROHIBITED,
        AttemptFailure.UNREACHABLE: Reason.UNREACHABLE,
        AttemptFailure.UNANSWERED: Reason.UNANSWERED,
        AttemptFailure.WORDLESS: Reason.WORDLESS,
        AttemptFailure.OTHER: Reason.PROTOCOL,
    }
)


@dataclass(frozen=True)
class FailedLink:
    """A client's failed connection. `seen`: the reason in one line, `event`: the packet that shows it."""

    connection: Connection
    reason: Reason
    seen: str
    event: Event


def failure_of(connection: Connection) -> FailedLink | None:
    """The failure of a connection; None if it did not fail."""
    server = connection.server
    if connection.failed is not None:
        return _not_connected(connection, connection.failed)
    refusal = connection.refusal
    if refusal is not None:
        error = error_name(int(refusal.packet.error))
        reasons = {"PERMISSION_DENIED": Reason.DENIED, "BAD_CONNECTION_ID": Reason.BAD_ID}
        seen = f"{server} refused {_channel(connection)} with {error}"
        return FailedLink(connection, reasons.get(error, Reason.LINK), seen, refusal)
    if connection.tunnel is not None and (connection.tunnel.refused or connection.tunnel.answer is None):
        tunnel = connection.tunnel
        answer = tunnel.answer or "it does not answer"
        kind = "HTTP" if tunnel.protocol.startswith("HTTP") else tunnel.protocol.partition(" ")[0]
        return FailedLink(
            connection, Reason.PROXY, f"the {kind} proxy {server} refused the tunnel: {answer}", tunnel
        )
    if connection.wrong is not None:
        return FailedLink(connection, Reason.PROTOCOL, _wrong(connection), connection.wrong)
    fatal = [alert for alert in connection.alerts if alert.fatal]
    if fatal and not connection.messages[Side.SERVER]:
        alert = fatal[0]
        name = alert.name or "an encrypted alert, whose name needs the TLS secrets"
        who = "the client" if alert.sender is Side.CLIENT else str(server)
        return FailedLink(connection, Reason.ALERT, f"{who} ended TLS with {name}", alert)
    return _broken_off(connection)


def _not_connected(connection: Connection, failed: ConnectFailed) -> FailedLink | None:
    """The failure of the TCP connection; None if the client did not wait for an answer."""
    server = connection.server
    waited = failed.attempts > 1 or failed.until - failed.first >= ANSWERED_S
    if failed.how is AttemptFailure.UNANSWERED and not waited:
        return None
    plural = "s" if failed.attempts > 1 else ""
    times = f" ({failed.attempts} SYN{plural} in {failed.until - failed.first:.1f} s)"
    text = {
        AttemptFailure.UNANSWERED: f"{server} did not answer{times}",
        AttemptFailure.REFUSED: f"{server} refused the connection: {failed.why}",
        AttemptFailure.PROHIBITED: f"the way to {server} is prohibited: {failed.why}",
        AttemptFailure.UNREACHABLE: f"{server} cannot be reached: {failed.why}",
        AttemptFailure.WORDLESS: f"{server} closed the connection without a word",
        AttemptFailure.OTHER: f"at {server} {failed.why}",
    }[failed.how]
    return FailedLink(connection, _FAILURES[failed.how], text, failed)


def _broken_off(connection: Connection) -> FailedLink | None:
    """A link stage that ended before its result."""
    mess, closed = connection.mess, connection.closed
    if mess is None or closed is None or connection.result is not None or not connection.certain:
        return None
    server = connection.server
    if closed.by is Side.CLIENT:
        waited = closed.time - mess.time
        if connection.reply is not None or waited < LINK_WAIT_S:
            return None  # the client gave up
        seen = f"{server} accepted the connection and did not answer the link message in {waited:.1f} s"
        return FailedLink(connection, Reason.SILENT, seen, closed)
    if connection.reply is None:
        seen = f"{server} {how_closed(closed)} the connection after the link message, without a reply"
        return FailedLink(connection, Reason.WORDLESS, seen, closed)
    seen = f"{server} {how_closed(closed)} the connection in the link stage, before its result"
    return FailedLink(connection, Reason.DROPPED, seen, closed)


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
    """A link error without its prefix: PERMISSION_DENIED."""
    try:
        return LinkErr(number).name.removeprefix("SPICE_LINK_ERR_")
    except ValueError:
        return str(number)


class Attempts:
    """The failed connections, by the port that they went to."""

    def __init__(self, view: Conversation) -> None:
        self.all: list[FailedLink] = []
        self._by_port: dict[int, list[FailedLink]] = {}
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

    def of(self, migration: Migration) -> list[FailedLink]:
        """The failed connections to a migration's announced host, in the order of their times."""
        found = {
            id(attempt): attempt
            for port in migration.ports
            for attempt in self._by_port.get(port, ())
            if asked_for(migration, attempt.connection)
        }
        ordered = sorted(found.values(), key=lambda attempt: attempt.event.time)
        return ordered[:MOST]

    def hidden(self, migration: Migration) -> list[Connection]:
        """TLS connections to the announced host that could not be decrypted."""
        return [
            connection
            for port in migration.ports
            for connection in self._hidden.get(port, ())
            if asked_for(migration, connection)
        ]


def _via_port(connection: Connection) -> int | None:
    """The port in a client's request to a proxy."""
    asked = connection.tunnel.target if connection.tunnel is not None else None
    port = asked.rpartition(":")[2] if asked else ""
    return int(port) if port.isdigit() else None


def asked_for(migration: Migration, connection: Connection) -> bool:
    """Whether a connection follows from this migration's announcement."""
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
    """Whether it goes to the source's own port: a client that comes back there does not try the target."""
    opened = migration.source.main.opened
    return opened is not None and server == opened.server


def how_closed(closed: Closed) -> str:
    """How a connection ended, in a word."""
    return "reset" if closed.how is Ending.RESET else "closed"
