# SPDX-License-Identifier: GPL-2.0-only
"""The semi-seamless scheme (2011-09-19), statement by statement: source (1) to (4), target (1) and (2)."""

from __future__ import annotations

import pytest

from dissectors.framing.events import Ending
from dissectors.wire.constants import ChannelType, MainCap, MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.peer.duties import ANSWERS_LATE, CANNOT_CONNECT, DUTIFUL, NEVER_ANSWERS, NEVER_LEAVES, Step
from fixtures.peer.peer_connection import EVERYTHING
from fixtures.system.hosts import Ability
from suites.steps import announced, arrived, migrated

BEGIN = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN
END = MsgMain.SPICE_MSG_MAIN_MIGRATE_END
SWITCH = MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST
CANCEL = MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL
INIT = MsgMain.SPICE_MSG_MAIN_INIT
INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
BROUGHT = 0x8AC0FFE1  # a connection_id of a source that is not there
CONNECT_DONE, END_DONE = "migrate_connect_complete", "migrate_end_complete"
TIMEOUT_MS = 10_000
EXPIRES_S = 2.5  # a ticket of 1 s; the server counts whole seconds
#: What the timers of a host on the real clock may be late, milliseconds.
REAL_CLOCK_MS = 500
OLD_CLIENT = EVERYTHING.without(
    MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE, MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE
)
SUBJECT = "C=XY,O=Source of truth,CN=target.example"


@pytest.mark.requirement(
    "MIG-SRC-015", "MIG-SRC-016", "MIG-SRC-023", "MIG-DST-001", "MIG-DST-002", "MIG-DST-003"
)
@pytest.mark.requirement(
    "MIG-DST-004", "MIG-DST-005", "MIG-DST-006", "CONNID-005", "CONNID-007", "MIG-SRC-020"
)
def test_whole_migration(bench: Bench) -> None:
    """A client is moved from source to target, its channels with it."""
    source, target = bench.pair()
    client = bench.client(source)
    migrated(bench, source, client, target)
    bench.claim(
        "MIG-SRC-023",
        client.left[0].main.messages[-1].type == END,
        "MIGRATE_END last",
        client.left[0].main.messages[-1].name,
    )
    bench.claim(
        "CONNID-005",
        client.session_id == client.left[0].session_id,
        "the same session id",
        hex(client.session_id),
    )


@pytest.mark.requirement(
    "MIG-SRC-003", "MIG-SRC-004", "MIG-SRC-005", "MIG-SRC-006", "MIG-SRC-007", "MIG-SRC-008", "MIG-SRC-014"
)
@pytest.mark.parametrize(
    "subject", [None, SUBJECT, "CN=x", "CN=" + "long" * 60], ids=["none", "subject", "short", "long"]
)
@pytest.mark.parametrize(
    ("port", "tls_port"),
    [(0x8EF1, 0x9A03), (0x8EF1, 0), (0, 0x9A03), (65534, 1)],
    ids=["both", "plain", "tls", "extremes"],
)
def test_announcement(bench: Bench, subject: str | None, port: int, tls_port: int) -> None:
    """BEGIN carries host, port, secure port and certificate subject as migrate_connect was given them."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=CANNOT_CONNECT)
    source.announce(target, host="target.example", port=port, tls_port=tls_port, subject=subject)
    bench.expect("MIG-SRC-020", client.main, BEGIN)
    bench.settle()


@pytest.mark.requirement("MIG-SRC-001", "MIG-SRC-028", "MIG-SRC-012", "MIG-SRC-013", "MIG-SRC-036")
@pytest.mark.needs(Ability.CALLBACKS)
def test_completes_when_connected(bench: Bench) -> None:
    """migrate_connect is asynchronous, and completes when the client says CONNECTED."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=ANSWERS_LATE)
    source.announce(target)
    bench.expect("MIG-SRC-020", client.main, BEGIN)
    linked = lambda: client.target and client.target.linked  # noqa: E731
    bench.until("MIG-DST-001", linked, "the client's link to the target")
    bench.settle()
    bench.claim("MIG-SRC-012", not bench.seen(source, CONNECT_DONE), "no completion before the answer", "one")
    client.release(Step.ANSWER)
    bench.wait("MIG-SRC-028", source, CONNECT_DONE)
    bench.settle()


@pytest.mark.requirement("MIG-SRC-029", "MIG-SRC-018", "MIG-SRC-019")
@pytest.mark.needs(Ability.CALLBACKS)
def test_completes_on_connect_error(bench: Bench) -> None:
    """migrate_connect completes on CONNECT_ERROR, and the migration ends with SWITCH_HOST."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=CANNOT_CONNECT.skipping(Step.SWITCH_HOST))
    source.announce(target, subject=SUBJECT)
    bench.wait("MIG-SRC-029", source, CONNECT_DONE)
    source.complete(target)
    bench.expect("MIG-SRC-018", client.main, SWITCH)


@pytest.mark.requirement("MIG-SRC-031", "MIG-SRC-013")
@pytest.mark.needs(Ability.CALLBACKS)
def test_completes_on_disconnect(bench: Bench) -> None:
    """migrate_connect completes when the client disconnects while the source waits."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=NEVER_ANSWERS)
    source.announce(target)
    bench.expect("MIG-SRC-020", client.main, BEGIN)
    client.close()
    bench.wait("MIG-SRC-031", source, CONNECT_DONE)
    bench.settle()


@pytest.mark.requirement("MIG-SRC-030")
@pytest.mark.needs(Ability.CALLBACKS)
@pytest.mark.parametrize("old_client", [False, True], ids=["nobody", "old-client"])
def test_completes_at_once(bench: Bench, old_client: bool) -> None:
    """migrate_connect completes at once if there is no client that can take the announcement."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), capabilities=OLD_CLIENT) if old_client else None
    source.announce(target)
    bench.wait("MIG-SRC-030", source, CONNECT_DONE)
    bench.settle()
    if client:
        bench.claim(
            "MIG-SRC-002", not client.main.got(BEGIN), "no BEGIN to a client without the capability", "BEGIN"
        )


@pytest.mark.requirement("TIME-001", "MIG-SRC-012", "MIG-SRC-013", "MIG-SRC-018")
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_wait_for_the_client_times_out(bench: Bench) -> None:
    """Without an answer migrate_connect completes after 10,000 ms, not before; then SWITCH_HOST ends it."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=NEVER_ANSWERS.skipping(Step.SWITCH_HOST))
    source.announce(target)
    bench.expect("MIG-SRC-020", client.main, BEGIN)
    bench.pass_time(source, TIMEOUT_MS - 1)
    bench.claim("TIME-001", not bench.seen(source, CONNECT_DONE), "no completion after 9,999 ms", "one")
    bench.pass_time(source, 1)
    bench.claim("TIME-001", bench.seen(source, CONNECT_DONE) == 1, "completion after 10,000 ms", "none")
    bench.pass_time(source, TIMEOUT_MS)
    source.complete(target)
    bench.expect("MIG-SRC-018", client.main, SWITCH)


@pytest.mark.requirement("TIME-001")
@pytest.mark.needs(Ability.CALLBACKS)
def test_wait_for_the_client_times_out_in_real_time(bench: Bench) -> None:
    """The same on the real clock, once."""
    source, target = bench.pair(virtual_clock=False)
    client = bench.client(source, channels=(), duties=NEVER_ANSWERS)
    source.announce(target)
    bench.expect("MIG-SRC-020", client.main, BEGIN)
    bench.wait("TIME-001", source, CONNECT_DONE, deadline=20)


@pytest.mark.requirement("TIME-002", "MIG-SRC-023", "MIG-SRC-033", "MIG-SRC-034", "MIG-SRC-037")
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_client_that_stays_is_dropped(bench: Bench) -> None:
    """A client that ignores MIGRATE_END is dropped after 10,000 ms, and migrate_end completes then."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=NEVER_LEAVES)
    announced(bench, source, client, target)
    left = client.main
    source.complete(target)
    bench.expect("MIG-SRC-015", left, END)
    bench.pass_time(source, TIMEOUT_MS - 1)
    bench.claim("TIME-002", not bench.seen(source, END_DONE), "no completion after 9,999 ms", "one")
    bench.pass_time(source, 1)
    bench.claim("TIME-002", bench.seen(source, END_DONE) == 1, "completion after 10,000 ms", "none")
    ending = left.expect_end()
    bench.claim("MIG-SRC-037", ending is not Ending.TIMEOUT, "the client is dropped", ending)


@pytest.mark.requirement("TIME-002", "MIG-SRC-023", "MIG-SRC-033", "MIG-SRC-034", "MIG-SRC-037")
@pytest.mark.needs(Ability.END_CALLBACK)
def test_client_that_stays_is_dropped_in_real_time(bench: Bench) -> None:
    """The same on the real clock, once."""
    source, target = bench.pair(virtual_clock=False)
    client = bench.client(source, channels=(), duties=NEVER_LEAVES)
    announced(bench, source, client, target)
    left = client.main
    source.complete(target)
    bench.expect("MIG-SRC-015", left, END)
    bench.wait("TIME-002", source, END_DONE, deadline=20)
    ending = left.expect_end()
    bench.claim("MIG-SRC-037", ending is not Ending.TIMEOUT, "the client is dropped", ending)


@pytest.mark.requirement("MIG-SRC-033", "MIG-SRC-034", "TIME-003")
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_migrate_end_completes_when_the_client_has_left(bench: Bench) -> None:
    """migrate_end completes when the client leaves the source; no timeout follows."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=DUTIFUL.holding(Step.LEAVE_SOURCE))
    announced(bench, source, client, target)
    source.complete(target)
    bench.expect("MIG-SRC-015", client.main, END)
    bench.settle()
    bench.claim(
        "MIG-SRC-033", not bench.seen(source, END_DONE), "no completion while the client is there", "one"
    )
    client.release(Step.LEAVE_SOURCE)
    bench.wait("MIG-SRC-033", source, END_DONE)
    bench.pass_time(source, 3 * TIMEOUT_MS)
    counts = bench.seen(source, CONNECT_DONE), bench.seen(source, END_DONE)
    bench.claim("TIME-003", counts == (1, 1), "one completion of each call, and no more", counts)


@pytest.mark.requirement("MIG-SRC-017", "MIG-SRC-035", "MIG-SRC-039")
def test_failed_migration_is_cancelled(bench: Bench) -> None:
    """After migrate_end(0) the client gets MIGRATE_CANCEL, the session goes on and migrates later (to another
    target: a QEMU whose incoming migration has failed ends)."""
    source, target = bench.pair()
    client = bench.client(source, channels=(ChannelType.SPICE_CHANNEL_INPUTS,))
    announced(bench, source, client, target)
    source.complete(target, succeeded=False)
    bench.expect("MIG-SRC-017", client.main, CANCEL)
    bench.settle()
    client.steps.clear()
    with bench.owed("MIG-SRC-039"):
        migrated(bench, source, client, bench.start("target2", incoming=True))


@pytest.mark.requirement("MIG-SRC-024")
def test_late_answer_is_cancelled(bench: Bench) -> None:
    """A CONNECTED that comes after the timeout is met with MIGRATE_CANCEL."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=ANSWERS_LATE)
    source.announce(target)
    bench.expect("MIG-SRC-020", client.main, BEGIN)
    linked = lambda: client.target and client.target.linked  # noqa: E731
    bench.until("MIG-DST-001", linked, "the client's link to the target")
    bench.pass_time(source, TIMEOUT_MS + REAL_CLOCK_MS)
    client.release(Step.ANSWER)
    bench.expect("MIG-SRC-024", client.main, CANCEL)


@pytest.mark.requirement("MIG-SRC-032", "MIG-SRC-013")
@pytest.mark.needs(Ability.CALLBACKS)
def test_failure_during_the_wait(bench: Bench) -> None:
    """migrate_end(0) before the client has answered completes migrate_connect."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=NEVER_ANSWERS)
    source.announce(target)
    bench.expect("MIG-SRC-020", client.main, BEGIN)
    source.cancel(target)
    bench.wait("MIG-SRC-032", source, CONNECT_DONE)
    bench.settle()


@pytest.mark.requirement("MIG-SRC-025", "MIG-SRC-038")
def test_announced_again(bench: Bench) -> None:
    """Announcements in a row: each is sent, a connected client gets MIGRATE_CANCEL in between."""
    source, target = bench.pair()
    client = bench.client(source, channels=())
    for number, subject in enumerate((SUBJECT, None, SUBJECT, None, None), start=1):
        client.steps.clear()
        with bench.owed("MIG-SRC-038"):
            announced(bench, source, client, target, subject=subject)
        got = (len(client.main.got(BEGIN)), len(client.main.got(CANCEL)))
        bench.claim("MIG-SRC-038", got[0] == number, f"{number} announcements", got[0])
        bench.claim("MIG-SRC-025", got[1] == number - 1, f"{number - 1} cancels", got[1])


@pytest.mark.requirement("MIG-SRC-027")
@pytest.mark.needs(Ability.CALLS)
def test_end_without_announcement(bench: Bench) -> None:
    """migrate_end(1) without migrate_connect returns -1 and disconnects the clients."""
    source = bench.start()
    client = bench.client(source, channels=())
    source.call("migrate_end", completed=1)
    ending = client.main.expect_end()
    bench.claim("MIG-SRC-027", ending is not Ending.TIMEOUT, "the client is disconnected", ending)


@pytest.mark.requirement("MIG-SRC-026")
def test_new_client_during_the_wait(bench: Bench) -> None:
    """A client that comes during the wait ends it; its own end is SWITCH_HOST."""
    source, target = bench.pair()
    first = bench.client(source, channels=(), duties=NEVER_ANSWERS)
    source.announce(target)
    bench.expect("MIG-SRC-020", first.main, BEGIN)
    second = bench.client(source, channels=(), duties=DUTIFUL.skipping(Step.SWITCH_HOST))
    if Ability.CALLBACKS in source.abilities:
        bench.wait("MIG-SRC-026", source, CONNECT_DONE)
    source.complete(target)
    bench.expect("MIG-SRC-018", second.main, SWITCH)
    bench.claim("MIG-SRC-026", not second.main.got(BEGIN), "no BEGIN to the new client", "BEGIN")


@pytest.mark.requirement("MIG-DST-009")
def test_channels_after_the_migration(bench: Bench) -> None:
    """After the migration the client can ask for the channels of the target."""
    source, target = bench.pair()
    client = bench.client(source)
    migrated(bench, source, client, target)
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    listed = bench.expect("MIG-DST-009", client.main, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST).packet
    bench.claim("MIG-DST-009", len(listed.channels) > 0, "a list of channels", "an empty one")


@pytest.mark.requirement("MIG-DST-011")
@pytest.mark.needs(Ability.RESTART_TICKET)
def test_ticket_that_expires_during_the_migration(bench: Bench) -> None:
    """The cover letter's point: who has linked before the ticket expires, arrives."""
    source = bench.start("source", ticket="secret")
    target = bench.start("target", ticket="secret", incoming=True)
    client = bench.client(source, password="secret")
    announced(bench, source, client, target)
    target.call("set_ticket", password="secret", lifetime=1)
    bench.pump.pass_real_time(EXPIRES_S)
    inputs = bench.connect(target, channel=3, connection_id=client.session_id, password="secret")
    late = bench.try_link(inputs)
    bench.claim("LINK-023", late != 0, "a ticket that has expired", late)
    source.complete(target)
    with bench.owed("MIG-DST-011"):
        arrived(bench, client)
    bench.claim("MIG-DST-011", client.main.ending is None, "a session that lives", client.main.ending)


@pytest.mark.requirement("MIG-DST-012")
def test_moved_on_while_it_arrives(bench: Bench) -> None:
    """A further migration waits for the client that has not arrived yet: it is announced once it has."""
    source, target = bench.pair()
    further = bench.start("target2", incoming=True)
    client = bench.client(source, channels=(), duties=DUTIFUL.holding(Step.MIGRATE_END))
    announced(bench, source, client, target)
    source.complete(target)
    bench.until("MIG-SRC-015", lambda: Step.LEAVE_SOURCE in client.steps, "MIGRATE_END from the source")
    main = client.target.main if client.target else client.main
    target.announce(further)
    bench.settle()
    early = [m.name for m in main.got(BEGIN, SWITCH, CANCEL)]
    bench.claim("MIG-DST-012", not early, "no announcement before the client has arrived", ", ".join(early))
    client.steps.clear()
    client.release(Step.MIGRATE_END)
    bench.until("MIG-DST-012", lambda: Step.ANSWER in client.steps, "the further migration's announcement")
    client.left.clear()
    target.complete(further)
    with bench.owed("MIG-DST-012"):
        arrived(bench, client)


@pytest.mark.requirement("MIG-DST-014")
@pytest.mark.needs(Ability.STATS)
@pytest.mark.parametrize("channels", [(), (INPUTS,)], ids=["main", "channels"])
def test_migration_that_never_comes(bench: Bench, channels: tuple[int, ...]) -> None:
    """Links that are closed before MIGRATE_END leave nothing at the target, which takes the next one."""
    target = bench.start("target", incoming=True)

    def come_and_go() -> None:
        main = bench.link(target, connection_id=BROUGHT)
        others = [bench.link(target, channel=kind, connection_id=BROUGHT) for kind in channels]
        bench.settle()
        for connection in (*others, main):
            connection.close()
        bench.settle()

    come_and_go()
    before = target.stats()
    for _ in range(3):
        come_and_go()
    after = target.stats()
    for what in sorted(before.keys() & {"fds", "watches"}):
        grown = after[what] - before[what]
        expected = f"no {what} left by links that the migration never reached"
        bench.claim("MIG-DST-014", grown <= 0, expected, f"{grown} more")
    main = bench.link(target, connection_id=BROUGHT)
    main.send(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)
    bench.expect("MIG-DST-014", main, INIT)


@pytest.mark.requirement("CONNID-013", "CONNID-005")
def test_chain(bench: Bench) -> None:
    """The session's id survives a chain of migrations: each target is the next one's source."""
    source = bench.start("source")
    client = bench.client(source)
    first = client.session_id
    for hop in range(1, 4):
        target = bench.start(f"target{hop}", incoming=True)
        client.steps.clear()
        client.left.clear()
        migrated(bench, source, client, target)
        source = target
    bench.claim("CONNID-013", client.session_id == first, hex(first), hex(client.session_id))
