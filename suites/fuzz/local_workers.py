# SPDX-License-Identifier: GPL-2.0-only
"""Plays the shares of a campaign in processes of this machine, one for each share."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

from suites.fuzz.shares import Over, Share, WorkerLine


def start_worker(share: Share) -> subprocess.Popen[bytes]:
    """A process that plays a share and writes lines of JSON. It ends with its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "suites.fuzz.fuzz_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,
        bufsize=0,
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(share.order()).encode() + b"\n")
    return process


def end_worker(process: subprocess.Popen[bytes]) -> None:
    """Ends such a process: it may first end by itself, so that its hosts and files are cleaned up."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class LocalWorkers:
    """Implements `Workers`. `processes`: the shares' processes, by the share's number."""

    one_machine = True

    def __init__(self) -> None:
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._selector = selectors.DefaultSelector()

    def give(self, share: Share) -> None:
        """Starts a process for a share."""
        process = self.processes[share.number] = start_worker(share)
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, share.number)

    def listen(self, seconds: float) -> Iterator[WorkerLine | Over]:
        """Reads the processes' output."""
        for key, _ in self._selector.select(seconds):
            process = self.processes[key.data]
            assert process.stdout is not None
            line = process.stdout.readline()
            if line.endswith(b"\n"):
                yield WorkerLine(key.data, json.loads(line))
                continue
            self._selector.unregister(process.stdout)
            yield Over(key.data, lost=process.wait() != 0)

    def close(self) -> None:
        """Ends the processes."""
        self._selector.close()
        for process in self.processes.values():
            end_worker(process)
