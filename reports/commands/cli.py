# SPDX-License-Identifier: GPL-2.0-only
"""The command line `spice-conform`. Each command imports what it needs when it runs, so that it starts fast.

`reports.run.exit_status` says what each exit status means.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from pathlib import Path
from typing import Any

import click

from reports.run.exit_status import Exit

PATH = click.Path(path_type=Path)
RUN = click.Path(path_type=Path, exists=True, file_okay=False)
SERVER_HELP = (
    "Build: system, lib:PATH, qemu:PATH, debian:SUITE, debian:SUITE/qemu, source:VARIANT or a deployment's "
    "TOML file"
)
#: Options that `fuzz` and `learn` share.
PROCESSES = click.option(
    "-n",
    "width",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that play (default: one for each CPU).",
)
PLAYING_CLUSTER = click.option(
    "--cluster", metavar="ADDRESS|local", help="A Dask scheduler whose workers play."
)
DEBUG = "SPICE_CONFORM_DEBUG"
#: How many objects an inspection creates between two garbage collections: most of them die at once, so that
#: more frequent collections cost time for nothing.
YOUNG = 50_000
#: What the kernel says of a disk that takes no more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Cli(click.Group):
    """Turns every foreseeable error into one line and its status."""

    def invoke(self, ctx: click.Context) -> Any:
        from fixtures.system.hosts import HarnessError, Unsupported, UsageError

        try:
            return super().invoke(ctx)
        except UsageError as error:
            _fail(error, Exit.USAGE)
        except (HarnessError, Unsupported) as error:
            _fail(error, Exit.HARNESS)
        except (KeyboardInterrupt, click.exceptions.Abort):
            _fail("interrupted", Exit.HARNESS)
        except click.UsageError as error:
            name = error.ctx.command_path if error.ctx else "spice-conform"
            _fail(f"{error.format_message()} ({name} --help)", Exit.USAGE)
        except (click.exceptions.Exit, click.ClickException, SystemExit):
            raise
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output has gone: print nothing more
            sys.exit(Exit.HARNESS)
        except Exception as error:
            if os.environ.get(DEBUG):
                raise
            if isinstance(error, OSError) and error.errno in _FULL:
                where = f"{error.filename}: " if error.filename else ""
                _fail(f"cannot write: {where}{error.strerror}", Exit.HARNESS)
            _fail(
                f"a fault of this program: {type(error).__name__}: {error} ({DEBUG}=1 shows where)",
                Exit.HARNESS,
            )


def _fail(error: object, status: int) -> None:
    from dissectors.wire.visible_text import visible_lines

    # it may quote a server, a file or a file's name
    click.echo(f"spice-conform: {visible_lines(str(error))}", err=True)
    sys.exit(status)


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="spice-conformance", prog_name="spice-conform")
def main() -> None:
    """Says whether a SPICE server build is a correct peer: in the link stage, on the main channel and,
    above all, in a migration."""
    from fixtures.system.user_cache import cache_directory

    # Hypothesis would leave what it learns in whatever directory we are called from.
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(cache_directory() / "hypothesis"))


@main.command(short_help="Run the suites against builds and write reports.")
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="SPEC",
    help=f"{SERVER_HELP} (default: system). Can be repeated.",
)
@click.option("--source", metavar="SPEC", help="Build of the source, for migrations between two builds.")
@click.option("--target", metavar="SPEC", help="Build of the target, for migrations between two builds.")
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="NAME",
    help="Only the tests of this profile; 'list' prints the names.",
)
@click.option(
    "--requirement",
    "requirements",
    multiple=True,
    metavar="GLOB",
    help="Only tests of these requirements. A single ID runs its quickest tests, about 0.5 s; "
    "with '--profile full' all of them.",
)
@click.option(
    "--level",
    "levels",
    multiple=True,
    metavar="NAME",
    help="Only tests of requirements of this level: MUST, SHOULD, OBSERVED or ROBUST.",
)
@click.option("--last-failed", is_flag=True, help="Only tests that failed in the last run (in --out DIR).")
@click.option(
    "--rerun",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Repeat each test N times; a test whose results differ fails.",
)
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts, which take about the same time.")
@click.option(
    "--version", metavar="V", help="Version of a build whose files do not name it (lib:PATH, FILE.toml)."
)
@click.option(
    "--deviations", type=PATH, metavar="FILE", help="Declared deviations, in place of the suite's own."
)
@click.option("--out", type=PATH, metavar="DIR", help="Where results go (default: results/<time>/).")
@click.option("--alluredir", "allure", type=PATH, metavar="DIR", help="Also write results for Allure here.")
@click.option("-n", "workers", metavar="N", help="Processes that run tests (default: two more than CPUs).")
@click.option("--cluster", metavar="ADDRESS|local", help="A Dask scheduler whose workers run the tests.")
@click.option(
    "--seed",
    type=int,
    metavar="N",
    help="Seed of random choices (default: one that belongs to the suite's version).",
)
@click.option(
    "--check",
    "checked",
    type=PATH,
    metavar="FILE.toml",
    help="Check a deployment's file, ports and commands; run no test.",
)
@click.argument("more", nargs=-1, type=click.UNPROCESSED)
def certify(**asked: Any) -> None:
    """Run the suites against builds; write certificate, page and evidence. Arguments after -- go to
    pytest."""
    from reports.commands import certify as job
    from reports.run import profiles
    from reports.run.runner import signals

    if (checked := asked.pop("checked")) is not None:
        sys.exit(_checked(checked))
    if "list" in asked["profiles"]:
        for name, selection in profiles.known().items():
            click.echo(f"{name:<12} {selection['about']}")
        return
    cluster = asked.pop("cluster")
    with signals():
        if cluster is None:
            sys.exit(job.certify(job.Request(**asked)))
        from reports.commands import cluster_certify

        sys.exit(cluster_certify.certify(job.Request(**asked), cluster))


def _checked(file: Path) -> Exit:
    """Prints a line for each thing that a deployment needs."""
    from fixtures.remote import check, load

    wrong = 0
    for looked in check(load(file)):
        click.echo(str(looked))
        wrong += looked.wrong is not None
    return Exit.HARNESS if wrong else Exit.CONFORMANT


@main.command(short_help="Say what happened in packet captures.")
@click.argument("captures", nargs=-1, required=True, type=PATH, metavar="CAPTURE...")
@click.option("--keylog", type=PATH, metavar="FILE", help="TLS secrets (SSLKEYLOGFILE format).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; later versions keep its keys.")
@click.option("--html", type=PATH, metavar="FILE", help="Write one self-contained HTML page.")
@click.option(
    "--write",
    type=PATH,
    metavar="FILE",
    help="Write a pcapng with only the SPICE packets, decrypted, findings as comments.",
)
@click.option("--messages", is_flag=True, help="Print a line for each message.")
@click.option("--channel", multiple=True, metavar="NAME", help="With --messages: only those of this channel.")
@click.option(
    "--type", "types", multiple=True, metavar="GLOB", help="With --messages: only those whose name matches."
)
@click.option("--from", "start", type=float, metavar="S", help="With --messages: only from this second on.")
@click.option("--to", "stop", type=float, metavar="S", help="With --messages: only up to this second.")
@click.option("--follow", is_flag=True, help="Read a file that grows, until interrupted.")
@click.option(
    "--unjudged", is_flag=True, help="List the rules that could not be judged, and what each needs."
)
@click.option("--show-secrets", is_flag=True, help="Show tickets and keys, which are masked otherwise.")
def inspect(**asked: Any) -> None:
    """Say what happened in packet captures, and which rule was broken at which packet. '-' reads a pipe."""
    gc.set_threshold(YOUNG)
    from reports.commands import inspect as job

    sys.exit(job.main(**asked))


@main.command(short_help="Play a capture or a finding to another server.")
@click.argument("recorded", type=PATH, metavar="CAPTURE|FINDING")
@click.option("--server", required=True, metavar="SPEC", help=f"{SERVER_HELP}.")
@click.option("--out", type=PATH, metavar="DIR", help="Where results go (default: results/<time>/).")
@click.option(
    "--keylog", type=PATH, metavar="FILE", help="TLS secrets of the capture (SSLKEYLOGFILE format)."
)
@click.option("--password", metavar="TEXT", help="The ticket that the servers get (default: a fixed one).")
@click.option(
    "--deviations",
    type=PATH,
    metavar="FILE",
    help="Declared deviations, in place of the suite's own (/dev/null: none).",
)
def replay(recorded: Path, **how: Any) -> None:
    """Play the client's part of a capture, or a finding's moves, to another server, and judge the answers."""
    from reports.commands.replay import main as play

    sys.exit(play(recorded, **how))


@main.command(short_help="Play legal and illegal sequences against a build.")
@click.option(
    "--server",
    default="system",
    show_default=True,
    metavar="SPEC",
    help="Library build: system, lib:PATH, debian:SUITE or source:VARIANT.",
)
@click.option(
    "--time",
    "seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds to play.",
)
@click.option("--seed", type=int, metavar="N", help="Seed of the plays (default: a new one each time).")
@click.option(
    "--examples", type=click.IntRange(min=1), metavar="N", help="End after N plays, whatever the time."
)
@click.option("--corpus", metavar="DIR|redis://...", help="The plays to begin with; new ones are added.")
@PROCESSES
@PLAYING_CLUSTER
@click.option(
    "--ignore-edges",
    "steered",
    is_flag=True,
    flag_value=False,
    default=True,
    help="With source:fuzz: count the edges of code, but do not steer by new ones.",
)
@click.option("--out", type=PATH, metavar="DIR", help="Where results go (default: results/<time>/).")
def fuzz(**asked: Any) -> None:
    """Play messages, links and host calls in legal and illegal orders, until the time is over."""
    from reports.commands.fuzz import main as campaign

    sys.exit(campaign(**asked))


@main.command()
@click.option(
    "--server", metavar="SPEC", help="Library build: system, lib:PATH, debian:SUITE or source:VARIANT."
)
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(["source", "target"]),
    help="Role of the server (default: both).",
)
@click.option("--seamless", is_flag=True, help="Set the host up for seamless migration.")
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the order in which inputs are played.",
)
@click.option(
    "--orders",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many times to repeat the search for differences (default: 1).",
)
@click.option(
    "--alphabet",
    type=click.Choice(["usual", "wide"]),
    default="usual",
    show_default=True,
    help="Inputs to play: those of the migration scheme, or every message (takes hours).",
)
@PROCESSES
@PLAYING_CLUSTER
@click.option("--out", type=PATH, metavar="DIR", help="Where models go (default: results/<time>/).")
@click.option(
    "--compare",
    nargs=2,
    metavar="MODEL MODEL",
    help="Compare two: model files, directories that --out wrote, or builds.",
)
def learn(**asked: Any) -> None:
    """Learn the state machine of a server, or compare two of them."""
    from reports.commands.learn import main as job

    sys.exit(job(**asked))


@main.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def builds(arguments: tuple[str, ...]) -> None:
    """List, fetch and delete server builds."""
    from reports.commands.builds import builds as group

    sys.exit(group.main(list(arguments), prog_name="spice-conform builds", standalone_mode=False))


@main.command(short_help="Write a run's reports again, or merge several runs.")
@click.argument("runs", nargs=-1, required=True, type=RUN, metavar="RUN...")
@click.option(
    "--out", type=PATH, metavar="DIR", help="Where the reports go (default: into RUN, if there is one)."
)
@click.option("--alluredir", "allure", type=PATH, metavar="DIR", help="Also write results for Allure here.")
def report(runs: tuple[Path, ...], out: Path | None, allure: Path | None) -> None:
    """Write the reports of a run again, or of several runs as one: shards, or builds side by side."""
    from reports.commands.report import report as job

    sys.exit(job(list(runs), out, allure))


@main.command()
@click.argument("before", type=RUN)
@click.argument("after", type=RUN)
@click.option("--markdown", is_flag=True, help="Print Markdown, for the summary of a CI job.")
def compare(before: Path, after: Path, markdown: bool) -> None:
    """Print what changed from one run to another. Exit status 1 if something is worse."""
    from reports.commands.compare import comparison
    from reports.run.tally import Run

    text, worse = comparison(Run.read(before), Run.read(after), markdown=markdown)
    click.echo(text)
    sys.exit(Exit.WORSE if worse else Exit.NOT_WORSE)


@main.command(short_help="Check a run's seal, reports and verdicts.")
@click.argument("run", type=RUN)
@click.option(
    "--signers",
    type=PATH,
    metavar="FILE",
    help="Also check the signature against these allowed signers (ssh-keygen's format).",
)
def verify(run: Path, signers: Path | None) -> None:
    """Check a run: the seal of its files, its reports against its events, each verdict from the packets.

    Exit status 1 if a check fails."""
    from reports.commands.verify import progress_on_stderr
    from reports.commands.verify import verify as again

    text, holds = again(run, signers, progress_on_stderr())
    click.echo(text)
    sys.exit(Exit.HOLDS if holds else Exit.DOES_NOT_HOLD)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--html", type=PATH, metavar="FILE", help="Write the requirements and order tables as one HTML page."
)
def requirements(as_json: bool, html: Path | None) -> None:
    """List every requirement with its tests."""
    from reports.commands import requirements as listing

    if html is not None:
        listing.write_page(html)
        return

    click.echo(listing.as_json() if as_json else listing.as_text())


@main.command(short_help="Explain a requirement, its tests and its verdicts.")
@click.argument("identifier", metavar="ID")
def explain(identifier: str) -> None:
    """Explain a requirement: why it matters, its source, its tests, its verdict on released servers."""
    from reports.commands.explain import explain as text

    click.echo(text(identifier))
