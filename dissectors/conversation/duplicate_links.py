# SPDX-License-Identifier: GPL-2.0-only
"""Finds a link that a capture holds twice: before and behind a proxy, or before and after address translation
on the capturing machine."""

from __future__ import annotations

from dissectors.conversation.parties import Connection
from dissectors.framing.events import Opened

LOOPBACK = ("127.0.0.1", "::1")


def legs_of_one_link(one: Connection, other: Connection) -> tuple[Connection, Connection] | None:
    """(first leg, second leg) if both carry one link: they share the server's key and the client's encrypted
    ticket, which are new for each link, and the addresses fit. The second leg has no session yet."""
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
    """Whether the second leg comes from the machine that the first leg goes to. This proves nothing where all
    is on one machine."""
    between = {here.server.host, *(LOOPBACK if here.client.host not in LOOPBACK else ())}
    return there.client.host in between and here.client.host not in between
