# SPDX-License-Identifier: GPL-2.0-only
"""One link that a capture has twice: before and behind a proxy, or before and after its addresses were
translated on the capturing machine."""

from __future__ import annotations

from dissectors.conversation.parties import Connection
from dissectors.framing.events import Opened

LOOPBACK = ("127.0.0.1", "::1")


def same_link(first: Connection, second: Connection) -> bool:
    """`second` carries the link of `first` on: the server's key and the client's ticket, both made anew for
    each link, are the same, and the addresses fit."""
    here, there = first.opened, second.opened
    if here is None or there is None or here.host is not None or first.session or second.session:
        return False
    parts = (first.mess, second.mess), (first.reply, second.reply), (first.ticket, second.ticket)
    same = all(one is not None and other is not None and one.raw == other.raw for one, other in parts)
    return same and here.server != there.server and (_passed_on(here, there) or _translated(here, there))


def _passed_on(here: Opened, there: Opened) -> bool:
    """The machine that the first leg goes to is where the second one comes from. Where all is on one machine
    that says nothing."""
    between = {here.server.host, *(LOOPBACK if here.client.host not in LOOPBACK else ())}
    return there.client.host in between and here.client.host not in between


def _translated(here: Opened, there: Opened) -> bool:
    """The same client's end, to another address."""
    return here.client == there.client
