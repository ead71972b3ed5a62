# SPDX-License-Identifier: GPL-2.0-only
"""The hypervisor's calls, in every order that the interface allows: each call has its own result, its own
callback, and its own effect on the client (spice-migration.h; server/reds.cpp)."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import MsgBase, MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import BEGIN_BODY, added, lost, never, other_result, requirement, twice
from fixtures.peer import Client
from fixtures.peer.duties import ANSWERS_LATE, CANNOT_CONNECT, DUTIFUL, NEVER_ANSWERS, Duties, MigrationStep
from fixtures.system.hosts import SEVERAL_CLIENTS, Ability, Host
from suites.steps import announced

BEGIN, END = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN, MsgMain.SPICE_MSG_MAIN_MIGRATE_END
BEGIN_SEAMLESS, MIGRATE = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS, MsgBase.SPICE_MSG_MIGRATE
LIST = MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
SWITCH, CANCEL = MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST, MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL
CONNECT_DONE, END_DONE = "migrate_connect_complete", "migrate_end_complete"
TIMEOUT_MS = 10_000
STAYS_HERE = DUTIFUL.skipping(MigrationStep.SWITCH_HOST)

pytestmark = pytest.mark.needs(Ability.CALLS, Ability.CALLBACKS)


def begun(bench: Bench, source: Host, target: Host, duties: Duties) -> Client:
    """Starts a client that has received BEGIN."""
    client = bench.client(source, channels=(), duties=duties)
    source.announce(target)
    bench.expect(client.main, BEGIN, proves="MIG-SRC-020")
    return client


def ends_with(bench: Bench, client: Client, kind: MsgMain, proves: str | None = None) -> None:
    """Claims that this message, and no other, ends the migration at the client."""
    bench.expect(client.main, kind, proves=proves)
    bench.settle()
    seen = [m.name for m in client.main.messages if m.type in (END, SWITCH)]
    bench.claim(seen == [kind.name], f"{kind.name} alone", ", ".join(seen), proves=proves)


@requirement("MIG-SRC-033")
@pytest.mark.parametrize("announced_first", [True, False])
@pytest.mark.parametrize("completed", [1, 0])
def test_end_without_a_client(bench: Bench, announced_first: bool, completed: int) -> None:
    """migrate_end completes at once where no client is left that could leave."""
    source, target = bench.pair()
    if announced_first:
        source.announce(target)
        bench.wait(source, CONNECT_DONE, proves="MIG-SRC-030")
    source.call("migrate_end", completed=completed)
    bench.wait(source, END_DONE)
    bench.settle()


@requirement("MIG-SRC-051", fault=other_result("migrate_end"))
@requirement("MIG-SRC-033")
def test_client_leaves_between_its_answer_and_the_end(bench: Bench) -> None:
    """The server does not wait for a client that is gone when the migration ends."""
    source, target = bench.pair()
    client = begun(bench, source, target, DUTIFUL)
    bench.wait(source, CONNECT_DONE, proves="MIG-SRC-028")
    client.close()
    bench.settle()
    source.complete(target)
    bench.wait(source, END_DONE, proves="MIG-SRC-033")
    counts = bench.seen(source, CONNECT_DONE), bench.seen(source, END_DONE)
    bench.claim(counts == (1, 1), "one completion of each call", counts, proves="MIG-SRC-033")


@requirement("MIG-SRC-018", "MIG-SRC-033", "TIME-003")
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_ends_before_the_client_has_answered(bench: Bench) -> None:
    """A migration that ends before the client has answered falls back to SWITCH_HOST, and completes as
    migrate_end, not as migrate_connect (RHBZ 1352836)."""
    source, target = bench.pair()
    client = begun(
        bench, source, target, STAYS_HERE.skipping(MigrationStep.ANSWER).holding(MigrationStep.LEAVE_SOURCE)
    )
    source.complete(target)
    ends_with(bench, client, SWITCH, proves="MIG-SRC-018")
    client.release(MigrationStep.LEAVE_SOURCE)
    bench.wait(source, END_DONE, proves="MIG-SRC-033")
    connects = bench.seen(source, CONNECT_DONE)
    bench.pass_time(source, 3 * TIMEOUT_MS)
    counts = bench.seen(source, CONNECT_DONE), bench.seen(source, END_DONE)
    bench.claim(counts == (connects, 1), f"{(connects, 1)} completions, no more", counts, proves="TIME-003")


@requirement(
    "MIG-SRC-052",
    fault=(other_result("migrate_connect"), never(CONNECT_DONE), added(LIST, BEGIN, BEGIN_BODY)),
)
def test_announcement_that_leads_nowhere(bench: Bench) -> None:
    """A migrate_connect without any port fails: it returns -1, sends no BEGIN, and completes."""
    source = bench.start()
    client = bench.client(source, channels=())
    result = source.call("migrate_connect", host="target.example")
    bench.wait(source, CONNECT_DONE)
    bench.settle()
    bench.claim(result == -1, "the result -1", result)
    bench.claim(not client.main.got(BEGIN), "no BEGIN", BEGIN.name)


@requirement("MIG-SRC-020", fault=lost(BEGIN))
@requirement("MIG-SRC-036", fault=other_result("migrate_connect"))
@pytest.mark.parametrize("given", ["port", "tls_port"])
def test_announcement_of_one_port(bench: Bench, given: str) -> None:
    """A migrate_connect with only one of the two ports (the other is -1) is announced."""
    source = bench.start()
    client = bench.client(source, channels=(), duties=NEVER_ANSWERS.skipping(MigrationStep.LINK_MAIN))
    result = source.call("migrate_connect", host="target.example", **{given: 0x9A03})
    bench.claim(result == 0, "the result 0", result, proves="MIG-SRC-036")
    bench.expect(client.main, BEGIN, proves="MIG-SRC-020")


@requirement("MIG-SRC-038", "MIG-SRC-004")
def test_announced_again_before_the_answer(bench: Bench) -> None:
    """A second announcement before the client's answer to the first is sent, with its own address."""
    source, target = bench.pair()
    client = begun(bench, source, target, NEVER_ANSWERS.skipping(MigrationStep.LINK_MAIN))
    source.announce(target, host="elsewhere.example", port=0x8EF1, tls_port=0x9A03)
    bench.expect(client.main, BEGIN, proves="MIG-SRC-038")
    bench.settle()
    seen = len(client.main.got(BEGIN)), len(client.main.got(CANCEL))
    bench.claim(seen == (2, 0), "two BEGIN, no MIGRATE_CANCEL", seen, proves="MIG-SRC-038")


@requirement("MIG-SRC-024", fault=(lost(CANCEL), twice(CANCEL)))
def test_answer_to_a_migration_that_has_failed(bench: Bench) -> None:
    """A CONNECTED that arrives after migrate_end(0) is answered with MIGRATE_CANCEL: the client is not left
    at the target."""
    source, target = bench.pair()
    client = begun(bench, source, target, ANSWERS_LATE.skipping(MigrationStep.DROP_TARGET))
    bench.until(lambda: client.target and client.target.linked, "the client's link", proves="MIG-DST-001")
    source.cancel(target)
    bench.wait(source, CONNECT_DONE)
    bench.claim(not client.main.got(CANCEL), "no MIGRATE_CANCEL before the answer", CANCEL.name)
    client.release(MigrationStep.ANSWER)
    bench.expect(client.main, CANCEL)
    bench.settle()
    seen = len(client.main.got(CANCEL))
    bench.claim(seen == 1, "one MIGRATE_CANCEL", seen)


@requirement("MIG-SRC-018", "MIG-SRC-024")
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_late_answer_does_not_connect(bench: Bench) -> None:
    """A CONNECTED after the timeout does not count: SWITCH_HOST ends the migration."""
    source, target = bench.pair()
    client = begun(
        bench, source, target, ANSWERS_LATE.skipping(MigrationStep.SWITCH_HOST, MigrationStep.DROP_TARGET)
    )
    bench.until(
        lambda: client.target and client.target.linked,
        "the client's link to the target",
        proves="MIG-DST-001",
    )
    bench.pass_time(source, TIMEOUT_MS)
    client.release(MigrationStep.ANSWER)
    bench.expect(client.main, CANCEL, proves="MIG-SRC-024")
    source.complete(target)
    ends_with(bench, client, SWITCH, proves="MIG-SRC-018")


@requirement("MIG-SRC-018", "MIG-SRC-017")
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
@pytest.mark.parametrize("wait_ms", [TIMEOUT_MS, 0], ids=["timeout", "at-once"])
def test_old_answer_does_not_count(bench: Bench, wait_ms: int) -> None:
    """A CONNECTED to a cancelled migration does not count for the next one. If the client does not answer
    that one, SWITCH_HOST ends it; if it fails, the client gets no message."""
    source, target = bench.pair()
    client = bench.client(source, channels=())
    announced(bench, source, client, target)
    source.cancel(target)
    bench.expect(client.main, CANCEL, proves="MIG-SRC-017")
    client.duties = NEVER_ANSWERS.skipping(MigrationStep.SWITCH_HOST)
    source.announce(target)
    bench.pass_time(source, wait_ms)
    source.cancel(target)
    bench.settle()
    cancels = len(client.main.got(CANCEL))
    bench.claim(
        cancels == 1, "no MIGRATE_CANCEL to a client that has not answered", cancels, proves="MIG-SRC-017"
    )
    source.announce(target)
    bench.pass_time(source, wait_ms)
    source.complete(target)
    ends_with(bench, client, SWITCH, proves="MIG-SRC-018")


@requirement("MIG-SRC-026", "MIG-SRC-018", "MIG-SRC-013")
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
@pytest.mark.parametrize("answered", [True, False])
def test_new_client_takes_over_in_a_migration(bench: Bench, answered: bool) -> None:
    """A client that takes the session over has not answered, even if the old client has; the old client's
    timeout no longer runs."""
    source, target = bench.pair()
    begun(bench, source, target, DUTIFUL if answered else NEVER_ANSWERS)
    if answered:
        bench.wait(source, CONNECT_DONE, proves="MIG-SRC-028")
    newcomer = bench.client(source, channels=(), duties=STAYS_HERE)
    bench.wait(source, CONNECT_DONE, proves="MIG-SRC-026")
    bench.pass_time(source, 2 * TIMEOUT_MS)
    completions = bench.seen(source, CONNECT_DONE)
    bench.claim(completions == 1, "one completion", completions, proves="MIG-SRC-013")
    source.complete(target)
    ends_with(bench, newcomer, SWITCH, proves="MIG-SRC-018")
    bench.claim(not newcomer.main.got(BEGIN), "no BEGIN to the new client", BEGIN.name, proves="MIG-SRC-026")


@requirement("MIG-SRC-040", fault=added(SWITCH, MIGRATE, b"\3\0\0\0", case="False"))
@requirement("MIG-SRC-018")
@pytest.mark.parametrize("answered", [True, False])
def test_new_client_takes_over_in_a_seamless_migration(bench: Bench, answered: bool) -> None:
    """A client that takes the session over has not said CONNECTED_SEAMLESS, even if the old client has: it is
    switched, and its channels do not move."""
    source, target = bench.pair(seamless=True)
    old = bench.client(source, channels=(), duties=DUTIFUL if answered else NEVER_ANSWERS)
    source.announce(target)
    bench.expect(old.main, BEGIN_SEAMLESS, proves="MIG-SRC-020")
    if answered:
        bench.wait(source, CONNECT_DONE, proves="MIG-SRC-028")
    newcomer = bench.client(source, channels=(), duties=STAYS_HERE)
    bench.wait(source, CONNECT_DONE, proves="MIG-SRC-026")
    source.complete(target)
    bench.until(lambda: newcomer.main.got(SWITCH, MIGRATE), SWITCH.name, proves="MIG-SRC-018")
    bench.settle()
    moved = len(newcomer.main.got(MIGRATE))
    bench.claim(not moved, "no SPICE_MSG_MIGRATE to the new client", MIGRATE.name, proves="MIG-SRC-040")


@requirement("MIG-SRC-012", "MIG-SRC-028", "MIG-SRC-015", "MIG-SRC-033")
@pytest.mark.parametrize("last", ["answers", "refuses"])
def test_several_clients(bench: Bench, last: str) -> None:
    """With several clients migrate_connect waits for the answer of each, and migrate_end until all have left;
    each client's migration ends as its own answer requires."""
    source, target = bench.pair(environment=SEVERAL_CLIENTS)
    first = bench.client(source, channels=(), duties=DUTIFUL.holding(MigrationStep.LEAVE_SOURCE))
    second = bench.client(source, channels=(), duties=ANSWERS_LATE.skipping(MigrationStep.SWITCH_HOST))
    source.announce(target)
    bench.until(
        lambda: MigrationStep.ANSWER in first.steps,
        "an announcement that can be answered",
        proves="MIG-SRC-020",
    )
    bench.expect(second.main, BEGIN, proves="MIG-SRC-020")
    bench.settle()
    seen = bench.seen(source, CONNECT_DONE)
    bench.claim(not seen, "no completion before every client has answered", seen, proves="MIG-SRC-012")
    if last == "refuses":
        second.main.send(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR)
    else:
        second.release(MigrationStep.ANSWER)
    bench.wait(source, CONNECT_DONE, proves="MIG-SRC-028")
    source.complete(target)
    bench.expect(first.main, END, proves="MIG-SRC-015")
    bench.settle()
    seen = bench.seen(source, END_DONE)
    bench.claim(not seen, "no completion while a client is still there", seen, proves="MIG-SRC-033")
    first.release(MigrationStep.LEAVE_SOURCE)
    bench.wait(source, END_DONE, proves="MIG-SRC-033")


@requirement("MIG-SRC-018", "MIG-SRC-003", "MIG-SRC-004", "MIG-SRC-005", "MIG-SRC-006")
@pytest.mark.parametrize("subject", [None, "C=XY,CN=target"])
def test_switch_of_a_machine_without_migration_interface(bench: Bench, subject: str | None) -> None:
    """migrate_info and migrate_switch, the oldest calls: one SWITCH_HOST with their address."""
    source = bench.start(migration=False)
    client = bench.client(source, channels=(), duties=STAYS_HERE)
    address = {"host": "target.example", "port": 0x8EF1, "tls_port": 0x9A03, "subject": subject}
    source.call("migrate_info", **address)
    bench.settle()
    bench.claim(
        not client.main.got(SWITCH), "nothing before migrate_switch", SWITCH.name, proves="MIG-SRC-018"
    )
    source.call("migrate_switch")
    ends_with(bench, client, SWITCH, proves="MIG-SRC-018")


@requirement("ROBUST-001")
def test_switch_without_an_address(bench: Bench) -> None:
    """migrate_switch without migrate_info has no effect on client and server."""
    source = bench.start(migration=False)
    client = bench.client(source, channels=())
    source.call("migrate_switch")
    bench.alive("after migrate_switch without migrate_info", source)
    bench.claim(client.main.ending is None, "the session goes on", client.main.ending)


@requirement("MIG-SRC-029", "MIG-SRC-039")
@pytest.mark.parametrize("between", ["cancelled", "announced again", "another client"])
def test_wait_after_a_wait(bench: Bench, between: str) -> None:
    """A wait that timed out leaves no state behind: the next wait completes as usual."""
    source, target = bench.pair()
    client = begun(bench, source, target, NEVER_ANSWERS.skipping(MigrationStep.LINK_MAIN))
    if between == "cancelled":
        source.cancel(target)
    elif between == "another client":
        client.close()
        bench.wait(source, CONNECT_DONE, proves="MIG-SRC-031")
        client = bench.client(source, channels=())
    bench.settle()
    client.duties = CANNOT_CONNECT
    completions = bench.seen(source, CONNECT_DONE)
    source.announce(target)
    bench.until(
        lambda: bench.seen(source, CONNECT_DONE) > completions,
        "migrate_connect_complete after CONNECT_ERROR",
        proves="MIG-SRC-029",
    )
    bench.claim(client.main.ending is None, "the session goes on", client.main.ending, proves="MIG-SRC-039")


@requirement("MIG-SRC-003", "MIG-SRC-006", "MIG-SRC-008")
@pytest.mark.parametrize(
    ("host", "subject"),
    [
        ("a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 61, None),
        ("Target.Example.", "CN=Target.Example"),
        ("2001:db8::8a:1", "CN=2001:db8::8a:1"),
        ("t", ""),
        ("ziel.example", "CN=z\u00fcrich,O=\u6771\u4eac"),
        ("target.example", "CN=" + "x" * 2000),
    ],
    ids=["253 letters", "capitals", "IPv6", "empty subject", "UTF-8", "2003 bytes"],
)
@pytest.mark.parametrize("switch", [False, True], ids=["begin", "switch"])
def test_addresses_are_passed_on_as_they_are(
    bench: Bench, host: str, subject: str | None, switch: bool
) -> None:
    """Host and certificate subject reach the client byte for byte, whatever their characters."""
    source = bench.start()
    duties = STAYS_HERE.skipping(*MigrationStep) if switch else CANNOT_CONNECT
    client = bench.client(source, channels=(), duties=duties)
    source.call("migrate_connect", host=host, port=0x8EF1, tls_port=0x9A03, subject=subject)
    bench.expect(client.main, BEGIN, proves="MIG-SRC-020")
    if switch:
        source.call("migrate_end", completed=1)
        bench.expect(client.main, SWITCH, proves="MIG-SRC-018")
    bench.settle()


@requirement("TIME-001", "MIG-SRC-038")
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_wait_begins_anew(bench: Bench) -> None:
    """A second announcement starts a new timeout of 10,000 ms."""
    source, target = bench.pair()
    client = begun(bench, source, target, NEVER_ANSWERS.skipping(MigrationStep.LINK_MAIN))
    bench.pass_time(source, TIMEOUT_MS // 2)
    source.announce(target)
    bench.expect(client.main, BEGIN, proves="MIG-SRC-038")
    bench.pass_time(source, TIMEOUT_MS - 1)
    early = bench.seen(source, CONNECT_DONE)
    bench.claim(not early, "no completion 9,999 ms after the second announcement", early, proves="TIME-001")
    bench.pass_time(source, 1)
    late = bench.seen(source, CONNECT_DONE)
    bench.claim(late == 1, "completion 10,000 ms after the second announcement", late, proves="TIME-001")


@requirement("MIG-SRC-068", fault=other_result("migrate_start"))
def test_migrate_start(bench: Bench) -> None:
    """migrate_start is valid between migrate_connect and migrate_end, with a client and without."""
    source, target = bench.pair()
    results = [source.call("migrate_start")]
    client = bench.client(source, channels=())
    results.append(source.call("migrate_start"))
    begun_client = bench.seen(source, CONNECT_DONE)
    announced(bench, source, client, target)
    before = len(client.main.messages)
    results += [source.call("migrate_start"), source.call("migrate_start")]
    bench.settle()
    said = [m.name for m in client.main.messages[before:]]
    source.cancel(target)
    results.append(source.call("migrate_start"))
    bench.claim(results == [-1, -1, 0, 0, -1], [-1, -1, 0, 0, -1], results)
    bench.claim(not said and not begun_client, "nothing on the wire", ", ".join(said))


@requirement("MIG-SRC-069", fault=other_result("add_migration"))
def test_migration_interfaces(bench: Bench) -> None:
    """A machine registers migration interfaces of several versions; the server uses the first one that fits,
    alone."""
    source = bench.start(migration=False)
    versions = ((2, 1), (0, 1), (1, 2), (1, 1), (1, 1), (1, 0))
    results = [source.call("add_migration", major=major, minor=minor) for major, minor in versions]
    due = [-1, -1, -1, 0, -1, -1]
    bench.claim(results == due, dict(zip(versions, due, strict=True)), results)
