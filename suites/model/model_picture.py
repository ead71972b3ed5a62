# SPDX-License-Identifier: GPL-2.0-only
"""A model as a readable picture: in Graphviz's language, and as SVG where Graphviz is installed.

Each state is drawn once, at the end of the shortest way into it; only those ways are lines. All other answers
of a state are rows of its box, with the number of the next state: equal answers share a row, answers that end
the process are red, answers that change nothing are grey. So no lines cross.

`python -m suites.model.model_picture MODEL DIRECTORY` draws an existing model."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from suites.model.answers import IMPOSSIBLE, NOTHING
from suites.model.mealy import Model, fatal, read

DOT, SVG = "model.dot", "model.svg"
#: Rows longer than this are wrapped, characters.
WIDTH = 58
#: Padding behind each line: browsers' fonts are wider than Graphviz assumes.
ROOM = "&nbsp;" * 4
_GREY, _RED, _BLUE, _HEAD = "#777777", "#b00020", "#1f4e8c", "#dfe8f3"


def dot(model: Model) -> str:
    """The picture in Graphviz's language."""
    ways = model.shortest()
    ends = model.ends()
    lines = [
        "digraph model {",
        '  graph [rankdir=TB, nodesep=0.25, ranksep=0.5, labelloc=t, fontname="sans-serif", fontsize=16,'
        f" label={_quoted(title(model))}];",
        '  node [shape=plain, fontname="sans-serif", fontsize=10];',
        f'  edge [fontname="sans-serif", fontsize=10, color="{_BLUE}", fontcolor="{_BLUE}"];',
    ]
    tree = {s: (model.after(way[:-1]), way[-1]) for s, way in enumerate(ways) if way and s not in ends}
    for state in range(len(model)):
        if state not in ends:
            lines.append(f"  s{state} [label=<{_box(model, state, tree)}>];")
    for state, (before, letter) in tree.items():
        answer = model.steps[before][letter][0]
        lines.append(f"  s{before} -> s{state} [label=<{_label(letter, answer)}>];")
    return "\n".join([*lines, "}"]) + "\n"


def title(model: Model) -> str:
    """The line above the picture."""
    return f"libspice-server {model.name}: {len(model)} states"


def svg(model: Model) -> bytes | None:
    """The picture as SVG; None if Graphviz is not installed or fails."""
    program = shutil.which("dot")
    if program is None:
        return None
    done = subprocess.run([program, "-Tsvg"], input=dot(model).encode(), capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def write(model: Model, directory: Path) -> bool:
    """Writes `model.dot`, and `model.svg` if that can be drawn; returns whether it was. Raises OSError."""
    (directory / DOT).write_text(dot(model), encoding="utf-8")
    drawn = svg(model)
    if drawn is not None:
        (directory / SVG).write_bytes(drawn)
    return drawn is not None


def _label(letter: str, answer: str) -> str:
    return "<br/>".join([f"<b>{escape(letter)}</b>", *(escape(part) for part in _broken(answer, 34))])


def _box(model: Model, state: int, tree: Mapping[int, tuple[int, str]]) -> str:
    rows = [f'<tr><td bgcolor="{_HEAD}" colspan="2"><b>state {state}</b></td></tr>']
    for letters, answer, following in grouped(model, state, tree):
        same = following == state
        colour = _RED if fatal(answer) else _GREY if same else "black"
        text = f'<font color="{colour}">{_lines(letters, answer)}</font>'
        where = "" if same else "the end" if fatal(answer) else f"→ {following}"
        rows.append(f'<tr><td align="left" balign="left">{text}</td><td align="left">{where}</td></tr>')
    return f'<table border="0" cellborder="1" cellspacing="0" cellpadding="3">{"".join(rows)}</table>'


def grouped(
    model: Model, state: int, tree: Mapping[int, tuple[int, str]]
) -> Iterator[tuple[list[str], str, int]]:
    """(letters, their answer, the next state) of a state, without the lines of the picture: first answers
    that lead to another state, then those that change nothing, then those that end the process."""
    groups: dict[tuple[str, int], list[str]] = {}
    for letter, (answer, following) in model.steps[state].items():
        if answer != IMPOSSIBLE and tree.get(following) != (state, letter):
            groups.setdefault((answer, following), []).append(letter)
    order = sorted(groups.items(), key=lambda each: (fatal(each[0][0]), each[0][1] == state))
    for (answer, following), letters in order:
        yield letters, answer, following


def _lines(letters: list[str], answer: str) -> str:
    lines = [escape(line) for line in _broken(", ".join(letters))]
    if answer != NOTHING:
        lines += [f"&nbsp;&nbsp;{escape(line)}" for line in _broken(answer)]
    return "<br/>".join(f"{line}{ROOM}" for line in lines)


def _broken(text: str, width: int = WIDTH) -> list[str]:
    """A text wrapped to about this width."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


if __name__ == "__main__":
    write(read(Path(sys.argv[1])), Path(sys.argv[2]))
