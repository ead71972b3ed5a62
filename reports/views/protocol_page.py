# SPDX-License-Identifier: GPL-2.0-only
"""The protocol as we check it, as one page: states, messages and requirements, drawn from the order tables
and the catalogue. `spice-conform requirements --html FILE` writes it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from dissectors.conversation.order_tables import MAIN, MIGRATING, SECONDARY, Row, State
from dissectors.rules.catalogue import CATALOGUE, citations
from dissectors.rules.judgement import Requirement
from dissectors.rules.unseen_behaviour import UNSEEN
from dissectors.wire.constants import MESSAGE_NAMES, ChannelType, Side, channel_name, message_name
from reports.views.page import environment

DOT_SECONDS = 30.0
SHORT = {Side.SERVER: "S", Side.CLIENT: "C"}
#: What must precede MIGRATE_DATA, each step with who takes it and the requirement that holds it.
BEFORE_DATA = (
    (
        "source",
        "SPICE_MSG_MIGRATE on each channel, after migrate_end(1), to a client that has said"
        " CONNECTED_SEAMLESS; its flags say whether a flush mark and data follow",
        "MIG-SRC-040",
    ),
    ("client", "SPICE_MSGC_MIGRATE_FLUSH_MARK where NEED_FLUSH asks for it", "MIG-CLI-009"),
    ("client", "nothing more on that channel after the flush mark", "MIG-CLI-011"),
    (
        "source",
        "SPICE_MSG_MIGRATE_DATA after it, where NEED_DATA_TRANSFER announced it",
        "MIG-SRC-042",
    ),
    ("source", "nothing but that, and that once", "MIG-SRC-041"),
    ("client", "the same bytes on the target's channel, as SPICE_MSGC_MIGRATE_DATA", "MIG-CLI-010"),
    (
        "target",
        "nothing before it that the client has already; then it goes on",
        "MIG-DST-027",
    ),
)


@dataclass(frozen=True)
class Table:
    """One order table: its title, a picture (SVG, None without graphviz), its rows."""

    title: str
    rows: Mapping[tuple[State, Side], Row]
    channel: int

    @property
    def picture(self) -> Markup | None:
        """The states and the messages that lead from one to the other."""
        edges: dict[tuple[State, State], list[str]] = {}
        for (state, sender), row in self.rows.items():
            for kind, to in row.go.items():
                told = f"{SHORT[sender]}: {short_name(self.channel, sender, kind)}"
                edges.setdefault((state, to.state), []).append(told)
        return _drawn(edges)

    @property
    def steps(self) -> Iterator[tuple[str, str, str, str, str]]:
        """(state, sender, message, where it leads, requirements)."""
        for (state, sender), row in self.rows.items():
            for kind, to in row.go.items():
                name = message_name(self.channel, sender, kind)
                yield str(state), sender.name.lower(), name, str(to.state), " ".join(to.keeps)
            for kind, breach in row.breaks.items():
                name = message_name(self.channel, sender, kind)
                yield str(state), sender.name.lower(), name, "is a breach", breach.requirement


def short_name(channel: int, sender: Side, kind: int) -> str:
    """Without what every name begins with."""
    name = message_name(channel, sender, kind)
    for begin in ("SPICE_MSGC_", "SPICE_MSG_"):
        name = name.removeprefix(begin)
    return name.removeprefix(f"{channel_name(channel).upper()}_")


def tables() -> list[Table]:
    """Every order table."""
    main, inputs = int(ChannelType.SPICE_CHANNEL_MAIN), int(ChannelType.SPICE_CHANNEL_INPUTS)
    return [
        Table("The main channel", MAIN, main),
        Table("Every channel while a seamless migration moves it", MIGRATING, main),
        Table("The other channels", SECONDARY, inputs),
    ]


def protocol_page() -> str:
    """The page's text, self-contained."""
    areas = [(area, list(many)) for area, many in groupby(CATALOGUE.values(), key=lambda r: r.area)]
    known = [(who, what, i) for who, what, i in BEFORE_DATA if i in CATALOGUE]
    timers = [r for r in CATALOGUE.values() if r.area == "time"]
    return (
        environment()
        .get_template("protocol.html")
        .render(
            tables=tables(),
            areas=areas,
            citations=_cited,
            before=known,
            timers=timers,
            messages=list(_messages()),
            unseen=list(UNSEEN.values()),
        )
    )


def _cited(requirement: Requirement) -> list[tuple[str, str]]:
    return [(str(part), str(document)) for part, document in citations(requirement)]


def _messages() -> Iterator[tuple[str, str, list[str]]]:
    """(channel, sender, the messages' names)."""
    for (channel, sender), names in MESSAGE_NAMES.items():
        yield channel_name(channel), sender.name.lower(), list(names.values())


def _drawn(edges: Mapping[tuple[State, State], list[str]]) -> Markup | None:
    """By graphviz, an SVG without a header."""
    dot = shutil.which("dot")
    if dot is None:
        return None
    lines = ['digraph { rankdir=TB; bgcolor="transparent"; node [shape=box, style="rounded,filled",']
    lines.append('fillcolor="#eef2f8", color="#667085", fontname="sans-serif", fontsize=12];')
    lines.append('edge [fontname="sans-serif", fontsize=9, color="#667085"];')
    for (start, end), told in edges.items():
        label = "\\n".join(told[:3] + [f"and {len(told) - 3} more"] * (len(told) > 3))
        lines.append(f'"{start}" -> "{end}" [label="{label}"];')
    made = subprocess.run(
        [dot, "-Tsvg"],
        input="\n".join([*lines, "}"]),
        capture_output=True,
        text=True,
        timeout=DOT_SECONDS,
        check=True,
    )
    return Markup(made.stdout[made.stdout.index("<svg") :])
