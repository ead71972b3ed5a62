# SPDX-License-Identifier: GPL-2.0-only
"""TLS connections that cannot be decrypted: which of them are worth telling?

A host has many that are no SPICE. Told is one that goes to a host where SPICE was seen or announced, or that
ends in an alert or in another protocol. Where no SPICE was seen at all, the first ones are told at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dissectors.capture.items import Begin, End
from dissectors.framing.events import ConnectionEvent, TlsAlert, TlsHello, WrongProtocol

KEPT = 50  # connections that are over and may be told at the end
KEPT_EVENTS = 32  # of one connection

Kept = Begin | ConnectionEvent | End


class SealedTls:
    """Connections that have not been told (yet). `known(host)`: SPICE was seen or announced at that host."""

    def __init__(self, known: Callable[[str], bool]) -> None:
        self._known = known
        self._kept: dict[int, list[Kept]] = {}
        self._ended = 0
        self.dropped = 0  # connections that are not told

    def begin(self, item: Begin) -> bool:
        """A connection; whether it is told at once."""
        if self._known(item.server.host) or self._known(item.client.host):
            return True
        self._kept[item.connection] = [item]
        return False

    def holds(self, connection: int) -> bool:
        """The connection waits here."""
        return connection in self._kept

    def event(self, event: ConnectionEvent) -> list[Kept]:
        """An event of a connection that waits here; everything of it, once that is worth telling."""
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
        """At the end of the capture: the connections that are told after all. `tell`: whatever they are."""
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
