# SPDX-License-Identifier: GPL-2.0-only
"""`make same-verdicts`: runs `certify` several times on one build, with load, and compares the verdicts.

python -m reports.commands.same_verdicts RUNS [--stand-still] [OPTION OF CERTIFY...]

Each core has a busy process besides the run. With --stand-still it has none: from the second run on, random
processes of the run stop for up to a second, again and again (`fixtures.system.random_pauses`).

Prints each run's counts, and each test whose verdict differs from that of the first run. Exit status 0: all
lists of verdicts are equal, 1: they are not, 2: usage, 3: a run ended without a verdict."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path

from fixtures.system.child import Child
from fixtures.system.hosts import HarnessError, UsageError
from fixtures.system.random_pauses import random_pauses
from reports.run.exit_status import Exit
from reports.run.tally import Run

BUSY = (sys.executable, "-c", "while True: pass")
STAND_STILL = "--stand-still"
#: Exit statuses of a run that has judged its tests.
JUDGED = (Exit.CONFORMANT, Exit.NOT_CONFORMANT, Exit.STALE_DEVIATION)
#: The environment variable that names a directory in which the runs are kept.
KEEP = "SPICE_CONFORM_KEEP"
LINES = 20

Verdicts = Mapping[tuple[str, str], str]


@contextmanager
def busy_machine() -> Iterator[None]:
    """Keeps every core busy with a process."""
    busy = [Child(BUSY) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for child in busy:
            child.close()


def verdicts(run: Run) -> Verdicts:
    """The verdict of each (build, test or cell)."""
    return {(case.server, case.nodeid): str(case.verdict) for case in run.cases}


def differences(first: Verdicts, other: Verdicts) -> list[str]:
    """One line for each test whose verdict differs, or that only one of the two has."""
    found = []
    for key in sorted(first.keys() | other.keys()):
        before, after = first.get(key, "not run"), other.get(key, "not run")
        if before != after:
            found.append(f"{key[1]} ({key[0]}): {before}, then {after}")
    return found


def certify(out: Path, options: Sequence[str]) -> Verdicts:
    """One run and its verdicts. Raises HarnessError if it ended without one."""
    tool = Path(sys.executable).with_name("spice-conform")
    with closing(Child([str(tool), "certify", "--out", str(out), *options])) as child:
        status = child.finish()
    if status not in JUDGED:
        raise HarnessError(f"certify ended with status {status}: {child.last_line or 'it said nothing'}")
    return verdicts(Run.read(out))


def main(arguments: Sequence[str]) -> int:
    """Runs, compares and prints; returns the exit status. Raises UsageError and HarnessError."""
    if not arguments or not arguments[0].isdecimal() or int(arguments[0]) < 2:
        raise UsageError("how many runs? name a number from 2 on, such as 10")
    runs, options = int(arguments[0]), [word for word in arguments[1:] if word != STAND_STILL]
    still = STAND_STILL in arguments
    first: Verdicts | None = None
    different = 0
    with tempfile.TemporaryDirectory(prefix="same-verdicts-") as scratch, ExitStack() as load:
        if not still:
            load.enter_context(busy_machine())
        for number in range(1, runs + 1):
            out, begun = Path(scratch) / str(number), time.monotonic()
            with random_pauses(number) if still and number > 1 else nullcontext():
                found = certify(out, options)
            counts = ", ".join(
                f"{count} {verdict}" for verdict, count in sorted(Counter(found.values()).items())
            )
            print(f"run {number}: {counts}; {time.monotonic() - begun:.0f} s", flush=True)
            if first is None:
                first = found
            elif lines := differences(first, found):
                different += 1
                more = [f"and {len(lines) - LINES} more"] if len(lines) > LINES else []
                print("\n".join(f"  {line}" for line in lines[:LINES] + more), flush=True)
            if KEEP in os.environ:
                shutil.copytree(out, Path(os.environ[KEEP]) / str(number))
            shutil.rmtree(out)
    print(f"{runs - different} of {runs} runs gave equal lists of verdicts")
    return int(Exit.NOT_CONFORMANT if different else Exit.CONFORMANT)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.HARNESS))  # nothing stays stopped
    try:
        sys.exit(main(sys.argv[1:]))
    except (UsageError, HarnessError) as error:
        print(error, file=sys.stderr)
        sys.exit(Exit.USAGE if isinstance(error, UsageError) else Exit.HARNESS)
