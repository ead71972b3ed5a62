# SPDX-License-Identifier: GPL-2.0-only
"""Switch host: the oldest scheme, to which the newer ones fall back."""

from __future__ import annotations

import pytest

from dissectors.channels.main import SpiceMsgcMainMigrateDstDoSeamless
from dissectors.wire.constants import MainCap, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import BEGIN_BODY, added, requirement
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.peer.duties import DUTIFUL, MigrationStep
from fixtures.system.hosts import Ability
from suites.steps import ended

BEGIN = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN
LIST = MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST

INIT, SWITCH = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST
OLD_CLIENT = EVERYTHING.without(
    MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE, MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE
)


@requirement("MIG-SRC-002", fault=added(LIST, BEGIN, BEGIN_BODY, host="source"))
@requirement("MIG-SRC-018", "MIG-SRC-023", "MIG-DST-008", "MAIN-001")
def test_old_client_is_switched(bench: Bench) -> None:
    """A client without the capability gets no message before SWITCH_HOST, and opens a new session at the
    target."""
    source, target = bench.pair()
    client = bench.client(source, capabilities=OLD_CLIENT)
    first = client.main
    source.announce(target)
    bench.settle()
    source.complete(target)
    bench.expect(first, SWITCH, proves="MIG-SRC-018")
    begun = lambda: client.main is not first and client.current.linked  # noqa: E731
    bench.until(begun, "a session on the target", proves="MIG-DST-008")
    bench.claim(
        not first.got(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN), "no BEGIN", "BEGIN", proves="MIG-SRC-002"
    )


@requirement("MIG-SRC-003", "MIG-SRC-004", "MIG-SRC-005", "MIG-SRC-006", "MIG-SRC-007", "MIG-SRC-018")
@pytest.mark.parametrize("subject", [None, "C=XY,CN=target"])
def test_address(bench: Bench, subject: str | None) -> None:
    """SWITCH_HOST carries the address as given to migrate_connect."""
    source, target = bench.pair()
    client = bench.client(
        source, channels=(), capabilities=OLD_CLIENT, duties=DUTIFUL.skipping(MigrationStep.SWITCH_HOST)
    )
    source.announce(target, host="target.example", port=0x8EF1, tls_port=0x9A03, subject=subject)
    source.complete(target)
    bench.expect(client.main, SWITCH, proves="MIG-SRC-018")


@requirement("MIG-SRC-018")
@pytest.mark.needs(Ability.SEAMLESS_DATA)
def test_moved_on_before_the_client_came(bench: Bench) -> None:
    """A target that waits for a client's state begins a further migration: it sends the client to the next
    host."""
    here, there = bench.pair(seamless=True)
    client = bench.link(here, connection_id=0x8A000001)
    client.send(SpiceMsgcMainMigrateDstDoSeamless(src_version=1))
    bench.expect(client, MsgMain.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK, proves="MIG-DST-021")
    here.announce(there)
    here.complete(there)
    bench.expect(client, SWITCH)


@requirement("MIG-SRC-033", "MIG-SRC-034")
@pytest.mark.needs(Ability.END_CALLBACK)
def test_migrate_end_completes(bench: Bench) -> None:
    """After SWITCH_HOST migrate_end completes when the client has left."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), capabilities=OLD_CLIENT)
    source.announce(target)
    source.complete(target)
    bench.wait(source, "migrate_end_complete", proves="MIG-SRC-033")
    bench.settle()
    assert client.steps


@requirement("MIG-SRC-017")
def test_failed_migration_says_nothing(bench: Bench) -> None:
    """The source sends nothing about a failed migration to a client that got no announcement."""
    source, target = bench.pair()
    client = bench.client(source, channels=(), capabilities=OLD_CLIENT)
    source.announce(target)
    source.complete(target, succeeded=False)
    ended(bench, source)
    seen = [m.name for m in client.main.messages if "MIGRATE" in m.name]
    bench.claim(not seen, "nothing", ", ".join(seen))
