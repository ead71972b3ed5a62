# SPDX-License-Identifier: GPL-2.0-only
"""Connections that do not come through the server's own TCP ports: a UNIX socket, a listening socket that the
hypervisor passes, connections that it has accepted itself (spice-server.h, SPICE_ADDR_FLAG_UNIX_ONLY,
spice_server_set_listen_socket_fd, spice_server_add_client and spice_server_add_ssl_client)."""

from __future__ import annotations

import ssl

import pytest

from dissectors.wire.constants import ChannelType, LinkErr, MsgBase, MsgInputs, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import PING_BODY, accepted, added, lost, refused, requirement, result
from fixtures.peer.transport import trusting
from fixtures.system.hosts import Ability, Host, Way
from suites.steps import unix_path

OK, DENIED = LinkErr.SPICE_LINK_ERR_OK, LinkErr.SPICE_LINK_ERR_PERMISSION_DENIED
INIT, PING = MsgMain.SPICE_MSG_MAIN_INIT, MsgBase.SPICE_MSG_PING
INPUTS, INPUTS_INIT = ChannelType.SPICE_CHANNEL_INPUTS, MsgInputs.SPICE_MSG_INPUTS_INIT
TICKET = "correct horse"

pytestmark = pytest.mark.needs(Ability.CALLS, Ability.DEVICES)


def handing_over(bench: Bench, way: Way, secure: bool) -> tuple[Host, ssl.SSLContext | None]:
    """A host with a ticket that passes accepted connections to the server, and how its clients speak TLS."""
    certificate = bench.certificate() if secure else None
    settings = certificate.settings() if certificate else None
    source = bench.start(listen=way, ticket=TICKET, tls=settings)
    return source, trusting(certificate.ca) if certificate else None


@requirement("LINK-051", fault=(result(DENIED, where=accepted), lost(INPUTS_INIT)))
@requirement("LINK-052", fault=added(INIT, PING, PING_BODY))
@pytest.mark.parametrize("ticket", [None, TICKET], ids=["open", "ticket"])
def test_unix_socket(bench: Bench, ticket: str | None) -> None:
    """A client opens main and inputs over a UNIX socket, with its ticket; the server does not run the net
    test."""
    source = bench.start(listen=unix_path(bench), ticket=ticket)
    with bench.owed("LINK-051"):
        client = bench.client(source, password=ticket or "")
        client.current.channels[INPUTS, 0].expect(INPUTS_INIT)
    bench.settle()
    pings = [len(ping.body) for ping in client.main.got(PING)]
    bench.claim(not pings, "no PING on main", pings, proves="LINK-052")


@requirement("LINK-021", "LINK-016")
def test_wrong_ticket_over_a_unix_socket(bench: Bench) -> None:
    """A UNIX socket does not let a client in without the ticket."""
    main = bench.connect(bench.start(listen=unix_path(bench), ticket=TICKET), password="wrong")
    error = bench.try_link(main)
    bench.claim(error == DENIED, DENIED.name, error, proves="LINK-021")
    bench.must_close(main)


@requirement("LINK-053", fault=(result(DENIED, where=accepted), lost(INPUTS_INIT)))
def test_socket_that_is_given(bench: Bench) -> None:
    """Clients connect, one after the other, to a socket on which the hypervisor listens."""
    source = bench.start(listen=Way.DESCRIPTOR, ticket=TICKET)
    for _ in range(2):
        with bench.owed():
            client = bench.client(source, password=TICKET)
            client.current.channels[INPUTS, 0].expect(INPUTS_INIT)
        client.close()
        bench.settle()


@requirement("LINK-054", fault=(result(DENIED, where=accepted, case="plain"), lost(INPUTS_INIT, case="TLS")))
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_connections_that_are_handed_over(bench: Bench, secure: bool) -> None:
    """The hypervisor accepts each connection and passes it to the server, which requires the ticket."""
    source, tls = handing_over(bench, Way.HANDED, secure)
    with bench.owed():
        client = bench.client(source, password=TICKET, tls=tls)
        client.current.channels[INPUTS, 0].expect(INPUTS_INIT)


@requirement(
    "LINK-055",
    fault=(
        result(DENIED, where=accepted, case="let in-plain"),
        result(OK, where=refused, case="handed-plain"),
        result(OK, where=refused, case="handed-TLS"),
    ),
)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("way", [Way.HANDED, Way.LET_IN])
def test_ticket_of_who_is_handed_over(bench: Bench, way: Way, secure: bool) -> None:
    """With skip_auth a wrong ticket opens main; without it, it does not."""
    source, tls = handing_over(bench, way, secure)
    main = bench.connect(source, secure=secure, tls=tls, password="wrong")
    bench.settle()  # spice_server_add_ssl_client notes skip_auth last: a ticket that comes before is checked
    error = bench.try_link(main)
    wanted = OK if way is Way.LET_IN else DENIED
    bench.claim(error == wanted, wanted.name, error)
