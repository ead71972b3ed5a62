# SPDX-License-Identifier: GPL-2.0-only
"""The protocol that the suite checks, as one page: states, messages and requirements, drawn from the order
tables and the catalogue. `spice-conform requirements --html FILE` writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from dissectors.conversation.channel_order import MIGRATING_ORDER, SECONDARY_ORDER
from dissectors.conversation.connection_states import State
from dissectors.conversation.main_order import MAIN_ORDER
from dissectors.conversation.order_rows import Row
from dissectors.rules.catalogue import CATALOGUE, citations
from dissectors.rules.judgement import Requirement
from dissectors.rules.unseen_behaviour import UNSEEN
from dissectors.wire.constants import MESSAGE_NAMES, ChannelType, Side, channel_name, message_name
from reports.views.page import environment
from reports.views.state_diagrams import DIAGRAMS

#: The steps before MIGRATE_DATA and after it, each with its actor and the requirement that checks it.
BEFORE_DATA = (
    (
        "source",
        "SPICE_MSG_MIGRATE on each channel, after migrate_end(1), to a client that has said"
        " CONNECTED_SEAMLESS; its flags say whether a flush mark and data follow",
        "MIG-SRC-040",
    ),
    ("client", "SPICE_MSGC_MIGRATE_FLUSH_MARK if the flags have NEED_FLUSH", "MIG-CLI-009"),
    ("client", "nothing more on that channel after the flush mark", "MIG-CLI-011"),
    (
        "source",
        "SPICE_MSG_MIGRATE_DATA after it, if the flags have NEED_DATA_TRANSFER",
        "MIG-SRC-042",
    ),
    ("source", "MIGRATE_DATA once, and no other message", "MIG-SRC-041"),
    ("client", "the same bytes on the target's channel, as SPICE_MSGC_MIGRATE_DATA", "MIG-CLI-010"),
    (
        "target",
        "before it, nothing that the client already has; then the session goes on",
        "MIG-DST-027",
    ),
)


@dataclass(frozen=True)
class Table:
    """One order table: its title, its rows."""

    title: str
    rows: Mapping[tuple[State, Side], Row]
    channel: int

    @property
    def steps(self) -> Iterator[tuple[str, str, str, str, str]]:
        """(state, sender, message, next state, requirements)."""
        for (state, sender), row in self.rows.items():
            for kind, to in row.go.items():
                name = message_name(self.channel, sender, kind)
                yield str(state), sender.name.lower(), name, str(to.state), " ".join(to.keeps)
            for kind, breach in row.breaks.items():
                name = message_name(self.channel, sender, kind)
                yield str(state), sender.name.lower(), name, "is a breach", breach.requirement


def tables() -> list[Table]:
    """Every order table."""
    main, inputs = int(ChannelType.SPICE_CHANNEL_MAIN), int(ChannelType.SPICE_CHANNEL_INPUTS)
    return [
        Table("The main channel", MAIN_ORDER, main),
        Table("Every channel while a seamless migration moves it", MIGRATING_ORDER, main),
        Table("The other channels", SECONDARY_ORDER, inputs),
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
            diagrams=DIAGRAMS,
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
