# SPDX-License-Identifier: GPL-2.0-only
"""Plays the shares of a campaign in processes of this machine, one for each share."""

from __future__ import annotations

import json
import selectors
import subprocess
from collections.abc import Iterator

from suites import json_process
from suites.fuzz.shares import Over, Share, WorkerLine

#: The module that plays a share in a process of its own.
WORKER = "suites.fuzz.fuzz_worker"


class LocalWorkers:
    """Implements `Workers`. `processes`: the shares' processes, by the share's number."""

    one_machine = True

    def __init__(self) -> None:
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._selector = selectors.DefaultSelector()

    def give(self, share: Share) -> None:
        """Starts a process for a share."""
        process = self.processes[share.number] = json_process.start(WORKER)
        json_process.order(process, share.order())
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
            json_process.end(process)
