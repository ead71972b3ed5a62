# SPDX-License-Identifier: GPL-2.0-only
"""One process of a campaign: `python -m suites.fuzz.fuzz_worker`; one line of JSON on its standard input says
what to play.

Now and then it writes a line of JSON with its totals so far, and it writes each failure into the directory
that all processes of the campaign share. It ends when its time is over or its standard input ends."""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fixtures.bench.launchers import Launchers
from fixtures.system.hosts import HarnessError, Unsupported, UsageError
from suites.fuzz.campaign import FINDINGS, Campaign, ready, tune_garbage_collector
from suites.fuzz.corpus import Corpus
from suites.fuzz.explorer import Explorer
from suites.fuzz.finding_file import FuzzFailure
from suites.fuzz.play_state import Key


def totals(campaign: Campaign, explorer: Explorer, *, last: bool = False) -> dict[str, Any]:
    """The totals of a process so far. Of the edges only those that no earlier line had, unless this line is
    the `last` one."""
    edges = explorer.edges
    return {
        "edges": (edges.all() if last else edges.unreported()) if edges.traced else None,
        "examples": campaign.examples,
        "plays": campaign.plays,
        "moves": campaign.moves,
        "inconsistent": campaign.inconsistent,
        "avoided": explorer.avoided,
        "steps": [[main, str(state), str(sender), kind] for main, state, sender, kind in campaign.steps],
        "visits": [[main, state, count] for (main, state), count in explorer.visits.items()],
        "seen": len(explorer.seen),
        "kept": dict(campaign.kept),
        "hits": _counted(campaign.hits),
        "provoked": _counted(campaign.provoked),
        "builds": {label: asdict(build) for label, build in campaign.builds.items()},
    }


def _counted(counter: Mapping[Key, int]) -> list[list[Any]]:
    return [[key.requirement, key.symptom, count] for key, count in counter.items()]


def _play(campaign: Campaign, explorer: Explorer, out: Path, seconds: float, examples: int | None) -> None:
    """Plays, and prints the figures and findings. A finding belongs to the process that makes its directory
    first. Raises KeyboardInterrupt if the parent is gone."""

    def say(_: str = "", *, last: bool = False) -> None:
        print(json.dumps(totals(campaign, explorer, last=last)), flush=True)
        if select.select([sys.stdin], [], [], 0)[0]:  # the pipe's end
            raise KeyboardInterrupt

    def claim(failure: FuzzFailure) -> bool:
        try:
            (out / FINDINGS / failure.name).mkdir(parents=True)
        except FileExistsError:
            return False
        return True

    campaign.explorer = explorer
    campaign.say, campaign.claim = say, claim
    campaign.on_failure = lambda failure: print(json.dumps({"failure": failure.name}), flush=True)
    campaign.run(seconds=seconds, examples=examples)
    say(last=True)


def main() -> int:
    """Plays until the time is over or the standard input ends; returns the exit status."""
    order = json.loads(sys.stdin.readline())
    tune_garbage_collector()
    launchers = Launchers()
    out = Path(order["out"])
    explorer = None
    try:
        launcher = launchers.of(order["server"])
        ready(launcher, order["server"])
        dutiful = order["number"] == 0  # one process explores them for all
        explorer = Explorer(
            {"source": launcher, "target": launcher}, order["seed"], dutiful=dutiful, steered=order["steered"]
        )
        campaign = Campaign({"source": launcher, "target": launcher}, order["server"], order["seed"], out)
        campaign.corpus = Corpus(order["corpus"]) if order["corpus"] else None
        campaign.share = (order["number"], order["width"])
        _play(campaign, explorer, out, order["seconds"], order["examples"])
    except (HarnessError, UsageError, Unsupported) as error:
        print(json.dumps({"error": str(error)}), flush=True)
    except BrokenPipeError:
        return 3
    except OSError as error:  # a full disk
        print(json.dumps({"error": f"cannot write to {out}: {error.strerror or error}"}), flush=True)
    except KeyboardInterrupt:
        return 3
    finally:
        if explorer is not None:
            explorer.close()
        launchers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
