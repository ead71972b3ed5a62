# SPDX-License-Identifier: GPL-2.0-only
"""A ladder as plain text for a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from reports.ladder.ladder_svg import clock
from reports.ladder.lanes import Ladder, LadderRow, RowKind

_TIME = 17  # columns for the frame (6, where there are frames) and the time
_MARKS = {RowKind.CALL: "■", RowKind.CALLBACK: "●", RowKind.DEATH: "X"}


def lines(ladder: Ladder, width: int = 100) -> Iterator[tuple[str, str]]:
    """(style, text) of each line; style is "", "head", "routine", "broken" or "differs". At most `width`
    columns, at least 60. Text that does not fit on its arrow follows on lines of its own."""
    width = max(60, width)
    columns = _columns(len(ladder.lanes), width)
    yield "head", _heads(ladder.lanes, columns, width)
    for row in ladder.rows:
        broken = "broken" if row.failing or row.kind is RowKind.DEATH else "differs" if row.faults else ""
        line = _line(row, columns, width)
        yield broken or ("routine" if row.routine else ""), line
        if row.detail and row.detail not in line:
            yield from _below(row.detail, "routine", columns[0] + 5, width)
        for fault in row.faults:
            yield from _below(f"^ {fault}", broken, _TIME + 1, width)


def _below(words: str, style: str, indent: int, width: int) -> Iterator[tuple[str, str]]:
    margin = " " * indent
    for line in wrap(words, width, initial_indent=margin, subsequent_indent=margin + "  "):
        yield style, line


def text(ladder: Ladder, width: int = 100) -> str:
    """The whole ladder, without colour."""
    return "\n".join(line for _, line in lines(ladder, width))


def _columns(count: int, width: int) -> list[int]:
    """The column of each lane, with room for a lane's name at both ends."""
    first, last = _TIME + 5, width - 6
    return [first + (last - first) * n // max(1, count - 1) for n in range(count)]


def _heads(lanes: tuple[str, ...], columns: list[int], width: int) -> str:
    """The lanes' names over their lanes, as far as they fit."""
    line = ""
    room = (columns[1] - columns[0] - 1) if len(columns) > 1 else width
    for lane, column in zip(lanes, columns, strict=True):
        name = _cut(lane, max(room, 8))
        start = min(column - len(name) // 2, width - len(name))
        line = line.ljust(max(start, len(line) + bool(line))) + name
    return line[:width].rstrip()


def _line(row: LadderRow, columns: list[int], width: int) -> str:
    cells = [" "] * width
    for column in columns:
        cells[column] = "│"
    words = " ".join(filter(None, (row.channel, row.label)))
    room = (columns[1] - columns[0] - 5) if len(columns) > 1 else width - columns[0] - 5
    if len(words) > room and row.channel == "main" and row.kind is RowKind.ARROW:
        words = row.label  # the direction of the arrow already says it
    if row.detail and len(words) + 1 + len(row.detail) <= room:
        words += f" {row.detail}"
    if row.kind in (RowKind.ARROW, RowKind.END) and row.to is not None:
        _arrow(cells, columns[row.lane], columns[row.to], words, dashed=row.kind is RowKind.END)
    elif row.kind in _MARKS:
        _mark(cells, columns, row.lane, _MARKS[row.kind], words)
    else:
        start = columns[row.lane]
        end = columns[row.to] if row.to is not None else columns[-1]
        _put(cells, start + 2, _cut(f"· {words}", end - start - 3))
    _put(cells, 0, f"{row.frame or '':>6}{clock(row.time):>{_TIME - 6}}")
    return "".join(cells).rstrip()


def _arrow(cells: list[str], start: int, end: int, words: str, *, dashed: bool) -> None:
    low, high = min(start, end), max(start, end)
    room = high - low - 1
    label = f" {_cut(words, room - 4)} "
    _put(cells, low + 1, label.center(room, "╌" if dashed else "─"))
    if end < start:
        cells[end + 1] = "x" if dashed else "◀"
    else:
        cells[end - 1] = "x" if dashed else "▶"


def _mark(cells: list[str], columns: list[int], lane: int, mark: str, words: str) -> None:
    column = columns[lane]
    if lane == len(columns) - 1 and lane:
        words = _cut(words, column - columns[lane - 1] - 4)
        _put(cells, column - 1 - len(words), words)
    else:
        _put(
            cells, column + 2, _cut(words, columns[lane + 1] - column - 4 if lane + 1 < len(columns) else 60)
        )
    cells[column] = mark


def _put(cells: list[str], at: int, words: str) -> None:
    cells[at : at + len(words)] = words


def _cut(words: str, columns: int) -> str:
    return words if len(words) <= columns else words[: max(1, columns - 1)] + "…"
