# SPDX-License-Identifier: GPL-2.0-only
"""`spice-conform fuzz`: runs a campaign on one build and records its failures as a run."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from dissectors.rules.judgement import Verdict
from fixtures.bench.launchers import Launchers
from fixtures.system.hosts import HarnessError, Identity
from reports.commands.fetching import drawn
from reports.run import deviations
from reports.run import run_directory as directory
from reports.run.exit_status import Exit
from reports.run.run_events import CaseFinished
from reports.run.run_recorder import RunRecorder
from reports.run.suite_and_builds import alike
from reports.run.verdict import play_verdict
from reports.views import campaign_page
from reports.views.publish import publish
from suites.dask_cluster import refuse_deployments
from suites.fuzz.campaign import FINDINGS, ready
from suites.fuzz.corpus import Corpus
from suites.fuzz.dask_workers import DaskWorkers
from suites.fuzz.finding_file import NAME, PACKETS, FuzzFailure
from suites.fuzz.local_workers import LocalWorkers
from suites.fuzz.parallel_campaign import ParallelCampaign
from suites.fuzz.shares import Workers
from suites.fuzz.table_coverage import coverage_of, missing

FILE = "fuzz.json"
WIDTH = 100


def main(
    *,
    server: str = "system",
    seconds: float = 60.0,
    seed: int | None = None,
    out: Path | None = None,
    examples: int | None = None,
    corpus: str | None = None,
    width: int | None = None,
    cluster: str | None = None,
    steered: bool = True,
) -> Exit:
    """Plays until the time is over, or a number of examples; the exit status is the run's.

    `cluster`: a Dask scheduler's address, or `local`; processes of this machine play otherwise. `steered`:
    whether new edges of the server's code steer the plays, where the build counts them.
    Raises UsageError, HarnessError, Unsupported (a build whose hypervisor's calls cannot be made one by one).
    """
    if cluster is not None:
        refuse_deployments([server])
    chosen = random.SystemRandom().randrange(1 << 31) if seed is None else seed
    with drawn(server) as (progress, say):
        launchers = Launchers(say, progress)
        launcher = launchers.of(server)
    try:
        build = ready(launcher, server)
        if corpus is not None:
            Corpus(corpus).entries()  # an unusable corpus is reported before anything is played
        processes = width or os.cpu_count() or 1
        workers: Workers = LocalWorkers()
        if cluster is not None:
            workers = dask = DaskWorkers(cluster, processes, alike([server]))
            processes = dask.threads if width is None or not examples else width
        results = directory.prepare(out or directory.fresh())
        click.echo(f"fuzzing {server} with seed {chosen}; findings go to {results}")
        report = _Report(results, server, chosen, examples, processes)
        campaign = ParallelCampaign(
            server, chosen, results, processes, corpus, workers, report.say, report.failure
        )
        campaign.steered = steered
        _run(campaign, report, seconds, examples)
        outcome = publish(results)
        if corpus is not None:
            note(Corpus(corpus), campaign, build)
        return outcome.exit
    finally:
        launchers.close()


def _run(campaign: ParallelCampaign, report: _Report, seconds: float, examples: int | None) -> None:
    """Runs a campaign; whatever ends it, the report has the results so far. Raises HarnessError."""
    report.campaign = campaign
    try:
        campaign.run(seconds=float("inf") if examples else seconds, examples=examples)
    except KeyboardInterrupt:
        report.close("interrupted")
        raise
    except HarnessError as error:
        report.close(str(error))
        publish(campaign.out)
        raise
    report.close()


def note(corpus: Corpus, campaign: ParallelCampaign, build: Identity) -> None:
    """Writes what a campaign reached into its corpus' manifest. Raises HarnessError."""
    covered = coverage_of(campaign.steps)
    figures = {"edges": campaign.edges, "states": covered["states"][0], "steps": covered["steps"][0]}
    corpus.note_reached({"server": campaign.server, "build": build.sha256, **figures})


class _Report:
    """Turns a campaign's failures into run events, and its progress into lines."""

    campaign: ParallelCampaign

    def __init__(self, results: Path, server: str, seed: int, examples: int | None, processes: int) -> None:
        self._begun = time.monotonic()
        self._results, self._server = results, server
        self._declared = deviations.load()
        self._cases: dict[str, CaseFinished] = {}
        command = ["spice-conform", "fuzz", "--server", server, "--seed", str(seed)]
        command += ["--examples", str(examples), "-n", str(processes)] if examples else []
        self._run = RunRecorder(
            results, kind="fuzz", servers=[server], deviations=self._declared, seed=seed, command=command
        )

    def say(self, line: str) -> None:
        """Prints a line with the time since the campaign began."""
        click.echo(f"{time.monotonic() - self._begun:7.1f} s  {line}")

    def failure(self, failure: FuzzFailure) -> None:
        """Records a new failure, which has been shortened."""
        case = self._case(failure)
        self._cases[failure.name] = case
        self._run.finished(case)
        moves = f"{len(failure.moves)} of {failure.found_with} moves"
        where = f"in example {failure.example} ({moves})"
        self.say(f"{_word(case)} {failure.key.requirement} {where}: {failure.finding.seen}")
        for move in failure.moves:
            self.say(f"    {move}")

    def _case(self, failure: FuzzFailure) -> CaseFinished:
        moves = tuple(str(move) for move in failure.moves)
        place = f"{FINDINGS}/{failure.name}"
        case = CaseFinished(
            nodeid=f"fuzz::{failure.name}",
            title="; ".join(moves),
            server=self._server,
            requirements=(failure.finding.requirement,),
            verdict=Verdict.FAIL,
            findings=(failure.finding,),
            artefacts={"pcapng": f"{place}/{PACKETS}", "finding": f"{place}/{NAME}"},
            identities=failure.builds,
            moves=moves,
        )
        return play_verdict(case, self._declared)

    def close(self, interrupted: str | None = None) -> None:
        """Writes the campaign's own case, `fuzz.json` and the table."""
        campaign = self.campaign
        broken = {key.requirement for key in campaign.failures}
        summary = f"{campaign.examples} examples ({campaign.plays} plays) in {campaign.seconds:.1f} s"
        self._run.finished(
            CaseFinished(
                nodeid="fuzz::campaign",
                title=f"{summary}; {campaign.covered}",
                server=self._server,
                requirements=(),
                verdict=Verdict.PASS,
                kept={r: n for r, n in campaign.kept.items() if r not in broken},
                duration_s=round(campaign.seconds, 3),
                artefacts={"fuzz": FILE, "campaign": campaign_page.FILE},
                identities=campaign.builds,
            )
        )
        self._run.close(interrupted)
        results = campaign.as_dict()
        for row in results["failures"]:
            row["declared"] = self._cases[row["name"]].verdict is Verdict.DEVIATES
        (self._results / FILE).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (self._results / campaign_page.FILE).write_text(
            campaign_page.campaign_page(results), encoding="utf-8"
        )
        console = Console(width=WIDTH if not sys.stdout.isatty() else None, highlight=False, markup=False)
        if campaign.failures:
            console.print(self._table())
        rate = campaign.examples / campaign.seconds if campaign.seconds else 0.0
        console.print(
            f"{summary} ({rate:.1f} examples/s); {campaign.covered}; seed {campaign.seed}",
            soft_wrap=True,
        )
        if left := missing(campaign.steps):
            console.print(f"not reached: {'; '.join(left)}", soft_wrap=True)

    def _table(self) -> Table:
        table = Table(title_justify="left", title="Failures", expand=False)
        for name in ("requirement", "", "seen", "moves", "hits", "finding"):
            table.add_column(name, overflow="fold")
        for key, failure in self.campaign.failures.items():
            figures = (f"{len(failure.moves)}", f"{self.campaign.hits[key]}", failure.name)
            word = _word(self._cases[failure.name])
            table.add_row(key.requirement, word, failure.finding.seen, *figures)
        return table


def _word(case: CaseFinished) -> str:
    return "declared" if case.verdict is Verdict.DEVIATES else "NEW"
