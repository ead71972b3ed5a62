# SPDX-License-Identifier: GPL-2.0-only
"""Clients that link, answer or leave at an unusual time, and the state that the next client finds
(semi-seamless scheme, source (2) and (4); server/reds.cpp)."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import ChannelType, MainCap, MsgBase, MsgcBase, MsgcMain, MsgInputs, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import added, before, closed_after, lost, requirement, timers
from fixtures.peer import Client, Connection
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.peer.duties import ANSWERS_LATE, DUTIFUL, NEVER_LEAVES, MigrationStep
from fixtures.system.hosts import Ability, Host
from suites.steps import announced, arrived, ended, migrated

INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
BEGIN, END = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN, MsgMain.SPICE_MSG_MAIN_MIGRATE_END
BEGIN_SEAMLESS = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS
SWITCH, CANCEL = MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST, MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL
INIT, LIST = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
MM_TIME = MsgMain.SPICE_MSG_MAIN_MULTI_MEDIA_TIME
MIGRATE, DATA = MsgBase.SPICE_MSG_MIGRATE, MsgBase.SPICE_MSG_MIGRATE_DATA
MODIFIERS = MsgInputs.SPICE_MSG_INPUTS_KEY_MODIFIERS
CONNECTED = MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED
CONNECT_DONE, END_DONE = "migrate_connect_complete", "migrate_end_complete"
TIMEOUT_MS = 10_000
#: CLIENT_CONNECTIVITY_TIMEOUT, the interval of the server's check, and the step in which a test moves a
#: host's clock, ms.
SILENT_MS, LATEST_MS, STEP_MS = 30_000, 90_000, 1_000
NUM_LOCK = 2  # spice.proto, keyboard_modifier_flags

pytestmark = pytest.mark.needs(Ability.CALLS, Ability.CALLBACKS)
seamless_only = pytest.mark.needs(Ability.SEAMLESS_DATA)


@requirement("MIG-SRC-064", fault=(timers(500, case="SWITCH_HOST"), timers(-500, case="SWITCH_HOST")))
@pytest.mark.parametrize("after", ["SWITCH_HOST", "MIGRATE", "FLUSH_MARK", "MIGRATE_DATA"])
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
@seamless_only
def test_client_that_stays(bench: Bench, after: str) -> None:
    """The client does nothing more after SWITCH_HOST, SPICE_MSG_MIGRATE, its flush mark or the data."""
    source, target = bench.pair(seamless=True)
    skipped = {
        "SWITCH_HOST": (MigrationStep.ANSWER, MigrationStep.LEAVE_SOURCE, MigrationStep.SWITCH_HOST),
        "MIGRATE": (MigrationStep.FLUSH_MARK, MigrationStep.MIGRATE_DATA, MigrationStep.LEAVE_SOURCE),
        "FLUSH_MARK": (MigrationStep.MIGRATE_DATA, MigrationStep.LEAVE_SOURCE),
        "MIGRATE_DATA": (MigrationStep.LEAVE_SOURCE,),
    }[after]
    client = bench.client(source, channels=(INPUTS,), duties=DUTIFUL.skipping(*skipped))
    left = [*client.current]
    if after == "SWITCH_HOST":
        source.announce(target)
        bench.pass_time(source, TIMEOUT_MS)
    else:
        announced(bench, source, client, target)
    source.complete(target)
    ended(bench, source)
    bench.pass_time(source, TIMEOUT_MS - 1)
    early = [c.name for c in left if c.ending], bench.seen(source, END_DONE)
    bench.claim(early == ([], 0), "still there after 9,999 ms", early, source)
    bench.pass_time(source, 1)
    stays = [c.name for c in left if not c.ending], bench.seen(source, END_DONE)
    bench.claim(stays == ([], 1), "all disconnected after 10,000 ms, and one completion", stays, source)


@requirement(
    "TIME-006",
    fault=(
        closed_after(MM_TIME, host="target", case="seamless"),
        timers(70_000, case="seamless"),
    ),
)
@pytest.mark.parametrize(
    "seamless", [pytest.param(True, marks=seamless_only), False], ids=["seamless", "semi-seamless"]
)
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_client_that_dies_at_the_target(bench: Bench, seamless: bool) -> None:
    """The client arrives at the target and then answers nothing any more."""
    source, target = bench.pair(seamless=seamless)
    client = bench.client(source, channels=())
    bench.settle()
    migrated(bench, source, client, target)
    main = client.main
    main.answers.none()
    waited = 0
    while not main.ending and waited < LATEST_MS:
        bench.pass_time(target, STEP_MS)
        waited += STEP_MS
    seen = f"the end after {waited} ms" if main.ending else f"open after {waited} ms"
    fine = main.ending is not None and waited >= SILENT_MS
    bench.claim(fine, f"the end after {SILENT_MS} to {LATEST_MS} ms", seen, target)


@requirement("MIG-SRC-065", fault=(lost(END, case="1-answers"), before(END, CANCEL, case="1-answers")))
@pytest.mark.parametrize("answers", [1, 2], ids=lambda n: f"{n}-answers")
def test_two_announcements(bench: Bench, answers: int) -> None:
    """The source announces the migration twice before the client has answered; the client answers only the
    second announcement, or both."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=ANSWERS_LATE)
    main = client.main
    source.announce(target)
    bench.until(lambda: client.target and client.target.linked, "BEGIN", proves="MIG-SRC-020")
    source.announce(target)
    bench.until(lambda: len(main.got(BEGIN)) == 2, "a second BEGIN", proves="MIG-SRC-020")
    bench.until(lambda: client.target and client.target.linked, "BEGIN", proves="MIG-SRC-020")
    if answers == 2:
        main.send(CONNECTED)
        bench.settle()
    client.release(MigrationStep.ANSWER)
    bench.until(lambda: bench.seen(source, CONNECT_DONE), CONNECT_DONE)
    bench.settle()
    cancelled = bool(main.got(CANCEL))
    bench.claim(not cancelled, "no CANCEL to a client that is connected", CANCEL.name, source)
    if not cancelled:
        source.complete(target)
        with bench.owed():
            arrived(bench, client)
        seen = [m.name for m in main.got(END, CANCEL, SWITCH)]
        bench.claim(seen == [END.name], f"{END.name} alone", ", ".join(seen), source)


@requirement("MIG-SRC-066", fault=lost(MODIFIERS, nth=2))
@seamless_only
@pytest.mark.parametrize(
    "held", [MigrationStep.FLUSH_MARK, MigrationStep.LEAVE_SOURCE], ids=["before the mark", "after the data"]
)
def test_lights_of_the_next_client(bench: Bench, held: MigrationStep) -> None:
    """A client leaves in the middle of its migration and the machine stays: its next client gets
    KEY_MODIFIERS."""
    source, target = bench.pair(seamless=True)
    client = bench.client(source, channels=(INPUTS,), duties=DUTIFUL.holding(held))
    announced(bench, source, client, target)
    source.complete(target)
    bench.until(lambda: client.current.channels[INPUTS, 0].got(MIGRATE), MIGRATE.name, proves="MIG-SRC-050")
    bench.settle()
    client.close()
    bench.settle()
    following = bench.client(source, channels=(INPUTS,))
    inputs = following.current.channels[INPUTS, 0]
    for lights in (NUM_LOCK, 0):
        source.call("kbd_leds", leds=lights)
        bench.settle()
    seen = [m.body[0] for m in inputs.got(MODIFIERS)]
    bench.claim(seen == [NUM_LOCK, 0], f"KEY_MODIFIERS {NUM_LOCK}, then 0", seen, source)


@requirement("MIG-SRC-067", fault=lost(CANCEL, case="both"))
@seamless_only
@pytest.mark.parametrize("semi", [True, False], ids=["both", "only seamless"])
def test_failed_migration_of_a_seamless_client(bench: Bench, semi: bool) -> None:
    """The migration fails after CONNECTED_SEAMLESS, with a client that has SEMI_SEAMLESS_MIGRATE too and with
    one that has not."""
    lacking = () if semi else (MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE,)
    source, target = bench.pair(seamless=True)
    client = bench.client(source, channels=(), capabilities=EVERYTHING.without(*lacking))
    announced(bench, source, client, target)
    source.cancel(target)
    bench.settle()
    seen = [m.name for m in client.main.got(CANCEL)]
    bench.claim(seen == [CANCEL.name], CANCEL.name, ", ".join(seen) or "nothing", source)


@requirement("MIG-SRC-070", fault=lost(LIST, nth=2))
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_client_that_comes_after_the_end(bench: Bench) -> None:
    """The server has sent the old client away, and the client stays; a new client takes its place before the
    wait is over."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), duties=NEVER_LEAVES)
    staying = client.main
    announced(bench, source, client, target)
    source.complete(target)
    bench.until(lambda: staying.got(END), END.name, proves="MIG-SRC-015")
    with bench.owed():
        following = bench.client(source, channels=(INPUTS,))
    bench.settle()
    bench.pass_time(source, 3 * TIMEOUT_MS)
    following.main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    bench.settle()
    seen = [m.name for m in following.main.messages if m.type in (BEGIN, END, SWITCH, CANCEL)]
    lives = not following.main.ending and len(following.main.got(INIT)) == 1
    bench.claim(
        lives and not seen, "INIT, and nothing of the migration", ", ".join(seen) or "its end", source
    )
    lists = len(following.main.got(LIST))
    bench.claim(lists >= 1, "CHANNELS_LIST", lists, source)
    completions = bench.seen(source, END_DONE)
    bench.claim(completions == 1, f"one {END_DONE}", completions, source)


def announced_on_the_way(bench: Bench) -> tuple[Host, Host, Client, Connection]:
    """A client whose MIGRATE_DATA is on its way to a target that announces a further migration: that target,
    the next one, the client, and its main connection to the first of them."""
    source = bench.start("source", seamless=True)
    first, second = (bench.start(label, incoming=True, seamless=True) for label in ("target1", "target2"))
    client = bench.client(source, channels=(), duties=DUTIFUL.holding(MigrationStep.MIGRATE_DATA))
    announced(bench, source, client, first)
    arriving = client.target.main if client.target else client.main
    source.complete(first)
    bench.until(lambda: client.main.got(DATA), DATA.name, proves="MIG-SRC-047")
    first.announce(second)
    return first, second, client, arriving


@requirement(
    "MIG-DST-056",
    fault=(
        lost("SPICE_MSG_MAIN_MIGRATE_BEGIN*", host="target1"),
        added("SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK", BEGIN, host="target1"),
    ),
)
@seamless_only
def test_next_migration_before_the_data(bench: Bench) -> None:
    """The target begins another migration while the client's MIGRATE_DATA is on its way; the announcement is
    BEGIN_SEAMLESS, as for a client that has arrived."""
    first, second, client, arriving = announced_on_the_way(bench)
    bench.settle()

    def begins() -> list[str]:
        return [m.name for m in arriving.messages if "MIGRATE_BEGIN" in m.name]

    bench.claim(not begins(), "no announcement before MIGRATE_DATA", begins(), first)
    client.steps.clear()
    client.release(MigrationStep.MIGRATE_DATA)
    bench.until(begins, "the announcement after MIGRATE_DATA")
    bench.until(lambda: bench.seen(first, CONNECT_DONE), f"{CONNECT_DONE} of the first target")
    client.left.clear()
    first.complete(second)
    bench.until(lambda: client.left, "the next move")
    bench.claim(begins() == [BEGIN_SEAMLESS.name], BEGIN_SEAMLESS.name, ", ".join(begins()), first)


@requirement(
    "MIG-DST-056",
    fault=(
        added("SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK", BEGIN_SEAMLESS, host="target1", case="early"),
        lost("SPICE_MSG_MAIN_MIGRATE_BEGIN*", host="target1", case="late"),
    ),
)
@seamless_only
@pytest.mark.parametrize("linked", ["early", "late"])
def test_next_migration_before_the_data_of_one_channel(bench: Bench, linked: str) -> None:
    """The client has linked its inputs before it asked for a seamless migration, or afterwards. The target
    begins another migration when main's MIGRATE_DATA has arrived, and that of inputs has not: it announces
    the migration when that has come too."""
    source = bench.start("source", seamless=True)
    first, second = (bench.start(label, incoming=True, seamless=True) for label in ("target1", "target2"))
    duties = DUTIFUL.skipping(MigrationStep.MIGRATE_DATA).holding(MigrationStep.DO_SEAMLESS)
    client = bench.client(source, channels=(INPUTS,), duties=duties)
    source.announce(first)
    bench.until(lambda: client.target, "the link to the target", proves="MIG-DST-001")
    bench.settle()
    early = None
    if linked == "early":
        early = bench.link(first, channel=INPUTS, connection_id=client.session_id)
        client.duties = client.duties.skipping(MigrationStep.LINK_CHANNELS)
    client.release(MigrationStep.DO_SEAMLESS)
    bench.until(
        lambda: MigrationStep.ANSWER in client.steps, "the answer to the source", proves="MIG-DST-020"
    )
    bench.settle()
    left, arriving = client.current, client.target
    assert arriving is not None
    main, inputs = arriving.main, early or arriving.channels[INPUTS, 0]
    source.complete(first)
    leaving = left.channels[INPUTS, 0]
    bench.until(lambda: left.main.got(DATA) and leaving.got(DATA), DATA.name, proves="MIG-SRC-047")
    main.send(MsgcBase.SPICE_MSGC_MIGRATE_DATA, left.main.got(DATA)[0].body)
    bench.settle()
    first.announce(second)
    bench.settle()

    def begins() -> list[str]:
        return [m.name for m in main.messages if "MIGRATE_BEGIN" in m.name]

    bench.claim(not begins(), "no announcement before the data of inputs", begins(), first)
    inputs.send(MsgcBase.SPICE_MSGC_MIGRATE_DATA, leaving.got(DATA)[0].body)
    bench.until(begins, "the announcement after it")
    bench.settle()
    bench.claim(begins() == [BEGIN_SEAMLESS.name], BEGIN_SEAMLESS.name, ", ".join(begins()), first)


@requirement("MIG-DST-056", fault=added("SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK", BEGIN, host="target1"))
@seamless_only
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_next_migration_that_no_longer_waits(bench: Bench) -> None:
    """The target begins another migration, and its wait is over before the client's MIGRATE_DATA arrives: the
    client stays and gets no announcement any more."""
    first, _second, client, arriving = announced_on_the_way(bench)
    bench.pass_time(first, TIMEOUT_MS)
    client.release(MigrationStep.MIGRATE_DATA)
    bench.settle()
    seen = [m.name for m in arriving.got(BEGIN, BEGIN_SEAMLESS)]
    bench.claim(not seen, f"no announcement after {TIMEOUT_MS} ms", ", ".join(seen), first)
    bench.claim(arriving.ending is None, "the session goes on", arriving.ending, first)
