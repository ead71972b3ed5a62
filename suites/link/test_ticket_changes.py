# SPDX-License-Identifier: GPL-2.0-only
"""Tickets that the host sets, changes and clears while it runs: their length, their last second, and the
effect on connected clients (spice-server.h, spice_server_set_ticket and set_noauth)."""

from __future__ import annotations

import time

import pytest

from dissectors.framing.events import DISCONNECTED
from dissectors.wire.constants import ChannelType, LinkErr, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import accepted, closed_after, refused, requirement, result, stuck_after
from fixtures.peer import Connection
from fixtures.system.hosts import Ability, Host

OK, DENIED = LinkErr.SPICE_LINK_ERR_OK, LinkErr.SPICE_LINK_ERR_PERMISSION_DENIED
INIT, LIST = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
TICKET, NEXT = "correct horse", "battery staple"
LONGEST = "".join(chr(0x21 + n) for n in range(60))  # protocol.h, SPICE_MAX_PASSWORD_LENGTH: all different
#: How much of a second a link may take when a test tries a ticket's last second.
MARGIN_S = 0.35
#: The fraction of a second at which a test sets that ticket: its last moment is then more than a second
#: later.
EARLY_S = 0.5

pytestmark = pytest.mark.needs(Ability.CALLS, Ability.RESTART_TICKET)


def answer(bench: Bench, host: Host, password: str) -> LinkErr | int | None:
    """The error in the reply to a main link with this password."""
    return bench.try_link(bench.connect(host, password=password))


def in_session(bench: Bench, host: Host, password: str = "") -> Connection:
    """A client that has received INIT."""
    main = bench.link(host, password=password)
    bench.expect(main, INIT, proves="MAIN-001")
    return main


@requirement("LINK-040", fault=(result(DENIED, where=accepted), result(OK, where=refused)))
@pytest.mark.parametrize("how", ["given", "set"])
def test_ticket_of_sixty_characters(bench: Bench, how: str) -> None:
    """A ticket of the greatest length opens a link; its first 59 characters do not."""
    source = bench.start(ticket=LONGEST if how == "given" else TICKET)
    if how == "set":
        bench.claim(source.call("set_ticket", password=LONGEST) == 0, "set_ticket returns 0", -1)
    whole, short = answer(bench, source, LONGEST), answer(bench, source, LONGEST[:-1])
    bench.claim(whole == OK, "60 characters open", whole)
    bench.claim(short == DENIED, "the first 59 do not", short)


@requirement("LINK-061", fault=(result(DENIED, where=accepted), result(OK, where=refused)))
def test_ticket_of_more_characters(bench: Bench) -> None:
    """The hypervisor sets a ticket of 61 characters: the call fails, the ticket before stays, and neither the
    long one nor its beginning opens a link."""
    source = bench.start(ticket=TICKET)
    returned = source.call("set_ticket", password=LONGEST + "!")
    bench.claim(returned == -1, "set_ticket returns -1", returned)
    answers = [answer(bench, source, password) for password in (TICKET, LONGEST, LONGEST + "!")]
    bench.claim(answers == [OK, DENIED, DENIED], "only the ticket before opens", answers)


@requirement("LINK-041", fault=(closed_after(INIT), result(DENIED, where=accepted, nth=2)))
def test_ticket_that_fails_if_connected(bench: Bench) -> None:
    """With fail_if_connected the call fails while a client is connected: the ticket and the session stay as
    they were."""
    source = bench.start(ticket=TICKET)
    main = in_session(bench, source, TICKET)
    returned = source.call("set_ticket", password=NEXT, fail_if_connected=1)
    bench.settle()
    bench.claim(returned == -1, "set_ticket returns -1", returned)
    bench.claim(main.ending is None, "the client stays", main.ending)
    error = answer(bench, source, NEXT)
    bench.claim(error == DENIED, "the new ticket does not open", error)
    error = answer(bench, source, TICKET)
    bench.claim(error == OK, "the old ticket does", error)


@requirement(
    "LINK-042",
    fault=(stuck_after(LIST), result(DENIED, where=accepted, nth=2)),
)
@pytest.mark.parametrize("channels", [(), (INPUTS,)], ids=["main", "main and inputs"])
def test_ticket_that_disconnects(bench: Bench, channels: tuple[ChannelType, ...]) -> None:
    """With disconnect_if_connected the client is disconnected, and the new ticket opens."""
    source = bench.start(ticket=TICKET)
    client = bench.client(source, channels=channels, password=TICKET)
    returned = source.call("set_ticket", password=NEXT, disconnect_if_connected=1)
    bench.claim(returned == 0, "set_ticket returns 0", returned)
    endings = [channel.expect_end(deadline=2) for channel in client.current]
    bench.claim(set(endings) <= DISCONNECTED, "every channel of the client ends", endings)
    error = answer(bench, source, NEXT)
    bench.claim(error == OK, "the new ticket opens", error)


@requirement("LINK-043", fault=closed_after(INIT))
def test_ticket_that_changes_while_a_client_is_connected(bench: Bench) -> None:
    """A new ticket does not disturb a client that came with the old one; its channels need the new one."""
    source = bench.start(ticket=TICKET)
    main = in_session(bench, source, TICKET)
    session_id = int(main.got(INIT)[0].packet.session_id)
    source.call("set_ticket", password=NEXT)
    bench.settle()
    bench.claim(main.ending is None, "the client stays", main.ending)
    old = bench.try_link(bench.connect(source, channel=INPUTS, connection_id=session_id, password=TICKET))
    new = bench.try_link(bench.connect(source, channel=INPUTS, connection_id=session_id, password=NEXT))
    bench.claim(old == DENIED, "its channels are refused with the old ticket", old, proves="LINK-021")
    bench.claim(new == OK, "its channels open with the new ticket", new)


@requirement("LINK-044", fault=(result(OK, where=refused), result(6, where=refused)))
@pytest.mark.parametrize("guess", ["", TICKET])
@pytest.mark.parametrize("before", [TICKET, None], ids=["ticket before", "open before"])
def test_ticket_that_is_null(bench: Bench, before: str | None, guess: str) -> None:
    """A ticket of NULL locks the host until another one is set."""
    source = bench.start(ticket=before)
    returned = source.call("set_ticket", password=None)
    bench.claim(returned == 0, "set_ticket returns 0", returned)
    error = answer(bench, source, guess)
    bench.claim(error == DENIED, DENIED.name, error)
    source.call("set_ticket", password=NEXT)
    error = answer(bench, source, NEXT)
    bench.claim(error == OK, "the next ticket opens", error, proves="LINK-020")


@requirement("LINK-045", fault=stuck_after(INIT))
def test_first_ticket_disconnects(bench: Bench) -> None:
    """A client that came without a ticket is disconnected when the first ticket is set."""
    source = bench.start()
    main = in_session(bench, source)
    source.call("set_ticket", password=TICKET)
    ending = main.expect_end(deadline=2)
    bench.claim(ending in DISCONNECTED, "the client's end", ending)
    error = answer(bench, source, "")
    bench.claim(error == DENIED, "nobody gets in without the ticket", error)


@requirement("LINK-025", fault=result(DENIED, where=accepted))
@pytest.mark.parametrize("before", [TICKET, ""], ids=["ticket before", "locked before"])
def test_set_noauth(bench: Bench, before: str) -> None:
    """set_noauth opens the host, even one that was locked."""
    source = bench.start(ticket=before)
    returned = source.call("set_noauth")
    bench.claim(returned == 0, "set_noauth returns 0", returned)
    for password in ("", "anything"):
        error = answer(bench, source, password)
        bench.claim(error == OK, f"{OK.name} with the ticket {password!r}", error)


@requirement("LINK-046", fault=(result(DENIED, where=accepted), result(OK, where=refused)))
def test_last_second_of_a_ticket(bench: Bench) -> None:
    """A ticket of one second opens links until the next second of the monotonic clock has passed, and no
    longer."""
    source = bench.start(ticket=TICKET)
    began = -1
    while int(time.monotonic()) != began:  # the call may have taken until the next second
        if time.monotonic() % 1 > EARLY_S:
            bench.pump.pass_real_time(1.02 - time.monotonic() % 1)
        began = int(time.monotonic())
        source.call("set_ticket", password=TICKET, lifetime=1)
    bench.pump.pass_real_time(max(0.0, began + 2 - MARGIN_S - time.monotonic()))
    error = answer(bench, source, TICKET)
    late = time.monotonic() >= began + 2
    bench.claim(error == OK or late, "it opens in its last second", error)
    bench.pump.pass_real_time(max(0.0, began + 2.02 - time.monotonic()))
    error = answer(bench, source, TICKET)
    bench.claim(error == DENIED, "it does not open in the next", error)
