# SPDX-License-Identifier: GPL-2.0-only
"""Constructed records for the self-tests of the reports: a run, a conversation, a little suite."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from dissectors.channels.main import SpiceMsgMainInit, SpiceMsgMainMigrateBegin
from dissectors.framing.events import Closed, Ending, Endpoint, Event, HostEvent, LinkBytes, Message, Opened
from dissectors.rules.judgement import Finding, Level, Requirement, Verdict
from dissectors.wire.constants import ChannelType, MsgBase, MsgcBase, MsgcMain, MsgMain, Side
from dissectors.wire.link_packets import (
    SpiceLinkEncryptedTicket,
    SpiceLinkMess,
    SpiceLinkReply,
    SpiceLinkResult,
)
from fixtures.system.hosts import Identity
from reports.run.run_events import CaseFinished, Deviation, RunFinished, RunStarted
from reports.run.tally import Run

MUST = Requirement("MIG-DST-900", Level.MUST, "target", "The target is silent before MIGRATE_END.", "seed")
OBSERVED = Requirement("LINK-900", Level.OBSERVED, "link", "Each link has a key of its own.", "house rule")
ROBUST = Requirement("ROBUST-900", Level.ROBUST, "robust", "No input ends the process.", "house rule")
UNREACHED = Requirement(
    "MIG-CLI-900", Level.MUST, "client", "The client leaves.", "seed", "client", "", "a real client"
)
CATALOGUE = {r.id: r for r in (MUST, OBSERVED, ROBUST, UNREACHED)}
CRASH = "spice-ERROR: unexpected flush mark"
DEVIATION = Deviation("ROBUST-*", "unexpected flush mark", "known since 2012", ">=0.12,<=0.16.0")


def identity(version: str | None = "0.15.1", spec: str = "system") -> Identity:
    """A library build."""
    return Identity(
        spec, "library", "/usr/lib/libspice-server.so.1", version, "ab" * 10, "cd" * 32, {"package": "p"}
    )


def found(
    requirement: Requirement, seen: str = "INIT", host: str | None = None, time: float = 1000.5
) -> Finding:
    """A finding of a requirement."""
    return Finding(requirement.id, requirement.level, "nothing of the kind", seen, time, 3, 1, host)


def case(
    name: str,
    verdict: Verdict = Verdict.PASS,
    requirement: Requirement = MUST,
    findings: Sequence[Finding] = (),
    *,
    server: str = "system",
    version: str | None = "0.15.1",
    kept: int = 0,
) -> CaseFinished:
    """One test against a build."""
    return CaseFinished(
        nodeid=f"suites/migration/test_x.py::{name}",
        title=f"title of {name}",
        server=server,
        requirements=(requirement.id,),
        verdict=verdict,
        reason="" if verdict is Verdict.PASS else f"reason of {name}",
        kept={requirement.id: kept} if kept else {},
        findings=tuple(findings),
        duration_s=0.25,
        artefacts={"pcapng": f"cases/{name}.pcapng"},
        identities={"source": identity(version, server)},
    )


def run(*cases: CaseFinished, deviations: Sequence[Deviation] = (), interrupted: str | None = None) -> Run:
    """A run of these cases."""
    started = RunStarted(
        suite="0.1.0",
        started=1_700_000_000.0,
        environment={"kernel": "Linux 6.1"},
        seed=7,
        servers=(),
        requirements=tuple(CATALOGUE.values()),
        deviations=tuple(deviations),
    )
    return Run(started, list(cases), RunFinished(1_700_000_009.0, interrupted), len(cases))


def conversation() -> list[Event]:
    """A source, a client, and a target that sends INIT too early (the last message)."""
    client, source, target = Endpoint("127.0.0.1", 40001), Endpoint("127.0.0.1", 5901), Endpoint("::1", 5902)
    main = int(ChannelType.SPICE_CHANNEL_MAIN)
    begin = bytes(
        SpiceMsgMainMigrateBegin(port=5902, sport=5903, host=b"localhost\0", cert_subject=b"CN=target\0")
    )
    init = bytes(SpiceMsgMainInit(session_id=0x6B8B4567))

    def link(connection: int, number: int) -> list[Event]:
        at = 1000.0 + connection / 10
        packets = (
            ("mess", Side.CLIENT, SpiceLinkMess(connection_id=number)),
            ("reply", Side.SERVER, SpiceLinkReply()),
            ("ticket", Side.CLIENT, SpiceLinkEncryptedTicket()),
            ("result", Side.SERVER, SpiceLinkResult()),
        )
        return [
            LinkBytes(time=at + n / 1000, connection=connection, sender=side, kind=kind, raw=bytes(packet))
            for n, (kind, side, packet) in enumerate(packets)
        ]

    def message(time: float, connection: int, sender: Side, kind: int, body: bytes = b"") -> Message:
        return Message(
            time=time,
            connection=connection,
            sender=sender,
            channel=main,
            type=int(kind),
            body=body,
            size=len(body),
        )

    ticket = {"host": "localhost", "port": 5902, "ticket": "geheim"}
    return [
        Opened(time=1000.0, connection=1, client=client, server=source, host="source"),
        *link(1, 0),
        message(1000.11, 1, Side.SERVER, MsgMain.SPICE_MSG_MAIN_INIT, init),
        message(1000.12, 1, Side.SERVER, MsgBase.SPICE_MSG_PING, b"\0" * 12),
        message(1000.13, 1, Side.CLIENT, MsgcBase.SPICE_MSGC_PONG, b"\0" * 12),
        HostEvent(time=1000.14, host="source", name="call:migrate_connect", args=ticket),
        message(1000.15, 1, Side.SERVER, MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN, begin),
        Opened(time=1000.16, connection=2, client=client, server=target, host="target"),
        *link(2, 0x6B8B4567),
        message(1000.3, 1, Side.CLIENT, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED),
        HostEvent(time=1000.31, host="source", name="migrate_connect_complete"),
        Closed(time=1000.4, connection=1, how=Ending.CLOSED, by=Side.CLIENT),
        message(1000.5, 2, Side.SERVER, MsgMain.SPICE_MSG_MAIN_INIT, init),
    ]


_CONFTEST = """
    import pytest

    IDENTITY = {"spec": "system", "kind": "library", "path": "/x.so", "version": "0.15.1",
                "build_id": "ab", "sha256": "cd", "detail": {}}


    def pytest_addoption(parser):
        parser.addoption("--server", action="append", default=[])
        for option in ("--source", "--target"):
            parser.addoption(option)


    @pytest.fixture
    def tell(request):
        def tell(*findings, **more):
            marked = [i for mark in request.node.iter_markers("requirement") for i in mark.args]
            told = {"server": "system", "identity": IDENTITY, "requirements": marked,
                    "judgement": {"findings": list(findings), "kept": more.pop("kept", {})}, **more}
            request.node.user_properties.append(("spice", told))

        return tell
"""


def little_suite(root: Path, tests: str) -> Path:
    """A root with pytest.ini, conftest.py and one test file in `suites/link/`."""
    folder = root / "suites" / "link"
    folder.mkdir(parents=True)
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "conftest.py").write_text(textwrap.dedent(_CONFTEST))
    (folder / "test_little.py").write_text("import os, time\nimport pytest\n" + textwrap.dedent(tests))
    return root
