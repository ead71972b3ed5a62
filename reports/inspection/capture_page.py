# SPDX-License-Identifier: GPL-2.0-only
"""One self-contained page of a capture: summary, findings, the ladder, each message with all its fields."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from markupsafe import Markup
from scapy.utils import hexdump

from dissectors.framing.events import ConnectFailed, ConnectionEvent, Event, HostEvent, LinkBytes, Message
from dissectors.wire.constants import channel_name
from dissectors.wire.visible_text import visible
from reports.inspection.migration_text import durations
from reports.ladder import ladder_svg, wording
from reports.ladder.lanes import Ladder
from reports.views.page import environment

ROWS = 600  # of the ladder
BYTES = 1024  # of one message that are shown
HIDDEN = "hidden; --show-secrets shows it"


class KeptMessages(Protocol):
    """What `reports.commands.inspect.InspectedStory` has."""

    events: list[Event]

    @property
    def agent(self) -> Mapping[int, Sequence[Any]]:
        """Agent messages by the index in `events` of the event that completed them."""

    def ladders(self, limit: int) -> list[tuple[str, Ladder]]:
        """(title, ladder) of each group of sessions, in at most about `limit` rows each."""


def page(story: Mapping[str, Any], kept: KeptMessages, *, show_secrets: bool = False) -> str:
    """The page's text."""
    ladders = [(title, ladder) for title, ladder in kept.ladders(ROWS) if ladder.rows]
    details = {
        row.event: {
            "time": ladder_svg.clock(row.time),
            **_details(kept.events[row.event], show_secrets=show_secrets),
            **_agent(kept.agent.get(row.event, ())),
        }
        for _, ladder in ladders
        for row in ladder.rows
        if row.event is not None
    }
    drawings = [
        (title, Markup(ladder_svg.svg(ladder, title or "Ladder of the capture", interactive=True)))
        for title, ladder in ladders
    ]
    template = environment().get_template("inspect.html")
    return template.render(
        story=story,
        drawings=drawings,
        details=_script(details),
        durations=durations,
        channel_name=channel_name,
    )


def _script(data: object) -> Markup:
    """JSON for a script element: its content cannot end the element."""
    return Markup(json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"))


def _details(event: Event, *, show_secrets: bool) -> dict[str, Any]:
    """The details that a click on a row shows; all texts."""
    details: dict[str, Any] = {"frame": event.frame}
    match event:
        case Message():
            details |= {"title": event.name, "connection": event.connection, "sender": str(event.sender)}
            details["size"] = f"{event.size:,} bytes" + ("" if event.whole else " (not all of it was kept)")
            if event.whole:
                details |= {"fields": _fields(event.packet), "bytes": _bytes(event.body)}
        case LinkBytes():
            label, _, _ = wording.link(event)
            details |= {"title": label, "connection": event.connection, "sender": str(event.sender)}
            secret = event.kind in wording.SECRET_KINDS and not show_secrets
            details |= {
                "size": f"{len(event.raw):,} bytes",
                "fields": HIDDEN if secret else _fields(event.packet),
                "bytes": HIDDEN if secret else _bytes(event.raw),
            }
        case HostEvent():
            label, detail = wording.host(event)
            details |= {"title": label, "host": event.host, "fields": detail}
        case ConnectFailed():
            details |= {
                "title": f"connection {event.how}",
                "connection": event.connection,
                "fields": event.why,
            }
        case ConnectionEvent():
            label, detail, _ = wording.around(event)
            details |= {"title": label, "connection": event.connection, "fields": detail}
    return details


def _agent(packets: Sequence[Any]) -> dict[str, str]:
    """The agent messages that this AGENT_DATA completed."""
    return {"agent": "\n".join(map(_fields, packets))} if packets else {}


def _fields(packet: Any) -> str:
    return "\n".join(map(visible, str(packet.show(dump=True)).split("\n")))


def _bytes(data: Sequence[int] | bytes) -> str:
    shown = bytes(data[:BYTES])
    more = f"\n{len(data) - BYTES:,} bytes more" if len(data) > BYTES else ""
    return str(hexdump(shown, dump=True)) + more if shown else "none"
