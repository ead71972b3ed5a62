# SPDX-License-Identifier: GPL-2.0-only
"""The same sequence by boofuzz and by branches: link, main channel, a mutated MIGRATE_END.

`python -m suites.fuzz.benchmark_boofuzz [SPEC] [SECONDS]`; boofuzz is the extra `bench`. Test cases a second
are those of this machine and its load: boofuzz uses one process, a campaign one for each core. CPU is that of
the fuzzer and its hosts, from the start of the first host on, whatever else the machine does."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_der_public_key

from dissectors.wire.constants import LINK_HEADER_BYTES, CommonCap, MsgcMain
from dissectors.wire.link_packets import SpiceLinkAuthMechanism, SpiceLinkMess
from fixtures.bench.launchers import Launcher, Launchers
from fixtures.peer import Capabilities
from fixtures.system.hosts import HarnessError, Settings
from suites.fuzz.branch_play import BranchPlay
from suites.fuzz.explorer import LAST
from suites.fuzz.moves import MAIN, Link, Send, Setup, Slot
from suites.fuzz.prepared_hosts import PreparedHosts

KEY_AT, KEY_BYTES = LINK_HEADER_BYTES + 4, 162  # of a SpiceLinkReply
END = int(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)


def _ticket(reply: bytes) -> bytes:
    """The mechanism, and an empty ticket under the key of a link reply."""
    key: Any = load_der_public_key(reply[KEY_AT : KEY_AT + KEY_BYTES])
    chosen = SpiceLinkAuthMechanism(auth_mechanism=CommonCap.SPICE_COMMON_CAP_AUTH_SPICE)
    oaep = padding.OAEP(padding.MGF1(SHA1()), SHA1(), None)
    return bytes(chosen) + bytes(key.encrypt(b"\0", oaep))


def _connect(boofuzz: Any, session: Any) -> None:
    """Gives a session its graph: a link, the ticket, and a message whose size is fuzzed."""

    def answer(_target: Any, _log: Any, session: Any, *_: Any, **__: Any) -> bytes:
        return _ticket(session.last_recv)

    mess = SpiceLinkMess(channel_type=MAIN, **Capabilities().fields(MAIN))
    link = boofuzz.Request("link", children=(boofuzz.Static("mess", bytes(mess)),))
    ticket = boofuzz.Request("ticket", children=(boofuzz.Static("ticket", bytes(132)),))
    message = boofuzz.Request(
        "end",
        children=(
            boofuzz.Word("type", END, endian="<", fuzzable=False),
            boofuzz.Word("size", 0, endian="<", full_range=True),  # its lower half
            boofuzz.Static("zeros", bytes(2)),
        ),
    )
    session.connect(link)
    session.connect(link, ticket, callback=answer)
    session.connect(ticket, message)


def with_boofuzz(launcher: Launcher, seconds: float) -> int:
    """How many test cases boofuzz runs in this many seconds, without logs, web page and pauses."""
    boofuzz = import_module("boofuzz")
    host = launcher.start("source", Settings(devices=("keyboard", "mouse")))
    end = time.monotonic() + seconds
    played = 0

    class Over(BaseException):
        """Raised when the time is over; no Exception, because boofuzz catches those."""

    def count(*_: Any, **__: Any) -> None:
        nonlocal played
        played += 1
        if time.monotonic() > end:
            raise Over

    connection = boofuzz.TCPSocketConnection(host.address, host.port, send_timeout=1, recv_timeout=1)
    with tempfile.TemporaryDirectory() as scratch:
        session = boofuzz.Session(
            target=boofuzz.Target(connection=connection),
            fuzz_loggers=[],
            web_port=None,
            keep_web_open=False,
            sleep_time=0,
            receive_data_after_each_request=True,
            receive_data_after_fuzz=False,
            reuse_target_connection=False,
            post_test_case_callbacks=[count],
            db_filename=str(Path(scratch) / "boofuzz.db"),
        )
        _connect(boofuzz, session)
        try:
            session.fuzz(max_depth=1)
        except Over:
            pass
        finally:
            host.stop()
    return played


def with_branches(launcher: Launcher, seconds: float, most: int = LAST) -> int:
    """How many test cases run in this many seconds, played as a campaign plays them: each goes on from the
    end of the one before, at most `most` on one branch of a linked session, and only while it lives."""
    prepared = PreparedHosts({"source": launcher, "target": launcher})
    linked = BranchPlay(prepared, Setup())
    linked.play_all([Link(0, "source", MAIN)])
    end = time.monotonic() + seconds
    played = 0
    while time.monotonic() < end:
        play = linked.copy()
        for _ in range(most):
            play.play_all([Send(0, "source", MAIN, END, played + 1)])
            played += 1
            if play.over or play.connection(Slot(0, "source", MAIN)) is None or time.monotonic() > end:
                break
        play.leave()
        play.close(judge=False)
    linked.abandon()
    prepared.close()
    return played


@contextmanager
def _launcher(server: str) -> Iterator[Launcher]:
    launchers = Launchers()
    try:
        yield launchers.of(server)
    finally:
        launchers.close()


WAYS: Mapping[str, Callable[[Launcher, float], int]] = {
    "boofuzz": with_boofuzz,
    "branches": with_branches,
    "copies": partial(with_branches, most=1),
}


def _begin(way: str, server: str, seconds: float) -> subprocess.Popen[str]:
    """Runs boofuzz in a process of its own: the threads that it leaves behind keep a process from ending."""
    command = [sys.executable, "-m", "suites.fuzz.benchmark_boofuzz", way, server, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def cpu_seconds() -> float:
    """CPU of this process and of its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def _played(process: subprocess.Popen[str], seconds: float) -> tuple[int, float]:
    """Test cases, and seconds of CPU."""
    try:
        said, wrong = process.communicate(timeout=4 * seconds + 60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise HarnessError("boofuzz has not ended") from None
    last = (said.splitlines() or [""])[-1].split()
    if len(last) != 2 or not last[0].isdigit():
        raise HarnessError(f"boofuzz has played nothing: {(wrong.strip().splitlines() or ['no reason'])[-1]}")
    return int(last[0]), float(last[1])


def _printed(name: str, cases: int, used: float, seconds: float) -> tuple[float, float]:
    """(test cases a second, test cases a second of CPU); prints them."""
    print(
        f"{name:50} {cases / seconds:7.1f} test cases/s {1e3 * used / max(1, cases):7.1f} ms CPU a test case"
    )
    return cases / seconds, cases / max(used, 1e-9)


def measured(server: str, seconds: float) -> None:
    """Prints the figures, where boofuzz is installed: it uses one process, a campaign one for each core."""
    if find_spec("boofuzz") is None:
        print("boofuzz is not here: pip install 'spice-conformance[bench]' for the comparison")
        return
    width = os.cpu_count() or 1
    theirs = _printed(
        "link, main, MIGRATE_END by boofuzz", *_played(_begin("boofuzz", server, seconds), seconds), seconds
    )
    for way, how in (("copies", "each on a copy of its session"), ("branches", "as a campaign plays it")):
        workers = [_begin(way, server, seconds) for _ in range(width)]
        played = [_played(worker, seconds) for worker in workers]
        cases, used = sum(cases for cases, _ in played), sum(used for _, used in played)
        ours = _printed(f"the same {how}, {width} processes", cases, used, seconds)
        print(
            f"{ours[0] / max(theirs[0], 1e-9):.1f} times as many test cases a second as boofuzz,"
            f" {ours[1] / max(theirs[1], 1e-9):.1f} times as many for the CPU"
        )


def main(arguments: list[str]) -> int:
    """`[SPEC] [SECONDS]`; or a method, SPEC and SECONDS, which measures this method alone and prints its test
    cases and its seconds of CPU."""
    if arguments[:1] and arguments[0] in WAYS:
        before = cpu_seconds()
        with _launcher(arguments[1]) as launcher:
            played = WAYS[arguments[0]](launcher, float(arguments[2]))
        print(played, round(cpu_seconds() - before, 3), flush=True)
        os._exit(0)
    measured(arguments[0] if arguments else "system", float(arguments[1]) if len(arguments) > 1 else 20.0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
