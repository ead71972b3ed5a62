# SPDX-License-Identifier: GPL-2.0-only
"""The matrix of a run as pictures for the page: a row for each act, a column for each place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from dissectors.rules.judgement import Verdict
from reports.run.tally import Run
from reports.views.matrix_data import matrix

#: (sign, tone, meaning) by kind of cell: a sign as well as a colour, for readers who cannot see the colour.
KINDS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "silence": ("·", "calm", "no message, as the tables require"),
        "answer": ("a", "answer", "the server answers as the tables require"),
        "closed": ("c", "closed", "the server ends the connection"),
        "deviates": ("!", "warn", "a requirement is not kept, as declared"),
        "differs": ("~", "warn", "a recommendation is not kept"),
        "fails": ("✕", "bad", "a requirement is not kept"),
        "open": ("?", "dim", "not judged"),
        "left_out": ("-", "out", "left out, with the reason"),
    }
)
#: The beginning of each kind of act, in the order of the rows.
GROUPS = (("link ", "Links"), ("SPICE_", "Messages"), ("", "Calls of the hypervisor, and leaving"))
_OF_VERDICT = {
    Verdict.FAIL: "fails",
    Verdict.ERROR: "fails",
    Verdict.DEVIATES: "deviates",
    Verdict.DIFFERS: "differs",
    Verdict.INCONCLUSIVE: "open",
    Verdict.UNSUPPORTED: "open",
}


@dataclass(frozen=True)
class Square:
    """One cell. `text`: its outcome, or why it is left out."""

    kind: str
    text: str

    @property
    def sign(self) -> str:
        """Its sign in the picture."""
        return KINDS[self.kind][0]

    @property
    def tone(self) -> str:
        """Its colour's name."""
        return KINDS[self.kind][1]


@dataclass(frozen=True)
class Column:
    """A place: its state, its name, its test's id, its cells by act."""

    state: str
    place: str
    test: str
    cells: Mapping[str, Square]


@dataclass(frozen=True)
class Picture:
    """A channel's matrix on one build."""

    server: str
    channel: str
    driven: int
    left_out: int
    columns: tuple[Column, ...]

    @property
    def groups(self) -> list[tuple[str, list[str]]]:
        """(heading, acts), with every act of any place once."""
        acts = dict.fromkeys(act for column in self.columns for act in column.cells)
        found: dict[str, list[str]] = {heading: [] for heading in ("Messages", "Links", GROUPS[-1][1])}
        for act in acts:
            found[next(heading for begin, heading in GROUPS if act.startswith(begin))].append(act)
        return [(heading, many) for heading, many in found.items() if many]

    @property
    def counts(self) -> dict[str, int]:
        """kind -> number of cells."""
        kinds = [square.kind for column in self.columns for square in column.cells.values()]
        return {kind: n for kind in KINDS if (n := kinds.count(kind))}


def pictures(run: Run) -> list[Picture]:
    """A picture for each build and channel; none if no cell was played."""
    found: list[Picture] = []
    channels = matrix(run)["channels"]
    for server in run.servers:
        for channel in channels:
            columns = tuple(
                Column(state["state"], place["place"], place["test"], _squares(place["cells"]))
                for state in channel["states"]
                for place in state["places"]
                if place["server"] == server
            )
            if columns:
                squares = [square for column in columns for square in column.cells.values()]
                out = sum(square.kind == "left_out" for square in squares)
                found.append(Picture(server, channel["channel"], len(squares) - out, out, columns))
    return found


def _squares(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, Square]:
    return {name: _square(cell) for name, cell in cells.items()}


def _square(cell: Mapping[str, Any]) -> Square:
    if "left_out" in cell:
        return Square("left_out", cell["left_out"])
    text = str(cell["outcome"])
    if kind := _OF_VERDICT.get(Verdict(cell["verdict"])):
        return Square(kind, text)
    if "closed" in text or "reset" in text:
        return Square("closed", text)
    return Square("silence" if text == "silence" else "answer", text)
