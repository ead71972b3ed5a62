# SPDX-License-Identifier: GPL-2.0-only
"""Source, target and client on separate network nodes: other addresses, slow and lossy lines, cut lines."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.namespace_bench import LineQuality, spread, through_relay
from fixtures.peer import Client, MigrationStep
from fixtures.peer.duties import ANSWERS_LATE
from fixtures.system.hosts import Ability, Host
from fixtures.system.namespaces import Called
from suites.steps import announced, arrived

BEGIN, CANCEL = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN, MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL
SWITCH, INIT = MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST, MsgMain.SPICE_MSG_MAIN_INIT
MM_TIME, LIST = MsgMain.SPICE_MSG_MAIN_MULTI_MEDIA_TIME, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
POOR = LineQuality(delay_ms=20, loss_percent=3)
#: How long retransmission may take after a line is restored, seconds.
MENDED_S = 15.0
#: How long a client tries to reach a host over a line that is cut, seconds.
IMPATIENT_S = 0.2


def heard(bench: Bench, client: Client) -> None:
    """Waits until the source has read the client's earlier messages: it answers a message that follows
    them."""
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    answered = lambda: len(client.main.got(LIST)) > 1  # noqa: E731
    bench.until(answered, "SPICE_MSG_MAIN_CHANNELS_LIST from the source", proves="CHAN-004")


def moved(bench: Bench, source: Host, client: Client) -> None:
    """Waits for the end of a migration in either scheme: the client's session is at the target."""
    if not source.settings.seamless:
        arrived(bench, client)
        return
    has_time = lambda: client.left and client.main.got(MM_TIME)  # noqa: E731
    bench.until(has_time, "SPICE_MSG_MAIN_MULTI_MEDIA_TIME from the target", MENDED_S, proves="MIG-DST-025")
    bench.settle()


@pytest.mark.parametrize("seamless", [False, True], ids=["semi-seamless", "seamless"])
@pytest.mark.parametrize("called", list(Called))
def test_another_address(bench: Bench, called: Called, seamless: bool) -> None:
    """The target has an address of its own; BEGIN names it as IPv4, as IPv6, or by host name."""
    made = spread(bench, called)
    source, target = bench.pair(seamless=seamless)
    client = bench.client(source)
    announced(bench, source, client, target, **made.announcement("target"))
    source.complete(target)
    moved(bench, source, client)


@pytest.mark.parametrize("seamless", [False, True], ids=["semi-seamless", "seamless"])
def test_slow_and_lossy_lines(bench: Bench, seamless: bool) -> None:
    """The client's lines delay packets by 20 ms each way and lose some."""
    made = spread(bench, line=POOR)
    through_relay(bench, made)
    source, target = bench.pair(seamless=seamless)
    client = bench.client(source)
    announced(bench, source, client, target, **made.announcement("target"))
    heard(bench, client)
    source.complete(target)
    moved(bench, source, client)


def test_line_to_the_target_is_cut_for_a_while(bench: Bench) -> None:
    """After CONNECTED the line to the target is cut and restored: MIGRATE_END arrives late, and the target
    obeys it."""
    made = spread(bench)
    source, target = bench.pair()
    client = bench.client(source)
    announced(bench, source, client, target, **made.announcement("target"))
    made.network.cut("client", "target")
    source.complete(target)
    bench.until(lambda: client.left, "SPICE_MSG_MAIN_MIGRATE_END from the source", proves="MIG-SRC-015")
    made.network.mend("client", "target")
    begun = lambda: client.main.got(INIT) and MigrationStep.START_CHANNELS in client.steps  # noqa: E731
    bench.until(begun, "SPICE_MSG_MAIN_INIT from the target", MENDED_S, proves="MIG-DST-004")
    bench.settle()


def test_line_to_the_target_is_cut(bench: Bench) -> None:
    """The line to the target is cut when the migration is announced: the client sends CONNECT_ERROR, the
    source sends SWITCH_HOST, and the client reaches the target once the line is restored."""
    made = spread(bench)
    source, target = bench.pair()
    client = bench.client(source)
    made.network.cut("client", "target")
    bench.pump.dial = lambda address, _: made.network.connect(address, IMPATIENT_S)
    source.announce(target, **made.announcement("target"))
    bench.until(
        lambda: MigrationStep.ANSWER in client.steps,
        "an announcement that can be answered",
        proves="MIG-SRC-020",
    )
    bench.settle()
    made.network.mend("client", "target")
    bench.pump.dial = made.network.connect
    source.complete(target)
    bench.expect(client.main, SWITCH, proves="MIG-SRC-018")
    bench.until(lambda: client.main.got(INIT), "SPICE_MSG_MAIN_INIT from the target", proves="MIG-DST-008")
    bench.settle()


@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
def test_line_to_the_source_is_cut(bench: Bench) -> None:
    """The client's answer is held up by a cut line: the source's wait times out; when the answer arrives over
    the restored line, the source answers it with MIGRATE_CANCEL."""
    made = spread(bench)
    source, target = bench.pair()
    client = bench.client(source, duties=ANSWERS_LATE)
    source.announce(target, **made.announcement("target"))
    bench.until(lambda: client.target and client.target.linked, "links to the target", proves="MIG-DST-001")
    made.network.cut("client", "source")
    client.release(MigrationStep.ANSWER)
    bench.until(
        lambda: MigrationStep.ANSWER in client.steps,
        "an announcement that can be answered",
        proves="MIG-SRC-020",
    )
    bench.pass_time(source, 10_000)
    bench.claim(bool(bench.seen(source, "migrate_connect_complete")), "completion", "none", proves="TIME-001")
    made.network.mend("client", "source")
    bench.expect(client.main, CANCEL, deadline=MENDED_S, proves="MIG-SRC-024")
    bench.settle()
