# SPDX-License-Identifier: GPL-2.0-only
"""IP datagrams in pieces (RFC 791, 3.2; RFC 8200, 4.5), put together in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Datagrams, and bytes of them, that are held at a time; the oldest ones are given up first.
DATAGRAMS, HELD = 256, 1 << 22
LARGEST = 1 << 16


@dataclass
class _Datagram:
    """The pieces of one datagram by offset. `total` is known from the last piece; 0: not yet."""

    parts: dict[int, bytes] = field(default_factory=dict)
    there: int = 0
    total: int = 0

    def whole(self) -> bytes | None:
        """Everything in order; None if there is a hole."""
        joined = bytearray()
        for start in sorted(self.parts):
            if start > len(joined):
                return None
            joined += self.parts[start][len(joined) - start :]
        return bytes(joined) if len(joined) == self.total else None


class Fragments:
    """Holds the pieces of IP datagrams until a datagram is complete."""

    def __init__(self) -> None:
        self._open: dict[bytes, _Datagram] = {}
        self._held = 0

    def add(self, key: bytes, offset: int, data: bytes, size: int, more: bool) -> bytes | None:
        """Takes a piece: its `offset` in the datagram and its `size` on the wire in bytes, and whether `more`
        pieces follow. Returns the datagram if this piece completes it; None otherwise, and for a piece that
        the capture cut."""
        if len(data) < size or size <= 0 or offset + size > LARGEST:
            return None
        datagram = self._open.setdefault(key, _Datagram())
        if offset not in datagram.parts:
            datagram.parts[offset] = data
            datagram.there += size
            self._held += size
        if not more:
            datagram.total = offset + size
        whole = None
        if datagram.total and datagram.there >= datagram.total:
            if (whole := datagram.whole()) is not None or datagram.there > 2 * LARGEST:
                self._drop(key)
        while len(self._open) > DATAGRAMS or self._held > HELD:
            self._drop(next(iter(self._open)))
        return whole

    def _drop(self, key: bytes) -> None:
        self._held -= self._open.pop(key).there
