# SPDX-License-Identifier: GPL-2.0-only
"""A ladder as an SVG string: for a page (its style in `ladder.css`), or as a file of its own."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.resources import files

from reports.ladder.lanes import Ladder, LadderRow, RowKind

WIDTH = 960  # units of the view box; one is a CSS pixel at full size
_LEFT = 166  # the first lane; frame and time are to its left
_RIGHT = 74  # right of the last lane
_HEAD = 44
_ROW = 28
_ABOVE = 20  # of a row, above its arrow: the words stand there
_LINE = 17  # of a detail below its arrow, of a fault
_GLYPH = 6.4  # mean width of a character of the label's size


def style() -> str:
    """The style that a page with ladders contains once."""
    return files("reports.ladder").joinpath("ladder.css").read_text(encoding="utf-8")


def svg(ladder: Ladder, title: str, *, standalone: bool = False, interactive: bool = False) -> str:
    """The drawing. `standalone`: with its own style and namespace (a file, an attachment).

    `interactive`: each message can be reached with the keyboard and carries `data-event`."""
    xs = _lanes(len(ladder.lanes))
    height = _HEAD + sum(_height(row, xs) for row in ladder.rows) + 16
    label = f"{title}: {_outline(ladder)}"
    extra = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    parts = [
        f'<svg class="ladder"{extra} viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">',
        f"<title>{escape(title)}</title><desc>{escape(_outline(ladder))}</desc>",
    ]
    if standalone:
        parts.append(f'<style>{style()}</style><rect class="paper" width="{WIDTH}" height="{height}"/>')
    parts += _heads(ladder, xs, height)
    y = _HEAD
    for row in ladder.rows:
        parts.append(_row(row, xs, y, interactive=interactive and row.event is not None))
        y += _height(row, xs)
    return "".join([*parts, "</svg>"])


def _outline(ladder: Ladder) -> str:
    lanes = ", ".join(ladder.lanes)
    broken = f"{ladder.faults} broken rules are marked" if ladder.faults else "no rule is broken"
    return f"{len(ladder.rows)} rows between {lanes}; {broken}"


def _lanes(count: int) -> list[float]:
    step = (WIDTH - _LEFT - _RIGHT) / max(1, count - 1)
    return [_LEFT + step * n for n in range(count)]


def _span(row: LadderRow, xs: list[float]) -> tuple[float, float]:
    """The lanes between which a row's words are written."""
    if row.to is not None and row.to != row.lane:
        return min(xs[row.lane], xs[row.to]), max(xs[row.lane], xs[row.to])
    if row.kind is RowKind.NOTE:
        return xs[0], max(xs[-1], xs[0] + 300)
    last = row.lane == len(xs) - 1 and row.lane > 0
    left, right = (row.lane - 1, row.lane) if last else (row.lane, row.lane + 1)
    return xs[left], xs[right] if right < len(xs) else WIDTH


def _letters(row: LadderRow, xs: list[float]) -> int:
    left, right = _span(row, xs)
    return int((right - left - 30) / _GLYPH)


def _overflows(row: LadderRow, xs: list[float]) -> bool:
    """Whether the detail needs a line of its own."""
    words = (row.channel, row.label, row.detail)
    return bool(row.detail) and sum(len(word) + 2 for word in words if word) > _letters(row, xs)


def _height(row: LadderRow, xs: list[float]) -> int:
    return _ROW + _LINE * (len(row.faults) + _overflows(row, xs))


def _heads(ladder: Ladder, xs: list[float], height: int) -> Iterator[str]:
    if any(row.frame for row in ladder.rows):
        yield '<text class="time" x="38" y="21">frame</text>'
    for lane, x in zip(ladder.lanes, xs, strict=True):
        width = max(88.0, _GLYPH * len(lane) + 28)
        yield f'<line class="lane" x1="{x:.0f}" x2="{x:.0f}" y1="30" y2="{height - 8}"/>'
        yield f'<rect class="head" x="{x - width / 2:.0f}" y="4" width="{width:.0f}" height="26" rx="5"/>'
        yield f'<text class="headtext" x="{x:.0f}" y="21">{escape(lane)}</text>'


def _row(row: LadderRow, xs: list[float], y: int, *, interactive: bool) -> str:
    """A group moved down to `y`, drawn around its own arrow: equal rows are equal text, which packs well."""
    classes = ["row", str(row.kind)]
    classes += ["routine"] if row.routine else []
    classes += (["broken"] if row.failing else ["differs"]) if row.faults else []
    handle = (
        f' tabindex="0" role="button" data-event="{row.event}"'
        if interactive and row.event is not None
        else ""
    )
    tip = " ".join(filter(None, (row.channel, row.name or row.label, row.detail)))
    parts = [f'<g class="{" ".join(classes)}" transform="translate(0 {y + _ABOVE})"{handle}>']
    if row.faults:
        parts.append(
            f'<rect class="band" x="0" y="{-_ABOVE}" width="{WIDTH}" height="{_height(row, xs) - 2}" rx="4"/>'
        )
    parts.append(f"<title>{escape(f'{tip} at {row.time * 1000:.3f} ms')}</title>")
    if row.frame:
        parts.append(f'<text class="time" x="38">{row.frame}</text>')
    parts.append(f'<text class="time" x="100">{clock(row.time)}</text>')
    parts.append(_DRAW[row.kind](row, xs))
    for n, fault in enumerate(row.faults, _overflows(row, xs)):
        parts.append(
            f'<text class="fault" x="14" y="{_ROW - _ABOVE + 8 + _LINE * n}">{escape(_cut(fault, 146))}'
            f"<title>{escape(fault)}</title></text>"
        )
    return "".join([*parts, "</g>"])


def _arrow(row: LadderRow, xs: list[float]) -> str:
    start, end = xs[row.lane], xs[row.to if row.to is not None else row.lane]
    forward = 1 if end > start else -1
    tip = f"{end:.0f},0 {end - 9 * forward:.0f},-4.5 {end - 9 * forward:.0f},4.5"
    line = f'<line class="stroke" x1="{start:.0f}" x2="{end - 6 * forward:.0f}"/>'
    return f'{line}<polygon class="tip" points="{tip}"/>{_words(row, xs, lift=6)}'


def _end(row: LadderRow, xs: list[float]) -> str:
    start, end = xs[row.lane], xs[row.to if row.to is not None else row.lane]
    line = f'<line class="stroke" x1="{start:.0f}" x2="{end:.0f}"/>'
    cross = f"M{end - 5:.0f} -5l10 10m0 -10l-10 10"
    return f'{line}<path class="cross" d="{cross}"/>{_words(row, xs, lift=6)}'


def _mark(row: LadderRow, xs: list[float]) -> str:
    x = xs[row.lane]
    shape = {
        RowKind.CALL: f'<rect class="dot" x="{x - 5:.0f}" y="-9" width="10" height="10" rx="2"/>',
        RowKind.CALLBACK: f'<circle class="dot" cx="{x:.0f}" cy="-4" r="5"/>',
        RowKind.DEATH: f'<path class="cross" d="M{x - 7:.0f} -11l14 14m0 -14l-14 14"/>',
    }[row.kind]
    return shape + _words(row, xs)


def _note(row: LadderRow, xs: list[float]) -> str:
    return _words(row, xs)


def _words(row: LadderRow, xs: list[float], lift: int = 0) -> str:
    """Channel, label and detail; the detail is below if it does not fit beside them."""
    left, right = _span(row, xs)
    anchor, x = "middle", (left + right) / 2
    if row.kind in (RowKind.CALL, RowKind.CALLBACK, RowKind.DEATH):
        anchor, x = ("start", left + 12) if left == xs[row.lane] else ("end", right - 12)
    letters = _letters(row, xs)
    below = _overflows(row, xs)
    spans = [
        ("channel", row.channel),
        ("label", _cut(row.label, letters)),
        ("detail", "" if below else row.detail),
    ]
    words = [f'<tspan class="{name}">{escape(word)}</tspan>' for name, word in spans if word]
    text = f'<text class="words" x="{x:.0f}" y="{-lift}" text-anchor="{anchor}">{"  ".join(words)}</text>'
    if below:
        detail = escape(_cut(row.detail, letters))
        text += f'<text class="words" x="{x:.0f}" y="{_LINE - 2}" text-anchor="{anchor}">'
        text += f'<tspan class="detail">{detail}</tspan></text>'
    return text


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: max(1, letters - 1)] + "…"


def clock(seconds: float) -> str:
    """A time since the first event, in the most readable unit."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.3f} s" if seconds < 100 else f"{seconds:,.1f} s"


_DRAW = {
    RowKind.ARROW: _arrow,
    RowKind.END: _end,
    RowKind.CALL: _mark,
    RowKind.CALLBACK: _mark,
    RowKind.DEATH: _mark,
    RowKind.NOTE: _note,
}
