# SPDX-License-Identifier: GPL-2.0-only
"""The cost of a play on fresh hosts, from kept situations, and compared with boofuzz.

`python -m suites.fuzz.benchmark_fuzz [SPEC] [SECONDS]`, `make bench-fuzz`.

CPU is that of this process and of all hosts, whatever else the machine does; plays a second depend on the
machine and its load."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from fixtures.bench.launchers import Launchers
from suites.fuzz import benchmark_boofuzz
from suites.fuzz.benchmark_boofuzz import cpu_seconds
from suites.fuzz.campaign import Campaign, ready, tune_garbage_collector
from suites.fuzz.explorer import Explorer

SECONDS = 30.0


def _measured(name: str, run: Callable[[], tuple[int, int]]) -> tuple[float, float]:
    """(plays a second, plays a second of CPU); prints them. `run` returns its plays and their own moves: what
    a play has inherited from the situation in which it begins is not counted."""
    begun, cpu = time.monotonic(), cpu_seconds()
    plays, moves = run()
    seconds, used = time.monotonic() - begun, cpu_seconds() - cpu
    print(
        f"{name:44} {plays:6} plays {plays / seconds:7.1f}/s {1e3 * used / max(1, plays):7.1f} ms CPU a play"
        f" {moves / max(1, plays):5.1f} moves a play {1e3 * used / max(1, moves):6.2f} ms CPU a move"
    )
    return plays / seconds, plays / used


def main(arguments: list[str]) -> int:
    """Prints both figures and their ratio."""
    server = arguments[0] if arguments else "system"
    seconds = float(arguments[1]) if len(arguments) > 1 else SECONDS

    def played(*, situations: bool) -> tuple[int, int]:
        launchers = Launchers()
        explorer = None
        try:
            launcher = launchers.of(server)
            ready(launcher, server)
            campaign = Campaign({"source": launcher, "target": launcher}, server, 1, shorten=False)
            if situations:
                explorer = campaign.explorer = Explorer({"source": launcher, "target": launcher}, 1)
            campaign.run(seconds=seconds)
        finally:
            if explorer is not None:
                explorer.close()
            launchers.close()
        return campaign.examples, campaign.moves

    tune_garbage_collector()
    old = _measured("from nothing, one process", lambda: played(situations=False))
    new = _measured("from kept situations, one process", lambda: played(situations=True))
    print(
        f"{new[0] / old[0]:.1f} times as many plays a second, {new[1] / old[1]:.1f} times as many for the CPU"
    )
    benchmark_boofuzz.measured(server, seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
