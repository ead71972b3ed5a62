# SPDX-License-Identifier: GPL-2.0-only
"""The server's calls of migrate_connect_complete and migrate_end_complete: when, how often, and after which
timeouts."""

from __future__ import annotations

import pytest

from dissectors.framing.events import Ending
from dissectors.wire.constants import MainCap, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import (
    added,
    called_twice,
    late,
    never,
    no_return,
    other_result,
    requirement,
    sleeps,
    stuck_after,
    timers,
    too_early,
)
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.peer.duties import (
    ANSWERS_LATE,
    CANNOT_CONNECT,
    DUTIFUL,
    NEVER_ANSWERS,
    NEVER_LEAVES,
    MigrationStep,
)
from fixtures.system.hosts import Ability
from suites.steps import announced, unanswered

BEGIN = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN
END = MsgMain.SPICE_MSG_MAIN_MIGRATE_END
SWITCH = MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST
CANCEL = MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL
CONNECT_DONE, END_DONE = "migrate_connect_complete", "migrate_end_complete"
TIMEOUT_MS = 10_000
OLD_CLIENT = EVERYTHING.without(
    MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE, MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE
)
SUBJECT = "C=XY,O=Source of truth,CN=target.example"


@requirement("MIG-SRC-001", fault=(no_return("migrate_connect"), sleeps("migrate_connect")))
@requirement("MIG-SRC-028", fault=(never(CONNECT_DONE), late(CONNECT_DONE)))
@requirement("MIG-SRC-012", fault=too_early(CONNECT_DONE))
@requirement("MIG-SRC-013", fault=called_twice(CONNECT_DONE))
@requirement("MIG-SRC-036", fault=other_result("migrate_connect"))
@pytest.mark.needs(Ability.CALLBACKS)
def test_completes_when_connected(bench: Bench) -> None:
    """migrate_connect is asynchronous; it completes when the client sends CONNECTED."""
    source, _target, client = unanswered(bench, ANSWERS_LATE)
    linked = lambda: client.target and client.target.linked  # noqa: E731
    bench.until(linked, "the client's link to the target", proves="MIG-DST-001")
    bench.settle()
    bench.claim(
        not bench.seen(source, CONNECT_DONE), "no completion before the answer", "one", proves="MIG-SRC-012"
    )
    client.release(MigrationStep.ANSWER)
    bench.wait(source, CONNECT_DONE, proves="MIG-SRC-028")
    bench.settle()


@requirement("MIG-SRC-029", fault=(never(CONNECT_DONE), late(CONNECT_DONE)))
@requirement("MIG-SRC-018", "MIG-SRC-019")
@pytest.mark.needs(Ability.CALLBACKS)
def test_completes_on_connect_error(bench: Bench) -> None:
    """migrate_connect completes on CONNECT_ERROR, and the migration ends with SWITCH_HOST."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=CANNOT_CONNECT.skipping(MigrationStep.SWITCH_HOST))
    source.announce(target, subject=SUBJECT)
    bench.wait(source, CONNECT_DONE, proves="MIG-SRC-029")
    source.complete(target)
    bench.expect(client.main, SWITCH, proves="MIG-SRC-018")


@requirement("MIG-SRC-031", fault=(never(CONNECT_DONE), late(CONNECT_DONE)))
@requirement("MIG-SRC-013")
@pytest.mark.needs(Ability.CALLBACKS)
def test_completes_on_disconnect(bench: Bench) -> None:
    """migrate_connect completes when the client disconnects while the source waits."""
    source, _target, client = unanswered(bench, NEVER_ANSWERS)
    client.close()
    bench.wait(source, CONNECT_DONE, proves="MIG-SRC-031")
    bench.settle()


@requirement("MIG-SRC-030", fault=(never(CONNECT_DONE), late(CONNECT_DONE)))
@pytest.mark.needs(Ability.CALLBACKS)
@pytest.mark.parametrize("old_client", [False, True], ids=["nobody", "old-client"])
def test_completes_at_once(bench: Bench, old_client: bool) -> None:
    """migrate_connect completes at once if no client can handle the announcement."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), capabilities=OLD_CLIENT) if old_client else None
    source.announce(target)
    bench.wait(source, CONNECT_DONE)
    bench.settle()
    if client:
        bench.claim(
            not client.main.got(BEGIN),
            "no BEGIN to a client without the capability",
            "BEGIN",
            proves="MIG-SRC-002",
        )


@requirement("MIG-SRC-012", fault=timers(-1))
@requirement("TIME-001", "MIG-SRC-013", "MIG-SRC-018")
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_wait_for_the_client_times_out(bench: Bench) -> None:
    """Without an answer migrate_connect completes after 10,000 ms, not before; then SWITCH_HOST ends it."""
    source, target, client = unanswered(bench, NEVER_ANSWERS.skipping(MigrationStep.SWITCH_HOST))
    bench.pass_time(source, TIMEOUT_MS - 1)
    bench.claim(
        not bench.seen(source, CONNECT_DONE), "no completion after 9,999 ms", "one", proves="TIME-001"
    )
    bench.pass_time(source, 1)
    bench.claim(
        bench.seen(source, CONNECT_DONE) == 1, "completion after 10,000 ms", "none", proves="TIME-001"
    )
    bench.pass_time(source, TIMEOUT_MS)
    source.complete(target)
    bench.expect(client.main, SWITCH, proves="MIG-SRC-018")


@requirement("TIME-001")
@pytest.mark.needs(Ability.CALLBACKS)
def test_wait_for_the_client_times_out_in_real_time(bench: Bench) -> None:
    """The same timeout on the real clock, once."""
    source, _target, _client = unanswered(bench, NEVER_ANSWERS, virtual_clock=False)
    bench.wait(source, CONNECT_DONE, deadline=20)


@requirement("MIG-SRC-032", fault=(never(CONNECT_DONE), late(CONNECT_DONE)))
@requirement("MIG-SRC-013")
@pytest.mark.needs(Ability.CALLBACKS)
def test_failure_during_the_wait(bench: Bench) -> None:
    """migrate_end(0) before the client has answered completes migrate_connect."""
    source, target, _client = unanswered(bench, NEVER_ANSWERS)
    source.cancel(target)
    bench.wait(source, CONNECT_DONE, proves="MIG-SRC-032")
    bench.settle()


@requirement("TIME-002", fault=(timers(1), timers(-1)))
@requirement("MIG-SRC-023", fault=added(END, CANCEL))
@requirement("MIG-SRC-033", fault=(never(END_DONE), too_early(END_DONE)))
@requirement("MIG-SRC-034", fault=called_twice(END_DONE))
@requirement("MIG-SRC-037", fault=(stuck_after(END), timers(1), timers(-1)))
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_client_that_stays_is_dropped(bench: Bench) -> None:
    """A client that ignores MIGRATE_END is dropped after 10,000 ms; then migrate_end completes."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=NEVER_LEAVES)
    announced(bench, source, client, target)
    left = client.main
    source.complete(target)
    bench.expect(left, END, proves="MIG-SRC-015")
    bench.pass_time(source, TIMEOUT_MS - 1)
    bench.claim(not bench.seen(source, END_DONE), "no completion after 9,999 ms", "one", proves="TIME-002")
    bench.claim(left.ending is None, "a client that may still leave", left.ending, proves="MIG-SRC-037")
    bench.pass_time(source, 1)
    bench.claim(bench.seen(source, END_DONE) == 1, "completion after 10,000 ms", "none", proves="TIME-002")
    ending = left.expect_end()
    bench.claim(ending is not Ending.TIMEOUT, "the client is dropped", ending, proves="MIG-SRC-037")


@requirement("TIME-002", "MIG-SRC-023", "MIG-SRC-033", "MIG-SRC-034", "MIG-SRC-037")
@pytest.mark.needs(Ability.END_CALLBACK)
def test_client_that_stays_is_dropped_in_real_time(bench: Bench) -> None:
    """The same timeout on the real clock, once."""
    source, target = bench.pair(virtual_clock=False)
    client = bench.client(source, channels=(), duties=NEVER_LEAVES)
    announced(bench, source, client, target)
    left = client.main
    source.complete(target)
    bench.expect(left, END, proves="MIG-SRC-015")
    bench.wait(source, END_DONE, deadline=20, proves="TIME-002")
    ending = left.expect_end()
    bench.claim(ending is not Ending.TIMEOUT, "the client is dropped", ending, proves="MIG-SRC-037")


@requirement("TIME-003", fault=called_twice(END_DONE))
@requirement("MIG-SRC-033", "MIG-SRC-034")
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_migrate_end_completes_when_the_client_has_left(bench: Bench) -> None:
    """migrate_end completes when the client leaves the source; no timeout follows."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=DUTIFUL.holding(MigrationStep.LEAVE_SOURCE))
    announced(bench, source, client, target)
    source.complete(target)
    bench.expect(client.main, END, proves="MIG-SRC-015")
    bench.settle()
    bench.claim(
        not bench.seen(source, END_DONE),
        "no completion while the client is there",
        "one",
        proves="MIG-SRC-033",
    )
    client.release(MigrationStep.LEAVE_SOURCE)
    bench.wait(source, END_DONE, proves="MIG-SRC-033")
    bench.pass_time(source, 3 * TIMEOUT_MS)
    counts = bench.seen(source, CONNECT_DONE), bench.seen(source, END_DONE)
    bench.claim(counts == (1, 1), "one completion of each call, and no more", counts, proves="TIME-003")


@requirement(
    "MIG-SRC-081",
    fault=(
        never(CONNECT_DONE, case="never there"),
        late(CONNECT_DONE, case="never there"),
        called_twice(CONNECT_DONE, case="never there"),
        never(END_DONE, case="never there"),
        late(END_DONE, case="left before"),
        called_twice(END_DONE, case="left meanwhile"),
        other_result("migrate_end", case="never there"),
    ),
)
@pytest.mark.needs(Ability.CALLBACKS, Ability.VIRTUAL_CLOCK)
@pytest.mark.parametrize("client", ["never there", "left before", "left meanwhile"])
def test_machine_without_a_client(bench: Bench, client: str) -> None:
    """A machine moves whose client was never there, has left before, or leaves within the migration."""
    source, target = bench.pair()
    if client == "left before":
        bench.client(source, channels=()).close()
        bench.settle()
    here = bench.client(source, channels=(), duties=NEVER_ANSWERS) if client == "left meanwhile" else None
    source.announce(target)
    if here:
        here.close()
    bench.settle()
    done = bench.seen(source, CONNECT_DONE)
    bench.claim(done == 1, "migrate_connect_complete at once", done)
    source.complete(target)
    bench.settle()
    done = bench.seen(source, END_DONE)
    bench.claim(done == 1, "migrate_end_complete at once", done)
    returned = [e.args["result"] for e in bench.pump.tape.host_events if e.name == "return:migrate_end"]
    bench.claim(returned == [0], "migrate_end returns 0", returned)
    bench.pass_time(source, 3 * TIMEOUT_MS)
    counts = bench.seen(source, CONNECT_DONE), bench.seen(source, END_DONE)
    bench.claim(counts == (1, 1), "one completion of each call, and no more", counts)
