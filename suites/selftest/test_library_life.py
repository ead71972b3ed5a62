# SPDX-License-Identifier: GPL-2.0-only
"""How library hosts live and end: death, hang and leaks are told apart, and nothing outlives its driver."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.hosts import HarnessError, Settings
from fixtures.library import LibraryHost, LibraryLauncher
from suites.selftest.raw_client import CURSOR, DISPLAY, linked, linked_main, messages, send, wait_for

FLUSH_MARK = 4  # SPICE_MSGC_MIGRATE_FLUSH_MARK that nobody asked for


@pytest.fixture(scope="module")
def launcher() -> Iterator[LibraryLauncher]:
    with LibraryLauncher() as launcher:
        yield launcher


def knock(host: LibraryHost) -> socket.socket:
    """A connection that says nothing."""
    assert host.port
    return socket.create_connection((host.address, host.port), timeout=5)


def test_planted_death(launcher: LibraryLauncher) -> None:
    host = launcher.start("source", Settings(plant=("die:2",)))
    with knock(host):
        host.settle()
        assert host.life().alive
        with knock(host):
            died = wait_for(host, "died")[-1]
    assert died.args["signal"] == "SIGABRT"
    assert died.args["message"] == "Assertion `planted' failed: die"
    assert not host.life().alive
    with pytest.raises(HarnessError, match=r"died \(SIGABRT\): Assertion"):
        host.call("vm_stop")
    assert host.stop() == host.life()
    assert [event.name for event in host.read_events()] == []


def test_planted_hang(launcher: LibraryLauncher) -> None:
    host = launcher.start("source", Settings(plant=("hang:1",)))
    with knock(host):
        host.deadline = 0.3
        with pytest.raises(HarnessError, match=r"settle: no answer in 0\.3 s, its process \d+ hangs"):
            host.settle()
        assert host.life().alive
        assert wait_for(host, "hung")[-1].args["during"] == "settle"
    assert host.stop().signal == "SIGKILL"
    assert host.read_events()[-1].name == "exited"


def test_leak_and_bloat_show_in_stats(launcher: LibraryLauncher) -> None:
    sound = launcher.start("source")
    leaky = launcher.start("target", Settings(plant=("leak", "bloat:512")))
    grown = []
    for host in (sound, leaky):
        before = host.stats()
        for _ in range(8):
            with knock(host):
                host.settle()
        host.settle()
        after = host.stats()
        grown.append((after["fds"] - before["fds"], after["rss_kib"] - before["rss_kib"]))
        host.stop()
    assert grown[0][0] == 0
    assert grown[1][0] == 8
    assert grown[1][1] - grown[0][1] > 3500


def test_a_loop_that_never_settles_is_told(launcher: LibraryLauncher) -> None:
    """Without free descriptors the accept loop of released servers stays ready for ever."""
    host = launcher.start("source")
    host.call("limit_files", count=2)
    with contextlib.ExitStack() as clients:
        for _ in range(4):
            clients.enter_context(knock(host))
        host.advance(1_000)
        events = host.read_events()
        assert host.life().alive
        assert any(e.name == "busy" for e in events) == any("accept failed" in str(e.args) for e in events)
    host.stop()


def test_sixty_clients_leave_nothing(launcher: LibraryLauncher) -> None:
    host = launcher.start("source")
    linked_main(host).close()
    wait_for(host, "channel_disconnected")
    before = host.stats()
    for _ in range(60):
        linked_main(host).close()
        wait_for(host, "channel_disconnected")
    after = host.stats()
    assert {k: after[k] for k in after if k != "rss_kib"} == {k: before[k] for k in before if k != "rss_kib"}
    host.stop()


def test_sixty_hosts_leave_nothing(launcher: LibraryLauncher) -> None:
    before = launcher.start("source").stats()["fds"]
    hosts = [launcher.start(f"host{n}") for n in range(5)]
    for host in hosts:
        host.stop()
    for _ in range(60):
        launcher.start("source").stop()
    last = launcher.start("source")
    assert last.stats()["fds"] == before
    last.stop()


def test_killed_fork_server_is_replaced(launcher: LibraryLauncher) -> None:
    host = launcher.start("source")
    parent = Path(f"/proc/{host.pid}/stat").read_text().split()[3]
    os.kill(int(parent), signal.SIGKILL)
    assert wait_for(host, "died")[-1].args["signal"] == "SIGKILL"
    host.stop()
    again = launcher.start("source")
    assert again.call("num_clients") == 0
    again.stop()


DRIVER = """
import pathlib, socket, sys
from fixtures.hosts import Settings
from fixtures.library import LibraryLauncher
launcher = LibraryLauncher()
calm = launcher.start("calm")
stuck = launcher.start("stuck", Settings(plant=("hang:1",)))
display = launcher.start("display", Settings(devices=("display",)))
client = socket.create_connection((stuck.address, stuck.port))
parent = pathlib.Path(f"/proc/{calm.pid}/stat").read_text().split()[3]
print(parent, calm.pid, stuck.pid, display.pid, flush=True)
try:
    stuck.deadline = 0.2
    stuck.settle()
except Exception:
    print("stuck", flush=True)
sys.stdin.read()
"""


def test_nothing_outlives_a_killed_driver() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 4
        watched = [os.pidfd_open(pid) for pid in pids]
        assert process.stdout.readline() == "stuck\n"
        process.kill()
    deadline = time.monotonic() + 5
    while watched and time.monotonic() < deadline:
        for pidfd in select.select(watched, [], [], 5)[0]:
            os.close(pidfd)
            watched.remove(pidfd)
    assert not watched


def test_a_real_assertion_is_told(launcher: LibraryLauncher) -> None:
    """On released servers an unsolicited FLUSH_MARK ends the process; a fixed one stays alive."""
    host = launcher.start("source")
    with linked_main(host) as client:
        send(client, FLUSH_MARK)
        with contextlib.suppress(HarnessError):
            host.settle()
    if not host.life().alive:
        died = wait_for(host, "died")
        assert host.life().signal in {"SIGTRAP", "SIGABRT"}
        assert died[-1].args["message"] in [e.args["text"] for e in died if e.name == "log"]
    host.stop()


def test_display_draws(launcher: LibraryLauncher) -> None:
    """A DRAW_FILL and a cursor reach their channels."""
    host = launcher.start("source", Settings(devices=("keyboard", "mouse", "display")))
    with linked_main(host) as main:
        session = next(struct.unpack_from("<I", body)[0] for kind, body in messages(main) if kind == 103)
        with linked(host, DISPLAY, session) as display, linked(host, CURSOR, session) as cursor:
            send(display, 101, bytes(14))  # SPICE_MSGC_DISPLAY_INIT
            next(kind for kind, _ in messages(display) if kind == 314)  # SURFACE_CREATE
            host.call("qxl_draw", left=7, top=5)
            fill = next(body for kind, body in messages(display) if kind == 302)  # DRAW_FILL
            assert struct.unpack_from("<II", fill, 4) == (5, 7)
            host.call("qxl_cursor", kind="set")
            next(kind for kind, _ in messages(cursor) if kind == 103)  # SPICE_MSG_CURSOR_SET
    assert host.stop().status == 0
