# SPDX-License-Identifier: GPL-2.0-only
"""Options and wiring: which servers, which bench, and when the oracle speaks."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import pytest

from dissectors.rules.catalogue import CATALOGUE
from fixtures.bench import Bench, ConformanceFailure, failure_text, verdict_of
from fixtures.bench.kept_evidence import marked, tell
from fixtures.bench.launchers import Launcher, Launchers, Pairing, is_remote, pairings
from fixtures.bench.planting import Fault
from fixtures.builds import old_bug_libraries
from fixtures.peer import PeerFailure
from fixtures.remote import DeploymentGone, RemoteLauncher
from fixtures.system.certificates import Authority
from fixtures.system.freed_memory import FreedMemory
from fixtures.system.hosts import Ability, HarnessError, Unsupported, UsageError
from fixtures.system.short_paths import FOR_CERTIFICATES, short_name
from reports.run.deviations import ends_the_server
from reports.run.environment import ROOT
from reports.run.exit_status import Exit
from reports.run.reported_cases import DEVIATIONS
from reports.run.verdict import one_line
from suites import prove

pytest_plugins = ["reports.run.plugin", "reports.views.publishing_plugin"]

#: The suite in which the server makes a key of its own for each link.
LOOKS_AT_KEYS = ROOT / "suites" / "link"
LAUNCHERS = pytest.StashKey[Launchers]()
BENCH = pytest.StashKey[Bench]()
PAIRINGS = pytest.StashKey[list[Pairing]]()
OLD_BUGS = pytest.StashKey[dict[str, Path]]()
FREED = FreedMemory()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--server`, `--source`, `--target`, `--repeat`, `--prove`."""
    group = parser.getgroup("spice servers")
    group.addoption("--server", metavar="SPEC", action="append", help="server under test; may be repeated")
    group.addoption("--source", metavar="SPEC", help="build of a migration's source")
    group.addoption("--target", metavar="SPEC", help="build of a migration's target")
    group.addoption("--server-version", metavar="V", help="version of a build that does not tell it")
    group.addoption("--check-builds", action="store_true", help="start each build once before any test")
    group.addoption("--repeat", metavar="N", type=int, default=1, help="each test on a bench so many times")
    group.addoption("--cell", metavar="GLOB", help="only these cells of the matrix, `PLACE / ACT`")
    group.addoption(
        "--prove",
        dest="planted_faults",
        action="store_true",
        help="runs each planted fault once: its requirement must turn red",
    )
    group.addoption(
        "--old-bugs", action="store_true", help="with --prove: bugs of the past, built from source, instead"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Reads the SPECs, so that a wrong one is said before anything runs."""
    config.addinivalue_line(
        "markers", "needs(*abilities): what only some hosts can show (fixtures.system.hosts.Ability)"
    )
    config.addinivalue_line("markers", "slow: takes minutes; run with -m slow")
    config.addinivalue_line("markers", "client_duties: the oracle judges the client too")
    option = config.getoption
    version = option("--server-version")
    try:
        if option("--old-bugs"):
            config.stash[OLD_BUGS], version = _old_bugs(option("planted_faults"))
        config.stash[PAIRINGS] = pairings(option("--server") or [], option("--source"), option("--target"))
        if any(map(is_remote, config.stash[PAIRINGS])) and getattr(config.option, "numprocesses", None):
            raise UsageError(
                "a deployment has one machine, and its tests run one after the other: leave -n out"
            )
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    except (HarnessError, Unsupported) as error:  # of a build that is made
        pytest.exit(str(error), returncode=Exit.HARNESS)
    config.stash[LAUNCHERS] = Launchers(version=version)


def _old_bugs(proving: bool) -> tuple[dict[str, Path], str]:
    """The libraries with bugs of the past; what is built for it is told. Raises as `old_bug_libraries`."""
    if not proving:
        raise UsageError("--old-bugs goes with --prove")
    return old_bug_libraries(
        progress=lambda _done, _all, what: print(what, file=sys.stderr, flush=True),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """With `--check-builds`: what is wrong with a build is said once, before any test."""
    config = session.config
    if not config.getoption("--check-builds") or hasattr(config, "workerinput"):
        return
    try:
        for pair in config.stash[PAIRINGS]:
            config.stash[LAUNCHERS].pair(pair)
            for spec in dict.fromkeys((pair.source, pair.target)):
                config.stash[LAUNCHERS].check(spec)
    except (HarnessError, Unsupported, UsageError) as error:
        status = Exit.USAGE if isinstance(error, UsageError) else Exit.HARNESS
        pytest.exit(str(error), returncode=status)
    finally:
        if getattr(config.option, "numprocesses", None):  # the tests run in other processes
            config.stash[LAUNCHERS].close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing outlives a run."""
    if LAUNCHERS in config.stash:
        config.stash[LAUNCHERS].close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test on the bench runs for each pairing, or for each fault that is planted for its requirements."""
    if "bench" not in metafunc.fixturenames:
        return
    if OLD_BUGS in metafunc.config.stash:
        prove.parametrize_old_bugs(metafunc, metafunc.config.stash[OLD_BUGS])
        return
    pairs = metafunc.config.stash[PAIRINGS]
    metafunc.parametrize("pairing", pairs, ids=[p.text for p in pairs], scope="session")
    if (times := metafunc.config.getoption("--repeat")) > 1:
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(1, times + 1), ids=lambda number: f"{number}of{times}")
    if metafunc.config.getoption("planted_faults"):
        prove.parametrize(metafunc)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """The run's certificate authority."""
    with short_name(tmp_path_factory.mktemp("certificates"), FOR_CERTIFICATES) as directory:
        yield Authority(directory)


@pytest.fixture(name="planted")
def no_fault() -> None:
    """No fault, unless `--prove` parametrizes this."""


@pytest.fixture
def bench(
    request: pytest.FixtureRequest,
    pairing: Pairing,
    authority: Authority,
    tmp_path: Path,
    planted: tuple[str, Fault] | None,
) -> Iterator[Bench]:
    """A fresh bench; its evidence is kept when the test is over."""
    launchers = request.config.stash[LAUNCHERS]
    _spare(request.node, launchers.pair(pairing).values())
    fault = planted[1] if planted else None
    made = Bench(
        launchers.pair(pairing),
        tmp_path,
        authority,
        fault,
    )
    made.judges_client = request.node.get_closest_marker("client_duties") is not None
    made.spec = pairing.text
    made.marked = tuple(marked(request.node))
    made.fresh_keys = LOOKS_AT_KEYS in request.node.path.parents
    made.wanted = _wanted(request.node)
    request.node.stash[BENCH] = made
    try:
        yield made
    finally:
        made.close()
        tell(request.node, made)
        made.pump.tape.forget()
        del request.node.stash[BENCH]  # an item lives as long as the run


def _spare(item: pytest.Item, launchers: Iterable[Launcher]) -> None:
    """Raises Unsupported if the test is known to end the server, and the deployment cannot restart it."""
    for launcher in launchers:
        if isinstance(launcher, RemoteLauncher) and "restart" not in launcher.deployment.commands:
            known = item.config.stash[DEVIATIONS]
            entry = ends_the_server(known, item.nodeid, launcher.deployment.version)
            if entry is not None:
                raise Unsupported(
                    f"this is known to end the server, and there is no commands.restart: {entry.reason}"
                )


def _wanted(item: pytest.Item) -> frozenset[Ability]:
    return frozenset(a for mark in item.iter_markers("needs") for a in mark.args)


def _is_judged(item: pytest.Function, error: Exception) -> bool:
    """Whether the oracle speaks after this error. A deployment that is gone ends the run."""
    if isinstance(error, DeploymentGone):
        pytest.exit(str(error), returncode=Exit.HARNESS)
    if isinstance(error, AssertionError | HarnessError):
        return True
    bench = item.stash.get(BENCH, None)  # of a client that is not where the test thinks
    return bench is not None and bench.overtaken and not isinstance(error, Unsupported)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """A large recording takes memory only as long as its test."""
    try:
        return (yield)
    finally:
        FREED.give_back()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """After a test on the bench the oracle speaks, also when the test itself has failed."""
    __tracebackhide__ = True
    failure: BaseException | None = None
    result: object = None
    try:
        result = yield
    except Exception as error:
        if not _is_judged(pyfuncitem, error):
            raise
        failure = error
    bench = pyfuncitem.stash.get(BENCH, None)
    if bench is None:
        if failure is not None:
            raise failure
        return result
    timed_out = isinstance(failure, PeerFailure) and bench.record_timeout(failure)
    overtaken = failure is not None and not isinstance(failure, HarnessError) and bench.overtaken
    if isinstance(failure, AssertionError) and not (timed_out or overtaken or prove.planted_in(pyfuncitem)):
        bench.assertion(one_line(failure))
    judgement = bench.finish()
    ids = marked(pyfuncitem)
    tell(pyfuncitem, bench)
    if prove.planted_in(pyfuncitem):
        prove.must_be_red(pyfuncitem, bench, failure)
        return result
    verdict_of(judgement, ids)
    if overtaken:
        pytest.skip("INCONCLUSIVE: the deployment ended the migration before the client had taken its steps")
    if timed_out:
        raise ConformanceFailure(failure_text(judgement.findings)) from failure
    if failure is not None:
        raise failure
    if bench.cells_broken:
        raise ConformanceFailure(bench.cells_broken)
    judged = judgement.kept.keys() | judgement.broken
    if missing := [i for i in ids if i not in judged]:
        pytest.skip(f"INCONCLUSIVE: no evidence for {', '.join(missing)}: {CATALOGUE[missing[0]].needs}")
    return result


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests only when asked for; with planted faults the tests that have some, slow ones too."""
    if not config.getoption("-m") and not config.getoption("planted_faults"):
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    if config.getoption("planted_faults"):
        items[:] = prove.one_of_each(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of planted faults."""
    prove.summary(terminalreporter)
