# SPDX-License-Identifier: GPL-2.0-only
"""Decides which TLS connections that cannot be decrypted are reported.

Most of them on a host are no SPICE. The reader reports one that goes to a host where SPICE was seen or
announced, or that ends in an alert or in another protocol. Where no SPICE was seen at all, it reports the
first ones at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dissectors.capture.capture_items import Begin, End
from dissectors.framing.events import ConnectionEvent, TlsAlert, TlsHello, WrongProtocol

KEPT = 50  # closed connections that may be reported at the end
KEPT_EVENTS = 32  # of one connection

Kept = Begin | ConnectionEvent | End


class SealedTls:
    """Unreported connections. `known(host)`: whether SPICE was seen or announced at that host."""

    def __init__(self, known: Callable[[str], bool]) -> None:
        self._known = known
        self._kept: dict[int, list[Kept]] = {}
        self._ended = 0
        self.dropped = 0  # connections that are never reported

    def begin(self, item: Begin) -> bool:
        """Takes a connection; returns whether it is reported at once."""
        if self._known(item.server.host) or self._known(item.client.host):
            return True
        self._kept[item.connection] = [item]
        return False

    def holds(self, connection: int) -> bool:
        """Whether the connection is held here."""
        return connection in self._kept

    def event(self, event: ConnectionEvent) -> list[Kept]:
        """Takes an event of a held connection; returns all its events once it is to be reported."""
        kept = self._kept[event.connection]
        if len(kept) < KEPT_EVENTS:
            kept.append(event)
        return self._kept.pop(event.connection) if self._matters(event) else []

    def end(self, item: End) -> None:
        """The connection's end; one that is not kept for the end of the capture is forgotten."""
        self._kept[item.connection].append(item)
        self._ended += 1
        if self._ended > KEPT:
            del self._kept[item.connection]
            self.dropped += 1

    def rest(self, *, tell: bool) -> Iterator[list[Kept]]:
        """At the end of the capture: the connections that are reported after all. `tell`: all of them."""
        waiting, self._kept = self._kept, {}
        for number, kept in enumerate(waiting.values()):
            begin = kept[0]
            known = isinstance(begin, Begin) and self._known(begin.server.host)
            if known or (tell and number < KEPT):
                yield kept
            else:
                self.dropped += 1

    def _matters(self, event: ConnectionEvent) -> bool:
        match event:
            case TlsAlert() | WrongProtocol():
                return True
            case TlsHello(server_name=str(name)):
                return self._known(name)
        return False
