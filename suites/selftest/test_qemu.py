# SPDX-License-Identifier: GPL-2.0-only
"""A real QEMU as a host: what it starts with, what it says of itself, how it ends, and bad input."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dissectors.constants import ChannelType, MsgcBase
from dissectors.events import HostEvent
from fixtures.certificates import Authority
from fixtures.hosts import HarnessError, Life, Settings, Unsupported, UsageError
from fixtures.identity import build_id
from fixtures.launchers import pairings
from fixtures.peer import Client, LinkRefused, Pump
from fixtures.peer.transport import trusting
from fixtures.qemu import QemuHost, QemuLauncher, common_machine

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None, reason="no qemu-system-x86_64 here"
)


@pytest.fixture(scope="module")
def launcher() -> Iterator[QemuLauncher]:
    with QemuLauncher() as launcher:
        yield launcher


def wait_for(host: QemuHost, *names: str, deadline: float = 10.0) -> list[HostEvent]:
    """All events up to the one with a name of these, which has to come."""
    events: list[HostEvent] = []
    end = time.monotonic() + deadline
    poll = select.poll()
    poll.register(host, select.POLLIN)
    while not any(event.name in names for event in events):
        left = end - time.monotonic()
        assert left > 0, f"no {names}, but {[event.name for event in events]}"
        poll.poll(left * 1000)
        events += host.read_events()
    return events


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process ends within so many seconds."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)


def test_it_says_what_it_is(launcher: QemuLauncher) -> None:
    host = launcher.start("source")
    library = host.identity.path
    assert library is not None
    content = Path(library).read_bytes()
    assert host.identity.kind == "qemu"
    assert library.startswith("/")
    assert "libspice-server.so" in library
    assert host.identity.sha256 == hashlib.sha256(content).hexdigest()
    assert host.identity.build_id == build_id(content)
    assert host.identity.detail["qemu"][0].isdigit()
    assert host.stats().keys() == {"fds", "threads", "rss_kib"}
    assert host.life() == Life(alive=True)
    assert (host.stop().alive, host.stop().status) == (False, 0)
    assert [event.name for event in host.read_events()][-1] == "exited"
    assert host.fileno() == -1
    assert host.stats() == {}


@pytest.mark.parametrize(
    ("devices", "channels"),
    [
        (("keyboard", "display"), {"MAIN", "DISPLAY", "INPUTS", "CURSOR"}),
        (("playback",), {"MAIN", "INPUTS", "PLAYBACK", "RECORD"}),
        (("agent", "usbredir"), {"MAIN", "INPUTS", "USBREDIR"}),
        (
            ("smartcard", "webdav", "port:org.example.0"),
            {"MAIN", "INPUTS", "SMARTCARD", "WEBDAV", "PORT"},
        ),
    ],
)
def test_devices_are_channels(launcher: QemuLauncher, devices: tuple[str, ...], channels: set[str]) -> None:
    with launcher.start("source", Settings(devices=devices)) as host, Pump() as pump:
        pump.add_host(host)
        session = Client(pump, host).open()
        kinds = {ChannelType(kind).name.removeprefix("SPICE_CHANNEL_") for kind, _ in session.channels}
        assert kinds | {"MAIN"} == channels


def test_a_tablet_makes_client_mouse_mode_possible(launcher: QemuLauncher) -> None:
    with launcher.start("source", Settings(devices=("tablet",))) as host:
        current = [mouse for mouse in host.qmp("query-mice") if mouse["current"]]
        assert [mouse["absolute"] for mouse in current] == [True]


def test_tickets(launcher: QemuLauncher) -> None:
    with launcher.start("source", Settings(ticket="right")) as host, Pump() as pump:
        pump.add_host(host)
        with pytest.raises(LinkRefused):
            Client(pump, host, password="wrong").open()
        Client(pump, host, password="right").open()
        assert host.call("set_ticket", password="other", lifetime=60) == 0
        with pytest.raises(LinkRefused):
            Client(pump, host, password="right").open()
        Client(pump, host, password="other").open()
        told = [event for event in pump.tape.host_events if event.name.startswith("call:")]
        assert "other" not in str(told)
        assert b"right" not in Path(f"/proc/{host.pid}/cmdline").read_bytes()


def test_tls_alone_and_channels_that_need_it(launcher: QemuLauncher, tmp_path: Path) -> None:
    certificate = Authority(tmp_path).server("source")
    secure = Settings(tls=certificate.settings(), secure_channels=("main",))
    with launcher.start("source", secure) as host, Pump() as pump:
        pump.add_host(host)
        with pytest.raises(LinkRefused):
            Client(pump, host).open()
        Client(pump, host, tls=trusting(certificate.ca)).open()
    with launcher.start("source", replace(secure, tls_only=True)) as host:
        assert host.port is None
        assert host.tls_port is not None


def test_the_machine_is_stopped_and_started(launcher: QemuLauncher) -> None:
    with launcher.start("source") as host:
        host.call("vm_stop")
        host.call("vm_start")
        host.settle()
        names = [event.name for event in wait_for(host, "qmp:RESUME")]
        assert [n for n in names if "call" in n or "return" in n or n in ("qmp:STOP", "qmp:RESUME")] == [
            "call:vm_stop",
            "qmp:STOP",
            "return:vm_stop",
            "call:vm_start",
            "qmp:RESUME",
            "return:vm_start",
        ]


@pytest.mark.parametrize(
    "settings",
    [Settings(migration=False), Settings(plant=("early",)), Settings(devices=("floppy",))],
)
def test_what_no_qemu_can_do(launcher: QemuLauncher, settings: Settings) -> None:
    with pytest.raises(Unsupported):
        launcher.start("source", settings)


def test_calls_that_qemu_makes_itself(launcher: QemuLauncher) -> None:
    with launcher.start("source") as host:
        with pytest.raises(Unsupported, match="migrate_end"):
            host.call("migrate_end", completed=1)
        with pytest.raises(Unsupported, match="virtual clock"):
            host.advance(10_000)
        with pytest.raises(Unsupported, match="without a ticket"):
            host.call("set_ticket", password="x")


def test_a_death_is_told_with_its_reason(launcher: QemuLauncher) -> None:
    """The unsolicited FLUSH_MARK that ends every released server (a linked client is enough)."""
    with launcher.start("source") as host, Pump() as pump:
        pump.add_host(host)
        client = Client(pump, host, channels=())
        client.open()
        client.main.send(MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK)
        try:
            pump.until(lambda: pump.tape.death("source"), deadline=5.0)
        except AssertionError:
            pytest.skip("this release survives an unsolicited FLUSH_MARK")
        died = pump.tape.death("source")
        assert died is not None
        assert died.name == "died"
        assert died.args["signal"] in ("SIGTRAP", "SIGABRT")
        assert "unexpected flush mark" in died.args["message"]
        assert host.life() == Life(alive=False, signal=died.args["signal"], message=died.args["message"])


def test_a_qemu_that_hangs(launcher: QemuLauncher) -> None:
    with launcher.start("source") as host:
        host.deadline = 0.3
        host.kill(signal.SIGSTOP)
        with pytest.raises(HarnessError, match=r"^source: QEMU does not answer stop on QMP: it hangs$"):
            host.call("vm_stop")
        assert [event.name for event in host.read_events()][-1] == "hung"
        assert host.life().alive
        host.deadline = 60.0
        begun = time.monotonic()
        with pytest.raises(HarnessError, match="it hangs"):
            host.settle()
        assert time.monotonic() - begun < host.deadline / 2
        assert host.read_events() == []  # it is told once
        host.kill(signal.SIGCONT)
        wait_for(host, "qmp:STOP")
        host.settle()
        host.kill()
        assert host.life().signal == "SIGKILL"


def test_a_port_in_use(launcher: QemuLauncher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HarnessError, match=rf"^source: port {port} on 127\.0\.0\.1: in use"):
            launcher.start("source", port=port)


def test_a_port_that_is_taken_is_not_tried_again(
    launcher: QemuLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        choices = iter([[taken.getsockname()[1], 1], [launcher_port(), 1]])
        monkeypatch.setattr("fixtures.qemu.launcher._random_ports", lambda: next(choices))
        with launcher.start("source") as host:
            assert host.port != taken.getsockname()[1]


def launcher_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    ("launcher", "settings", "text"),
    [
        (QemuLauncher(argv=("/no/such/qemu",)), Settings(), "no such program"),
        (QemuLauncher(argv=("/bin/echo",)), Settings(), r"did not start \(status 0\): -M pc"),
        (QemuLauncher(argv=("/bin/false",)), Settings(), r"did not start \(status 1\): it said nothing"),
        (
            QemuLauncher(machine="abacus"),
            Settings(),
            r"did not start \(status 1\): .*nsupported machine",
        ),
        (QemuLauncher(), Settings(tls={"ca": "/no/ca.pem"}), r"cannot read the TLS file /no/ca\.pem"),
        (
            QemuLauncher(argv=("sh", "-c", "echo \"There is no option group 'spice'\"; exit 1")),
            Settings(),
            "has no SPICE",
        ),
    ],
)
def test_what_cannot_start_says_why_in_one_line(
    launcher: QemuLauncher, settings: Settings, text: str
) -> None:
    with pytest.raises(HarnessError, match=text) as raised:
        launcher.start("source", settings)
    assert "\n" not in str(raised.value)


def test_a_qemu_without_spice() -> None:
    """The real one, its SPICE module hidden."""
    module = next(iter(Path("/usr/lib").glob("*/qemu/ui-spice-core.so")), None)
    namespaces = subprocess.run(["unshare", "--map-root-user", "--mount", "true"], check=False)
    if module is None or namespaces.returncode:
        pytest.skip("SPICE is no module here, or there are no user namespaces")
    hide = f'mount --bind /dev/null {module} && exec "$@"'
    launcher = QemuLauncher(prefix=("unshare", "--map-root-user", "--mount", "sh", "-c", hide, "sh"))
    with pytest.raises(HarnessError, match=r"^source: this QEMU has no SPICE: [^\n]*$"):
        launcher.start("source")


def test_it_does_not_outlive_us() -> None:
    program = (
        "import sys, time\n"
        "from fixtures.qemu import QemuLauncher\n"
        "print(QemuLauncher().start('source').pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert not gone(pid, 0)
        run.kill()
    assert gone(pid)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_open(launcher: QemuLauncher) -> None:
    launcher.start("source").stop()
    before = descriptors()
    for _ in range(3):
        launcher.start("source").stop()
    with pytest.raises(HarnessError):
        QemuLauncher(argv=("/bin/false",)).start("source")
    assert descriptors() == before


def test_no_answer_is_slept_over(launcher: QemuLauncher) -> None:
    """A turn of the pump that reads a command's answer does not wait for what comes next."""
    host = launcher.start("source")
    with Pump() as pump:
        pump.add_host(host)

        def serve(left: float) -> None:
            select.select([host], [], [], left)
            pump.turn(left)

        host.serve = serve
        begun = time.monotonic()
        host.settle()
        assert time.monotonic() - begun < host.deadline / 2


def lister(directory: Path, *machines: str) -> QemuLauncher:
    """A QEMU that only lists these machine types."""
    program = directory / f"qemu-{len(machines)}-{machines[0]}"
    lines = "".join(f"{machine}   Standard PC (i440FX + PIIX, 1996)\n" for machine in machines)
    program.write_text(f"#!/bin/sh\ncat <<END\n{lines}END\n")
    program.chmod(0o755)
    return QemuLauncher(argv=(str(program),), spec=f"qemu:{program.name}")


def test_a_machine_that_both_have(tmp_path: Path) -> None:
    old = lister(tmp_path, "pc-i440fx-2.12", "pc-i440fx-5.2", "pc-q35-5.2")
    new = lister(tmp_path, "pc-i440fx-5.2", "pc-i440fx-10.0", "none")
    newest = lister(tmp_path, "pc-i440fx-10.0", "pc-i440fx-11.1")
    assert common_machine(old, new) == common_machine(new, old) == "pc-i440fx-5.2"
    assert common_machine(new, newest) == "pc-i440fx-10.0"
    assert common_machine(old, old) == "pc"
    with pytest.raises(
        HarnessError, match=r"^these QEMUs have no machine type in common: [^\n]*-5\.2, [^\n]*$"
    ):
        common_machine(old, newest)


@pytest.mark.parametrize("other", ["debian:trixie/qemu", "deployment.toml"])
def test_no_migration_goes_between_a_library_and_something_else(other: str) -> None:
    with pytest.raises(UsageError, match=r"^system > [^\n]*: a migration goes between two libraries, or "):
        pairings([], "system", other)
