# SPDX-License-Identifier: GPL-2.0-only
"""Steps that many tests share, most of a migration; each wait names the requirement that it proves."""

from __future__ import annotations

from typing import Any

from dissectors.wire.constants import MsgMain
from fixtures.bench import WAIT_S, Bench
from fixtures.peer import Client, Deadline, MigrationStep
from fixtures.peer.duties import Duties
from fixtures.system.hosts import Host
from fixtures.system.short_paths import FOR_SOCKETS, short_name

INIT = MsgMain.SPICE_MSG_MAIN_INIT
BEGIN = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN
BEGIN_SEAMLESS = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS


def unix_path(bench: Bench) -> str:
    """A path for a UNIX socket in the test's directory."""
    return str(bench.belongings.enter_context(short_name(bench.directory, FOR_SOCKETS)) / "s")


def served(bench: Bench, host: Host, what: str, proves: str | None = None) -> None:
    """The host lives, and a new client gets a session. `what`: such as "after a wrong message"."""
    bench.alive(what, host, proves=proves)
    if host.life().alive:
        with bench.owed(proves):
            bench.link(host).expect(INIT)


def announced(bench: Bench, source: Host, client: Client, target: Host, **arguments: Any) -> None:
    """Calls migrate_connect and waits for the client's answer. Raises the error that the client met at the
    target. `arguments`: as `Host.announce` takes it."""
    met, before = len(client.troubles), len(client.main.got(BEGIN, BEGIN_SEAMLESS))
    source.announce(target, **arguments)
    heard = lambda: len(client.main.got(BEGIN, BEGIN_SEAMLESS)) > before  # noqa: E731
    bench.until(heard, "SPICE_MSG_MAIN_MIGRATE_BEGIN or _BEGIN_SEAMLESS", proves="MIG-SRC-020")
    try:
        bench.pump.until(
            lambda: MigrationStep.ANSWER in client.steps, WAIT_S, "what the client needs for its answer"
        )
    except Deadline as silence:  # the target's: it has not answered, or not let the client in
        bench.record_timeout(
            silence, "MIG-DST-020" if MigrationStep.DO_SEAMLESS in client.steps else "MIG-DST-001"
        )
        raise
    bench.settle()
    for trouble in client.troubles[met:]:
        raise trouble


def unanswered(bench: Bench, duties: Duties, **settings: Any) -> tuple[Host, Host, Client]:
    """Source, target, and a client on main alone that has received an announcement and not answered it.
    `settings`: as `Bench.pair` takes them."""
    source, target = bench.pair(**settings)
    client = bench.client(source, channels=(), duties=duties)
    source.announce(target)
    bench.expect(client.main, BEGIN, proves="MIG-SRC-020")
    return source, target, client


def arrived(bench: Bench, client: Client) -> None:
    """Ends a semi-seamless migration: the client leaves the source, and the target's session begins."""
    bench.until(lambda: client.left, "SPICE_MSG_MAIN_MIGRATE_END from the source", proves="MIG-SRC-015")
    begun = lambda: client.main.got(INIT) and MigrationStep.START_CHANNELS in client.steps  # noqa: E731
    bench.until(begun, "SPICE_MSG_MAIN_INIT from the target", proves="MIG-DST-004")
    bench.settle()


def moved(bench: Bench, source: Host, client: Client) -> None:
    """Ends a migration in the scheme that the source was started for."""
    if source.settings.seamless:
        bench.until(lambda: client.left, "SPICE_MSG_MIGRATE_DATA from the source", proves="MIG-SRC-047")
        bench.settle()
    else:
        arrived(bench, client)


def migrated(bench: Bench, source: Host, client: Client, target: Host) -> None:
    """Runs a whole migration in the scheme that the source was started for."""
    announced(bench, source, client, target)
    source.complete(target)
    moved(bench, source, client)


def ended(bench: Bench, source: Host, times: int = 1) -> None:
    """Waits until the hypervisor has ended this many migrations (`migrate_end`; a live one takes its time)
    and its effects have arrived."""
    bench.pump.until(lambda: bench.seen(source, "call:migrate_end") >= times, what="migrate_end")
    bench.settle()
