# SPDX-License-Identifier: GPL-2.0-only
"""The QMP client against a peer that the test plays itself."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fixtures.hosts import HarnessError
from fixtures.qemu import Qmp, Refused

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 9}, "package": "x"}}}


class Qemu:
    """The other end: says what it is told to when a command comes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def say(self, *messages: dict[str, Any] | bytes) -> None:
        for message in messages:
            self.sock.sendall(
                message if isinstance(message, bytes) else json.dumps(message).encode() + b"\r\n"
            )

    def answer(self, *messages: dict[str, Any] | bytes) -> threading.Thread:
        """When a command has come, say these; a reply without an id gets the command's."""

        def run() -> None:
            command = json.loads(self.sock.recv(4096))
            self.say(
                *(m if isinstance(m, bytes) or "event" in m else {"id": command["id"], **m} for m in messages)
            )

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread


def event(name: str, age: float = 0.0, **data: Any) -> dict[str, Any]:
    stamp = time.time() - age
    seconds = int(stamp)
    return {
        "event": name,
        "data": data,
        "timestamp": {"seconds": seconds, "microseconds": int((stamp - seconds) * 1e6)},
    }


@pytest.fixture
def ends() -> Iterator[tuple[Qmp, Qemu]]:
    ours, theirs = socket.socketpair()
    qmp = Qmp(ours, "source")
    yield qmp, Qemu(theirs)
    qmp.close()
    theirs.close()


def test_negotiation_gives_the_version(ends: tuple[Qmp, Qemu]) -> None:
    qmp, qemu = ends
    qemu.say(GREETING)
    thread = qemu.answer({"return": {}})
    assert qmp.negotiate(5.0)["qemu"] == {"major": 7, "minor": 2, "micro": 9}
    thread.join()


def test_events_that_come_before_a_reply_are_kept_in_order(ends: tuple[Qmp, Qemu]) -> None:
    qmp, qemu = ends
    qemu.answer(event("STOP", age=0.5), event("RESUME", why="x"), {"return": 7})
    assert qmp.command("query-x", deadline=5.0) == 7
    before = time.monotonic()
    stop, resume = qmp.read_events()
    assert (stop.name, resume.name, resume.data) == ("STOP", "RESUME", {"why": "x"})
    assert stop.time == pytest.approx(before - 0.5, abs=0.2)
    assert qmp.read_events() == []


def test_a_message_may_come_in_pieces(ends: tuple[Qmp, Qemu]) -> None:
    qmp, qemu = ends
    whole = json.dumps(event("STOP")).encode() + b"\n"
    qemu.say(whole[:9])
    assert qmp.read_events() == []
    qemu.say(whole[9:])
    assert [e.name for e in qmp.read_events()] == ["STOP"]


def test_a_refused_command_is_one_line(ends: tuple[Qmp, Qemu]) -> None:
    qmp, qemu = ends
    qemu.answer({"error": {"class": "GenericError", "desc": "no\nsuch thing"}})
    with pytest.raises(Refused, match=r"^source: QEMU refused jump: no such thing$"):
        qmp.command("jump", deadline=5.0)


def test_silence_is_a_hang(ends: tuple[Qmp, Qemu]) -> None:
    qmp, _ = ends
    with pytest.raises(HarnessError, match=r"^source: QEMU does not answer stop on QMP: it hangs$"):
        qmp.command("stop", deadline=0.05)
    with pytest.raises(HarnessError, match="a greeting"):
        qmp.negotiate(0.05)


def test_the_end_is_told_from_silence(ends: tuple[Qmp, Qemu]) -> None:
    qmp, qemu = ends
    qemu.sock.close()
    with pytest.raises(HarnessError, match=r"^source: QEMU ended before it answered stop on QMP$"):
        qmp.command("stop", deadline=5.0)
    assert qmp.ended
    assert qmp.read_events() == []


def test_an_answer_that_somebody_else_has_read_is_told(ends: tuple[Qmp, Qemu]) -> None:
    """What serves while a command waits may read QMP's events, and the answer with them."""
    qmp, qemu = ends
    told = []

    def serve(_left: float) -> None:
        qemu.answer({"return": 7}).join()
        assert not qmp.can_go_on
        qmp.read_events()
        told.append(qmp.can_go_on)

    qmp.serve = serve
    assert qmp.command("query-x", deadline=5.0) == 7
    assert told == [True]
    assert not qmp.can_go_on


@pytest.mark.parametrize("said", [b"HTTP/1.1 400\n", b"[1]\n", b'{"return": 1}\n', b'{"event": "STOP"}\n'])
def test_what_is_not_qmp_is_one_line(ends: tuple[Qmp, Qemu], said: bytes) -> None:
    qmp, qemu = ends
    qemu.say(said)
    with pytest.raises(HarnessError, match=r"^source: not QMP: [^\n]*$"):
        qmp.read_events()
