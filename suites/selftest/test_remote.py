# SPDX-License-Identifier: GPL-2.0-only
"""A remote deployment: two QEMUs that only the test knows, moved by commands of their own."""

from __future__ import annotations

import os
import select
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dissectors.constants import MsgMain
from dissectors.events import HostEvent
from fixtures.child import Child
from fixtures.hosts import HarnessError, Settings, Unsupported
from fixtures.peer import Client, Pump, Step
from fixtures.remote import RemoteHost, RemoteLauncher

#: What stands for a vendor's orchestration: `orchestrate.py start|finish|cancel` speaks QMP by itself.
ORCHESTRATION = """
import json, socket, sys

def qmp(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    lines = connection.makefile("rw")
    lines.readline()
    def command(name, **arguments):
        lines.write(json.dumps({"execute": name, "arguments": arguments}) + "\\n")
        lines.flush()
        while "event" in (answer := json.loads(lines.readline())):
            pass
        return answer["return"]
    command("qmp_capabilities")
    return command

source, target = qmp("source.qmp"), qmp("target.qmp")
if sys.argv[1] == "start":
    source("client_migrate_info", protocol="spice", hostname="127.0.0.1", port=int(sys.argv[2]))
    print("announced")
elif sys.argv[1] == "finish":
    target("migrate-incoming", uri="unix:stream")
    source("migrate", uri="unix:stream")
    while source("query-migrate")["status"] not in ("completed", "failed"):
        pass
elif sys.argv[1] == "cancel":
    source("migrate", uri="unix:/dev/null")
"""


@dataclass
class Deployment:
    """What the test has started, and the file that describes it."""

    file: Path
    source_port: int
    target_port: int


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("no qemu-system-x86_64 here")
    ports = {"source": free_port(), "target": free_port()}
    qemus = []
    for name, port in ports.items():
        options = ["-M", "pc", "-accel", "tcg", "-m", "16", "-nodefaults", "-display", "none", "-vga", "qxl"]
        options += ["-qmp", f"unix:{name}.qmp,server=on,wait=off"]
        options += ["-spice", f"addr=127.0.0.1,port={port},disable-ticketing=on"]
        options += ["-incoming", "defer"] if name == "target" else []
        qemus.append(Child(["qemu-system-x86_64", *options], directory=tmp_path))
    for port in ports.values():
        await_listener(port)
    (tmp_path / "orchestrate.py").write_text(ORCHESTRATION)
    program = [sys.executable, "orchestrate.py"]
    file = write(
        tmp_path,
        f"""
        source = {{ host = "127.0.0.1", port = {ports["source"]} }}
        target = {{ host = "127.0.0.1", port = {ports["target"]} }}
        commands.start.run = {[*program, "start", str(ports["target"])]}
        commands.finish.run = "{sys.executable} orchestrate.py finish"
        commands.cancel.run = {[*program, "cancel"]}
        """,
    )
    yield Deployment(file, ports["source"], ports["target"])
    for qemu in qemus:
        qemu.close()


def await_listener(port: int, seconds: float = 10.0) -> None:
    """Wait until somebody listens there; nobody tells when, so ask again every 10 ms."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < end, f"nobody listens at {port}"
            select.select([], [], [], 0.01)


def write(directory: Path, text: str) -> Path:
    path = directory / "deployment.toml"
    path.write_text(text)
    return path


def test_a_migration_by_commands(deployment: Deployment) -> None:
    with RemoteLauncher(deployment.file) as launcher, Pump() as pump:
        source, target = launcher.start("source"), launcher.start("target", Settings(incoming=True))
        assert (source.port, target.port) == (deployment.source_port, deployment.target_port)
        pump.add_host(source)
        pump.add_host(target)
        client = Client(pump, source)
        client.open()
        source.announce(target)
        pump.until(lambda: Step.ANSWER in client.steps, what="the client's answer")
        pump.settle()
        source.complete(target)
        pump.until(lambda: client.left and client.main.got(MsgMain.SPICE_MSG_MAIN_INIT), what="the INIT")
        assert client.main.host == "target"
        ended = pump.until(lambda: [e for e in pump.tape.host_events if e.name == "command_ended"][1:])
        assert dict(ended[0].args) == {"command": "finish", "status": 0}
        calls = [(e.name, dict(e.args)) for e in pump.tape.host_events if e.name.startswith("call:")]
        told = {"host": "127.0.0.1", "port": target.port, "tls_port": 0, "subject": None}
        assert calls == [("call:migrate_connect", told), ("call:migrate_end", {"completed": 1})]
        assert "announced" in [e.args.get("text") for e in pump.tape.host_events]
        with pytest.raises(Unsupported, match=r"no commands\.reset"):
            launcher.start("source")


def test_a_cancel_by_command(deployment: Deployment) -> None:
    with RemoteLauncher(deployment.file) as launcher, Pump() as pump:
        source, target = launcher.start("source"), launcher.start("target", Settings(incoming=True))
        pump.add_host(source)
        client = Client(pump, source, channels=())
        client.open()
        source.announce(target)
        pump.until(lambda: Step.ANSWER in client.steps, what="the client's answer")
        source.cancel(target)
        pump.until(lambda: client.main.got(MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL), what="MIGRATE_CANCEL")
        assert target.life().alive


# Commands, without a server behind them -------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


Start = Callable[[str], RemoteHost]


@pytest.fixture
def start(tmp_path: Path, listener: int) -> Iterator[Start]:
    """Gives a source for the text of the commands."""
    launchers = []

    def make(commands: str) -> RemoteHost:
        server = f'{{ host = "127.0.0.1", port = {listener} }}'
        launchers.append(RemoteLauncher(write(tmp_path, f"source = {server}\ntarget = {server}\n{commands}")))
        return launchers[-1].start("source")

    yield make
    for launcher in launchers:
        launcher.close()


def wait_for(host: RemoteHost, name: str, times: int = 1, deadline: float = 10.0) -> list[HostEvent]:
    """All events up to the one of that name, which has to come so many times."""
    events: list[HostEvent] = []
    end = time.monotonic() + deadline
    poll = select.poll()
    poll.register(host, select.POLLIN)
    while sum(event.name == name for event in events) < times:
        left = end - time.monotonic()
        assert left > 0, f"no {name}, but {[event.name for event in events]}"
        poll.poll(left * 1000)
        events += host.read_events()
    return events


def test_finish_waits_for_start(start: Start, tmp_path: Path) -> None:
    host = start('commands.start.run = "read _ < pipe"\ncommands.finish.run = "echo moved"')
    os.mkfifo(tmp_path / "pipe")
    host.announce(host)
    host.complete(host)
    assert [e.args.get("command") for e in host.read_events() if e.name == "command"] == ["start"]
    (tmp_path / "pipe").write_text("go on\n")
    events = wait_for(host, "command_ended", times=2)
    assert [(e.name, e.args.get("command")) for e in events if e.name.startswith("command")] == [
        ("command_ended", "start"),
        ("command", "finish"),
        ("command_ended", "finish"),
    ]


def test_a_start_that_does_it_all_tells_of_no_calls(start: Start) -> None:
    host = start('commands.start.run = ["true"]')
    host.announce(host)
    host.complete(host)
    names = [event.name for event in wait_for(host, "command_ended")]
    assert names == ["command", "command_ended"]
    with pytest.raises(Unsupported, match=r"no commands\.cancel"):
        host.cancel(host)


@pytest.mark.parametrize(
    ("run", "text"),
    [
        ('"echo no such domain; exit 3"', "the command start failed with status 3: no such domain"),
        ('["false"]', "the command start failed with status 1: it said nothing"),
        ('["/no/such/program"]', "the command start failed with status 127: .*/no/such/program.*"),
        ('"sleep 60"\ncommands.start.timeout_s = 0.2', r"the command start did not end within 0\.2 s"),
        (
            "\"trap '' TERM; while :; do read _ < pipe; done\"\ncommands.start.timeout_s = 0.2",
            r"the command start did not end within 0\.2 s",
        ),
    ],
    ids=["fails", "says nothing", "is not there", "never ends", "will not end"],
)
def test_a_command_that_fails_or_never_ends(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, text: str
) -> None:
    monkeypatch.setattr("fixtures.remote.driver._GRACE_SECONDS", 0.2)
    os.mkfifo(tmp_path / "pipe")
    host = start(f"commands.start.run = {run}")
    host.announce(host)
    with pytest.raises(HarnessError, match=f"^{text}$"):
        wait_for(host, "never")


def test_what_start_says_after_a_cancel_is_no_failure(start: Start) -> None:
    host = start('commands.start.run = "exec sleep 60"\ncommands.cancel.run = ["true"]')
    host.announce(host)
    host.cancel(host)
    wait_for(host, "command_ended")
    host._running[0].child.kill()  # as an orchestration that was aborted
    assert [e.args["command"] for e in wait_for(host, "command_ended") if e.name == "command_ended"] == [
        "start"
    ]


def test_reset_comes_before_the_next_source(tmp_path: Path, listener: int) -> None:
    server = f'{{ host = "127.0.0.1", port = {listener} }}'
    commands = 'commands.start.run = ["true"]\ncommands.reset.run = "echo x >> resets"'
    with RemoteLauncher(write(tmp_path, f"source = {server}\ntarget = {server}\n{commands}")) as launcher:
        for _ in range(2):
            host = launcher.start("source")
            launcher.start("target", Settings(incoming=True))
            host.announce(host)
            wait_for(host, "command_ended")
        assert (tmp_path / "resets").read_text() == "x\n"


def test_nothing_runs_on_after_stop(start: Start) -> None:
    host = start('commands.start.run = "sleep 61 & sleep 62"')
    host.announce(host)
    child = host._running[0].child
    host.stop()
    host.stop()
    assert child.poll() is not None
    assert host.fileno() == -1
    assert host.stats() == {}


def test_settings_that_a_deployment_cannot_give(tmp_path: Path, listener: int) -> None:
    server = f'{{ host = "127.0.0.1", port = {listener} }}'
    text = f'source = {server}\ntarget = {server}\ncommands.start.run = ["true"]\naccess.ticket = "t"'
    with RemoteLauncher(write(tmp_path, text)) as launcher:
        host = launcher.start("source", Settings(ticket="t"))
        assert host.settings.ticket == "t"
        assert launcher.start("source").settings.ticket == "t"
        for refused in (
            Settings(ticket="other"),
            Settings(seamless=True),
            Settings(tls={"ca": "x"}),
            Settings(devices=("agent",)),
            Settings(sasl=True),
        ):
            with pytest.raises(Unsupported, match=r"^the deployment deployment\.toml cannot give a test "):
                launcher.start("source", refused)
        with pytest.raises(Unsupported):
            host.call("migrate_end", completed=1)
        with pytest.raises(Unsupported):
            host.advance(1)
        with pytest.raises(Unsupported):
            host.announce(host, port=1)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    server = f'{{ host = "127.0.0.1", port = {free_port()} }}'
    text = f'source = {server}\ntarget = {server}\ncommands.start.run = ["true"]'
    with pytest.raises(HarnessError, match=r"^source: nobody listens at 127\.0\.0\.1:\d+$"):
        RemoteLauncher(write(tmp_path, text)).start("source")


def test_a_server_that_does_not_answer(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fixtures.remote.driver._PROBE_SECONDS", 0.05)
    host = start('commands.start.run = ["true"]')
    assert host.life().alive
    with pytest.raises(HarnessError, match=r"^source: the server does not answer a link: timed out$"):
        host.settle()
    assert [event.name for event in host.read_events()] == ["hung"]
