# SPDX-License-Identifier: GPL-2.0-only
"""Plays the moves of a finding on QEMUs: their migrations are real, and so is their time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import psutil

from fixtures.bench.launchers import Launcher
from fixtures.peer import Deadline
from fixtures.peer.pump import Task
from fixtures.qemu import QemuHost
from fixtures.system.hosts import HarnessError, Host
from suites.fuzz.fresh_play import FreshPlay
from suites.fuzz.moves import CALLS, HOSTS, Call, Move, Pass, Setup
from suites.fuzz.play_state import Key

#: Longer than every timer of the library (10 s migration, 30 s connectivity), s.
LONG_S = 32.0
#: How long a QEMU may take to answer in a link stage, s; one that never answers costs this time.
ANSWERS_S = 3.0
#: How long a QEMU may take to close the sockets of clients that have left, s.
CLOSES_S = 2.0
#: The host calls that a QEMU makes by itself in a migration.
_MIGRATION = ("announce", "migrate_start", "finish", "fail")
#: The host calls that QMP has.
_QMP = ("vm_start", "vm_stop", "agent_attach", "agent_detach")


class QemuPlay(FreshPlay):
    """One play. `awaited`: the failure to be shown; time passes at the end until it shows."""

    def __init__(self, launchers: Mapping[str, Launcher], setup: Setup, awaited: Key) -> None:
        super().__init__(launchers, setup)
        self._awaited = awaited

    def host(self, label: str) -> Host:
        """A QEMU, started at its first use."""
        fresh = label not in self.hosts
        host = super().host(label)
        if fresh and isinstance(host, QemuHost):
            host.serve = self.pump.turn
        return host

    def _call(self, move: Call) -> bool:
        if not self.callable(move):
            return False
        with suppress(HarnessError):  # it died or hangs: an event says so
            self._made_by_qemu(move)
        self.called(move)
        return True

    def _made_by_qemu(self, move: Call) -> None:
        host, other = self.host(move.host), self.host(HOSTS[1 - HOSTS.index(move.host)])
        assert isinstance(host, QemuHost)
        match move.name:
            case "announce":
                host.announce(other)
            case "migrate_start":
                host.begin_move(other)
            case "finish":
                host.finish_move()
            case "fail":
                host.cancel(other)
            case _:
                host.call(CALLS[move.name][0])

    def _answered(self, task: Task[Any]) -> None:
        """Waits for the end of the link stage too: a QEMU cannot tell that nothing is on its way."""
        self._wait(ANSWERS_S, lambda: task.done)
        self.pump.settle()

    def _pass(self, move: Pass) -> bool:
        """Lets real time pass: as long as the move says, or until the process ends."""
        if move.host not in self.hosts:
            return False
        self._wait(move.ms / 1000, lambda: self._ended(move.host))
        return True

    def _wait(self, seconds: float, done: Callable[[], bool]) -> None:
        with suppress(Deadline), self.pump.in_real_time():
            self.pump.until(done, seconds)

    # ---- the end

    def _leave(self) -> None:
        for connection in self._made:
            connection.close()
        self._settle()
        end = time.monotonic() + LONG_S
        while not self.over and self._awaited not in self.failed() and time.monotonic() < end:
            self._wait(1.0, lambda: any(map(self._ended, self.hosts)))
            self._settle()
        for label, host in self.hosts.items():
            self._count_sockets(label, host)

    def _count_sockets(self, label: str, host: Host) -> None:
        """Claims that none of the clients' sockets is left: QEMU's other descriptors come and go."""
        if not isinstance(host, QemuHost) or not host.life().alive:
            return
        self._wait(CLOSES_S, lambda: not _sockets(host))
        left = len(_sockets(host))
        expected, seen = "no descriptors left behind", f"{left} descriptors left behind"
        claim = self.pump.tape.claim("ROBUST-003", kept=not left, expected=expected, seen=seen, host=label)
        self.oracle.observe(claim)


def _sockets(host: QemuHost) -> list[int]:
    """The descriptors of a QEMU's connections to SPICE's port."""
    with suppress(psutil.Error):
        connections = psutil.Process(host.pid).net_connections("tcp")
        return [c.fd for c in connections if c.laddr.port == host.port and c.status != psutil.CONN_LISTEN]
    return []


def unplayable(moves: Sequence[Move]) -> str | None:
    """The first move that a QEMU without a guest cannot make."""
    acts = (move for move in moves if isinstance(move, Call))
    return next((str(move) for move in acts if move.name not in (*_MIGRATION, *_QMP)), None)
