# SPDX-License-Identifier: GPL-2.0-only
"""The story of a capture on a terminal: summary, ladder, findings. Colour only where there is a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import FAILING
from dissectors.wire.constants import channel_name
from reports.ladder import ladder_text
from reports.ladder.lanes import Ladder

Story = Mapping[str, Any]  # what `Inspection.as_dict` gives

_LADDER_STYLES = {"head": "bold", "routine": "dim", "broken": "bold red", "differs": "yellow", "": ""}
_DOUBTS_SHOWN = 10
_MIGRATIONS_SHOWN = 20
_SESSIONS_SHOWN = 40  # channels; more are only counted


def print_story(console: Console, story: Story, ladder: Ladder, *, unjudged: bool = False) -> None:
    """Everything, the findings last."""
    width = min(console.width, 100)
    _summary(console, story)
    for number, migration in enumerate(story["migrations"][:_MIGRATIONS_SHOWN], 1):
        _migration(console, number, migration)
    if (more := len(story["migrations"]) - _MIGRATIONS_SHOWN) > 0:
        console.print(f"\nand {_plural(more, 'migration')} more (--json has them all)")
    _sessions(console, story, width)
    if ladder.rows and (story["migrations"] or story["findings"] or not story["sessions"]):
        console.print()
        for style, line in ladder_text.lines(ladder, width):
            console.print(Text(line, _LADDER_STYLES[style]), soft_wrap=True)
    _gaps(console, story)
    _findings(console, story, width)
    _doubtful(console, story, width)
    _unjudged(console, story, width, whole=unjudged)


def _summary(console: Console, story: Story) -> None:
    facts = story["capture"]
    other = f" ({facts['other_streams']} without SPICE)" if facts.get("other_streams") else ""
    seen = ", ".join(_plural(len(story[f"{noun}s"]), noun) for noun in ("session", "migration"))
    console.print(
        f"{facts['packets']:,} packets, {facts['bytes']:,} bytes, {facts['seconds']:.3f} s; "
        f"{_plural(facts['streams'], 'TCP connection')}{other}; {seen}",
        soft_wrap=True,
    )
    for note in facts.get("notes", ()):
        console.print(Text(f"Note: {note}", "yellow"))


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _id(number: int | None) -> str:
    return "unknown" if number is None else f"{number:#010x}"


def _migration(console: Console, number: int, migration: Mapping[str, Any]) -> None:
    good = migration["outcome"] in ("completed", "switched")
    console.print()
    console.print(
        Text(f"Migration {number}: ", "bold")
        + Text(f"{migration['scheme']}, {migration['outcome']}", "bold green" if good else "bold yellow")
    )
    console.print(f"  source     {migration['source'] or 'unknown'}, session {_id(migration['session_id'])}")
    target = migration["target"] or "not seen"
    session = f", session {_id(migration['target_session_id'])}" if migration["target"] else ""
    console.print(f"  target     {target}{session}")
    subject = migration["cert_subject"]
    words = [f"host {migration['host'] or 'unknown'}", f"port {migration['port']}"]
    words += [f"TLS port {migration['tls_port']}"] if migration["tls_port"] else []
    words += [f"certificate subject “{subject}”"] if subject else ["no certificate subject"]
    console.print(f"  announced  {', '.join(words)}", soft_wrap=True)


def _sessions(console: Console, story: Story, width: int) -> None:
    rows = [(session, channel) for session in story["sessions"] for channel in session["channels"]]
    if not rows:
        return
    table = Table(box=SIMPLE_HEAD, width=width, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("Session", "Host", "Channel", "Client", "Header"):
        table.add_column(heading, overflow="fold")
    for heading in ("Messages", "Bytes"):
        table.add_column(heading, justify="right")
    table.add_column("Ended", overflow="fold")
    for session, channel in rows[:_SESSIONS_SHOWN]:
        header = {True: "mini", False: "full", None: "-"}[channel["mini_header"]]
        tls = " TLS" if channel["tls"] else ""
        table.add_row(
            _id(session["session_id"]) if channel["type"] == 1 else "",
            str(session["host"] or ""),
            f"{channel_name(channel['type'])} {channel['id']}{tls}",
            channel["client"] or "",
            header,
            f"{channel['messages']:,}",
            f"{channel['bytes']:,}",
            channel["ended"] or "open",
        )
    console.print(table)
    if len(rows) > _SESSIONS_SHOWN:
        console.print(f"and {len(rows) - _SESSIONS_SHOWN} channels more (--json has them all)")


def _gaps(console: Console, story: Story) -> None:
    gaps = story["gaps"]
    if not gaps:
        return
    console.print()
    known = sum(gap["bytes"] or 0 for gap in gaps)
    first = ", ".join(f"connection {gap['connection']} at frame {gap['packet']}" for gap in gaps[:4])
    words = f"{_plural(len(gaps), 'gap')} in what was captured, {known:,} bytes or more: {first}"
    console.print(Text(words + (" ..." if len(gaps) > 4 else ""), "yellow"), soft_wrap=True)


def _findings(console: Console, story: Story, width: int) -> None:
    console.print()
    findings = story["findings"]
    for found in findings:
        style = "bold red" if found["level"] in FAILING else "bold yellow"
        place = ", ".join(
            filter(
                None,
                (
                    found["packet"] and f"frame {found['packet']}",
                    found["connection"] and f"connection {found['connection']}",
                    found["host"],
                ),
            )
        )
        console.print(Text(f"{found['requirement']} {found['level']}", style) + Text(f"  {place}"))
        for label, words in (("", found["text"]), ("expected", found["expected"]), ("seen", found["seen"])):
            indent = f"  {label:<9}" if label else "  "
            for line in wrap(str(words), width, initial_indent=indent, subsequent_indent=" " * len(indent)):
                console.print(line)
    if findings:
        failing = sum(found["level"] in FAILING for found in findings)
        words = f"{_plural(len(findings), 'finding')}, {failing} of level MUST or ROBUST"
        console.print(Text(words, "bold red" if failing else "bold yellow"))
    elif story["sessions"]:
        console.print(Text("No rule was broken in what was captured.", "bold green"))
    else:
        console.print(Text("No SPICE session was found in what was captured.", "bold yellow"))


def _doubtful(console: Console, story: Story, width: int) -> None:
    doubtful = story["doubtful"]
    if not doubtful:
        return
    console.print(Text(f"{_plural(len(doubtful), 'rule')} may have been broken, or not:", "yellow"))
    for found in doubtful[:_DOUBTS_SHOWN]:
        place = f", frame {found['packet']}" if found["packet"] else ""
        words = f"{found['requirement']}{place}: {found['seen']} ({found['why']})"
        for line in wrap(words, width, initial_indent="  ", subsequent_indent="    "):
            console.print(line)
    if len(doubtful) > _DOUBTS_SHOWN:
        console.print(f"  and {len(doubtful) - _DOUBTS_SHOWN} more (--json has them all)")


def _unjudged(console: Console, story: Story, width: int, *, whole: bool) -> None:
    missing = story["unjudged"]
    if not missing:
        return
    hint = ":" if whole else " (--unjudged lists them with the reason)"
    console.print(f"{len(missing)} of {len(CATALOGUE)} rules could not be judged{hint}")
    if not whole:
        return
    for entry in missing:
        head = f"  {entry['requirement']:<14} "
        for line in wrap(entry["why"], width, initial_indent=head, subsequent_indent=" " * len(head)):
            console.print(line)
