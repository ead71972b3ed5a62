# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin that turns pytest's reports into the stream of a run's events.

A test's fixture appends `("spice", {...})` to `item.user_properties`: server (SPEC), identity (or identities
by host label), requirements, judgement {findings, kept}, artefacts {kind: path}, and, if they apply, verdict
and reason. Works with pytest-xdist: workers describe, the controller records. A test counts as a case if its
fixture has appended such an entry, if it is marked with `requirement`, or if it is in `suites/` outside
`selftest/`."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

from dissectors.rules.judgement import Verdict
from fixtures.bench.launchers import Pairing, pairings
from fixtures.system.hosts import UsageError
from reports.run import run_directory as directory
from reports.run import selection
from reports.run import verdict as verdicts
from reports.run.deviations import SHIPPED, load
from reports.run.environment import suite_seed
from reports.run.exit_status import Exit
from reports.run.reported_cases import (
    DEVIATIONS,
    PROPERTIES,
    case_of,
    cells_of,
    decision_on,
    in_suites,
    is_case,
)
from reports.run.run_recorder import RunRecorder
from reports.run.tally import Run

RECORDER = pytest.StashKey["Recorder"]()

#: A failed report with one of these verdicts is not a failure to pytest.
_FORGIVEN = (Verdict.DEVIATES, Verdict.DIFFERS, Verdict.UNSUPPORTED, Verdict.INCONCLUSIVE)


class Hooks:
    """Hooks that other plugins may implement."""

    @staticmethod
    def pytest_spice_run_recorded(config: pytest.Config, directory: Path) -> None:
        """A run has ended and its events are in `directory`; implementations write the views."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("spice reports")
    group.addoption("--out", metavar="DIR", help="where results go (default: results/<time>/)")
    group.addoption("--deviations", metavar="FILE", help="declared deviations (TOML)")
    group.addoption("--requirement", metavar="GLOB", action="append", default=[], help="only its tests")
    group.addoption("--level", metavar="LEVEL", action="append", default=[], help="only tests of this level")
    group.addoption(
        "--brief", action="store_true", help="only the quickest cases, about half a second of them"
    )
    group.addoption("--seed", metavar="N", type=int, help="seed of random choices (default: the suite's own)")
    group.addoption("--shard", metavar="I/N", help="only the I-th of N parts, which take about the same time")
    group.addoption("--tests-from", metavar="FILE", help="only the tests whose ids a file lists")
    group.addoption("--scope", metavar="WORD", action="append", help="what was left out, for the reports")
    group.addoption("--again", metavar="WORD", action="append", help="the command, for the reports")
    group.addoption("--record-only", action="store_true", help="leave the reports to the caller")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requirement(*ids): the requirements that a test judges")
    signal.signal(signal.SIGTERM, _interrupt)
    if config.option.seed is None:
        config.option.seed = suite_seed()
    if getattr(config.option, "hypothesis_seed", None) is None:
        config.option.hypothesis_seed = config.option.seed
    try:
        file = config.getoption("--deviations")
        config.stash[DEVIATIONS] = load(Path(file) if file else SHIPPED)
        if not hasattr(config, "workerinput") and not config.getoption("planted_faults", False):
            asked = config.getoption("--out")
            out = directory.prepare(Path(asked)) if asked else directory.fresh()
            config.option.out = str(out)  # xdist passes this very option to its workers
            recorder = Recorder(config, out, at_once=bool(asked))
            config.stash[RECORDER] = recorder
            if config.getoption("--requirement") or config.getoption("--level"):
                selection.wanted_ids(config.getoption("--requirement"), config.getoption("--level"))
            config.pluginmanager.register(recorder, "spice-recorder")
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(optionalhook=True, tryfirst=True)  # before xdist's own, also where `-p` loads this first
def pytest_xdist_auto_num_workers() -> int | None:
    """`-n auto`: a process for each CPU that this one may use, and two more, because tests wait for servers.
    PYTEST_XDIST_AUTO_NUM_WORKERS is xdist's own setting for it."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return len(os.sched_getaffinity(0)) + 2


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes a directory that was made for this run if the run had no case."""
    if config.stash.get(RECORDER, None) and not config.stash[RECORDER].at_once:
        with suppress(OSError):  # it is not empty, or it is gone
            Path(config.option.out).rmdir()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    option = config.getoption
    globs, levels, shard = option("--requirement"), option("--level"), option("--shard")
    chosen = items[:]
    if globs or levels:
        ids = selection.wanted_ids(globs, levels)
        chosen = [item for item in chosen if not ids.isdisjoint(_marked(item))]
    if option("--brief"):
        chosen = _brief(chosen)
    if file := option("--tests-from"):
        listed = frozenset(Path(file).read_text(encoding="utf-8").splitlines())
        chosen = [item for item in chosen if item.nodeid in listed]
    if shard:
        mine = selection.in_shard([item.nodeid for item in chosen], *selection.shard_of(shard))
        chosen = [item for item in chosen if item.nodeid in mine]
    chosen.sort(key=lambda item: not selection.is_long(item.nodeid))
    kept = set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = chosen


def _brief(items: list[pytest.Item]) -> list[pytest.Item]:
    """The quickest cases, about half a second of them, on each build."""
    builds: dict[str, dict[str, list[pytest.Item]]] = {}
    for item in items:
        tests = builds.setdefault(_server(item), {})
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    return [case for tests in builds.values() for case in selection.in_brief(tests)]


def left_out(config: pytest.Config) -> list[str]:
    """The options that leave tests out, empty for a full run."""
    option = config.getoption
    if (scope := option("--scope")) is not None:
        return [word for word in scope if word]
    found = [f"--requirement {glob}" for glob in option("--requirement")]
    found += [f"--level {level}" for level in option("--level")]
    found += [f"--shard {shard}"] if (shard := option("--shard")) else []
    found += [f"-k {word}"] if (word := option("keyword", "")) else []
    found += [f"-m {word}"] if (word := option("markexpr", "")) else []
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        found += [os.path.relpath(arg, config.rootpath) for arg in config.args]
    return found


def _marked(item: pytest.Item) -> list[str]:
    return list(dict.fromkeys(i for mark in item.iter_markers("requirement") for i in mark.args))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Describes a test and its failures on its report, in JSON-able values."""
    report = yield
    exception = call.excinfo.value if call.excinfo else None
    case = {
        "title": _title(item),
        "requirements": _marked(item),
        "server": _server(item),
        "trouble": str(verdicts.trouble_of(exception)) if exception else None,
        "reason": verdicts.one_line(exception) if exception else "",
    }
    report.spice_case = case  # type: ignore[attr-defined]  # pytest keeps and serialises extra attributes
    if call.when == "teardown":  # an item lives as long as the run: its entries are in the report now
        item.user_properties[:] = [entry for entry in item.user_properties if entry[0] not in PROPERTIES]
    judging = not item.config.getoption("planted_faults", False)
    if report.failed and judging and (cells := cells_of(report, item.config.stash[DEVIATIONS])):
        found = verdicts.worst(cell.verdict for cell in cells)
        if found is Verdict.PASS:
            report.outcome, report.longrepr = "passed", None
        elif found in _FORGIVEN:
            names = (cell.cell for cell in cells if cell.verdict is not Verdict.PASS)
            report.outcome, report.wasxfail = "skipped", f"{found}: {', '.join(names)}"
    elif report.failed and judging and is_case(report):
        decision = decision_on(report, [report], item.config.stash[DEVIATIONS])
        if decision.verdict in _FORGIVEN:
            report.outcome = "skipped"
            report.wasxfail = f"{decision.verdict}: {decision.reason}"
        elif decision.verdict is Verdict.PASS:  # findings of rules that do not apply
            report.outcome, report.longrepr = "passed", None
    return report


def _lighten(phase: pytest.TestReport, last: pytest.TestReport) -> None:
    """Removes from a report what the run's events hold by now, because the terminal keeps every report until
    its summary."""
    phase.user_properties = [entry for entry in phase.user_properties if entry[0] not in PROPERTIES]
    phase.nodeid, phase.location = last.nodeid, last.location  # one copy of them
    if phase.passed:
        phase.keywords, phase.sections = {}, []
        vars(phase).pop("spice_case", None)


def _title(item: pytest.Item) -> str:
    text = (getattr(getattr(item, "obj", None), "__doc__", None) or "").strip().split("\n\n")[0]
    return " ".join(text.split()) or item.name


def _server(item: pytest.Item) -> str:
    """The build of a test whose fixture failed before it could name it."""
    pairing = getattr(item, "callspec", None) and item.callspec.params.get("pairing")  # type: ignore[attr-defined]
    return pairing.text if isinstance(pairing, Pairing) else asked_servers(item.config)[0]


def asked_servers(config: pytest.Config) -> tuple[str, ...]:
    """The columns of the result: SPECs, or `SOURCE > TARGET` for a mixed pair."""
    option = config.getoption
    found = pairings(option("server", None) or [], option("source", None), option("target", None))
    return tuple(pairing.text for pairing in found)


class Recorder:
    """On the controller: writes each event as it happens. `at_once`: from the start, also without any case
    (the directory was asked for)."""

    def __init__(self, config: pytest.Config, out: Path, *, at_once: bool) -> None:
        self.config = config
        self.out = out
        self.at_once = at_once
        self._run: RunRecorder | None = None
        self._phases: dict[str, list[pytest.TestReport]] = {}
        self._interrupted: str | None = None
        self._total: int | None = None

    def pytest_sessionstart(self) -> None:
        if self.at_once:
            self._open()

    def _open(self) -> RunRecorder:
        if self._run is None:
            self._run = RunRecorder(
                self.out,
                kind="certify",
                servers=asked_servers(self.config),
                deviations=self.config.stash[DEVIATIONS],
                seed=self.config.option.seed,
                selection=left_out(self.config),
                command=_again(self.config),
            )
            if self._total is not None:
                self._run.found(self._total)
        return self._run

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._found([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._found(ids)

    def _found(self, ids: list[str]) -> None:
        total = sum(map(in_suites, ids))
        if total and self._total is None:
            self._total = total
            if self._run:
                self._run.found(total)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._interrupted = self._interrupted or f"{report.nodeid} cannot be collected"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        phases = self._phases.setdefault(report.nodeid, [])
        phases.append(report)
        if report.when in ("setup", "call"):
            return
        del self._phases[report.nodeid]
        self._write(report, phases)
        for phase in phases:
            _lighten(phase, report)

    def _write(self, report: pytest.TestReport, phases: list[pytest.TestReport]) -> None:
        if is_case(report) or any(map(is_case, phases)):
            try:
                self._open().finished(case_of(report, phases, self.config.stash[DEVIATIONS], self.out))
                for cell in cells_of(report, self.config.stash[DEVIATIONS]):
                    if cell.verdict is Verdict.PASS:  # findings of rules that do not apply
                        for path in cell.artefacts.values():
                            Path(path).unlink(missing_ok=True)
                        continue
                    kept = {k: directory.relative(p, self.out) for k, p in cell.artefacts.items()}
                    self._open().finished(replace(cell, artefacts=kept))
            except OSError as error:
                pytest.exit(f"cannot write to {self.out}: {error.strerror}", returncode=Exit.HARNESS)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        ended = excinfo.value
        self._interrupted = ended.msg if isinstance(ended, pytest.exit.Exception) else "interrupted"

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self._interrupted = f"internal error: {verdicts.one_line(excinfo.value)}"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._run is None:
            return
        if exitstatus in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
            self._interrupted = self._interrupted or f"pytest ended with status {int(exitstatus)}"
        self._run.close(self._interrupted)
        if not self.config.getoption("--record-only"):
            self.config.hook.pytest_spice_run_recorded(config=self.config, directory=self.out)
            if exitstatus == pytest.ExitCode.OK and Run.read(self.out).stale:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _again(config: pytest.Config) -> list[str]:
    """The command that repeats this run. Argparse removes the value `--`, whatever its option is."""
    asked: list[str] | None = config.getoption("--again")
    return [word or "--" for word in asked] if asked else ["pytest", *map(str, config.invocation_params.args)]
