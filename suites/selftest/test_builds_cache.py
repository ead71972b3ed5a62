# SPDX-License-Identifier: GPL-2.0-only
"""The cache holds whole builds or none, whoever is killed when; tools do not outlive us."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from fixtures.builds.cache import MANIFEST, Cache, Stage, cache_directory, delete_tree
from fixtures.builds.process import CommandFailed, run
from fixtures.hosts import HarnessError

_MAKER = """
import sys
from pathlib import Path
from fixtures.builds.cache import Cache
cache = Cache(Path(sys.argv[1]))
while True:
    with cache.stage("x") as stage:
        print("going", flush=True)
        for number in range(40):
            (stage.new / str(number)).write_text("a file")
        (stage.keep / "download").write_text("half")
        (stage.new / "build.json").write_text("{}")
        cache.install(stage)
"""
_TOOL_USER = """
from fixtures.builds.process import run
run(["sh", "-c", "sleep 60 & echo $$ $!; exec sleep 60"], on_line=lambda line: print(line, flush=True))
"""


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def make(cache: Cache, stage: Stage, text: str) -> None:
    (stage.new / "data").write_text(text)
    (stage.new / MANIFEST).write_text("{}")
    cache.install(stage)


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.delenv("SPICE_CONFORM_CACHE", raising=False)
    assert cache_directory() == Path("/xdg/spice-conform")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative is to be ignored")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_directory() == Path("/home/me/.cache/spice-conform")
    monkeypatch.setenv("SPICE_CONFORM_CACHE", "/else/where")
    assert cache_directory() == Path("/else/where")


def test_a_build_is_there_when_it_is_whole(cache: Cache) -> None:
    with cache.stage("x") as stage:
        assert not cache.has("x")
        make(cache, stage, "1")
    assert cache.names() == ["x"]
    with cache.stage("x") as stage:
        make(cache, stage, "2")
    assert (cache.path("x") / "data").read_text() == "2"
    assert cache.remove("x") > 0
    assert (cache.names(), cache.unfinished(), cache.remove("x")) == ([], {}, 0)


def fail(cache: Cache, downloaded: bytes) -> Path:
    """A making that fails half way; where it was at work."""
    with suppress(ZeroDivisionError), cache.stage("x") as stage:
        (stage.keep / "half.deb").write_bytes(downloaded)
        (stage.new / "half").touch()
        (stage.scratch / "index").touch()
        raise ZeroDivisionError
    return cache.directory / ".work/x"


def test_a_failure_keeps_the_downloads_alone(cache: Cache) -> None:
    work = fail(cache, b"x" * 5000)
    assert cache.names() == []
    assert [path.name for path in work.iterdir()] == ["keep"]
    with cache.stage("x") as stage:
        assert (stage.keep / "half.deb").exists()
        assert not any(stage.new.iterdir())
        make(cache, stage, "")
    assert cache.unfinished() == {}


def test_a_failure_before_any_download_leaves_nothing(cache: Cache) -> None:
    assert not fail(cache, b"").exists()


def test_killed_at_any_moment(cache: Cache) -> None:
    """Whatever is there after SIGKILL is whole, the next use cleans up and goes on."""
    for delay in (random.Random(4).uniform(0, 0.02) for _ in range(4)):
        with subprocess.Popen(
            [sys.executable, "-c", _MAKER, str(cache.directory)], stdout=subprocess.PIPE
        ) as maker:
            assert maker.stdout is not None
            maker.stdout.readline()
            threading.Event().wait(delay)  # any moment will do
            maker.send_signal(signal.SIGKILL)
        for name in cache.names():
            assert len(list(cache.path(name).iterdir())) == 41
        cache.sweep()
        left = {path.name for path in (cache.directory / ".work").glob("*/*")}
        assert left <= {"keep"}
    with cache.stage("x") as stage:
        make(cache, stage, "")


def test_one_makes_and_the_other_waits(cache: Cache) -> None:
    waiting, made = threading.Event(), []

    def other() -> None:
        with cache.stage("x", waiting.set) as stage:
            made.append(cache.has("x"))
            assert not any(stage.new.iterdir())

    thread = threading.Thread(target=other)
    with cache.stage("x") as stage:
        thread.start()
        assert waiting.wait(10)
        cache.sweep()  # leaves alone what is being made
        assert stage.new.exists()
        with cache.stage("y"):  # others are not held up
            pass
        make(cache, stage, "")
    thread.join(10)
    assert made == [True]


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/.locks").touch()
    with pytest.raises(HarnessError, match="SPICE_CONFORM_CACHE"), Cache(tmp_path / "cache").stage("x"):
        pass


def test_delete_what_forbids_it(tmp_path: Path) -> None:
    inner = tmp_path / "a/b"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    inner.chmod(0o500)
    inner.parent.chmod(0o500)
    delete_tree(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_tools_tell_why_they_failed() -> None:
    with pytest.raises(CommandFailed, match="sh ended with 7: second"):
        run(["sh", "-c", "echo first; echo second >&2; exit 7"])
    assert run(["sh", "-c", "cat; echo out; echo err >&2"]) == ("out\n", "err\n")


def running(pid: int) -> bool:
    """True until the process has ended; one that nobody waited for has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_no_tool_outlives_us() -> None:
    with subprocess.Popen([sys.executable, "-c", _TOOL_USER], stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        tools = [int(pid) for pid in user.stdout.readline().split()]
        assert [running(pid) for pid in tools] == [True, True]
        user.send_signal(signal.SIGKILL)
    clock = threading.Event()
    for _ in range(1000):
        if not any(running(pid) for pid in tools):
            return
        clock.wait(0.01)
    pytest.fail(f"still there: {tools}")
