# SPDX-License-Identifier: GPL-2.0-only
"""Real suites from the machine's own mirror, killed fetches, and the build from source. Takes minutes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.builds import SUITES, Build, Program, Runtime, fetch, remove
from fixtures.builds.cache import Cache, cache_directory
from fixtures.builds.process import run
from fixtures.hosts import Unsupported

pytestmark = pytest.mark.slow

_LOADED = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.spice_server_new.restype = ctypes.c_void_p
assert library.spice_server_new()
print(*sorted({line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/" in line}), sep="\\n")
"""
_FETCH = """
import sys
from collections.abc import Iterator
from fixtures.builds import fetch
fetch(sys.argv[1], progress=lambda done, total, what: print(what, flush=True))
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    """A cache of its own, for as long as these tests last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPICE_CONFORM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Cache()
        for name in Cache().names():
            Cache().remove(name)


def moving(spec: str) -> Build:
    """Fetch, or skip with the reason if the suite is on the move."""
    try:
        return fetch(spec)
    except Unsupported as error:
        pytest.skip(str(error))


def loaded(runtime: Runtime) -> list[Path]:
    """The files that a process which made a server has mapped."""
    output, _ = run([*runtime.argv, "-c", _LOADED, runtime.library], environment=runtime.environment)
    return [Path(line) for line in output.splitlines()]


@pytest.mark.parametrize("suite", SUITES)
def test_a_library_runs_with_nothing_of_the_machine(suite: str) -> None:
    build = moving(f"debian:{suite}")
    assert {path for path in loaded(build.runtime()) if not path.is_relative_to(build.path)} == set()


@pytest.mark.parametrize("suite", SUITES)
def test_a_qemu_runs_with_spice(suite: str) -> None:
    build = moving(f"debian:{suite}/qemu")
    program: Program = build.qemu_command()
    machine = ["-M", "none", "-display", "none", "-nodefaults", "-S", "-monitor", "stdio"]
    spice = ["-spice", f"unix=on,addr={build.path}/../s,disable-ticketing=on", "-vga", "none"]
    with (cache_directory() / "commands").open("w+") as commands:
        commands.write("info spice\nquit\n")
        commands.seek(0)
        output, _ = run([*program.argv, *machine, *spice], environment=program.environment, stdin=commands)
    assert f"compiled: {build.version}" in output


@pytest.mark.parametrize("phase", ["reading", "downloading", "unpacking", "trying"])
def test_a_killed_fetch_is_gone_on_with(phase: str) -> None:
    remove("debian:bookworm")
    cache, chance = Cache(), random.Random(phase)
    with subprocess.Popen(
        [sys.executable, "-c", _FETCH, "debian:bookworm"], stdout=subprocess.PIPE, text=True
    ) as fetching:
        assert fetching.stdout is not None
        for line in fetching.stdout:
            if line.startswith(phase) and chance.random() < 0.2:
                break
        fetching.send_signal(signal.SIGKILL)
    assert cache.has("debian-bookworm") == (fetching.returncode == 0)
    build = fetch("debian:bookworm")
    assert cache.unfinished() == {}
    assert loaded(build.runtime())


@pytest.mark.parametrize("variant", ["plain", "asan", "coverage"])
def test_from_source(variant: str) -> None:
    build = fetch(f"source:{variant}")
    assert Path(build.runtime().library).resolve() in loaded(build.runtime())
    if variant == "asan":
        assert any(path.name.startswith("libasan.so") for path in loaded(build.runtime()))
    if variant == "coverage":
        assert list(build.path.rglob("reds*.gcda"))
