# SPDX-License-Identifier: GPL-2.0-only
"""Migrations between hosts that require TLS and a ticket."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dissectors.wire.constants import ChannelType, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import requirement
from fixtures.peer.duties import DUTIFUL, MigrationStep
from fixtures.peer.transport import trusting
from fixtures.system.hosts import Ability
from suites.steps import announced, moved

TICKET = "correct horse"
SWITCH = MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST
SUBJECT = "O=SPICE conformance,CN=target"


@requirement("MIG-SRC-004", "MIG-SRC-005", "MIG-SRC-006", "MIG-DST-001", "LINK-028")
@pytest.mark.parametrize("tls_only", [False, True], ids=["both-ports", "tls-only"])
@pytest.mark.parametrize(
    "seamless",
    [False, pytest.param(True, marks=pytest.mark.needs(Ability.SEAMLESS_DATA))],
    ids=["semi-seamless", "seamless"],
)
def test_whole_migration(bench: Bench, seamless: bool, tls_only: bool) -> None:
    """A client that is linked over TLS migrates over TLS, with its ticket."""
    certificate = bench.certificate()
    source, target = bench.pair(
        tls=certificate.settings(), tls_only=tls_only, ticket=TICKET, seamless=seamless
    )
    client = bench.client(source, tls=trusting(certificate.ca), password=TICKET)
    announced(bench, source, client, target, subject=SUBJECT)
    source.complete(target)
    moved(bench, source, client)
    plain = [key for key, connection in client.current.channels.items() if not connection.opened.tls]
    bench.claim(client.main.opened.tls and not plain, "links over TLS", plain, proves="LINK-028")


@requirement("LINK-021", "MIG-SRC-018", "MIG-SRC-019")
def test_ticket_that_is_not_the_targets(bench: Bench) -> None:
    """If the target refuses the ticket, the client sends CONNECT_ERROR, and SWITCH_HOST ends the
    migration."""
    source = bench.start("source", ticket=TICKET)
    target = bench.start("target", ticket="another", incoming=True)
    duties = replace(DUTIFUL, password=TICKET).skipping(MigrationStep.SWITCH_HOST)
    inputs = (ChannelType.SPICE_CHANNEL_INPUTS,)
    client = bench.client(source, channels=inputs, password=TICKET, duties=duties)
    source.announce(target)
    bench.until(
        lambda: MigrationStep.ANSWER in client.steps,
        "an announcement that can be answered",
        proves="MIG-SRC-020",
    )
    bench.settle()
    bench.claim(bool(client.troubles), "a link that is refused", "one that is accepted", proves="LINK-021")
    source.complete(target)
    bench.expect(client.main, SWITCH, proves="MIG-SRC-018")
