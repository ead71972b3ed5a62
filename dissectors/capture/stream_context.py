# SPDX-License-Identifier: GPL-2.0-only
"""What the stages of a connection (plain, TLS, WebSocket) have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from dissectors.capture.items import AnyItem, Begin, Chunk, End, Gap
from dissectors.capture.tls_keylog import KeyLog
from dissectors.wire.constants import Side

OTHER = {Side.CLIENT: Side.SERVER, Side.SERVER: Side.CLIENT}


class Stage(Protocol):
    """One connection's handling; items of that connection come in, items for the reader come out."""

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """Takes the next item of the connection."""


@dataclass
class Shop:
    """What all connections of a reading share. `drop` ends the reassembly of a connection."""

    keys: KeyLog
    drop: Callable[[int], None]
    own: Callable[[int], bool]  # file index -> this project recorded it
    other_streams: int = 0  # connections that carry no SPICE
    tls_opened: int = 0  # TLS connections that could be decrypted
    tls_unfit: int = 0  # those for which the key log has no secret, or a wrong one

    #: Makes the stage that finds out what a connection carries (set by `streams`: avoids a cycle).
    opening: Callable[[Begin, Shop], Stage] = field(kw_only=True)


class Plain:
    """Nothing between TCP and SPICE."""

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `Stage`."""
        yield item


class Nothing:
    """A connection that nobody asks for."""

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `Stage`."""
        yield from ()
