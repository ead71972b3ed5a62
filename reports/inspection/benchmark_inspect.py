# SPDX-License-Identifier: GPL-2.0-only
"""`make bench-inspect`: the inspector beside tshark, on captures that this program makes.

Each capture is one session: link stages, INIT on the main channel, then a display channel full of DRAW_COPY
messages of 400 to 430 bytes, in segments of a fixed size. Both programs run as whole processes; wall and CPU
time and peak memory come from the kernel's accounting of each process (wait4). On a busy machine the ratio of
the CPU times says more than that of the wall times."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from fixtures.captures.synthetic_capture import SERVER, make_capture

SEGMENTS = (1_448, 16_384)
MEGA = 1_000_000
SAMPLE = 100  # MB of the capture from which, on request, tshark's time for larger captures is extrapolated

#: The goals of this project's issue on captures.
FASTER = {1_448: 5.0, 16_384: 1.0}
MOST_MEMORY = 150.0  # MB


@dataclass(frozen=True)
class Cost:
    """The cost of a process: seconds of wall time and CPU, and its peak memory in MB."""

    wall: float
    cpu: float
    memory: float


def measure(command: Sequence[str], output: Path) -> Cost:
    """Runs a command to its end; its standard output goes to a file."""
    with output.open("wb") as out, output.with_suffix(".err").open("wb") as err:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=_environment(output.parent))
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        last = output.with_suffix(".err").read_text(errors="replace").strip().splitlines()[-1:]
        raise click.ClickException(f"{command[0]} ended with {process.returncode}: {' '.join(last)}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _environment(folder: Path) -> dict[str, str]:
    """Keeps Python's compiled modules, as for an installed program."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(folder / "compiled")}


def inspect(path: Path) -> Cost:
    """This project's inspector, as a user starts it."""
    command = [
        sys.executable,
        "-c",
        "from reports.commands.cli import main; main()",
        "inspect",
        str(path),
        "--json",
    ]
    return measure(command, path.with_suffix(".ours"))


def tshark(path: Path) -> Cost:
    """tshark, with options to print the same message types."""
    port = f"tcp.port=={SERVER.port},spice"
    command = ["tshark", "-r", str(path), "-d", port, "-T", "fields", "-e", "spice.message_type"]
    return measure(command, path.with_suffix(".tshark"))


HEAD = (
    f"{'MB':>5} {'segments':>8} {'messages':>9} | {'inspect s':>9} {'CPU s':>6} {'MB/s':>6} {'peak MB':>7}"
    f" | {'tshark s':>9} {'CPU s':>6} {'MB/s':>6} {'peak MB':>7} | {'faster':>6} {'by CPU':>6}"
)


def _cost(cost: Cost | None, size: float, mark: str = " ") -> str:
    if cost is None:
        return f"{'-':>9} {'-':>6} {'-':>6} {'-':>7}"
    return f"{mark}{cost.wall:8.2f} {cost.cpu:6.2f} {size / cost.wall:6.1f} {cost.memory:7.0f}"


def _one(folder: Path, size: int, segment: int, sample: Cost | None, runs: int, peer: bool) -> Cost | None:
    """One line of the table. `sample`: tshark's cost of SAMPLE MB, from which its cost is extrapolated."""
    path = folder / f"{size}-{segment}.pcapng"
    try:
        messages = make_capture(path, size * MEGA, segment)
        exact = path.stat().st_size / MEGA
        ours = min((inspect(path) for _ in range(runs)), key=lambda cost: cost.wall)
        theirs, mark = None, " "
        if sample is not None:
            scale = size / SAMPLE
            theirs, mark = Cost(sample.wall * scale, sample.cpu * scale, sample.memory), "~"
        elif peer:
            theirs = tshark(path)
    finally:
        for left in folder.glob(f"{size}-{segment}.*"):
            left.unlink()
    faster = (theirs.wall / ours.wall, theirs.cpu / ours.cpu) if theirs else ()
    ratio = " ".join(f"{times:5.1f}x" for times in faster) if theirs else f"{'-':>6} {'-':>6}"
    costs = f"{_cost(ours, exact)} | {_cost(theirs, exact, mark)}"
    click.echo(f"{exact:5.0f} {segment:8d} {messages:9d} | {costs} | {ratio}")
    missed = []
    if faster and min(faster) < FASTER[segment]:
        missed.append(f"not {FASTER[segment]:g} times as fast as tshark")
    if ours.memory > MOST_MEMORY:
        missed.append(f"peak memory above {MOST_MEMORY:g} MB")
    for text in missed:
        click.echo(f"      goal missed: {text}")
    return theirs


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False, exists=True),
              help="Where the captures are made (default: the system's temporary directory).")  # fmt: skip
@click.option("--sizes", default="100,1000", help="Sizes of the captures, MB.", show_default=True)
@click.option("--runs", default=1, help="Runs of the inspector, of which the best counts.", show_default=True)
@click.option("--sample", is_flag=True, help="Reckon tshark's figures above 100 MB from those at 100 MB (~).")
def main(folder: Path | None, sizes: str, runs: int, sample: bool) -> None:
    """Measure the inspector beside tshark."""
    peer = shutil.which("tshark") is not None
    if not peer:
        click.echo("tshark is not installed: our figures only")
    try:
        wanted = sorted(int(size) for size in sizes.split(","))
    except ValueError:
        raise click.UsageError(f"--sizes {sizes}: whole numbers with commas between them") from None
    click.echo(HEAD)
    sampled: dict[int, Cost] = {}
    with tempfile.TemporaryDirectory(prefix="bench-inspect-", dir=folder) as name:
        first = Path(name) / "first.pcapng"
        make_capture(first, MEGA, SEGMENTS[0])
        inspect(first)  # compiles the modules
        for size in wanted:
            for segment in SEGMENTS:
                known = sampled.get(segment) if sample and size > SAMPLE else None
                cost = _one(Path(name), size, segment, known, runs, peer)
                if size == SAMPLE and cost is not None:
                    sampled[segment] = cost


if __name__ == "__main__":
    main()
