# SPDX-License-Identifier: GPL-2.0-only
"""`spice-conform replay`: plays a recording or a finding against one build and records the outcome as a
run."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from dissectors.capture import archived
from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import Judgement, Verdict
from fixtures.bench import Bench
from fixtures.bench.launchers import Launcher, Launchers
from fixtures.qemu import QemuLauncher
from fixtures.system.certificates import Authority
from fixtures.system.hosts import HarnessError, Unsupported, UsageError
from reports.commands.fetching import drawn
from reports.ladder.both_ladders import Both, both_ladders, columns
from reports.run import run_directory as directory
from reports.run.deviations import SHIPPED, load
from reports.run.deviations import declared as is_declared
from reports.run.exit_status import Exit
from reports.run.run_events import CaseFinished, Deviation
from reports.run.run_recorder import RunRecorder
from reports.run.verdict import play_verdict
from reports.views.publish import publish
from suites.fuzz import finding_file as findings
from suites.fuzz.campaign import ready
from suites.fuzz.fresh_play import FreshPlay
from suites.fuzz.qemu_play import QemuPlay, unplayable
from suites.model import model_findings
from suites.model.comparison import essence
from suites.model.model_findings import ModelFinding
from suites.model.snapshot_player import letters_played
from suites.model.subject import Play
from suites.replay import capture_script as recording
from suites.replay.player import Replay
from suites.replay.script import Say, Script

FILE = "replay.json"
#: The page with both ladders and the differences, in the run's directory; written if there are differences.
DIFFERENCES = "differences.html"
NOT_SHOWN = "the finding does not show on this build"


def main(
    recorded: Path,
    *,
    server: str,
    out: Path | None = None,
    password: str | None = None,
    keylog: Path | None = None,
    deviations: Path | None = None,
) -> Exit:
    """The exit status is the run's. `password`: the ticket for the servers, instead of one of ours;
    `deviations`: a file of declared deviations, instead of the shipped.

    Raises UsageError, HarnessError, Unsupported."""
    path = recorded / findings.NAME if recorded.is_dir() else recorded
    is_finding = _is_json(path)
    learned = model_findings.read(path) if is_finding else None
    failure = findings.read(path) if is_finding and learned is None else None
    script = None if is_finding else recording.read(path, keylog=keylog)
    declared = load(deviations or SHIPPED)
    with drawn(server) as (progress, say):
        launchers = Launchers(say, progress)
        launcher = launchers.of(server)
    try:
        results = directory.prepare(out or directory.fresh())
        command = ["spice-conform", "replay", str(recorded), "--server", server]
        command += ["--deviations", str(deviations)] if deviations else []
        run = RunRecorder(results, kind="replay", servers=[server], deviations=declared, command=command)
        if learned is not None:
            case = replay_learned(learned, launcher, server, results, declared)
        elif failure is not None:
            case = replay_finding(failure, launcher, server, results, declared)
        else:
            assert script is not None
            case = replay_script(script, launcher, server, results, declared, password)
        run.finished(case)
        run.close()
        return publish(results).exit
    finally:
        launchers.close()


def _is_json(path: Path) -> bool:
    try:
        with archived.opened(path) as file:
            return file.read(64).lstrip()[:1] == b"{"
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def replay_finding(
    failure: findings.FuzzFailure,
    launcher: Launcher,
    server: str,
    results: Path,
    declared: Sequence[Deviation],
) -> CaseFinished:
    """Plays a finding's moves on fresh hosts and reports the findings."""
    played = _fresh_play(failure, launcher, server)
    click.echo(f"{failure.key.requirement}: {failure.finding.seen}")
    for move in failure.moves:
        click.echo(f"    {move}")
    begun = time.monotonic()
    findings.play_on(played, failure.moves)
    played.pump.tape.write_pcapng(results / findings.PACKETS)
    shown = played.failed()
    broken = {key.requirement for key in shown}
    moves = tuple(str(move) for move in failure.moves)
    case = CaseFinished(
        nodeid=f"replay::{failure.name}",
        title="; ".join(moves),
        server=server,
        requirements=(failure.finding.requirement,),
        verdict=Verdict.FAIL if shown else Verdict.PASS,
        reason="" if failure.key in shown else NOT_SHOWN,
        kept={r: n for r, n in played.oracle.judgement.kept.items() if r not in broken},
        findings=tuple(shown.values()),
        duration_s=round(time.monotonic() - begun, 4),
        artefacts={"pcapng": findings.PACKETS},
        identities={label: host.identity for label, host in played.hosts.items()},
        moves=moves,
        awaited=failure.finding,
    )
    case = play_verdict(case, declared)
    for found in shown.values():
        known = is_declared(declared, found, case.circumstances)
        click.echo(f"seen ({'declared' if known else 'not declared'}): {found.requirement}: {found.seen}")
    if failure.key not in shown:
        click.echo(NOT_SHOWN)
    return case


def _fresh_play(failure: findings.FuzzFailure, launcher: Launcher, server: str) -> FreshPlay:
    both = {"source": launcher, "target": launcher}
    if not isinstance(launcher, QemuLauncher):
        ready(launcher, server)
        return FreshPlay(both, failure.setup)
    if (move := unplayable(failure.moves)) is not None:
        raise Unsupported(f"{server}: a QEMU without a guest cannot make the move '{move}'")
    return QemuPlay(both, failure.setup, failure.key)


def replay_learned(
    learned: ModelFinding, launcher: Launcher, server: str, results: Path, declared: Sequence[Deviation]
) -> CaseFinished:
    """Plays a model's finding on a fresh host and shows both answers to each letter."""
    begun = time.monotonic()
    play = Play.begin(launcher, learned.subject.settings, learned.subject.role)
    try:
        answers = [answer.text for answer in letters_played(play, learned.subject.role, learned.word)]
    finally:
        play.close()
    differ = False
    for letter, expected, seen in zip(learned.word, learned.expected, answers, strict=True):
        differ = essence(expected) != essence(seen)
        click.echo(f"{letter}: {seen}" + (f" (expected: {expected})" if differ else ""))
        if differ:
            break
    shown = differ and essence(answers[-1]) == essence(learned.seen)
    if not differ:
        click.echo(f"this build answers as {learned.model}: {NOT_SHOWN}")
    found = learned.finding(seen)
    play.pump.tape.claim(
        found.requirement, kept=not differ, expected=found.expected, seen=found.seen, host=found.host
    )
    play.pump.tape.write_pcapng(results / findings.PACKETS)
    case = CaseFinished(
        nodeid=f"replay::{learned.name}",
        title="; ".join(learned.word),
        server=server,
        requirements=(model_findings.REQUIREMENT,),
        verdict=Verdict.FAIL if differ else Verdict.PASS,
        reason="" if shown else "another difference than the finding's" if differ else NOT_SHOWN,
        kept={} if differ else {model_findings.REQUIREMENT: 1},
        findings=(found,) if differ else (),
        duration_s=round(time.monotonic() - begun, 4),
        artefacts={"pcapng": findings.PACKETS},
        identities={play.host.label: play.host.identity},
        moves=learned.word,
        awaited=learned.finding(),
    )
    return play_verdict(case, declared)


def replay_script(
    script: Script,
    launcher: Launcher,
    server: str,
    results: Path,
    declared: Sequence[Deviation],
    password: str | None = None,
) -> CaseFinished:
    """Plays a recorded conversation and reports the outcome."""
    said = sum(isinstance(action, Say) for action, _ in script.actions)
    click.echo(
        f"replaying {len(script.names)} connections with {said} client messages on"
        f" {', '.join(s.label for s in script.servers)} ({server}); hypervisor's calls: {script.host_calls}"
    )
    begun = time.monotonic()
    replay, judgement = _played(script, launcher, results, password)
    title = f"{len(script.names)} connections with {said} client messages"
    case = play_verdict(_script_case(title, replay, judgement, server, begun), declared)
    _print_outcome(replay, case, declared)
    document = _as_dict(replay, judgement, server)
    (results / FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if replay.differences:
        both = Both(script.events, replay.bench.pump.tape.events(), replay.differences, server)
        (results / DIFFERENCES).write_text(both_ladders(both), encoding="utf-8")
        click.echo(f"both ladders: {results / DIFFERENCES}")
    return case


def _script_case(title: str, replay: Replay, judgement: Judgement, server: str, begun: float) -> CaseFinished:
    """The case of a recorded conversation, before declared deviations are looked at. `begun`: when the replay
    began, s on the monotonic clock."""
    return CaseFinished(
        nodeid="replay::capture",
        title=title,
        server=server,
        requirements=(),
        verdict=Verdict.FAIL if judgement.failures else Verdict.PASS,
        reason="; ".join(replay.differences),
        kept=dict(judgement.kept),
        findings=tuple(judgement.findings),
        duration_s=round(time.monotonic() - begun, 4),
        artefacts={
            "pcapng": findings.PACKETS,
            "replay": FILE,
            **({"differences": DIFFERENCES} if replay.differences else {}),
        },
        identities={host.label: host.identity for host in replay.bench.hosts},
        moves=tuple(replay.moves),
    )


def _played(
    script: Script, launcher: Launcher, results: Path, password: str | None
) -> tuple[Replay, Judgement]:
    """The replay after its end, and the judgement of its packets, which are in `results`."""
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench({"source": launcher, "target": launcher}, Path(scratch), Authority(Path(scratch)))
        replay = Replay(bench, script, password)
        try:
            replay.run()
            judgement = bench.finish()
            bench.pump.tape.write_pcapng(results / findings.PACKETS)
        finally:
            with suppress(HarnessError):
                bench.close()
    return replay, judgement


def _as_dict(replay: Replay, judgement: Judgement, server: str) -> dict[str, Any]:
    """The content of `replay.json`."""
    return {
        "server": server,
        "differences": replay.differences,
        "fields": [
            {"connection": number, "name": replay.script.names[number], **asdict(one)}
            for number, several in replay.different.items()
            for one in several
        ],
        "notes": [*replay.script.notes, *replay.troubles],
        "findings": [found.as_dict() for found in judgement.findings],
        "kept": dict(judgement.kept),
        "packets": findings.PACKETS,
    }


def _print_outcome(replay: Replay, case: CaseFinished, declared: Sequence[Deviation]) -> None:
    for line in (*replay.script.notes, *replay.troubles):
        click.echo(f"note: {line}")
    for line in replay.differences or ["the servers said what they said in the recording"]:
        click.echo(line)
    for number in replay.different:
        for line in columns(replay.script.names[number], *replay.accounts[number]):
            click.echo(line)
    for found in case.findings:
        word = "declared" if is_declared(declared, found, case.circumstances) else found.level
        click.echo(f"{found.requirement} ({word}): expected {found.expected}; seen {found.seen}")
    if not any(CATALOGUE[f.requirement].duty == "server" for f in case.findings):
        click.echo("no requirement was broken")
