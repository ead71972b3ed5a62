# SPDX-License-Identifier: GPL-2.0-only
"""One link that a capture has twice: before and behind a proxy, or before and after its addresses were
translated on the capturing machine."""

from __future__ import annotations

from dissectors.conversation.parties import Connection
from dissectors.framing.events import Opened

LOOPBACK = ("127.0.0.1", "::1")


def legs_of_one_link(one: Connection, other: Connection) -> tuple[Connection, Connection] | None:
    """(first leg, second leg) where both carry one link: the server's key and the client's ticket, which are
    made anew for each link, are the same, and the addresses fit. The second leg has no session yet."""
    here, there = one.opened, other.opened
    if here is None or there is None or here.host is not None or here.server == there.server:
        return None
    parts = (one.mess, other.mess), (one.reply, other.reply), (one.ticket, other.ticket)
    if not all(mine is not None and yours is not None and mine.raw == yours.raw for mine, yours in parts):
        return None
    if _passed_on(here, there) or (here.client == there.client and here.time <= there.time):
        first, second = one, other
    elif _passed_on(there, here) or here.client == there.client:
        first, second = other, one
    else:
        return None
    if second.session is None:
        return first, second
    return (second, first) if first.session is None else None


def _passed_on(here: Opened, there: Opened) -> bool:
    """The machine that the first leg goes to is where the second one comes from. Where all is on one machine
    that says nothing."""
    between = {here.server.host, *(LOOPBACK if here.client.host not in LOOPBACK else ())}
    return there.client.host in between and here.client.host not in between
