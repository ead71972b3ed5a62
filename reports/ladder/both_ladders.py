# SPDX-License-Identifier: GPL-2.0-only
"""A recording and its replay side by side: columns for a terminal, two ladders for a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

from dissectors.framing.events import Event
from reports.ladder.ladder_svg import style, svg
from reports.ladder.lanes import ladder
from suites.replay.spoken import SpokenMessage, side_by_side

#: Characters of one column.
WIDTH = 52
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>Replay: what differs</title><style>
body {{ font: 14px/1.5 system-ui, sans-serif; margin: 1.5em }}
.both {{ display: grid; grid-template-columns: 1fr 1fr; gap: 1.5em; align-items: start }}
.both > div {{ overflow-x: auto }}
{style}
</style></head><body><h1>Replay: what differs</h1><ul>{differences}</ul>
<div class="both"><div><h2>Recording</h2>{recorded}</div><div><h2>Replay on {server}</h2>{here}</div></div>
</body></html>
"""


@dataclass(frozen=True)
class Both:
    """The events of a recording and of its replay on `server`, and the differences, a line each."""

    recorded: Sequence[Event]
    here: Sequence[Event]
    differences: Sequence[str]
    server: str


def both_ladders(both: Both) -> str:
    """A page with both ladders."""
    drawn = [
        svg(ladder(events), title) for events, title in ((both.recorded, "recording"), (both.here, "replay"))
    ]
    lines = "".join(f"<li>{escape(line)}</li>" for line in both.differences)
    return _PAGE.format(
        style=style(), differences=lines, recorded=drawn[0], here=drawn[1], server=escape(both.server)
    )


def columns(name: str, recorded: Sequence[SpokenMessage], here: Sequence[SpokenMessage]) -> Iterator[str]:
    """One connection in two columns: its server's messages in the recording and in this run. Between them:
    `!` if fields differ, `<` and `>` if only one of them has the message."""
    yield f"{name:{WIDTH}}     this replay".rstrip()
    for old, mark, new in side_by_side(recorded, here):
        left, right = (wrap(said.words, WIDTH) if said else [""] for said in (old, new))
        if mark == " ":
            left, right = (
                [said[0]] if len(said) < 2 else [f"{said[0][: WIDTH - 1]}…"] for said in (left, right)
            )
        for number in range(max(len(left), len(right))):
            one, other = (said[number] if number < len(said) else "" for said in (left, right))
            yield f"{one:{WIDTH}}  {mark if number == 0 else ' '}  {other}".rstrip()
