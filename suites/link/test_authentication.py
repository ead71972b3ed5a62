# SPDX-License-Identifier: GPL-2.0-only
"""Tickets, mechanisms and TLS (protocol.h, SpiceLinkEncryptedTicket; spice-server.h, set_ticket)."""

from __future__ import annotations

from contextlib import suppress

import pytest

from dissectors.wire.constants import TICKET_BYTES, CommonCap, LinkErr, MsgBase, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import (
    PING_BODY,
    accepted,
    changed,
    message_after_result,
    put,
    refused,
    reply,
    reply_for_result,
    requirement,
    result,
    stuck_after,
)
from fixtures.peer import Connection, LinkRefused
from fixtures.peer.client_capabilities import EVERYTHING, Capabilities
from fixtures.peer.transport import trusting
from fixtures.system.hosts import Ability, Unsupported

PING = MsgBase.SPICE_MSG_PING

OK, DENIED = LinkErr.SPICE_LINK_ERR_OK, LinkErr.SPICE_LINK_ERR_PERMISSION_DENIED
SASL = int(CommonCap.SPICE_COMMON_CAP_AUTH_SASL)
TICKET = "correct horse"
LONGEST = "x" * 59  # SPICE_MAX_PASSWORD_LENGTH counts the NUL
#: A client without PROTOCOL_AUTH_SELECTION: it sends its ticket at once and names no mechanism.
AT_ONCE = EVERYTHING.without(CommonCap.SPICE_COMMON_CAP_PROTOCOL_AUTH_SELECTION)


def stops_at_ticket(bench: Bench, connection: Connection, sent: bytes) -> LinkErr | int | None:
    """Links with these 128 bytes in place of the encrypted ticket; returns the error in the server's
    reply."""
    connection.send_mess()
    connection.expect_reply()
    connection.send_mechanism()
    connection.send_raw(sent)
    try:
        return LinkErr(int(connection.expect_result().error))
    except LinkRefused:
        return None


@requirement("LINK-020", fault=result(DENIED, where=accepted))
@requirement("LINK-015", fault=reply_for_result(DENIED, where=accepted))
@pytest.mark.parametrize("ticket", [TICKET, LONGEST, "p\u00e4ss"], ids=["usual", "longest", "utf-8"])
@pytest.mark.parametrize("caps", [EVERYTHING, AT_ONCE], ids=["selects", "at-once"])
def test_right_ticket(bench: Bench, caps: Capabilities, ticket: str) -> None:
    """The right ticket opens the channel, for clients that name their mechanism and for those that do not."""
    main = bench.connect(bench.start(ticket=ticket), password=ticket, capabilities=caps)
    error = bench.try_link(main)
    bench.claim(error == OK, "SPICE_LINK_ERR_OK", error, proves="LINK-020")
    bench.expect(main, MsgMain.SPICE_MSG_MAIN_INIT, proves="MAIN-001")


@requirement(
    "LINK-021",
    fault=(result(OK, where=refused), result(LinkErr.SPICE_LINK_ERR_BAD_CONNECTION_ID, where=refused)),
)
@requirement("LINK-016", fault=stuck_after("re*", where=refused))
@requirement("LINK-017", fault=message_after_result(PING, PING_BODY, where=refused))
@pytest.mark.parametrize(
    "wrong",
    ["", "wrong", TICKET[:-1], TICKET + "!", TICKET.upper(), " " + TICKET],
    ids=["empty", "other", "short", "long", "case", "space"],
)
@pytest.mark.parametrize("caps", [EVERYTHING, AT_ONCE], ids=["selects", "at-once"])
def test_wrong_ticket(bench: Bench, caps: Capabilities, wrong: str) -> None:
    """The server refuses a wrong ticket with PERMISSION_DENIED and closes the link, for clients that name
    their mechanism and for those that do not."""
    main = bench.connect(bench.start(ticket=TICKET), password=wrong, capabilities=caps)
    error = bench.try_link(main)
    bench.claim(error == DENIED, "SPICE_LINK_ERR_PERMISSION_DENIED", error, proves="LINK-021")
    bench.must_close(main)


@requirement("LINK-021")
def test_ticket_of_a_secondary_channel(bench: Bench) -> None:
    """A secondary channel needs the ticket too."""
    source = bench.start(ticket=TICKET)
    client = bench.client(source, channels=(), password=TICKET)
    inputs = bench.connect(source, channel=3, connection_id=client.session_id, password="wrong")
    error = bench.try_link(inputs)
    bench.claim(error == DENIED, "SPICE_LINK_ERR_PERMISSION_DENIED", error)


@requirement("LINK-021")
@pytest.mark.needs(Ability.RESTART_TICKET)
def test_ticket_that_was_replaced(bench: Bench) -> None:
    """Once a new ticket is set, the old one opens nothing."""
    source = bench.start(ticket=TICKET)
    source.call("set_ticket", password="another")
    old, new = bench.connect(source, password=TICKET), bench.connect(source, password="another")
    error = bench.try_link(old)
    bench.claim(error == DENIED, "SPICE_LINK_ERR_PERMISSION_DENIED", error)
    error = bench.try_link(new)
    bench.claim(error == OK, "SPICE_LINK_ERR_OK", error, proves="LINK-020")


@requirement(
    "LINK-023", fault=(result(OK, where=refused), result(6, where=refused), result(8, where=refused))
)
@pytest.mark.needs(Ability.RESTART_TICKET)
def test_expired_ticket(bench: Bench) -> None:
    """A ticket that has expired is refused; the library counts whole seconds of the monotonic clock."""
    source = bench.start(ticket=TICKET)
    source.call("set_ticket", password=TICKET, lifetime=1)
    bench.pump.pass_real_time(2.5)
    error = bench.try_link(bench.connect(source, password=TICKET))
    bench.claim(error == DENIED, "SPICE_LINK_ERR_PERMISSION_DENIED", error)


@requirement("LINK-024", fault=result(OK, where=refused))
@pytest.mark.parametrize("content", ["zeros", "ones", "pattern", "too-long", "unterminated"])
@pytest.mark.parametrize("ticket", [TICKET, None], ids=["ticket", "no-ticket"])
def test_undecryptable_ticket(bench: Bench, content: str, ticket: str | None) -> None:
    """The server refuses bytes that do not decrypt, and a password of more than 60 characters
    (CVE-2013-4282)."""
    source = bench.start(ticket=ticket)
    main = bench.connect(source)
    garbage = {
        "zeros": b"\0" * TICKET_BYTES,
        "ones": b"\xff" * TICKET_BYTES,
        "pattern": bytes(range(TICKET_BYTES)),
    }
    if content in garbage:
        error = stops_at_ticket(bench, main, garbage[content])
        bench.claim(error != OK, "a refusal", error)
    else:
        main.send_mess()
        main.expect_reply()
        main.send_mechanism()
        main.send_raw(main.encrypt(b"A" * (86 if content == "too-long" else 60)))
        error = None
        with suppress(LinkRefused):
            error = int(main.expect_result().error)
        bench.claim(ticket is None or error != OK, "a refusal", error)
    bench.alive("after an invalid ticket", source)


@requirement("LINK-013", fault=changed("OK for the refusal", "reply", bytes(4), nth=2))
@requirement(
    "LINK-014", fault=reply_for_result(LinkErr.SPICE_LINK_ERR_INVALID_DATA, where=refused, case="ticket-0")
)
@pytest.mark.parametrize("mechanism", [SASL, 0, 3, 77, 0xFFFFFFFF])
@pytest.mark.parametrize("ticket", [TICKET, None], ids=["ticket", "no-ticket"])
def test_mechanism_that_is_not_configured(bench: Bench, mechanism: int, ticket: str | None) -> None:
    """The server refuses a mechanism that is not configured: it begins no session and no exchange."""
    source = bench.start(ticket=ticket)
    if mechanism == SASL and Ability.CALLS in source.abilities and source.call("set_sasl", enable=0):
        raise Unsupported("this build has no SASL: to it 2 is a number as any other")
    main = bench.connect(source)
    main.send_mess()
    main.expect_reply()
    main.send_mechanism(mechanism)
    bench.settle()
    said = [part.kind for part in main.link_stage[1:]]
    begun = [kind for kind in said if kind == "sasl"]
    bench.claim(
        not begun and not main.messages,
        "a refusal",
        f"the server goes on: {', '.join(said)}",
        proves="LINK-013",
    )
    bench.alive("after a mechanism that is not configured", source, proves="LINK-013")


@requirement("LINK-050", fault=put("reply", common_caps=[0b1111]))
@requirement("LINK-011")
@pytest.mark.parametrize("ticket", [TICKET, "", None], ids=["ticket", "locked", "no-ticket"])
def test_mechanisms_that_are_offered(bench: Bench, ticket: str | None) -> None:
    """Without SASL the server offers AUTH_SPICE alone, on main and on other channels."""
    source = bench.start(ticket=ticket)
    for channel in (1, 3):
        link = bench.connect(source, channel=channel)
        link.send_mess()
        link.expect_reply()


@requirement("LINK-028", fault=result(DENIED, where=accepted))
@pytest.mark.parametrize("tls_only", [False, True], ids=["both-ports", "tls-only"])
def test_tls(bench: Bench, tls_only: bool) -> None:
    """A link over TLS works like a plain one."""
    certificate = bench.certificate()
    source = bench.start(tls=certificate.settings(), tls_only=tls_only, ticket=TICKET)
    with bench.owed():
        bench.client(source, channels=(), tls=trusting(certificate.ca), password=TICKET)


@requirement("LINK-018", fault=reply(LinkErr.SPICE_LINK_ERR_NEED_UNSECURED, where=refused))
@pytest.mark.parametrize("channel", ["main", "inputs"])
def test_channel_that_needs_tls(bench: Bench, channel: str) -> None:
    """A channel that needs TLS answers a plain link with NEED_SECURED."""
    certificate = bench.certificate()
    source = bench.start(tls=certificate.settings(), secure_channels=(channel,))
    connection = bench.connect(
        source, channel={"main": 1, "inputs": 3}[channel], connection_id=0 if channel == "main" else 77
    )
    error = bench.try_link(connection)
    wanted = LinkErr.SPICE_LINK_ERR_NEED_SECURED
    bench.claim(error == wanted, wanted.name, error)
