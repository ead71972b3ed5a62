# SPDX-License-Identifier: GPL-2.0-only
"""`spice-conform builds`: list, fetch and delete the server builds in the cache."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from dissectors.wire.visible_text import visible_lines
from fixtures import builds as store
from fixtures.system.hosts import HarnessError, Unsupported, UsageError
from fixtures.system.user_cache import cache_directory
from reports.commands.fetching import drawn
from reports.run.exit_status import Exit

_BUILT = tuple(f"source:{variant}" for variant in store.VARIANTS)
_OFFERED = (*(f"debian:{suite}{how}" for suite in store.SUITES for how in ("", "/qemu")), *_BUILT)


class _Group(click.Group):
    """Turns every error into one line and a status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (UsageError, HarnessError, Unsupported) as error:
            click.echo(f"spice-conform: {visible_lines(str(error))}", err=True)
            ctx.exit(Exit.USAGE if isinstance(error, UsageError) else Exit.HARNESS)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def builds() -> None:
    """List, fetch and delete server builds.

    A build is a private copy of a server and of everything that it needs, in the cache directory. Fetching
    one changes nothing in the system and needs no privileges; source: builds may need root, to install their
    build dependencies."""


@builds.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:
    """List the builds in the cache and those that can be fetched."""
    here = {build.spec: build for build in store.list_builds()}
    unfinished = store.unfinished_fetches()
    rows = []
    for spec in dict.fromkeys([*_OFFERED, *here, *unfinished]):
        build, bytes_on_disk = here.get(spec), unfinished.get(spec, 0)
        rows.append(
            {
                "spec": spec,
                "state": "ready" if build else "unfinished" if bytes_on_disk else "to fetch",
                "server": build.version if build else None,
                "qemu": build.qemu_version if build else None,
                "bytes": build.size if build else bytes_on_disk,
            }
        )
    if as_json:
        click.echo(json.dumps({"cache": str(cache_directory()), "builds": rows}, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("SPEC", "STATE", "SERVER", "QEMU"):
        table.add_column(title)
    table.add_column("SIZE", justify="right")
    for row in rows:
        size = decimal(int(row["bytes"] or 0)) if row["bytes"] else ""
        table.add_row(*(str(row[key] or "") for key in ("spec", "state", "server", "qemu")), size)
    console = Console()
    console.print(table)
    console.print(f"in {cache_directory()}", style="dim", soft_wrap=True, highlight=False)


@builds.command("fetch", short_help="Fetch builds into the cache.")
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@click.option(
    "--mirror", metavar="URL", help="Debian archive (default: that of this machine's apt configuration)."
)
@click.option("--keyring", metavar="FILE", help="Keys that may sign the archive.")
@click.option(
    "--again", is_flag=True, help="Fetch anew a build that is in the cache; testing and unstable change."
)
def fetch_command(specs: tuple[str, ...], mirror: str | None, keyring: str | None, again: bool) -> None:
    """Fetch builds into the cache: debian:SUITE, debian:SUITE/qemu, source:plain|asan|coverage|fuzz."""
    wanted = [store.parse(spec) for spec in specs]
    for spec in wanted:
        with drawn(spec.text) as (show, say):
            build = store.fetch(spec, progress=show, say=say, mirror=mirror, keyring=keyring, again=again)
        qemu = f", QEMU {build.qemu_version}" if build.qemu_version else ""
        click.echo(f"{build.spec}: libspice-server {build.version}{qemu}, {decimal(build.size)}")


@builds.command("delete")
@click.argument("specs", nargs=-1, metavar="SPEC...")
@click.option("--all", "everything", is_flag=True, help="Delete every build in the cache.")
def delete_command(specs: tuple[str, ...], everything: bool) -> None:
    """Delete builds, and what is left of fetches that were interrupted."""
    if everything == bool(specs):
        raise UsageError("name the builds to delete, or give --all")
    names = (
        [*(build.spec for build in store.list_builds()), *store.unfinished_fetches()] if everything else specs
    )
    for name in dict.fromkeys(names):
        freed = store.remove(name)
        click.echo(f"{name}: {decimal(freed)} freed" if freed else f"{name}: not in the cache")
