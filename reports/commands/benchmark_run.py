# SPDX-License-Identifier: GPL-2.0-only
"""`make bench-run`: the cost of a run. Prints memory, the size of the run's directory and of its page, and
how long a browser takes until the page can be used. Exit status 1 if a bound of `BOUNDS` is exceeded.

python -m reports.commands.benchmark_run [SPEC...]     (default: Debian's releases)"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil

from fixtures.system.hosts import HarnessError
from reports.commands.verify import verify
from reports.run.exit_status import Exit
from reports.run.runner import signals
from reports.run.tally import Run

SPECS = ("debian:bullseye", "debian:bookworm", "debian:trixie", "debian:forky")
#: Measured value -> its bound.
BOUNDS: Mapping[str, float] = MappingProxyType(
    {
        "memory of the largest process, MB": 300,
        "run directory for each build, MB": 15,
        "page is usable after, ms": 1000,
        "longest silence, s": 10,
    }
)
POLL_S = 0.2
#: The environment variable that names a directory to copy the run to.
KEEP = "SPICE_CONFORM_KEEP"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_SECONDS = 60.0
_USABLE = re.compile(r'data-usable="(\d+)"')
MB = 1e6
#: Part of the command line of the suite's own processes; the beginning of that of pytest-xdist's workers.
OWN = ("pytest", "certify")
WORKER = "import sys;exec(eval("


@dataclass
class Peak:
    """The most memory that the suite's own processes used, bytes. Servers under test do not count."""

    largest: int = 0
    together: int = 0

    def take(self, top: psutil.Process) -> None:
        """Measures a process and its descendants."""
        sizes = []
        for process in [top, *top.children(recursive=True)]:
            with suppress(psutil.Error):
                if any(word in OWN or word.startswith(WORKER) for word in process.cmdline()):
                    sizes.append(process.memory_full_info().uss)
        self.largest = max(self.largest, *sizes, 0)
        self.together = max(self.together, sum(sizes))


def main(specs: Sequence[str]) -> int:
    """Measures and prints; returns the exit status. Raises HarnessError if the run made no page, or if the
    packets do not say what the run says."""
    with tempfile.TemporaryDirectory(prefix="bench-run-") as scratch:
        out = Path(scratch) / "run"
        exceeded = False
        for name, value in _measure(specs or SPECS, out):
            bound = BOUNDS.get(name)
            exceeded |= bound is not None and value > bound
            held = "" if bound is None else f"   (at most {bound:g}{'' if value <= bound else ': NOT HELD'})"
            print(f"{name:40} {value:10.1f}{held}", flush=True)
        if KEEP in os.environ:
            shutil.copytree(out, os.environ[KEEP])
    return int(exceeded)


def _measure(specs: Sequence[str], out: Path) -> Iterator[tuple[str, float]]:
    command = [sys.argv[0] if "spice-conform" in sys.argv[0] else _tool(), "certify", "--out", str(out)]
    command += [part for spec in specs for part in ("--server", spec)]
    peak, begun = Peak(), time.monotonic()
    silence, heard = 0.0, begun
    said = out.parent / "said"
    with said.open("wb") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as child:
        top, size = psutil.Process(child.pid), 0
        try:
            while child.poll() is None:
                with suppress(psutil.Error):
                    peak.take(top)
                if (now := said.stat().st_size) != size:
                    silence, heard, size = max(silence, time.monotonic() - heard), time.monotonic(), now
                time.sleep(POLL_S)
        finally:
            if child.poll() is None:  # we were interrupted
                child.terminate()
    page = out / "index.html"
    if not page.exists():
        raise HarnessError(f"certify ended with status {child.returncode}: {said.read_text()[-400:]}")
    yield "builds", len(specs)
    yield "seconds", time.monotonic() - begun
    yield "longest silence, s", max(silence, time.monotonic() - heard)
    yield "memory of the largest process, MB", peak.largest / MB
    yield "memory of all processes together, MB", peak.together / MB
    files = {(status := path.stat()).st_ino: status.st_size for path in out.rglob("*") if path.is_file()}
    total = sum(files.values())  # files with two names count once
    yield "run directory for each build, MB", total / MB / len(specs)
    yield "page, MB", page.stat().st_size / MB
    if (cell := _cell_ms(Run.read(out))) is not None:
        yield "one cell of the matrix, ms", cell
    if (usable := usable_ms(page)) is not None:
        yield "page is usable after, ms", usable
    begun = time.monotonic()
    text, holds = verify(out)
    yield "verify, s", time.monotonic() - begun
    if not holds:
        raise HarnessError(text)


def _cell_ms(run: Run) -> float | None:
    """The cost of a cell of the matrix, with its share of its place's path; None if no cell was played."""
    cells = sum(len(case.matrix["driven"]) for case in run.cases if case.matrix)
    seconds = sum(case.duration_s for case in run.cases if case.matrix)
    return seconds / cells * 1e3 if cells else None


def _tool() -> str:
    return str(Path(sys.executable).with_name("spice-conform"))


def usable_ms(page: Path) -> float | None:
    """Milliseconds from opening a page in a headless browser until its script has run and its layout is
    complete (the best of three); None without a browser."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        return None
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    found = []
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, timeout=BROWSER_SECONDS, check=False)
        found += [float(ms) for ms in _USABLE.findall(done.stdout[:5000])]
    return min(found, default=None)


if __name__ == "__main__":
    try:
        with signals():
            sys.exit(main(sys.argv[1:]))
    except HarnessError as error:
        print(error, file=sys.stderr)
        sys.exit(Exit.HARNESS)
