# SPDX-License-Identifier: GPL-2.0-only
"""Clients without the ticket open nothing: not as a migrating client, not on a secondary channel, not before
a ticket has been set; and they do not disturb the connected client (spice-server.h,
spice_server_set_ticket)."""

from __future__ import annotations

from itertools import count, pairwise

import pytest

from dissectors.wire.constants import ChannelType, LinkErr, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import changed, put, refused, requirement, result
from fixtures.system.hosts import Ability

OK, DENIED = LinkErr.SPICE_LINK_ERR_OK, LinkErr.SPICE_LINK_ERR_PERMISSION_DENIED
INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
INIT = MsgMain.SPICE_MSG_MAIN_INIT
TICKET = "correct horse"
BROUGHT = 0x8AC0FFE1
COUNTED = count(0x8A000001)


@requirement("LINK-021")
@pytest.mark.parametrize("incoming", [True, False], ids=["target", "ordinary"])
@pytest.mark.parametrize("wrong", ["", "wrong", "correct"])
def test_migrating_client_needs_the_ticket(bench: Bench, incoming: bool, wrong: str) -> None:
    """A main link with a connection_id needs the ticket like any other link."""
    target = bench.start("target", incoming=incoming, ticket=TICKET)
    error = bench.try_link(bench.connect(target, connection_id=BROUGHT, password=wrong))
    bench.claim(error == DENIED, "SPICE_LINK_ERR_PERMISSION_DENIED", error)


@requirement("LINK-021")
@pytest.mark.parametrize("connection_id", [BROUGHT, 0, 1], ids=["the session's", "none", "another"])
def test_channel_of_a_migrating_client_needs_the_ticket(bench: Bench, connection_id: int) -> None:
    """A channel to a target needs the ticket whatever its id: the answer does not reveal which ids exist."""
    target = bench.start("target", incoming=True, ticket=TICKET)
    main = bench.link(target, connection_id=BROUGHT, password=TICKET)
    inputs = bench.connect(target, channel=INPUTS, connection_id=connection_id, password="wrong")
    error = bench.try_link(inputs)
    bench.claim(error == DENIED, "SPICE_LINK_ERR_PERMISSION_DENIED", error)
    main.close()


@requirement(
    "LINK-032", fault=(result(OK, where=refused), result(6, where=refused), result(8, where=refused))
)
@pytest.mark.needs(Ability.RESTART_TICKET)
@pytest.mark.parametrize("guess", ["", "x"])
def test_without_a_password_set(bench: Bench, guess: str) -> None:
    """Where tickets are required and none has been set, no client gets in, not even with an empty one."""
    source = bench.start(ticket="")
    error = bench.try_link(bench.connect(source, password=guess))
    bench.claim(error == DENIED, "SPICE_LINK_ERR_PERMISSION_DENIED", error)


@requirement("LINK-032")
@pytest.mark.needs(Ability.RESTART_TICKET)
@pytest.mark.parametrize("guess", ["", TICKET])
def test_ticket_that_was_taken_away(bench: Bench, guess: str) -> None:
    """A host whose ticket is set to nothing lets no client in."""
    source = bench.start(ticket=TICKET)
    source.call("set_ticket", password="")
    error = bench.try_link(bench.connect(source, password=guess))
    bench.claim(error == DENIED, "SPICE_LINK_ERR_PERMISSION_DENIED", error)


@requirement("MAIN-015")
@pytest.mark.parametrize("stage", ["mess", "mechanism", "ticket"])
def test_who_is_in_is_not_disturbed(bench: Bench, stage: str) -> None:
    """Only a client with the ticket takes the session over: a client that stops before its ticket, or sends a
    wrong one, does not disturb the session."""
    source = bench.start(ticket=TICKET)
    client = bench.client(source, channels=(INPUTS,), password=TICKET)
    stranger = bench.connect(source, password="wrong")
    if stage == "ticket":
        error = bench.try_link(stranger)
        bench.claim(error == DENIED, "SPICE_LINK_ERR_PERMISSION_DENIED", error, proves="LINK-021")
    else:
        stranger.send_mess()
        stranger.expect_reply()
        if stage == "mechanism":
            stranger.send_mechanism()
    bench.settle()
    endings = [c.ending for c in client.current if c.ending]
    bench.claim(not endings, "the session of the client with the ticket", endings)


@requirement("LINK-016", "CONNID-003")
def test_refused_channel_disturbs_nobody(bench: Bench) -> None:
    """The server closes a channel with a wrong id, and nothing else."""
    source = bench.start()
    client = bench.client(source, channels=(INPUTS,))
    stranger = bench.connect(source, channel=INPUTS, connection_id=client.session_id ^ 0x00010000)
    bench.try_link(stranger)
    bench.must_close(stranger)
    bench.settle()
    endings = [c.ending for c in client.current if c.ending]
    bench.claim(not endings, "a session that is not disturbed", endings, proves="CONNID-003")


@requirement(
    "CONNID-014",
    fault=(
        put(INIT, session_id=5),
        changed("ids that count up", INIT, lambda b: next(COUNTED).to_bytes(4, "little") + b[4:]),
    ),
)
@requirement("CONNID-004")
def test_ids_cannot_be_guessed(bench: Bench) -> None:
    """The ids of successive sessions use the upper bits, and do not go up one by one."""
    source = bench.start()
    ids = []
    for _ in range(8):
        main = bench.link(source)
        ids.append(int(bench.expect(main, INIT, proves="MAIN-001").packet.session_id))
    shown = " ".join(f"{i:08x}" for i in ids)
    bench.claim(max(ids) >= 1 << 24, "ids of 32 bits", shown, proves="CONNID-014")
    steps = [abs(b - a) for a, b in pairwise(ids)]
    bench.claim(max(steps) >= 1 << 16, "ids that do not follow one another", shown, proves="CONNID-014")


@requirement("LINK-020")
def test_ticket_is_not_used_up(bench: Bench) -> None:
    """A ticket opens any number of links, after wrong ones too."""
    source = bench.start(ticket=TICKET)
    for _ in range(3):
        with bench.owed():
            client = bench.client(source, password=TICKET)
        bench.try_link(bench.connect(source, password="wrong"))
        client.close()


@requirement("CONNID-003")
def test_no_other_id_joins(bench: Bench) -> None:
    """An id that differs from the session's in one bit, or by a power of two, does not join it."""
    source = bench.start()
    session_id = bench.client(source, channels=()).session_id
    bits = [1 << n for n in range(32)]
    near = {session_id ^ bit for bit in bits} | {(session_id + bit) & 0xFFFFFFFF for bit in bits}
    for wrong in sorted(near):
        error = bench.try_link(bench.connect(source, channel=INPUTS, connection_id=wrong))
        bad = LinkErr.SPICE_LINK_ERR_BAD_CONNECTION_ID
        bench.claim(error == bad, f"{bad.name} for 0x{wrong:08x}", error)
