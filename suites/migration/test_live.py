# SPDX-License-Identifier: GPL-2.0-only
"""Live migrations of a QEMU machine, paused when the memory has moved and the switchover is due: events at
source, target and client at this moment."""

from __future__ import annotations

from typing import cast

import pytest

from dissectors.wire.constants import ChannelType, MsgBase, MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import requirement
from fixtures.peer import Client
from fixtures.qemu import QemuHost
from fixtures.system.hosts import Ability, Host
from suites.steps import announced, moved

END, CANCEL = MsgMain.SPICE_MSG_MAIN_MIGRATE_END, MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL
SWITCH, LIST = MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
ENDS = (END, CANCEL, SWITCH, MsgBase.SPICE_MSG_MIGRATE)
EVERYTHING = (
    *("keyboard", "mouse", "tablet", "display", "playback", "record"),
    *("agent", "usbredir", "smartcard"),
)
CHANNELS = {
    ChannelType.SPICE_CHANNEL_DISPLAY,
    ChannelType.SPICE_CHANNEL_INPUTS,
    ChannelType.SPICE_CHANNEL_CURSOR,
    ChannelType.SPICE_CHANNEL_PLAYBACK,
    ChannelType.SPICE_CHANNEL_RECORD,
    ChannelType.SPICE_CHANNEL_USBREDIR,
    ChannelType.SPICE_CHANNEL_SMARTCARD,
}
INPUTS = (ChannelType.SPICE_CHANNEL_INPUTS,)

pytestmark = [
    pytest.mark.needs(Ability.SWITCHOVER),
    pytest.mark.parametrize("seamless", [False, True], ids=["semi-seamless", "seamless"]),
]


def held(bench: Bench, source: Host, client: Client, target: Host) -> QemuHost:
    """The source's machine waits before its switchover, and the client has links to both hosts."""
    announced(bench, source, client, target)
    mover = cast(QemuHost, source)
    assert mover.begin_move(target), mover.failure()
    bench.settle()
    return mover


def goes_on(bench: Bench, source: Host, client: Client) -> None:
    """After a failed migration the client is notified, the session answers, and it can migrate to another
    target."""
    seen = len(client.main.got(LIST))
    bench.expect(client.main, CANCEL, proves="MIG-SRC-017")
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    with bench.owed("MIG-SRC-039"):
        bench.pump.until(lambda: len(client.main.got(LIST)) > seen, what="SPICE_MSG_MAIN_CHANNELS_LIST")
        client.steps.clear()
        another = bench.start("target2", incoming=True, seamless=source.settings.seamless)
        announced(bench, source, client, another)
        source.complete(another)
        moved(bench, source, client)


@requirement("MIG-SRC-016", "MIG-SRC-014")
def test_nothing_ends_before_the_switchover(bench: Bench, seamless: bool) -> None:
    """All memory has moved and the machine is stopped; the client gets no message before this moment is
    over."""
    source, target = bench.pair(seamless=seamless)
    client = bench.client(source)
    mover = held(bench, source, client, target)
    seen = [message.name for message in client.main.got(*ENDS)]
    bench.claim(
        not seen and not client.left, "nothing before migrate_end", ", ".join(seen), proves="MIG-SRC-016"
    )
    assert mover.finish_move(), mover.failure()
    moved(bench, source, client)


@requirement("MIG-SRC-017", "MIG-SRC-039")
def test_cancelled_at_the_switchover(bench: Bench, seamless: bool) -> None:
    """The hypervisor cancels at the last moment: the session goes on at the source."""
    source, target = bench.pair(seamless=seamless)
    client = bench.client(source, channels=INPUTS)
    held(bench, source, client, target).cancel(target)
    goes_on(bench, source, client)


@requirement("MIG-SRC-017", "MIG-SRC-039")
def test_target_that_dies(bench: Bench, seamless: bool) -> None:
    """The target dies at the last moment: the migration fails, the session goes on at the source."""
    source, target = bench.pair(seamless=seamless)
    client = bench.client(source, channels=INPUTS)
    mover = held(bench, source, client, target)
    cast(QemuHost, target).kill()
    assert not mover.finish_move()
    goes_on(bench, source, client)


@requirement("ROBUST-001")
def test_source_that_dies(bench: Bench, seamless: bool) -> None:
    """The source dies at the last moment: the target, which has half a machine, exits in good order."""
    source, target = bench.pair(seamless=seamless)
    client = bench.client(source)
    held(bench, source, client, target).kill()
    bench.until(lambda: not target.life().alive, "the end of the target")
    life = target.life()
    bench.claim(life.signal is None, "an orderly end", f"{life.signal}: {life.message}", target)


@requirement("ROBUST-011")
@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_that_leaves(bench: Bench, seamless: bool, how: str) -> None:
    """The client leaves source and target at the last moment: the machine arrives without it."""
    source, target = bench.pair(seamless=seamless)
    client = bench.client(source)
    mover = held(bench, source, client, target)
    for session in (client.current, client.target):
        for connection in session or ():
            connection.close() if how == "close" else connection.reset()
    assert mover.finish_move(), mover.failure()
    bench.alive("after a client that left at the switchover", source, target)
    with bench.owed():
        bench.client(target, channels=INPUTS)


@requirement("MAIN-010")
def test_machine_with_everything(bench: Bench, seamless: bool) -> None:
    """A machine with a device for every SPICE channel migrates twice."""
    source, target = bench.pair(seamless=seamless, devices=EVERYTHING)
    client = bench.client(source)
    main = client.main
    main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, (10).to_bytes(4, "little"))
    kinds = {kind for kind, _ in client.current.channels}
    bench.claim(kinds >= CHANNELS, f"channels {sorted(CHANNELS)}", sorted(kinds))
    bench.settle()
    for hop in ("target", "target2"):
        if hop != "target":
            target = bench.start(hop, incoming=True, seamless=seamless, devices=EVERYTHING)
        client.steps.clear()
        client.left.clear()
        announced(bench, source, client, target)
        source.complete(target)
        moved(bench, source, client)
        ended = {key: c.ending for key, c in client.current.channels.items() if c.ending}
        bench.claim(not ended, "the channels go on", ended)
        source = target
