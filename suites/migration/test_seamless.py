# SPDX-License-Identifier: GPL-2.0-only
"""The seamless scheme: the channels' state travels with the client (spice.proto;
server/migration-protocol.h)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from dissectors.wire.constants import ChannelType, CommonCap, MainCap, MsgBase, MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import (
    ANNOUNCEMENT,
    BEGIN_BODY,
    INIT_BODY,
    NOTIFY_BODY,
    PING_BODY,
    added,
    as_plain,
    as_seamless,
    before,
    changed,
    closed_after,
    closed_instead,
    later,
    lost,
    put,
    requirement,
    serial,
    timers,
    turned,
    twice,
)
from fixtures.peer import Client, Deadline
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.peer.duties import CANNOT_CONNECT, DUTIFUL, NEVER_ANSWERS, MigrationStep
from fixtures.system.hosts import Ability
from suites.steps import announced, arrived, ended, migrated

NOTIFY = MsgBase.SPICE_MSG_NOTIFY
PING = MsgBase.SPICE_MSG_PING

MAIN, INPUTS = ChannelType.SPICE_CHANNEL_MAIN, ChannelType.SPICE_CHANNEL_INPUTS
BEGIN = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN
BEGIN_SEAMLESS = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS
ACK, NACK = MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK, MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK
INIT, SWITCH = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST
END, CANCEL = MsgMain.SPICE_MSG_MAIN_MIGRATE_END, MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL
MM_TIME = MsgMain.SPICE_MSG_MAIN_MULTI_MEDIA_TIME
LIST = MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
MIGRATE, DATA = MsgBase.SPICE_MSG_MIGRATE, MsgBase.SPICE_MSG_MIGRATE_DATA
DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
LATER_VERSION = 2  # of the migration data: no release knows it
DO_SEAMLESS = MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS

pytestmark = pytest.mark.needs(Ability.SEAMLESS_DATA)


def answers(bench: Bench, client: Client) -> bool:
    """Whether the session answers ATTACH_CHANNELS. A server ignores the message until the last channel's
    worker is ready, which no message announces: so this function repeats it."""
    for _ in range(50):
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
        with suppress(Deadline):
            bench.pump.until(lambda: client.main.got(LIST), 0.1)
            return True
    return False


@requirement(
    "MIG-SRC-010", fault=(put(BEGIN_SEAMLESS, src_mig_version=2), put(BEGIN_SEAMLESS, src_mig_version=0))
)
@requirement("MIG-SRC-040", fault=added(BEGIN_SEAMLESS, MIGRATE, b"\3\0\0\0"))
@requirement("MIG-SRC-041", fault=(added(MIGRATE, PING, PING_BODY), twice(DATA, channel=INPUTS)))
@requirement("MIG-SRC-042", fault=added(MIGRATE, DATA, b"MNMD\1\0\0\0"))
@requirement("MIG-SRC-043", fault=changed("a third flag", MIGRATE, b"\7\0\0\0"))
@requirement("MIG-SRC-009")
@requirement(
    "MIG-SRC-044",
    fault=(
        changed("one bit of the magic", DATA, lambda b: bytes([b[0] ^ 1]) + b[1:]),
        changed("version 2", DATA, lambda b: b[:4] + b"\2\0\0\0" + b[8:]),
        changed("version 0", DATA, lambda b: b[:4] + bytes(4) + b[8:]),
    ),
)
@requirement(
    "MIG-SRC-046",
    fault=(
        changed("no NEED_FLUSH", MIGRATE, b"\2\0\0\0", channel=MAIN),
        changed("no NEED_DATA_TRANSFER", MIGRATE, b"\1\0\0\0", channel=MAIN),
    ),
)
@requirement("MIG-SRC-047", fault=closed_instead(DATA, channel=INPUTS))
@requirement(
    "MIG-DST-020", fault=(twice("SPICE_MSG_MAIN_MIGRATE_DST_*"), lost("SPICE_MSG_MAIN_MIGRATE_DST_*"))
)
@requirement("MIG-DST-021", fault=turned(ACK, NACK))
@requirement("MIG-DST-023", fault=added(MM_TIME, INIT, INIT_BODY, host="target"))
@requirement("MIG-DST-024", fault=(closed_after(MM_TIME, host="target"), lost(LIST, host="target")))
@requirement("MIG-DST-025", fault=lost(MM_TIME, host="target"))
@requirement("MIG-SRC-045", fault=before(MIGRATE, END, channel=MAIN))
@pytest.mark.parametrize(
    "devices", [("keyboard", "mouse"), ("keyboard", "mouse", "display", "playback", "record")], ids=len
)
def test_whole_migration(bench: Bench, devices: tuple[str, ...]) -> None:
    """A client migrates with its channels' state: flush marks, data, no INIT; the session goes on."""
    source, target = bench.pair(seamless=True, devices=devices)
    client = bench.client(source)
    bench.settle()
    announced(bench, source, client, target)
    source.complete(target)
    bench.expect(client.main, MIGRATE, proves="MIG-SRC-045")
    bench.until(lambda: client.left, "SPICE_MSG_MIGRATE_DATA from the source", proves="MIG-SRC-047")
    bench.settle()
    bench.claim(answers(bench, client), "a session that answers", "no answer", proves="MIG-DST-024")
    bench.claim(not client.main.got(INIT), "no INIT", "INIT", proves="MIG-DST-023")
    bench.claim(
        not client.left[0].main.got(END), "MIGRATE, not MIGRATE_END", "MIGRATE_END", proves="MIG-SRC-045"
    )
    bench.claim(bool(client.main.got(MM_TIME)), "MULTI_MEDIA_TIME", "none", proves="MIG-DST-025")
    alive = {key: c.ending for key, c in client.current.channels.items() if c.ending}
    bench.claim(not alive, "every channel goes on", alive, proves="MIG-DST-024")


@requirement("MIG-SRC-011", fault=turned(BEGIN_SEAMLESS, BEGIN, as_plain))
@requirement(
    "MIG-SRC-003",
    fault=changed("one letter of the host", ANNOUNCEMENT, lambda b: b.replace(b"example", b"exemple")),
)
@requirement("MIG-SRC-004", fault=changed("ports swapped", ANNOUNCEMENT, lambda b: b[2:4] + b[:2] + b[4:]))
@requirement("MIG-SRC-005", fault=changed("ports swapped", ANNOUNCEMENT, lambda b: b[2:4] + b[:2] + b[4:]))
@requirement("MIG-SRC-006")
@pytest.mark.parametrize("subject", [None, "O=x,CN=target"])
def test_announcement(bench: Bench, subject: str | None) -> None:
    """If host and client support the seamless scheme, the announcement is BEGIN_SEAMLESS with the address of
    migrate_connect."""
    source, target = bench.pair(seamless=True)
    client = bench.client(source, channels=(), duties=CANNOT_CONNECT)
    source.announce(target, host="target.example", port=0x8EF1, tls_port=0x9A03, subject=subject)
    seen = bench.expect(client.main, BEGIN, BEGIN_SEAMLESS, proves="MIG-SRC-020")
    bench.claim(seen.type == BEGIN_SEAMLESS, BEGIN_SEAMLESS.name, seen.name, proves="MIG-SRC-011")
    bench.settle()


@requirement("MIG-SRC-009", fault=turned(BEGIN, BEGIN_SEAMLESS, as_seamless))
@requirement("MIG-SRC-015", fault=(before(END, SWITCH, BEGIN_BODY), lost(END), closed_instead(END)))
@pytest.mark.parametrize(
    ("switched_on", "lacking"),
    [
        (True, (MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE,)),
        (True, (MainCap.SPICE_MAIN_CAP_AGENT_CONNECTED_TOKENS,)),
        (False, ()),
    ],
    ids=["no-seamless", "no-tokens", "switched-off"],
)
def test_not_to_clients_that_cannot(bench: Bench, switched_on: bool, lacking: tuple[MainCap, ...]) -> None:
    """If the client lacks a capability, or the scheme is switched off, the announcement is BEGIN."""
    caps = EVERYTHING.without(*lacking)
    source, target = bench.pair(seamless=switched_on)
    client = bench.client(source, channels=(), capabilities=caps)
    announced(bench, source, client, target)
    bench.claim(len(client.main.got(BEGIN)) == 1, "BEGIN", "BEGIN_SEAMLESS", proves="MIG-SRC-009")
    source.complete(target)
    arrived(bench, client)


@requirement("MIG-DST-021", "MIG-DST-020")
@pytest.mark.parametrize("version", [0, 1])
def test_known_version(bench: Bench, version: int) -> None:
    """The target answers a version up to its own with ACK, and with nothing more."""
    main = bench.link(bench.start("target", incoming=True, seamless=True), connection_id=0x8A000001)
    main.send(DO_SEAMLESS, version.to_bytes(4, "little"))
    bench.expect(main, ACK, proves="MIG-DST-021")
    bench.settle()
    bench.claim(len(main.got(ACK, NACK)) == 1, "one answer", len(main.got(ACK, NACK)), proves="MIG-DST-020")


@requirement("MIG-DST-022", fault=turned(NACK, ACK))
@requirement("MIG-DST-013", fault=(twice(NACK), lost(INIT, host="target")))
@requirement("MIG-DST-003", fault=added(NACK, NOTIFY, NOTIFY_BODY))
@requirement("MIG-DST-004")
@pytest.mark.parametrize("version", [2, 3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_later_version(bench: Bench, version: int) -> None:
    """The target answers a later version with NACK; the semi-seamless scheme still works."""
    source, target = bench.pair(seamless=True)
    client = bench.client(source, duties=replace(DUTIFUL, src_version=version))
    announced(bench, source, client, target)
    source.complete(target)
    with bench.owed("MIG-DST-013"):
        arrived(bench, client)
    nacks = len(client.main.got(NACK))
    bench.claim(
        nacks == 1, "one NACK, then a semi-seamless migration", f"{nacks} of them", proves="MIG-DST-013"
    )


@requirement(
    "CHAN-003",
    fault=serial("goes on from 77", "SPICE_MSG_*", lambda n: n + 76, host="target", channel=DISPLAY, nth=1),
)
@pytest.mark.needs(Ability.DEVICES)
def test_serials_after_nack(bench: Bench) -> None:
    """With full headers a display whose target has sent NACK begins with serial 1: the target restores no
    state."""
    source, target = bench.pair(seamless=True, devices=("keyboard", "mouse", "display"))
    duties = replace(DUTIFUL, src_version=LATER_VERSION)
    capable = EVERYTHING.without(CommonCap.SPICE_COMMON_CAP_MINI_HEADER)
    client = bench.client(source, duties=duties, capabilities=capable)
    announced(bench, source, client, target)
    source.complete(target)
    arrived(bench, client)
    display = client.current.channels[DISPLAY, 0]
    bench.until(lambda: display.messages, "the display's first message", proves="MIG-DST-006")


@requirement("MIG-SRC-018", fault=(lost(SWITCH), closed_instead(SWITCH)))
@requirement(
    "MIG-SRC-019",
    fault=(
        changed("one bit of port", SWITCH, lambda b: bytes([b[0] ^ 1]) + b[1:]),
        changed("one bit of sport", SWITCH, lambda b: b[:2] + bytes([b[2] ^ 1]) + b[3:]),
    ),
)
def test_client_that_cannot_connect(bench: Bench) -> None:
    """SWITCH_HOST ends a seamless migration whose client has answered CONNECT_ERROR."""
    source, target = bench.pair(seamless=True)
    client = bench.client(source, channels=(), duties=CANNOT_CONNECT.skipping(MigrationStep.SWITCH_HOST))
    announced(bench, source, client, target)
    source.complete(target)
    bench.expect(client.main, SWITCH, proves="MIG-SRC-018")


@requirement("TIME-001", fault=(timers(1), timers(-1)))
@requirement("MIG-SRC-018")
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_wait_times_out(bench: Bench) -> None:
    """A seamless announcement has the same timeout, and then SWITCH_HOST ends the migration."""
    source, target = bench.pair(seamless=True)
    client = bench.client(source, channels=(), duties=NEVER_ANSWERS.skipping(MigrationStep.SWITCH_HOST))
    source.announce(target)
    bench.expect(client.main, BEGIN, BEGIN_SEAMLESS, proves="MIG-SRC-020")
    bench.pass_time(source, 10_000)
    completions = bench.seen(source, "migrate_connect_complete")
    bench.claim(completions == 1, "completion after 10,000 ms", f"{completions} of them", proves="TIME-001")
    source.complete(target)
    bench.expect(client.main, SWITCH, proves="MIG-SRC-018")


@requirement("MIG-SRC-017", fault=(lost(CANCEL), closed_instead(CANCEL)))
@requirement("MIG-SRC-048", fault=turned(SWITCH, MIGRATE, lambda b: b"\3\0\0\0"))
def test_after_a_cancelled_attempt(bench: Bench) -> None:
    """After a cancelled seamless attempt, SWITCH_HOST ends a migration that the client does not answer."""
    source, target = bench.pair(seamless=True)
    client = bench.client(source, channels=())
    announced(bench, source, client, target)
    source.cancel(target)
    bench.expect(client.main, CANCEL, proves="MIG-SRC-017")
    client.duties = NEVER_ANSWERS.skipping(MigrationStep.SWITCH_HOST)
    source.announce(target)
    bench.pass_time(source, 10_500)
    source.complete(target)
    ended(bench, source, 2)
    seen = [m.name for m in client.main.messages if m.type in (MIGRATE, SWITCH, END)]
    bench.claim(seen == [SWITCH.name], SWITCH.name, ", ".join(seen) or "nothing", proves="MIG-SRC-048")


@requirement("MIG-SRC-049", fault=turned("SPICE_MSG_MAIN_MIGRATE_[ES]*", MIGRATE, lambda b: b"\3\0\0\0"))
def test_seamless_answer_to_a_plain_announcement(bench: Bench) -> None:
    """The source does not accept CONNECTED_SEAMLESS in answer to BEGIN: no SPICE_MSG_MIGRATE follows."""
    source, target = bench.pair()
    answer = MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS
    client = bench.client(source, channels=(), duties=replace(DUTIFUL, answer=answer))
    announced(bench, source, client, target)
    left = client.main
    source.complete(target)
    ended(bench, source)
    seen = [m.name for m in left.messages if m.type in (MIGRATE, SWITCH, END)]
    bench.claim(MIGRATE.name not in seen, "MIGRATE_END or SWITCH_HOST", ", ".join(seen))


@requirement("MIG-SRC-015")
@pytest.mark.needs(Ability.CALLS)
def test_plain_answer_after_a_cancelled_attempt(bench: Bench) -> None:
    """After a cancelled seamless attempt, MIGRATE_END ends the migration of a client that answers
    CONNECTED."""
    source, target = bench.pair(seamless=True)
    client = bench.client(source, channels=())
    announced(bench, source, client, target)
    source.cancel(target)
    bench.expect(client.main, CANCEL, proves="MIG-SRC-017")
    client.steps.clear()
    client.duties = DUTIFUL.skipping(MigrationStep.DO_SEAMLESS)
    announced(bench, source, client, target)
    left = client.main
    source.complete(target)
    bench.expect(left, END)
    arrived(bench, client)


@requirement(
    "MIG-DST-025",
    fault=(
        later("half a second ahead", MM_TIME, "multi_media_time", 500, host="target"),
        later("half a second behind", MM_TIME, "multi_media_time", -500, host="target"),
        put(MM_TIME, multi_media_time=1, host="target"),
    ),
)
def test_time_at_the_target(bench: Bench) -> None:
    """The target sends its own multimedia time: its next INIT goes on from it."""
    source, target = bench.pair(seamless=True)
    client = bench.client(source, channels=())
    migrated(bench, source, client, target)
    seen = bench.expect(client.main, MM_TIME)
    following = bench.link(target)
    init = bench.expect(following, INIT, proves="MAIN-001")
    went = (int(init.packet.multi_media_time) - int(seen.packet.multi_media_time)) & 0xFFFFFFFF
    least = (following.opened.time - seen.time) * 1000 - 1
    most = (init.time - client.main.opened.time) * 1000 + 1
    bench.claim(least <= went <= most, f"{least:.0f} to {most:.0f} ms from it to the next INIT", went)
