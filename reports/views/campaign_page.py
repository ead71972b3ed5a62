# SPDX-License-Identifier: GPL-2.0-only
"""The page of a fuzzing campaign: curves over time, and how often each state was reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from dissectors.wire.constants import ChannelType, Side, message_name

FILE = "campaign.html"
#: Curves: key of a point -> its name; those of other keys than the points have are left out.
CURVES: Mapping[str, str] = {
    "plays": "plays",
    "states": "states of the tables",
    "steps": "steps of the tables",
    "outcomes": "different outcomes",
    "findings": "findings",
    "edges": "executed edges of the server's code",
}
WIDTH, HEIGHT, EDGE = 420, 150, 34
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Fuzzing campaign</title><style>
body {{ font: 14px/1.5 system-ui, sans-serif; margin: 1.5em; color-scheme: light dark }}
.curves {{ display: flex; flex-wrap: wrap; gap: 1em }}
svg {{ max-width: 100% }} path {{ fill: none; stroke: #2a6fb0; stroke-width: 2 }}
text {{ font: 12px system-ui, sans-serif; fill: currentColor }} line {{ stroke: #888 }}
td, th {{ text-align: left; padding: .15em 1em .15em 0; vertical-align: top }}
.bar {{ display: inline-block; height: .7em; background: #2a6fb0 }}
</style></head><body><h1>Fuzzing campaign on {server}</h1>
<p>Seed {seed}, {processes} processes, {seconds:.0f} s: {plays} plays with {moves} moves.</p>
<div class="curves">{curves}</div>
<h2>States</h2><p>How often each state of the order tables was there after a move.</p>
<table><tr><th>channel</th><th>state</th><th>visits</th><th></th><th>messages there</th></tr>{states}</table>
</body></html>
"""


def campaign_page(campaign: Mapping[str, Any]) -> str:
    """The page, from the content of `fuzz.json`."""
    points = [{"edges": 0, **point} if campaign["edges"] else point for point in campaign["points"]] or [{}]
    return _PAGE.format(
        **{key: campaign[key] for key in ("seed", "processes", "seconds", "plays", "moves")},
        server=escape(str(campaign["server"])),
        curves="".join(_curve(points, key, name) for key, name in CURVES.items() if key in points[0]),
        states="".join(_states(campaign["visits"], campaign["steps"])),
    )


def _curve(points: Sequence[Mapping[str, float]], key: str, name: str) -> str:
    """One curve with its end values."""
    last = max((point["seconds"] for point in points), default=0) or 1
    most = max((point[key] for point in points), default=0) or 1
    wide, high = WIDTH - 2 * EDGE, HEIGHT - 2 * EDGE
    places = [
        f"{EDGE + wide * point['seconds'] / last:.1f},{HEIGHT - EDGE - high * point[key] / most:.1f}"
        for point in points
    ]
    drawn = f"M{EDGE},{HEIGHT - EDGE} L" + " ".join(places) if places else ""
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{escape(name)}">'
        f'<text x="{EDGE}" y="16">{escape(name)}: {most:g}</text>'
        f'<line x1="{EDGE}" y1="{HEIGHT - EDGE}" x2="{WIDTH - EDGE}" y2="{HEIGHT - EDGE}"/>'
        f'<path d="{drawn}"/>'
        f'<text x="{WIDTH - EDGE}" y="{HEIGHT - 12}" text-anchor="end">{last:g} s</text></svg>'
    )


def _states(visits: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    most = max((row["visits"] for row in visits), default=1)
    for row in sorted(visits, key=lambda row: -row["visits"]):
        here = [s for s in steps if (s["channel"], s["state"]) == (row["channel"], row["state"])]
        words = ", ".join(sorted({_name(step) for step in here}))
        yield (
            f"<tr><td>{row['channel']}</td><td>{escape(str(row['state']))}</td><td>{row['visits']}</td>"
            f'<td><span class="bar" style="width:{1 + 120 * row["visits"] // most}px"></span></td>'
            f"<td>{escape(words)}</td></tr>"
        )


def _name(step: Mapping[str, Any]) -> str:
    channel = ChannelType.SPICE_CHANNEL_MAIN if step["channel"] == "main" else 0
    return message_name(channel, Side(step["sender"]), int(step["type"]))
