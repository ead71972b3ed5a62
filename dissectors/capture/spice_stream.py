# SPDX-License-Identifier: GPL-2.0-only
"""A connection with an end that speaks SPICE; reports it where the other end speaks something else."""

from __future__ import annotations

from collections.abc import Iterator

from dissectors.capture.capture_items import AnyItem, Begin, Chunk, End, Gap
from dissectors.capture.protocol_heads import protocol_name
from dissectors.capture.stream_context import OTHER
from dissectors.capture.tls_alerts import alert_in_clear
from dissectors.framing.events import WrongProtocol
from dissectors.wire.constants import Side


class SpiceStream:
    """Passes everything on except the bytes of an end that speaks another known protocol."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._judged: dict[Side, bool] = {}  # end -> whether it speaks SPICE

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `Stage`."""
        if isinstance(item, End):
            yield item
            return
        if item.sender not in self._judged:
            name = protocol_name(item.data) if isinstance(item, Chunk) else None
            self._judged[item.sender] = name in (None, "SPICE")
            if name is not None and name != "SPICE" and isinstance(item, Chunk):
                yield from self._wrong(item, name)
        if self._judged[item.sender]:
            yield item

    def _wrong(self, item: Chunk, name: str) -> Iterator[AnyItem]:
        """Reports that the two ends speak different protocols."""
        names = {item.sender: name, OTHER[item.sender]: "SPICE"}
        frame, time = item.at(0)
        yield WrongProtocol(
            time=time,
            frame=frame,
            connection=item.connection,
            client_speaks=names[Side.CLIENT],
            server_speaks=names[Side.SERVER],
        )
        if alert := alert_in_clear(item.data, item, finished=False):
            yield alert
