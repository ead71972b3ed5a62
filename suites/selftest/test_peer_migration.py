# SPDX-License-Identifier: GPL-2.0-only
"""The client peer's duties in migrations between real servers, done and not done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dissectors.constants import ChannelType, MsgcBase, MsgcMain, MsgMain
from dissectors.events import Ending
from fixtures.certificates import Authority
from fixtures.hosts import Settings
from fixtures.library import LibraryHost, LibraryLauncher
from fixtures.peer import Client, Duties, Pump, Session, Step
from fixtures.peer.duties import (
    ANSWERS_LATE,
    CANNOT_CONNECT,
    DUTIFUL,
    NEVER_ANSWERS,
    STAYS_SILENT,
    destination,
)
from fixtures.peer.pump import PeerFailure
from fixtures.peer.transport import trusting

INPUTS = (ChannelType.SPICE_CHANNEL_INPUTS, 0)
INIT = MsgMain.SPICE_MSG_MAIN_INIT
SEMI_SEAMLESS = [
    Step.LINK_MAIN,
    Step.LINK_CHANNELS,
    Step.ANSWER,
    Step.LEAVE_SOURCE,
    Step.MIGRATE_END,
    Step.START_CHANNELS,
]


@pytest.fixture(scope="module")
def launcher() -> Iterator[LibraryLauncher]:
    with LibraryLauncher() as launcher:
        yield launcher


@dataclass
class Pair:
    """Source, target and what drives them."""

    launcher: LibraryLauncher
    pump: Pump
    source: LibraryHost
    target: LibraryHost

    def client(self, duties: Duties = DUTIFUL, **how: object) -> Client:
        client = Client(self.pump, self.source, duties=duties, **how)  # type: ignore[arg-type]
        client.open()
        return client

    def heard(self, name: str) -> int:
        return sum(event.name == name for event in self.pump.tape.host_events)

    def wait(self, name: str, times: int = 1) -> None:
        self.pump.until(lambda: self.heard(name) >= times, what=name)

    def announce(self, **how: str) -> None:
        """Until the client is linked to the target and has said so, or the source gave up."""
        before = self.heard("migrate_connect_complete")
        self.source.announce(self.target, **how)
        self.wait("migrate_connect_complete", before + 1)

    def stop(self) -> None:
        self.source.stop()
        self.target.stop()


def start(launcher: LibraryLauncher, pump: Pump, settings: Settings) -> Pair:
    source = launcher.start("source", settings)
    target = launcher.start("target", replace(settings, incoming=True))
    pump.add_host(source)
    pump.add_host(target)
    return Pair(launcher, pump, source, target)


@pytest.fixture
def pump() -> Iterator[Pump]:
    with Pump() as pump:
        yield pump


@pytest.fixture
def pair(launcher: LibraryLauncher, pump: Pump) -> Iterator[Pair]:
    pair = start(launcher, pump, Settings())
    yield pair
    pair.stop()


@pytest.fixture
def seamless(launcher: LibraryLauncher, pump: Pump) -> Iterator[Pair]:
    pair = start(launcher, pump, Settings(seamless=True))
    yield pair
    pair.stop()


def arrived(client: Client) -> Session | None:
    """The session, once it is at home at the target."""
    session = client.session
    return session if session and session.main.host == "target" and session.main.got(INIT) else None


def test_semi_seamless(pair: Pair) -> None:
    client = pair.client()
    source, session_id = client.current, client.session_id
    pair.announce()
    assert client.target
    assert client.target.linked
    assert client.target.session_id == session_id
    assert client.session is source
    pair.source.complete(pair.target)
    session = pair.pump.until(lambda: arrived(client))
    pair.wait("migrate_end_complete")
    assert session.session_id == session_id
    assert session.channel(*INPUTS)
    assert [connection.ending for connection in source] == [Ending.CLOSED] * 2
    assert source.main.closed
    assert all(c.closed and c.closed.time <= source.main.closed.time for c in source)
    assert client.steps == SEMI_SEAMLESS
    assert client.left == [source]
    assert not client.troubles


def test_two_hops(pair: Pair) -> None:
    client = pair.client()
    session_id = client.session_id
    third = pair.launcher.start("third", Settings(incoming=True))
    pair.pump.add_host(third)
    for leaves, enters in ((pair.source, pair.target), (pair.target, third)):
        leaves.announce(enters)
        pair.pump.until(lambda: client.target and client.target.linked)
        pair.pump.settle()
        leaves.complete(enters)
        pair.pump.until(lambda label=enters.label: client.main.host == label and client.main.got(INIT))  # type: ignore[misc]
        pair.pump.settle()
    assert client.session_id == session_id
    assert [session.main.host for session in client.left] == ["source", "target"]
    third.stop()


def test_without_semi_seamless_the_client_follows_switch_host(pair: Pair) -> None:
    client = pair.client(CANNOT_CONNECT)
    pair.announce()
    assert client.target is None
    assert client.main.sent[-1].type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR
    pair.source.complete(pair.target)
    session = pair.pump.until(lambda: arrived(client))
    pair.pump.until(lambda: session.linked)
    assert session.main.wanted.connection_id == 0
    assert client.steps == [Step.ANSWER, Step.LEAVE_SOURCE, Step.SWITCH_HOST]


def test_target_out_of_reach_is_told_to_the_source(pair: Pair) -> None:
    client = pair.client()
    pair.target.stop()
    pair.announce()
    assert client.main.sent[-1].type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR
    assert "no connection to" in str(client.troubles[0])


def test_wrong_ticket_at_the_target_is_told_to_the_source(launcher: LibraryLauncher, pump: Pump) -> None:
    pair = start(launcher, pump, Settings(ticket="abc"))
    client = pair.client(Duties(password="xyz"), password="abc")
    pair.announce()
    assert client.main.sent[-1].type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR
    assert "PERMISSION_DENIED" in str(client.troubles[0])
    pair.stop()


def test_never_and_late(pair: Pair) -> None:
    client = pair.client(NEVER_ANSWERS)
    pair.source.announce(pair.target)
    pair.pump.until(lambda: client.target and client.target.linked)
    pair.pump.settle()
    assert not pair.heard("migrate_connect_complete")
    pair.source.advance(10_000)
    pair.wait("migrate_connect_complete")
    client.close()

    late = pair.client(ANSWERS_LATE)
    pair.source.call("migrate_end", completed=0)
    pair.source.announce(pair.target)
    pair.pump.until(lambda: late.target and late.target.linked)
    pair.pump.settle()
    assert pair.heard("migrate_connect_complete") == 1
    late.release(Step.ANSWER)
    pair.wait("migrate_connect_complete", 2)


def test_cancel(pair: Pair) -> None:
    client = pair.client()
    source = client.session
    pair.announce()
    target = client.target
    assert target
    pair.source.cancel(pair.target)
    pair.pump.until(lambda: client.target is None)
    assert [connection.ending for connection in target] == [Ending.CLOSED] * 2
    assert client.session is source
    assert client.main.ending is None
    pair.announce()  # and once more
    assert client.target


def test_cancel_while_linking_stops_the_linking(pair: Pair) -> None:
    client = pair.client(DUTIFUL.holding(Step.LINK_CHANNELS))
    pair.source.announce(pair.target)
    pair.pump.until(lambda: Step.LINK_MAIN in client.steps and client.target)
    client.stop_linking()
    client.release(Step.LINK_CHANNELS)
    pair.pump.settle()
    assert Step.LINK_CHANNELS not in client.steps


def test_a_client_may_do_nothing_at_all(pair: Pair) -> None:
    client = pair.client(STAYS_SILENT)
    pair.source.announce(pair.target)
    client.main.expect(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN)
    pair.pump.settle()
    assert client.steps == []
    assert client.main.sent[-1].type != MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED


def test_another_connection_id_and_another_answer(pair: Pair) -> None:
    answer = MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS
    client = pair.client(Duties(connection_id=0x1122AABB, answer=answer))
    pair.announce()
    assert client.target
    assert {c.wanted.connection_id for c in client.target} == {0x1122AABB}
    assert client.main.sent[-1].type == answer


def test_seamless(seamless: Pair) -> None:
    client = seamless.client()
    source, session_id = client.current, client.session_id
    seamless.announce()
    assert Step.DO_SEAMLESS in client.steps
    assert client.main.sent[-1].type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS
    seamless.source.complete(seamless.target)
    seamless.pump.until(lambda: client.session is not source, what="the switch to the target")
    seamless.wait("migrate_end_complete")
    seamless.pump.settle()
    session = client.current
    assert session.session_id == session_id
    for connection in session:
        assert [m.type for m in connection.sent].count(MsgcBase.SPICE_MSGC_MIGRATE_DATA) == 1
        assert connection.ending is None
    assert not session.main.got(INIT)
    assert all(connection.ending is Ending.CLOSED for connection in source)


def test_seamless_refused_falls_back(seamless: Pair) -> None:
    client = seamless.client(Duties(src_version=0xFFFF_FFFE))
    seamless.announce()
    assert client.main.sent[-1].type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED
    seamless.source.complete(seamless.target)
    assert seamless.pump.until(lambda: arrived(client)).main.host == "target"


def test_migrate_data_can_be_altered(seamless: Pair) -> None:
    client = seamless.client(Duties(migrate_data=lambda _, data: data[:5]))
    seamless.announce()
    source = client.current
    seamless.source.complete(seamless.target)
    seamless.pump.until(lambda: client.session is not source)
    data = MsgcBase.SPICE_MSGC_MIGRATE_DATA
    brought = [m.body for c in client.current for m in c.sent if m.type == data]
    assert [len(body) for body in brought] == [5, 5]


def test_tls_stays_tls(launcher: LibraryLauncher, pump: Pump, tmp_path: Path) -> None:
    certificate = Authority(tmp_path).server()
    pair = start(launcher, pump, Settings(tls=certificate.settings()))
    client = pair.client(tls=trusting(certificate.ca))
    pair.announce(subject=certificate.subject)
    assert client.target
    assert all(connection.opened.tls for connection in client.target)
    pair.source.complete(pair.target)
    assert pair.pump.until(lambda: arrived(client)).main.opened.tls
    pair.stop()


def test_destinations(pair: Pair) -> None:
    client = pair.client(STAYS_SILENT)
    pair.source.announce(pair.target, host="192.0.2.7", port=0x1234, tls_port=0xABCD)
    announced = client.main.expect(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN).packet
    assert str(destination(announced, secure=False)[0]) == "192.0.2.7:4660"
    assert str(destination(announced, secure=True)[0]) == "192.0.2.7:43981"
    announced.port = announced.sport = 0xFFFF
    with pytest.raises(PeerFailure, match="names no host or no port"):
        destination(announced, secure=False)
