# SPDX-License-Identifier: GPL-2.0-only
"""Real migrations between two QEMUs with a client: each scheme, cancel, failure, death in the middle."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dissectors.constants import MainCap, MsgcMain, MsgMain
from dissectors.events import HostEvent
from fixtures.certificates import Authority
from fixtures.hosts import HarnessError, Settings, Unsupported
from fixtures.peer import Capabilities, Client, Pump, Step
from fixtures.peer.transport import trusting
from fixtures.qemu import QemuHost, QemuLauncher

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None, reason="no qemu-system-x86_64 here"
)
ALL_DEVICES = ("keyboard", "tablet", "display", "playback", "agent", "usbredir")


@pytest.fixture(scope="module")
def launcher() -> Iterator[QemuLauncher]:
    with QemuLauncher() as launcher:
        yield launcher


@dataclass
class Pair:
    """Source, target and what listens to them."""

    source: QemuHost
    target: QemuHost
    pump: Pump

    def client(self, **how: object) -> Client:
        client = Client(self.pump, self.source, **how)  # type: ignore[arg-type]
        client.open()
        return client

    def announce(self, client: Client, **how: str) -> None:
        """Announce and wait until the client has answered."""
        before = client.steps.count(Step.ANSWER)
        self.source.announce(self.target, **how)
        self.pump.until(lambda: client.steps.count(Step.ANSWER) > before, what="the client's answer")

    def heard(self, host: str, name: str) -> list[HostEvent]:
        return [event for event in self.pump.tape.host_events if event.host == host and event.name == name]

    def await_event(self, host: str, name: str) -> HostEvent:
        """The newest event of that name, once there is one."""
        return self.pump.until(lambda: self.heard(host, name), 15.0, f"{name} of the {host}")[-1]

    def await_home(self, client: Client) -> None:
        """Wait until the client's session is the target's, and the machine runs there."""
        self.pump.until(
            lambda: (client.session and client.main.host == "target" and client.left) or client.troubles,
            what="the client at the target",
        )
        self.await_event("target", "qmp:RESUME")
        assert client.troubles == []
        assert client.main.ending is None


@pytest.fixture
def pair(launcher: QemuLauncher, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two QEMUs; `indirect` parameters are Settings."""
    settings: Settings = getattr(request, "param", Settings())
    source = launcher.start("source", settings)
    target = launcher.start("target", replace(settings, incoming=True))
    with source, target, Pump() as pump:
        pump.add_host(source)
        pump.add_host(target)
        source.serve = pump.turn
        yield Pair(source, target, pump)


@pytest.mark.parametrize(
    "pair", [Settings(), Settings(devices=ALL_DEVICES, ticket="secret")], indirect=True, ids=["bare", "all"]
)
def test_semi_seamless(pair: Pair) -> None:
    client = pair.client(password=pair.source.settings.ticket or "")
    session = client.session_id
    pair.announce(client, subject="O=x,CN=y")
    begin = client.main.got(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN)[0].packet
    assert (begin.host, begin.port, begin.sport) == (b"127.0.0.1", pair.target.port, 0)
    assert begin.cert_subject == b"O=x,CN=y"
    assert pair.source.begin_move(pair.target)
    pair.pump.settle()
    assert client.left == []
    assert not pair.heard("source", "call:migrate_end")
    assert pair.source.finish_move()
    pair.await_home(client)
    pair.pump.until(lambda: client.main.got(MsgMain.SPICE_MSG_MAIN_INIT))
    assert client.session_id == session
    ended = pair.await_event("source", "call:migrate_end")
    end = client.left[0].main.got(MsgMain.SPICE_MSG_MAIN_MIGRATE_END)[0]
    assert ended.args == {"completed": 1}
    assert ended.time < end.time
    assert pair.await_event("source", "qmp:SPICE_MIGRATE_COMPLETED").time > ended.time


@pytest.mark.parametrize(
    "pair",
    [Settings(seamless=True), Settings(seamless=True, devices=ALL_DEVICES, ticket="secret")],
    indirect=True,
    ids=["bare", "all"],
)
def test_seamless(pair: Pair) -> None:
    client = pair.client(password=pair.source.settings.ticket or "")
    client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, bytes(4))
    pair.announce(client)
    pair.source.complete(pair.target)
    pair.await_home(client)
    pair.pump.settle()
    assert pair.source.life().alive
    assert Step.MIGRATE_DATA in client.steps
    assert client.main.got(MsgMain.SPICE_MSG_MAIN_INIT) == []
    channels = pair.target.qmp("query-spice")["channels"]
    assert len(channels) == 1 + len(client.current.channels)


def test_switch_host(pair: Pair) -> None:
    without = Capabilities().without(MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE)
    client = pair.client(capabilities=without)
    pair.source.announce(pair.target)
    pair.source.complete(pair.target)
    pair.pump.until(lambda: Step.SWITCH_HOST in client.steps and client.current.linked, what="a new session")
    assert client.main.host == "target"


def test_tls(launcher: QemuLauncher, tmp_path: Path) -> None:
    certificate = Authority(tmp_path).server("target")
    settings = Settings(tls=certificate.settings(), tls_only=True)
    source = launcher.start("source", settings)
    target = launcher.start("target", replace(settings, incoming=True))
    with source, target, Pump() as pump:
        pump.add_host(source)
        pump.add_host(target)
        pair = Pair(source, target, pump)
        client = pair.client(tls=trusting(certificate.ca))
        pair.announce(client, subject=certificate.subject)
        source.complete(target)
        pair.await_home(client)
        begin = client.left[0].main.got(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN)[0].packet
        assert (begin.port, begin.sport) == (0, target.tls_port)
        assert client.main.opened.tls


def test_a_port_that_is_left_out_is_65535_on_the_wire(pair: Pair) -> None:
    client = pair.client(channels=())
    pair.source.announce(pair.target, tls_port=None)
    begin = pair.pump.until(lambda: client.main.got(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN))[0].packet
    assert (begin.port, begin.sport) == (pair.target.port, 65535)


def test_cancel_before_the_move_leaves_the_target_alive(pair: Pair) -> None:
    client = pair.client(channels=())
    pair.announce(client)
    pair.source.cancel(pair.target)
    pair.pump.until(lambda: client.main.got(MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL), what="MIGRATE_CANCEL")
    assert pair.await_event("source", "call:migrate_end").args == {"completed": 0}
    assert pair.target.life().alive
    pair.announce(client)
    pair.source.complete(pair.target)
    pair.await_home(client)


def test_cancel_in_the_middle(pair: Pair) -> None:
    client = pair.client(channels=())
    pair.announce(client)
    pair.source.complete(pair.target, succeeded=False)
    pair.pump.until(lambda: client.main.got(MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL), what="MIGRATE_CANCEL")
    assert pair.await_event("source", "call:migrate_end").args == {"completed": 0}
    assert pair.source.qmp("query-status")["status"] == "running"
    assert pair.await_event("target", "exited").args["status"] == 1  # what a QEMU does that lost its source


def test_the_target_dies_in_the_middle(pair: Pair) -> None:
    client = pair.client(channels=())
    pair.announce(client)
    assert pair.source.begin_move(pair.target)
    pair.target.kill()
    assert not pair.source.finish_move()
    assert pair.source.failure()
    pair.pump.until(lambda: client.main.got(MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL), what="MIGRATE_CANCEL")
    assert pair.await_event("source", "call:migrate_end").args == {"completed": 0}
    assert pair.await_event("target", "exited").args["signal"] == "SIGKILL"
    with pytest.raises(HarnessError, match=r"^target: QEMU ended before it answered"):
        pair.source.begin_move(pair.target)


def test_the_source_dies_in_the_middle(pair: Pair) -> None:
    client = pair.client(channels=())
    pair.announce(client)
    assert pair.source.begin_move(pair.target)
    pair.source.kill()
    with pytest.raises(HarnessError, match=r"^source: QEMU ended before it answered"):
        pair.source.finish_move()
    assert pair.await_event("source", "exited").args["signal"] == "SIGKILL"
    pair.await_event("target", "exited")


def test_the_target_is_a_source_in_turn(launcher: QemuLauncher, pair: Pair) -> None:
    client = pair.client()
    pair.announce(client)
    pair.source.complete(pair.target)
    pair.await_home(client)
    pair.pump.until(lambda: client.main.got(MsgMain.SPICE_MSG_MAIN_INIT))
    with launcher.start("third", Settings(incoming=True)) as third:
        pair.pump.add_host(third)
        pair.target.announce(third)
        pair.pump.until(lambda: client.target and client.target.linked, what="links to the third")
        pair.pump.settle()
        pair.target.complete(third)
        pair.pump.until(lambda: client.main.host == "third", what="the client at the third")
        assert pair.await_event("target", "call:migrate_end").args == {"completed": 1}


def test_a_qemu_moves_to_a_qemu_only(pair: Pair) -> None:
    with pytest.raises(Unsupported, match="another QEMU only"):
        pair.source.begin_move(object())  # type: ignore[arg-type]
