# SPDX-License-Identifier: GPL-2.0-only
"""Combined capabilities, headers, TLS, tickets, channels, schemes and endings: each pair of values migrates
once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from dissectors.channels.main import SpiceMsgcMainAgentStart
from dissectors.wire.constants import ChannelType, MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import requirement
from fixtures.peer import Client, Deadline
from fixtures.peer.client_capabilities import EVERYTHING, Capabilities
from fixtures.peer.duties import ANSWERS_LATE, CANNOT_CONNECT, DUTIFUL, NEVER_ANSWERS, Duties
from fixtures.peer.transport import trusting
from fixtures.system.hosts import Ability, Host
from suites.combinations import (
    CHANNELS,
    LACKS,
    SEAMLESS,
    SEMI,
    Header,
    MigrationEnd,
    Scheme,
    Tls,
    called,
    combinations,
)
from suites.steps import announced, arrived, moved

#: How many times, and at what interval, a test repeats ATTACH_CHANNELS.
ASKED_AGAIN, ASKED_EVERY_S = 20, 0.25
LIST, CANCEL = MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST, MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL
CONNECT_DONE = "migrate_connect_complete"
TIMEOUT_MS = 10_000
AGENT_TOKENS = 10
LATER_VERSION = 0x7A000002  # of migration data than any target knows
NAME, UUID = "machine", bytes(range(0x81, 0x91))
TICKET = "correct horse"
DUTIES: Mapping[str, Duties] = {
    MigrationEnd.CANNOT: CANNOT_CONNECT,
    MigrationEnd.LATE: NEVER_ANSWERS,
    MigrationEnd.LEAVES: ANSWERS_LATE,
}
#: What each ending proves, besides what the oracle judges in the packets.
PROVES: Mapping[tuple[str, str], tuple[str, ...]] = {
    (Scheme.SEMI_SEAMLESS, MigrationEnd.ARRIVES): ("MIG-SRC-015", "MIG-DST-004"),
    (Scheme.NACK, MigrationEnd.ARRIVES): ("MIG-SRC-015", "MIG-DST-004", "MIG-DST-022"),
    (Scheme.SEAMLESS, MigrationEnd.ARRIVES): ("MIG-SRC-040", "MIG-SRC-047"),
    (Scheme.SWITCH_HOST, MigrationEnd.CANCELLED): ("MIG-SRC-030", "MIG-SRC-039"),
    (Scheme.SWITCH_HOST, MigrationEnd.LEAVES): ("MIG-SRC-030", "MIG-DST-008"),
    (Scheme.SWITCH_HOST, MigrationEnd.ARRIVES): ("MIG-SRC-030", "MIG-SRC-018", "MIG-DST-008"),
}
PROVES_BY_END: Mapping[str, tuple[str, ...]] = {
    MigrationEnd.CANCELLED: ("MIG-SRC-017", "MIG-SRC-039"),
    MigrationEnd.CANNOT: ("MIG-SRC-018", "MIG-DST-008"),
    MigrationEnd.LATE: ("MIG-SRC-018", "MIG-DST-008"),
    MigrationEnd.LEAVES: ("MIG-SRC-031", "MIG-DST-008"),
}


def _cases() -> list[Any]:
    return [
        pytest.param(
            row,
            id=called(row),
            marks=requirement(*(PROVES.get((row["scheme"], row["end"])) or PROVES_BY_END[row["end"]])),
        )
        for row in combinations()
    ]


def _capabilities(row: Mapping[str, str]) -> Capabilities:
    lacks = LACKS[row["lacks"]]
    gone = [lacks] if lacks is not None else []
    if row["scheme"] == Scheme.SWITCH_HOST:
        gone += [SEMI, SEAMLESS]
    return EVERYTHING.without(*gone)


def _full_headers(header: str) -> frozenset[int]:
    """The channel types without mini headers."""
    main = {int(ChannelType.SPICE_CHANNEL_MAIN)}
    others = {int(channel) for channel in ChannelType} - main
    return frozenset(
        {Header.MINI: set(), Header.FULL: main | others, Header.MAIN_FULL: main, Header.MAIN_MINI: others}[
            Header(header)
        ]
    )


def _hosts(bench: Bench, row: Mapping[str, str]) -> tuple[Host, Host]:
    return bench.pair(
        devices=CHANNELS[row["channels"]][0],
        spare=("smartcard",),
        ticket=TICKET if row["ticket"] == "ticket" else None,
        tls=None if row["tls"] == Tls.NONE else bench.certificate().settings(),
        tls_only=row["tls"] == Tls.ONLY,
        seamless=row["scheme"] in (Scheme.SEAMLESS, Scheme.NACK),
        name=NAME,
        uuid=UUID,
    )


def _client(bench: Bench, host: Host, row: Mapping[str, str], duties: Duties = DUTIFUL) -> Client:
    if row["scheme"] == Scheme.NACK:
        duties = replace(duties, src_version=LATER_VERSION)
    return bench.client(
        host,
        channels=CHANNELS[row["channels"]][1],
        capabilities=_capabilities(row),
        full_headers=_full_headers(row["header"]),
        tls=trusting(bench.certificate().ca) if row["tls"] in (Tls.ONLY, Tls.BOTH_TLS) else None,
        password=TICKET if row["ticket"] == "ticket" else "",
        duties=duties,
    )


def _heard(bench: Bench, source: Host, client: Client, target: Host, row: Mapping[str, str]) -> None:
    """Waits for the announcement and for the client's answer to it."""
    if row["scheme"] == Scheme.SWITCH_HOST:
        source.announce(target)
        bench.wait(source, CONNECT_DONE, proves="MIG-SRC-030")
    elif row["end"] in (MigrationEnd.LATE, MigrationEnd.LEAVES):
        source.announce(target)
        bench.until(lambda: client.target and client.target.linked, "BEGIN", proves="MIG-SRC-020")
    else:
        announced(bench, source, client, target)


def _lives(bench: Bench, client: Client, proves: str) -> None:
    """The server serves the session that exists at the end."""
    had = len(client.main.got(LIST))
    for _ in range(ASKED_AGAIN):  # a target ignores it until the last channel's worker is ready
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
        with suppress(Deadline):
            bench.pump.until(lambda: len(client.main.got(LIST)) > had, ASKED_EVERY_S)
            break
    bench.until(lambda: len(client.main.got(LIST)) > had, LIST.name, proves=proves)
    bench.settle()
    ended = [c.name for c in client.current if c.ending]
    bench.claim(not ended, "every channel is open", f"ended: {', '.join(ended)}", proves=proves)


@pytest.mark.needs(Ability.CALLS, Ability.CALLBACKS, Ability.VIRTUAL_CLOCK)
@pytest.mark.parametrize("row", _cases())
def test_combination(bench: Bench, row: Mapping[str, str]) -> None:
    """One migration for each combination."""
    end, switched = row["end"], row["scheme"] == Scheme.SWITCH_HOST
    source, target = _hosts(bench, row)
    client = _client(bench, source, row, DUTIES.get(end, DUTIFUL))
    if "agent" in source.settings.devices:
        client.main.send(SpiceMsgcMainAgentStart(num_tokens=AGENT_TOKENS))
    bench.settle()
    first = client.main
    _heard(bench, source, client, target, row)
    if end == MigrationEnd.CANCELLED:
        source.cancel(target)
        bench.settle()
        if not switched:
            seen = len(first.got(CANCEL))
            bench.claim(seen == 1, f"one {CANCEL.name}", seen, source, proves="MIG-SRC-017")
        _lives(bench, client, "MIG-SRC-039")
        return
    if end == MigrationEnd.LATE:
        bench.pass_time(source, TIMEOUT_MS)
    if end == MigrationEnd.LEAVES:
        client.close()
        if not switched:
            bench.wait(source, CONNECT_DONE, proves="MIG-SRC-031")
    source.complete(target)
    if end == MigrationEnd.LEAVES:
        client = _client(bench, target, row)
    elif end in (MigrationEnd.CANNOT, MigrationEnd.LATE) or switched:
        bench.until(
            lambda: client.main is not first and client.current.linked,
            "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST, and a session at the target",
            proves="MIG-SRC-018",
        )
    elif row["scheme"] == Scheme.SEAMLESS:
        moved(bench, source, client)
    else:
        arrived(bench, client)
    arrives = end == MigrationEnd.ARRIVES and not switched
    _lives(bench, client, "MIG-DST-009" if arrives else "MIG-DST-008")
