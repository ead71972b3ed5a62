# SPDX-License-Identifier: GPL-2.0-only
"""The semi-seamless scheme (2011-09-19), statement by statement: source (1) to (4), target (1) and (2)."""

from __future__ import annotations

import pytest

from dissectors.framing.events import Ending
from dissectors.wire.constants import ChannelType, MsgBase, MsgcMain, MsgInputs, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import (
    ANNOUNCEMENT,
    BEGIN_BODY,
    PING_BODY,
    added,
    before,
    changed,
    closed_after,
    closed_instead,
    leaks,
    lost,
    message_after_result,
    never,
    other_result,
    put,
    requirement,
    stuck_after,
    too_early,
    twice,
)
from fixtures.peer.duties import ANSWERS_LATE, CANNOT_CONNECT, DUTIFUL, NEVER_ANSWERS, MigrationStep
from fixtures.system.hosts import Ability
from suites.steps import announced, arrived, migrated, unanswered

INPUTS_INIT = MsgInputs.SPICE_MSG_INPUTS_INIT
LIST = MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
PING = MsgBase.SPICE_MSG_PING
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
#: How late the timers of a host on the real clock may be, ms.
REAL_CLOCK_MS = 500
SUBJECT = "C=XY,O=Source of truth,CN=target.example"


@requirement("MIG-SRC-016", fault=added(BEGIN, END))
@requirement("MIG-SRC-015", "MIG-SRC-023", "MIG-DST-001", "MIG-DST-002", "MIG-DST-003")
@requirement("MIG-DST-005", fault=message_after_result(PING, PING_BODY, host="target", channel=INPUTS))
@requirement("MIG-DST-006", fault=closed_instead(INPUTS_INIT, host="target"))
@requirement(
    "CONNID-005", fault=changed("one bit of the id", INIT, lambda b: bytes([b[0] ^ 1]) + b[1:], host="target")
)
@requirement("MIG-SRC-020", fault=lost(BEGIN))
@requirement("MIG-DST-004", "CONNID-007")
def test_whole_migration(bench: Bench) -> None:
    """A client migrates from source to target with its channels."""
    source, target = bench.pair()
    client = bench.client(source)
    migrated(bench, source, client, target)
    bench.claim(
        client.left[0].main.messages[-1].type == END,
        "MIGRATE_END last",
        client.left[0].main.messages[-1].name,
        proves="MIG-SRC-023",
    )
    bench.claim(
        client.session_id == client.left[0].session_id,
        "the same session id",
        hex(client.session_id),
        proves="CONNID-005",
    )


@requirement(
    "MIG-SRC-004",
    fault=changed("one bit of port", ANNOUNCEMENT, lambda b: bytes([b[0] ^ 1]) + b[1:], case="both-subject"),
)
@requirement(
    "MIG-SRC-005",
    fault=changed(
        "one bit of sport", ANNOUNCEMENT, lambda b: b[:2] + bytes([b[2] ^ 1]) + b[3:], case="both-subject"
    ),
)
@requirement(
    "MIG-SRC-006",
    fault=(
        changed(
            "one letter of the subject",
            ANNOUNCEMENT,
            lambda b: b.replace(b"Source", b"Saurce"),
            case="both-subject",
        ),
        put(ANNOUNCEMENT, cert_subject_size=0, case="both-subject"),
    ),
)
@requirement("MIG-SRC-007", fault=put(ANNOUNCEMENT, host_size=0, case="both-subject"))
@requirement(
    "MIG-SRC-008", fault=changed("no NUL", ANNOUNCEMENT, lambda b: b.replace(b"example\0", b"examples"))
)
@requirement("MIG-SRC-014", fault=added(LIST, BEGIN, BEGIN_BODY, host="source"))
@requirement("MIG-SRC-003")
@pytest.mark.parametrize(
    "subject", [None, SUBJECT, "CN=x", "CN=" + "long" * 60], ids=["none", "subject", "short", "long"]
)
@pytest.mark.parametrize(
    ("port", "tls_port"),
    [(0x8EF1, 0x9A03), (0x8EF1, 0), (0, 0x9A03), (65534, 1)],
    ids=["both", "plain", "tls", "extremes"],
)
def test_announcement(bench: Bench, subject: str | None, port: int, tls_port: int) -> None:
    """BEGIN carries host, port, secure port and certificate subject as given to migrate_connect."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=CANNOT_CONNECT)
    source.announce(target, host="target.example", port=port, tls_port=tls_port, subject=subject)
    bench.expect(client.main, BEGIN, proves="MIG-SRC-020")
    bench.settle()


@requirement("MIG-SRC-035", fault=too_early(END_DONE))
@requirement("MIG-SRC-039", fault=(closed_after(CANCEL), lost(BEGIN, nth=2)))
@requirement("MIG-SRC-024", fault=twice(CANCEL))
@requirement("MIG-SRC-017", fault=before(END, CANCEL))
def test_failed_migration_is_cancelled(bench: Bench) -> None:
    """After migrate_end(0) the client gets MIGRATE_CANCEL, the session goes on, and a later migration
    succeeds (to another target: a QEMU whose incoming migration has failed exits)."""
    source, target = bench.pair()
    client = bench.client(source, channels=(ChannelType.SPICE_CHANNEL_INPUTS,))
    announced(bench, source, client, target)
    source.complete(target, succeeded=False)
    bench.expect(client.main, CANCEL, proves="MIG-SRC-017")
    bench.settle()
    client.steps.clear()
    with bench.owed("MIG-SRC-039"):
        migrated(bench, source, client, bench.start("target2", incoming=True))


@requirement("MIG-SRC-024", fault=(added(INIT, CANCEL), lost(CANCEL)))
def test_late_answer_is_cancelled(bench: Bench) -> None:
    """The source answers a CONNECTED after the timeout with MIGRATE_CANCEL."""
    source, _target, client = unanswered(bench, ANSWERS_LATE)
    linked = lambda: client.target and client.target.linked  # noqa: E731
    bench.until(linked, "the client's link to the target", proves="MIG-DST-001")
    bench.pass_time(source, TIMEOUT_MS + REAL_CLOCK_MS)
    client.release(MigrationStep.ANSWER)
    bench.expect(client.main, CANCEL)


@requirement("MIG-SRC-025", fault=lost(CANCEL))
@requirement("MIG-SRC-038", fault=(lost(BEGIN, nth=3), twice(BEGIN)))
def test_announced_again(bench: Bench) -> None:
    """Several announcements in a row: the source sends each of them, and MIGRATE_CANCEL in between to a
    connected client."""
    source, target = bench.pair()
    client = bench.client(source, channels=())
    for number, subject in enumerate((SUBJECT, None, SUBJECT, None, None), start=1):
        client.steps.clear()
        with bench.owed("MIG-SRC-038"):
            announced(bench, source, client, target, subject=subject)
        got = (len(client.main.got(BEGIN)), len(client.main.got(CANCEL)))
        bench.claim(got[0] == number, f"{number} announcements", got[0], proves="MIG-SRC-038")
        bench.claim(got[1] == number - 1, f"{number - 1} cancels", got[1], proves="MIG-SRC-025")


@requirement("MIG-SRC-027", fault=(stuck_after(LIST), other_result("migrate_end")))
@pytest.mark.needs(Ability.CALLS)
@pytest.mark.parametrize("earlier", [False, True], ids=["never announced", "announcement used up"])
def test_end_without_announcement(bench: Bench, earlier: bool) -> None:
    """migrate_end(1) without migrate_connect, or after a migration that has failed, returns -1 and
    disconnects the clients."""
    source, target = bench.pair()
    client = bench.client(source, channels=())
    if earlier:
        announced(bench, source, client, target)
        source.cancel(target)
        bench.expect(client.main, CANCEL, proves="MIG-SRC-017")
    result = source.call("migrate_end", completed=1)
    bench.claim(result == -1, "the result -1", result)
    ending = client.main.expect_end()
    bench.claim(ending is not Ending.TIMEOUT, "the client is disconnected", ending)


@requirement("MIG-SRC-026", fault=(before(SWITCH, BEGIN, BEGIN_BODY), never(CONNECT_DONE)))
def test_new_client_during_the_wait(bench: Bench) -> None:
    """A new client during the wait ends it; SWITCH_HOST ends the new client's part of the migration."""
    source, target, _first = unanswered(bench, NEVER_ANSWERS)
    second = bench.client(source, channels=(), duties=DUTIFUL.skipping(MigrationStep.SWITCH_HOST))
    if Ability.CALLBACKS in source.abilities:
        bench.wait(source, CONNECT_DONE)
    source.complete(target)
    bench.expect(second.main, SWITCH, proves="MIG-SRC-018")
    bench.claim(not second.main.got(BEGIN), "no BEGIN to the new client", "BEGIN")


@requirement(
    "MIG-DST-009",
    fault=(
        changed("one channel fewer", LIST, lambda b: bytes([b[0] - 1]) + b[1:-2], host="target"),
        lost(LIST, host="target"),
    ),
)
def test_channels_after_the_migration(bench: Bench) -> None:
    """After the migration the client can request the target's list of channels."""
    source, target = bench.pair()
    client = bench.client(source)
    migrated(bench, source, client, target)
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    listed = bench.expect(client.main, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST).packet
    before = client.left[0].main.got(LIST)[0].packet
    names = [sorted((int(c.type), int(c.id)) for c in seen.channels) for seen in (before, listed)]
    bench.claim(names[1] == names[0], f"the channels that the source had: {names[0]}", names[1])


@requirement("MIG-DST-011", fault=closed_after(INIT, host="target"))
@pytest.mark.needs(Ability.RESTART_TICKET)
def test_ticket_that_expires_during_the_migration(bench: Bench) -> None:
    """The cover letter's point: a client that has linked before the ticket expires arrives."""
    source = bench.start("source", ticket="secret")
    target = bench.start("target", ticket="secret", incoming=True)
    client = bench.client(source, password="secret")
    announced(bench, source, client, target)
    target.call("set_ticket", password="secret", lifetime=1)
    bench.pump.pass_real_time(EXPIRES_S)
    inputs = bench.connect(target, channel=3, connection_id=client.session_id, password="secret")
    late = bench.try_link(inputs)
    bench.claim(late != 0, "a ticket that has expired", late, proves="LINK-023")
    source.complete(target)
    with bench.owed():
        arrived(bench, client)
    bench.claim(client.main.ending is None, "the session goes on", client.main.ending)


@requirement(
    "MIG-DST-012",
    fault=(
        message_after_result(BEGIN, BEGIN_BODY, host="target", channel=ChannelType.SPICE_CHANNEL_MAIN),
        lost(BEGIN, host="target"),
    ),
)
def test_moved_on_while_it_arrives(bench: Bench) -> None:
    """The target announces a further migration only once the client has arrived."""
    source, target = bench.pair()
    further = bench.start("target2", incoming=True)
    client = bench.client(source, channels=(), duties=DUTIFUL.holding(MigrationStep.MIGRATE_END))
    announced(bench, source, client, target)
    source.complete(target)
    bench.until(
        lambda: MigrationStep.LEAVE_SOURCE in client.steps,
        "MIGRATE_END from the source",
        proves="MIG-SRC-015",
    )
    main = client.target.main if client.target else client.main
    target.announce(further)
    bench.settle()
    early = [m.name for m in main.got(BEGIN, SWITCH, CANCEL)]
    bench.claim(not early, "no announcement before the client has arrived", ", ".join(early))
    client.steps.clear()
    client.release(MigrationStep.MIGRATE_END)
    bench.until(lambda: MigrationStep.ANSWER in client.steps, "the further migration's announcement")
    client.left.clear()
    target.complete(further)
    with bench.owed():
        arrived(bench, client)


@requirement("MIG-DST-014", fault=leaks(case="main"))
@pytest.mark.needs(Ability.STATS)
@pytest.mark.parametrize("channels", [(), (INPUTS,)], ids=["main", "channels"])
def test_migration_that_never_comes(bench: Bench, channels: tuple[int, ...]) -> None:
    """Links that close before MIGRATE_END leave nothing behind at the target, and the next migration to it
    succeeds."""
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
        bench.claim(grown <= 0, expected, f"{grown} more")
    main = bench.link(target, connection_id=BROUGHT)
    main.send(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)
    bench.expect(main, INIT)


@requirement(
    "CONNID-013",
    fault=changed("one bit of the id", INIT, lambda b: bytes([b[0] ^ 1]) + b[1:], host="target2"),
)
@requirement("CONNID-005")
def test_chain(bench: Bench) -> None:
    """The session's id survives a chain of migrations, in which each target is the next source."""
    source = bench.start("source")
    client = bench.client(source)
    first = client.session_id
    for hop in range(1, 4):
        target = bench.start(f"target{hop}", incoming=True)
        client.steps.clear()
        client.left.clear()
        migrated(bench, source, client, target)
        source = target
    bench.claim(client.session_id == first, hex(first), hex(client.session_id), proves="CONNID-013")
