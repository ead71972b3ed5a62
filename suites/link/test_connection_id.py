# SPDX-License-Identifier: GPL-2.0-only
"""connection_id: which links may join which session, on a source and on a target."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dissectors.framing.events import Ending
from dissectors.wire.constants import ChannelType, LinkErr, MsgBase, MsgcMain, MsgInputs, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import (
    INIT_BODY,
    PING_BODY,
    before,
    changed,
    closed_after,
    lost,
    message_after_result,
    put,
    refused,
    requirement,
    result,
    stuck_after,
)
from fixtures.system.hosts import Host

LIST = MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
PING = MsgBase.SPICE_MSG_PING

OK, BAD = LinkErr.SPICE_LINK_ERR_OK, LinkErr.SPICE_LINK_ERR_BAD_CONNECTION_ID
INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
INIT = MsgMain.SPICE_MSG_MAIN_INIT
INPUTS_INIT = MsgInputs.SPICE_MSG_INPUTS_INIT
#: Ids that are almost right: a server that compares too few bits would accept them.
NEAR: dict[str, Callable[[int], int]] = {
    "zero": lambda i: 0,
    "next": lambda i: (i + 1) & 0xFFFFFFFF,
    "lowest bit": lambda i: i ^ 1,
    "highest bit": lambda i: i ^ 0x80000000,
    "low half": lambda i: i & 0xFFFF,
    "high half": lambda i: i & 0xFFFF0000,
    "swapped": lambda i: int.from_bytes(i.to_bytes(4, "little"), "big"),
    "inverted": lambda i: ~i & 0xFFFFFFFF,
}
#: The most sessions that are opened until one has an id that the change alters: one random id in 65,536 looks
#: the same both ways.
SESSIONS = 5


def join(bench: Bench, host: Host, connection_id: int, channel: int = INPUTS) -> LinkErr | int | None:
    """Links a channel with this id."""
    return bench.try_link(bench.connect(host, channel=channel, connection_id=connection_id))


@requirement("CONNID-002", fault=result(BAD, channel=INPUTS))
@requirement("CONNID-001", fault=put(INIT, session_id=0))
@requirement(
    "MAIN-010",
    fault=(
        changed("with main", LIST, lambda b: bytes([b[0] + 1]) + b[1:] + b"\1\0"),
        changed("the last one twice", LIST, lambda b: bytes([b[0] + 1]) + b[1:] + b[-2:]),
    ),
)
@requirement("MAIN-011", fault=result(LinkErr.SPICE_LINK_ERR_ERROR, channel=INPUTS))
@requirement("MAIN-008")
def test_channels_join_their_session(bench: Bench) -> None:
    """Every listed channel can be opened with the session's id."""
    source = bench.start(devices=("keyboard", "mouse", "playback", "record", "display", "agent"))
    with bench.owed("MAIN-011"):
        client = bench.client(source)
    session = client.current
    kinds = {key[0] for key in session.channels}
    bench.claim(
        session.linked and len(kinds) >= 2,
        "links to all listed channels",
        f"{sorted(kinds)}",
        proves="MAIN-011",
    )
    bench.settle()
    client.close()


@requirement(
    "CONNID-003", fault=(result(OK, where=refused), result(LinkErr.SPICE_LINK_ERR_ERROR, where=refused))
)
@requirement("LINK-016")
@pytest.mark.parametrize("how", NEAR)
def test_wrong_id(bench: Bench, how: str) -> None:
    """The server refuses a channel with another id with BAD_CONNECTION_ID; the session goes on
    undisturbed."""
    source = bench.start()
    for _ in range(SESSIONS):
        client = bench.client(source, channels=())
        if (wrong := NEAR[how](client.session_id)) != client.session_id:
            break
        client.close()
        bench.settle()
    else:
        pytest.skip(f"INCONCLUSIVE: the ids of {SESSIONS} sessions look the same both ways")
    refused = bench.connect(source, channel=INPUTS, connection_id=wrong)
    error = bench.try_link(refused)
    bench.claim(error == BAD, "SPICE_LINK_ERR_BAD_CONNECTION_ID", error, proves="CONNID-003")
    bench.must_close(refused)
    error = join(bench, source, client.session_id)
    bench.claim(error == OK, "the right id still joins", error, proves="CONNID-002")


@requirement("CONNID-009", fault=result(OK, where=refused))
@pytest.mark.parametrize("connection_id", [0, 1, 0x80000001])
def test_before_any_session(bench: Bench, connection_id: int) -> None:
    """Before there is a session the server refuses every secondary channel."""
    error = join(bench, bench.start(), connection_id)
    bench.claim(error == BAD, "SPICE_LINK_ERR_BAD_CONNECTION_ID", error)


@requirement("CONNID-008", fault=result(OK, where=refused))
def test_after_the_session(bench: Bench) -> None:
    """The id of a session that has ended opens no channel."""
    source = bench.start()
    client = bench.client(source, channels=())
    client.close()
    bench.settle()
    error = join(bench, source, client.session_id)
    bench.claim(error == BAD, "SPICE_LINK_ERR_BAD_CONNECTION_ID", error)


@requirement("CONNID-004", fault=put(INIT, session_id=77))
@requirement("MAIN-015", fault=(closed_after(INIT, nth=2), stuck_after(LIST, nth=1)))
@requirement("CONNID-008")
def test_second_client(bench: Bench) -> None:
    """A new client gets a new id and takes over: the old client is disconnected, and its id opens nothing."""
    source = bench.start()
    first = bench.client(source, channels=())
    with bench.owed("MAIN-015"):
        second = bench.client(source, channels=())
    first.main.expect_end()
    bench.claim(
        first.main.ending is not None and second.main.ending is None,
        "the old client out, the new one in",
        f"{first.main.ending}, {second.main.ending}",
        proves="MAIN-015",
    )
    error = join(bench, source, first.session_id)
    bench.claim(error == BAD, "SPICE_LINK_ERR_BAD_CONNECTION_ID for the old id", error, proves="CONNID-008")
    error = join(bench, source, second.session_id)
    bench.claim(error == OK, "SPICE_LINK_ERR_OK for the new id", error, proves="CONNID-002")


@requirement(
    "CONNID-010",
    fault=(closed_after("SPICE_MSG_INPUTS_*", nth=1), stuck_after("result", channel=INPUTS, nth=2)),
)
def test_duplicate_channel(bench: Bench) -> None:
    """A second link to an open channel is closed; the first one goes on, and the channel can be opened again
    later."""
    source = bench.start()
    client = bench.client(source, channels=(INPUTS,))
    bench.settle()
    second = bench.connect(source, channel=INPUTS, connection_id=client.session_id)
    bench.try_link(second)
    ending = second.expect_end()
    bench.claim(ending is not Ending.TIMEOUT, "the second link is closed", ending)
    first = client.current.channels[INPUTS, 0]
    bench.claim(first.ending is None, "the first channel goes on", first.ending)
    first.close()
    bench.settle()
    again = bench.connect(source, channel=INPUTS, connection_id=client.session_id)
    error = bench.try_link(again)
    bench.expect(again, INPUTS_INIT)
    bench.claim(error == OK, "the channel can be opened again", error)


@requirement("CONNID-007", fault=result(BAD, host="target", channel=INPUTS))
@requirement("CONNID-003")
@pytest.mark.parametrize("how", NEAR)
def test_wrong_id_on_a_target(bench: Bench, how: str) -> None:
    """On a target only the session's id joins, before MIGRATE_END too."""
    target = bench.start("target", incoming=True)
    brought = 0x8AC0FFE1
    main = bench.link(target, connection_id=brought)
    error = join(bench, target, NEAR[how](brought))
    bench.claim(error == BAD, "SPICE_LINK_ERR_BAD_CONNECTION_ID", error, proves="CONNID-003")
    error = join(bench, target, brought)
    bench.claim(error == OK, "SPICE_LINK_ERR_OK", error, proves="CONNID-007")
    bench.settle()
    main.close()


@requirement("MIG-DST-001", fault=result(BAD, host="target", channel=ChannelType.SPICE_CHANNEL_MAIN))
@requirement(
    "MIG-DST-002",
    fault=message_after_result(INIT, INIT_BODY, host="target", channel=ChannelType.SPICE_CHANNEL_MAIN),
)
@requirement(
    "MIG-DST-003",
    fault=message_after_result(PING, PING_BODY, host="target", channel=ChannelType.SPICE_CHANNEL_MAIN),
)
@requirement("MIG-DST-004", fault=(before(INIT, PING, PING_BODY, host="target"), lost(INIT, host="target")))
@requirement("CONNID-005")
@pytest.mark.parametrize("brought", [1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x00010002], ids=hex)
def test_id_of_the_target_session(bench: Bench, brought: int) -> None:
    """The target's session has the id that the client brings, whatever it is."""
    target = bench.start("target", incoming=True)
    main = bench.link(target, connection_id=brought)
    bench.settle()
    main.send(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)
    bench.expect(main, INIT, proves="MIG-DST-004")


@requirement("MIG-DST-008", fault=lost(INIT, host="target"))
def test_ordinary_session_on_a_target(bench: Bench) -> None:
    """A link with id 0 to a host that waits for a migration is an ordinary session."""
    with bench.owed():
        bench.client(bench.start("target", incoming=True), channels=())


@requirement("CONNID-015", fault=(lost(INPUTS_INIT, nth=2), result(BAD, channel=INPUTS, nth=2)))
def test_channel_that_is_opened_again(bench: Bench) -> None:
    """The client closes one of its channels and opens it again."""
    source = bench.start()
    client = bench.client(source)
    client.current.channels[INPUTS, 0].close()
    bench.settle()
    with bench.owed():
        bench.link(source, channel=INPUTS, connection_id=client.session_id).expect(INPUTS_INIT)
