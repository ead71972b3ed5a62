# SPDX-License-Identifier: GPL-2.0-only
"""Notes beside the story: taken-over sessions, arriving clients, unreachable addresses, both legs of a
proxied link, a lost agent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dissectors.conversation.arrival import announced, unfit_address
from dissectors.conversation.conversation import Connection, Conversation, Migration, Session
from dissectors.conversation.pairing import client_of
from dissectors.framing.events import Endpoint, Event
from dissectors.wire.constants import MsgcMain, Side
from dissectors.wire.visible_text import visible_host

if TYPE_CHECKING:
    from dissectors.rules.inspector import Inspection

#: A session of another client that ends within this time (s) was taken over.
TAKEN_S = 5.0


def host_name(view: Conversation, session: Session) -> str | None:
    """The label of a session's host, else the address that its main channel connected to."""
    label = view.hosts[session.host].label if session.host >= 0 else None
    opened = session.main.opened
    return label or (str(opened.server) if opened else None)


def notes(inspection: Inspection) -> Iterator[dict[str, Any]]:
    """All notes, in the form of the story's data."""
    view = inspection.oracle.conversation
    yield from _cut(inspection)
    yield from _legs(view)
    for session in view.sessions:
        yield from _take_over(view, session)
        if (session.main.as_target or session.main.arrives) and session.arrived is None:
            client = client_of(session) or "an unknown client"
            named = f" with session {session.id:#010x}" if session.id is not None else ""
            text = f"{client} comes to {host_name(view, session)}{named}"
            text += ": where it comes from is not in the capture"
            yield _note("arrival", text, session.main.mess or session.init, session.main)
    for migration in view.migrations:
        unfit = unfit_address(migration)
        if unfit:
            text = f"the announcement sends the client to {visible_host(announced(migration))}: {unfit}"
            if migration.target is not None:
                text += f"; it has come to {host_name(view, migration.target)} all the same"
            yield _note("address", text, migration.begin or migration.ended, migration.source.main)
        yield from _agent_lost(migration)


def _cut(inspection: Inspection) -> Iterator[dict[str, Any]]:
    """One note for all packets that a snap length cut."""
    cut = [gap for gap in inspection.gaps if gap.cut]
    if cut and not any("-s 0" in note for note in inspection.source.notes):
        size = sum(gap.bytes or 0 for gap in cut)
        text = f"packets are cut by a snap length, {size:,} bytes are missing: capture with -s 0"
        yield {"kind": "cut", "text": text, "packet": cut[0].frame, "connection": cut[0].connection}


def _legs(view: Conversation) -> Iterator[dict[str, Any]]:
    """One note for each pair of addresses between which a proxy passes links on."""
    ways: dict[tuple[Endpoint, Endpoint], list[tuple[int, Connection]]] = {}
    for second, first in view.legs.items():
        if first.server is not None and first.beyond is not None and first.beyond.server is not None:
            ways.setdefault((first.server, first.beyond.server), []).append((second, first))
    for (here, there), links in ways.items():
        pairs = ", ".join(f"{first.number} and {second}" for second, first in links[:4])
        more = f" and {len(links) - 4} more" if len(links) > 4 else ""
        text = f"what goes to {here} goes on to {there}: both legs are in the capture; the link is shown once"
        yield _note("legs", f"{text} (connections {pairs}{more})", links[0][1].ticket, links[0][1])


def _take_over(view: Conversation, session: Session) -> Iterator[dict[str, Any]]:
    old = session.replaces
    if old is None or session.arrived is not None or session.main.as_target:
        return
    begun = session.main.result or session.main.opened
    closed = old.main.closed
    new_client, old_client = client_of(session), client_of(old)
    where, same = host_name(view, session), new_client == old_client
    taken = closed is not None and begun is not None and closed.time - begun.time <= TAKEN_S
    if same and not (taken and closed is not None and closed.by is Side.SERVER):
        return
    if closed is None or not taken:
        text = f"{new_client} and {old_client} are both connected to {where}"
    else:
        who = f"another client at {new_client}, or the same one again," if same else f"{new_client}"
        text = f"{who} took {where} over from {old_client}, whose session ended at frame {closed.frame}"
    yield _note("take-over", text, begun, session.main)


def _agent_lost(migration: Migration) -> Iterator[dict[str, Any]]:
    source, target = migration.source, migration.target
    if target is None or source.agent is not True or target.agent is not False:
        return
    init = target.init
    if init is None:
        return
    text = f"the agent was connected at the source and is not at the target (INIT, frame {init.frame})"
    if target.agent_data is not None and MsgcMain.SPICE_MSGC_MAIN_AGENT_START not in target.main.said:
        text += f"; the client's AGENT_DATA goes on without AGENT_START (frame {target.agent_data.frame})"
    text += ": look at the target's agent device and at the guest's agent"
    yield _note("agent", text, init, target.main)


def _note(kind: str, text: str, event: Event | None, connection: Connection) -> dict[str, Any]:
    frame = event.frame if event is not None else None
    return {"kind": kind, "text": text, "packet": frame, "connection": connection.number}
