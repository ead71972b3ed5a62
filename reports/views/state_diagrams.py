# SPDX-License-Identifier: GPL-2.0-only
"""The order tables as pictures: one for each scheme and side, so that each fits on a screen."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from textwrap import wrap

from markupsafe import Markup

from dissectors.conversation.channel_order import MIGRATING_ORDER, SECONDARY_ORDER
from dissectors.conversation.connection_states import State
from dissectors.conversation.main_order import MAIN_ORDER
from dissectors.conversation.order_rows import Row
from dissectors.wire.constants import ChannelType, MsgMain, Side, channel_name, message_name

Rows = Mapping[tuple[State, Side], Row]
Edges = dict[tuple[State, State], list[str]]

DOT_SECONDS = 30.0
LINE_END = "\\n"  # graphviz's own
STATE_WIDTH = 18  # characters of a state's name in a line
SHORT = {Side.SERVER: "S", Side.CLIENT: "C"}
#: Messages that lead from nearly every state of a source to another: they have a picture of their own.
ANYWHERE = frozenset(
    {
        MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN,
        MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS,
        MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST,
    }
)
_MAIN, _OTHER = ChannelType.SPICE_CHANNEL_MAIN, ChannelType.SPICE_CHANNEL_INPUTS


@dataclass(frozen=True)
class Diagram:
    """A picture of some steps: those between `states` (None: all), of the messages in `only` (None: all) and
    not of those in `without`. All steps from `first` are drawn, whatever their message."""

    title: str
    rows: Rows
    channel: int
    states: frozenset[State] | None = None
    only: frozenset[int] | None = None
    without: frozenset[int] = frozenset()
    first: frozenset[State] = frozenset()

    @property
    def edges(self) -> Edges:
        """(state, next state) -> the messages that lead there, `S: ` or `C: ` before each name."""
        found: Edges = {}
        for start, sender, kind, end in steps(self.rows):
            if self._shows(start, sender, kind, end):
                message = f"{SHORT[sender]}: {short_name(self.channel, sender, kind)}"
                found.setdefault((start, end), []).append(message)
        return found

    @property
    def breaches(self) -> Edges:
        """The same for breaches that are the only way to one of its states."""
        shown = {state for edge in self.edges for state in edge}
        reached = {end for *_, end in steps(self.rows)}
        found: Edges = {}
        for (state, sender), row in self.rows.items():
            for kind, breach in row.breaks.items():
                if breach.to in shown - reached - {state} and state in shown:
                    message = f"{SHORT[sender]}: {short_name(self.channel, sender, kind)}"
                    found.setdefault((state, breach.to), []).append(message)
        return found if self.only is None else {}

    def _shows(self, start: State, sender: Side, kind: int, end: State) -> bool:
        if self.states is not None and not self.states.issuperset({start, end}):
            return False
        if sender is Side.CLIENT or start in self.first:
            return self.only is None
        return kind not in self.without and (self.only is None or kind in self.only)

    @property
    def picture(self) -> Markup | None:
        """The picture as SVG; None without graphviz."""
        return _drawn(self.edges, self.breaches)


def steps(rows: Rows) -> Iterator[tuple[State, Side, int, State]]:
    """(state, sender, message type, next state) of each legal step to another state."""
    for (state, sender), row in rows.items():
        for kind, to in row.go.items():
            yield state, sender, kind, to.state


def short_name(channel: int, sender: Side, kind: int) -> str:
    """A message's name without its common prefix."""
    name = message_name(channel, sender, kind)
    for begin in ("SPICE_MSGC_", "SPICE_MSG_"):
        name = name.removeprefix(begin)
    return name.removeprefix(f"{channel_name(channel).upper()}_")


_SEMI = frozenset(
    {
        State.LINKED,
        State.READY,
        State.ANNOUNCED,
        State.REFUSED,
        State.CONNECTED,
        State.CONNECTED_AGAIN,
        State.SEAMLESS_UNASKED,
        State.ENDED,
    }
)
_SEAMLESS = frozenset(
    {
        State.READY,
        State.ANNOUNCED_SEAMLESS,
        State.REFUSED,
        State.CONNECTED,
        State.CONNECTED_SEAMLESS,
        State.SEAMLESS_AGAIN,
        State.FLUSH_DUE,
    }
)
_TARGET = frozenset(state for state in State if state.name.startswith("TARGET_"))

DIAGRAMS = (
    Diagram(
        "The main channel of a source: semi-seamless", MAIN_ORDER, _MAIN, _SEMI, without=ANYWHERE,
        first=frozenset({State.READY}),
    ),
    Diagram(
        "The main channel of a source: seamless", MAIN_ORDER, _MAIN, _SEAMLESS, without=ANYWHERE,
        first=frozenset({State.READY}),
    ),
    Diagram(
        "The main channel of a source: announced again, and switch-host", MAIN_ORDER, _MAIN,
        frozenset(State) - _TARGET, only=ANYWHERE,
    ),
    Diagram(
        "The main channel of a target",
        MAIN_ORDER,
        _MAIN,
        _TARGET | {State.READY, State.SWITCHED},
        first=_TARGET,
    ),
    Diagram("Every channel that a seamless migration moves", {**SECONDARY_ORDER, **MIGRATING_ORDER}, _OTHER),
)  # fmt: skip


def undrawn(rows: Rows, diagrams: Collection[Diagram] = DIAGRAMS) -> list[tuple[State, State]]:
    """The steps of a table that no picture shows."""
    drawn = {edge for diagram in diagrams for edge in diagram.edges}
    return [(start, end) for start, _, _, end in steps(rows) if (start, end) not in drawn]


def _drawn(edges: Edges, breaches: Edges) -> Markup | None:
    """By graphviz, from left to right, an SVG without a header."""
    dot = shutil.which("dot")
    if dot is None:
        return None
    lines = ['digraph { rankdir=LR; nodesep=0.3; ranksep=0.25; bgcolor="transparent";']
    lines.append('node [shape=box, style="rounded,filled", fillcolor="#eef2f8", color="#667085",')
    lines.append('fontname="sans-serif", fontsize=13];')
    lines.append('edge [fontname="sans-serif", fontsize=11, color="#667085"];')
    for state in dict.fromkeys(state for edge in edges | breaches for state in edge):
        lines.append(f'"{state}" [label="{LINE_END.join(wrap(state, STATE_WIDTH))}"];')
    for (start, end), messages in (edges | breaches).items():
        label = LINE_END.join(messages[:3] + [f"and {len(messages) - 3} more"] * (len(messages) > 3))
        style = ' style=dashed color="#b42318" fontcolor="#b42318"' if (start, end) in breaches else ""
        lines.append(f'"{start}" -> "{end}" [label="{label}"{style}];')
    made = subprocess.run(
        [dot, "-Tsvg"],
        input="\n".join([*lines, "}"]),
        capture_output=True,
        text=True,
        timeout=DOT_SECONDS,
        check=True,
    )
    return Markup(made.stdout[made.stdout.index("<svg") :])
