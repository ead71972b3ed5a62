# SPDX-License-Identifier: GPL-2.0-only
"""A migration in a few lines: scheme, outcome, reason, participants, duration, and where to look next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from rich.text import Text

LABEL = 12  # columns of a label; the rest is for its words
GOOD = frozenset({"completed", "switched and arrived"})
BAD = frozenset({"did not arrive"})
ATTEMPTS_SHOWN = 6


def labelled(label: str, words: str, width: int, style: str = "") -> Iterator[Text]:
    """`label` and its words, wrapped beside it."""
    head = f"  {label:<{LABEL - 1}}"
    indent = " " * len(head)
    for line in wrap(words, width, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False):
        yield Text(line, style)


def session_id(number: int | None) -> str:
    """A session id in the form of the headers."""
    return "unknown" if number is None else f"{number:#010x}"


def style_of(outcome: str) -> str:
    """The colour of a migration: green, red or yellow."""
    return "bold green" if outcome in GOOD else "bold red" if outcome in BAD else "bold yellow"


def lines(number: int, migration: Mapping[str, Any], width: int) -> Iterator[Text]:
    """The lines of the whole block."""
    outcome = migration["outcome"]
    yield Text.assemble(
        (f"Migration {number}: {migration['scheme']}, ", "bold"),
        (outcome if not migration["reason"] else f"{outcome} ({migration['reason']})", style_of(outcome)),
    )
    if migration["why"]:
        yield from labelled("why", migration["why"], width)
    if migration["next"]:
        yield from labelled("next", migration["next"], width)
    source = f"{migration['source'] or 'unknown'}, session {session_id(migration['session_id'])}"
    yield from labelled("source", source, width)
    yield from labelled("target", _target(migration), width)
    yield from labelled("announced", _announced(migration), width)
    if migration["presented_subject"]:
        yield from labelled("presented", f"certificate subject “{migration['presented_subject']}”", width)
    if migration["client"]:
        yield from labelled("client", migration["client"], width)
    if migration["phases"]:
        yield from labelled("phases", durations(migration["phases"]), width)
    for place, attempt in enumerate(migration["attempts"][:ATTEMPTS_SHOWN]):
        words = f"frame {attempt['packet']}: {attempt['seen']}"
        yield from labelled("" if place else "attempts", words, width)
    if (more := len(migration["attempts"]) - ATTEMPTS_SHOWN) > 0:
        yield from labelled("", f"and {more} more (--json has them all)", width)


def durations(phases: Sequence[Mapping[str, Any]]) -> str:
    """`announced, linked +9.7 ms, connected +28.7 ms; 38.4 ms in all`: each since the previous one."""
    words: list[str] = []
    before = phases[0]["ms"]
    for phase in phases:
        since = phase["ms"] - before
        words.append(f"{phase['name']} +{since:,.1f} ms" if words else phase["name"])
        before = phase["ms"]
    whole = phases[-1]["ms"] - phases[0]["ms"]
    return ", ".join(words) + (f"; {whole:,.1f} ms in all" if len(phases) > 1 else "")


def _target(migration: Mapping[str, Any]) -> str:
    if not migration["target"]:
        return "not reached" if migration["outcome"] in BAD else "not seen"
    return f"{migration['target']}, session {session_id(migration['target_session_id'])}"


def _announced(migration: Mapping[str, Any]) -> str:
    if migration["host"] is None and not migration["port"] and not migration["tls_port"]:
        return "not seen"
    words = [f"host {migration['host'] or 'unknown'}"]
    words += [f"port {migration['port']}"] if migration["port"] not in (0, 0xFFFF) else []
    words += [f"TLS port {migration['tls_port']}"] if migration["tls_port"] not in (0, 0xFFFF) else []
    subject = migration["cert_subject"]
    words += [f"certificate subject “{subject}”"] if subject else ["no certificate subject"]
    return ", ".join(words)
