# SPDX-License-Identifier: GPL-2.0-only
"""The story of a capture on a terminal: what was read, what happened, whose fault it was; the ladders.

Colour only on a terminal; no line has more than 100 columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dissectors.rules.judgement import FAILING
from dissectors.wire.constants import channel_name
from reports.inspection import migration_text
from reports.inspection.migration_text import labelled, session_id
from reports.ladder import ladder_text
from reports.ladder.lanes import Ladder

Story = Mapping[str, Any]  # the result of `Inspection.as_dict`

WIDEST = 100
_LADDER_STYLES = {"head": "bold", "routine": "dim", "broken": "bold red", "differs": "yellow", "": ""}
_DOUBTS_SHOWN = 10
_MIGRATIONS_SHOWN = 20
_SESSIONS_SHOWN = 40  # channels that are listed; more are only counted
_NOTES_SHOWN = 12
_CONNECTIONS_SHOWN = 8  # that were refused, or failed


def print_story(
    console: Console, story: Story, ladders: Sequence[tuple[str, Ladder]], *, unjudged: bool = False
) -> None:
    """Prints everything: the summary first, the verdict last."""
    width = min(console.width, WIDEST)
    _summary(console, story, width)
    for number, migration in enumerate(story["migrations"][:_MIGRATIONS_SHOWN], 1):
        console.print()
        for line in migration_text.lines(number, migration, width):
            console.print(line, soft_wrap=True)
    if (more := len(story["migrations"]) - _MIGRATIONS_SHOWN) > 0:
        console.print(f"\nand {_plural(more, 'migration')} more (--json has them all)")
    _refused(console, story, width)
    _attempts(console, story, width)
    _notes(console, story, width)
    _findings(console, story, width)
    _doubtful(console, story, width)
    _sessions(console, story, width)
    for title, ladder in ladders:
        _ladder(console, title, ladder, width)
    _gaps(console, story, width)
    _unjudged(console, story, width, whole=unjudged)
    _verdict(console, story, width)


def _print(console: Console, words: str, width: int, style: str = "", indent: str = "") -> None:
    for line in wrap(words, width, initial_indent=indent, subsequent_indent=indent + "  ") or [""]:
        console.print(Text(line, style), soft_wrap=True)


def _summary(console: Console, story: Story, width: int) -> None:
    """How much was read, how much of it was SPICE, how much was judged."""
    facts = story["capture"]
    words = f"Read: {facts['packets']:,} packets, {facts['bytes']:,} bytes, {facts['seconds']:.3f} s"
    if len(facts["files"]) > 1:
        words += f", {len(facts['files'])} files"
    _print(console, words, width)
    other = facts["other_streams"]
    words = f"SPICE: {facts['spice_streams']:,} of {_plural(facts['streams'], 'TCP connection')}"
    words += f" ({other:,} without SPICE)" if other else ""
    words += (
        f"; {_plural(len(story['sessions']), 'session')}, {_plural(len(story['migrations']), 'migration')}, "
    )
    _print(console, words + _plural(facts["messages"], "message"), width)
    if facts["nothing_judged"]:
        why = "no SPICE session was found" if not story["sessions"] else "no message could be read"
        _print(console, f"Judged: nothing, {why}", width, "bold yellow")
    else:
        found = f"{_plural(len(story['findings']), 'finding')}, {len(story['doubtful'])} doubtful"
        _print(console, f"Judged: {_plural(facts['judged'], 'rule')}; {found}", width)
    for note in facts.get("notes", ()):
        _print(console, f"Note: {note}", width, "yellow")


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _refused(console: Console, story: Story, width: int) -> None:
    """Refused links that no migration's section shows."""
    named = {a["connection"] for m in story["migrations"] for a in m["attempts"]}
    refused = [one for one in story["refused"] if one["connection"] not in named]
    if not refused:
        return
    console.print()
    console.print(Text(f"Refused: {_plural(len(refused), 'link')}", "bold yellow"))
    _first_few(console, refused, _refusal, width)


def _refusal(one: Mapping[str, Any]) -> str:
    channel = f"{channel_name(one['channel'])} {one['channel_id']}" if one["channel"] else "unknown"
    return f"{one['server']} refuses {channel} of {one['client']}: {one['error']} ({one['why']})"


def _first_few(
    console: Console,
    every: Sequence[Mapping[str, Any]],
    words: Callable[[Mapping[str, Any]], str],
    width: int,
) -> None:
    """The first entries, a line each, with their frames. An advice that stands already is not repeated."""
    advice = ""
    for one in every[:_CONNECTIONS_SHOWN]:
        _print(console, f"frame {one['packet']}: {words(one)}", width, indent="  ")
        if one["next"] != advice:
            advice = one["next"]
            for line in labelled("  next", advice, width):
                console.print(line)
    if (more := len(every) - _CONNECTIONS_SHOWN) > 0:
        console.print(f"  and {more:,} more (--json has them all)")


def _attempts(console: Console, story: Story, width: int) -> None:
    """Failed connections that no other section shows."""
    named = {a["connection"] for m in story["migrations"] for a in m["attempts"]}
    named |= {one["connection"] for one in story["refused"]}
    others = [one for one in story["attempts"] if one["connection"] not in named]
    listed = {a["connection"] for m in story["migrations"] for a in m["attempts"]}
    listed |= {one["connection"] for one in story["attempts"]}
    elsewhere = story["capture"]["failed_streams"] - len(listed)
    if elsewhere > 0:
        console.print()
        words = f"Failed elsewhere: {_plural(elsewhere, 'connection')} to servers that no migration names"
        _print(console, words, width)
    if not others:
        return
    console.print()
    console.print(Text(f"Failed: {_plural(len(others), 'connection')}", "bold yellow"))
    _first_few(console, others, lambda one: f"{one['seen']} (client {one['client']})", width)


def _notes(console: Console, story: Story, width: int) -> None:
    notes = story["notes"]
    if not notes:
        return
    console.print()
    for note in notes[:_NOTES_SHOWN]:
        place = f"frame {note['packet']}: " if note["packet"] else ""
        _print(console, f"Note: {place}{note['text']}", width, "yellow")
    if (more := len(notes) - _NOTES_SHOWN) > 0:
        console.print(f"and {more:,} more (--json has them all)")


def _findings(console: Console, story: Story, width: int) -> None:
    several = len(story["capture"]["files"]) > 1
    for found in story["findings"]:
        console.print()
        style = "bold red" if found["level"] in FAILING else "bold yellow"
        places = (
            f"frame {found['packet']}" if found["packet"] else None,
            f"file {found['file']}" if several and found["file"] else None,
            f"connection {found['connection']}" if found["connection"] else None,
            found["host"],
        )
        place = ", ".join(str(part) for part in places if part)
        head = Text(f"{found['requirement']} {found['level']}", style) + Text(f"  {place}")
        console.print(head, soft_wrap=True)
        _print(console, found["text"], width, indent="  ")
        for label, words in (
            ("expected", found["expected"]),
            ("seen", found["seen"]),
            ("whose duty", f"the {found['duty']}'s"),
            ("next", found["next"]),
        ):
            for line in labelled(label, str(words), width):
                console.print(line)


def _doubtful(console: Console, story: Story, width: int) -> None:
    doubtful = story["doubtful"]
    if not doubtful:
        return
    console.print()
    console.print(Text(f"{_plural(len(doubtful), 'rule')} may have been broken, or not:", "yellow"))
    for found in doubtful[:_DOUBTS_SHOWN]:
        place = f", frame {found['packet']}" if found["packet"] else ""
        words = f"{found['requirement']}{place}: {found['seen']} ({found['why']})"
        _print(console, words, width, indent="  ")
    if len(doubtful) > _DOUBTS_SHOWN:
        console.print(f"  and {len(doubtful) - _DOUBTS_SHOWN} more (--json has them all)")


def _sessions(console: Console, story: Story, width: int) -> None:
    rows = [(session, channel) for session in story["sessions"] for channel in session["channels"]]
    if not rows:
        return
    table = Table(box=SIMPLE_HEAD, width=width, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("Session", "Host", "Channel", "Client"):
        table.add_column(heading, overflow="fold")
    for heading in ("Messages", "Bytes"):
        table.add_column(heading, justify="right")
    table.add_column("Ended", overflow="fold")
    for session, channel in rows[:_SESSIONS_SHOWN]:
        tls = " TLS" if channel["tls"] else ""
        full = ", full headers" if channel["mini_header"] is False else ""
        main = channel["type"] == 1
        via = f" for {channel['via']}" if channel["via"] and main else ""
        name = f"{channel_name(channel['type'])} {channel['id']}" if channel["type"] else "unknown"
        table.add_row(
            session_id(session["session_id"]) if main else "",
            f"{channel['server'] or session['host'] or ''}{via}",
            f"{name}{tls}{full}",
            channel["client"] or "",
            f"{channel['messages']:,}",
            f"{channel['bytes']:,}",
            channel["ended"] or "open",
        )
    console.print(table)
    if len(rows) > _SESSIONS_SHOWN:
        console.print(f"and {len(rows) - _SESSIONS_SHOWN} channels more (--json has them all)")


def _ladder(console: Console, title: str, ladder: Ladder, width: int) -> None:
    if not ladder.rows:
        return
    console.print()
    if title:
        console.print(Text(title, "bold"))
    for style, line in ladder_text.lines(ladder, width):
        console.print(Text(line, _LADDER_STYLES[style]), soft_wrap=True)


def _gaps(console: Console, story: Story, width: int) -> None:
    gaps = [gap for gap in story["gaps"] if not gap.get("cut") and not gap.get("all")]  # notes report those
    if not gaps:
        return
    console.print()
    known = sum(gap["bytes"] or 0 for gap in gaps)
    first = ", ".join(f"connection {gap['connection']} at frame {gap['packet']}" for gap in gaps[:4])
    words = f"{_plural(len(gaps), 'gap')} in what was captured, {known:,} bytes or more: {first}"
    _print(console, words + (" ..." if len(gaps) > 4 else ""), width, "yellow")


def _unjudged(console: Console, story: Story, width: int, *, whole: bool) -> None:
    missing = story["unjudged"]
    if not missing:
        return
    console.print()
    hint = ":" if whole else " (--unjudged lists them, and what each needs)"
    _print(console, f"Not judged: {_plural(len(missing), 'rule')} that a capture can show{hint}", width)
    if not whole:
        return
    for entry in missing:
        head = f"  {entry['requirement']:<14} "
        for line in wrap(entry["why"], width, initial_indent=head, subsequent_indent=" " * len(head)):
            console.print(line)


def _verdict(console: Console, story: Story, width: int) -> None:
    findings = story["findings"]
    lost = [m for m in story["migrations"] if m["outcome"] in migration_text.BAD]
    also = ""
    if lost:
        also = f"; the client of {_plural(len(lost), 'migration')} did not arrive"
    if findings:
        failing = sum(found["level"] in FAILING for found in findings)
        words = f"{_plural(len(findings), 'finding')}, {failing} of level MUST or ROBUST{also}"
        _print(console, words, width, "bold red" if failing or lost else "bold yellow")
    elif story["capture"]["nothing_judged"]:
        why = "No SPICE session was found" if not story["sessions"] else "No message could be read"
        _print(console, f"{why} in what was captured: nothing is judged{also}.", width, "bold yellow")
    else:
        words = f"No rule was broken in what was captured{also}."
        _print(console, words, width, "bold red" if lost else "bold green")
