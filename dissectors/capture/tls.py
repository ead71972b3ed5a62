# SPDX-License-Identifier: GPL-2.0-only
"""TLS 1.2 and 1.3 connections whose secrets are known: records to plain bytes.

After a hole the next record is found again by trying: a record that its key authenticates proves where it
begins and which number it has.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

from dissectors.capture.items import AnyItem, Begin, Chunk, End, Gap, Note, Run
from dissectors.capture.stream_context import Shop, Stage
from dissectors.capture.tls_ciphers import SUITES, RecordCipher, Suite, Tls13, Unreadable, tls12_ciphers
from dissectors.capture.tls_head import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLIENT_HELLO,
    HANDSHAKE,
    HEADER,
    is_record,
)
from dissectors.wire.constants import Side

SERVER_HELLO, KEY_UPDATE, FINISHED = 2, 24, 20
ENCRYPT_THEN_MAC, SUPPORTED_VERSIONS = 22, 43
TLS12, TLS13 = 0x0303, 0x0304
#: The random of a ServerHello that is a HelloRetryRequest (RFC 8446, 4.1.3).
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
#: How a record of data begins, in both versions.
APPLICATION_RECORD = bytes([APPLICATION_DATA, 3, 3])
#: A handshake message that is looked into is not longer.
LONGEST_HANDSHAKE = 1 << 17
#: Records that may be lost in one hole, and bytes in which the next one is looked for.
MOST_LOST, SEARCHED = 1024, 1 << 20

LABELS = {
    Side.CLIENT: ("CLIENT_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0"),
    Side.SERVER: ("SERVER_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"),
}


class Refused(Exception):
    """Why a connection cannot be decrypted; one line."""


class Direction:
    """What one end sends."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.handshake = bytearray()
        self.cipher: RecordCipher | None = None
        self.encrypted = False
        self.sequence = 0
        self.epoch = 0  # TLS 1.3: 0 handshake, 1 application data
        self.lost = 0  # > 0: bytes are missing; so many records may be

    def activate(self) -> None:
        """From here on there are other keys, looked up when they are needed."""
        self.cipher, self.encrypted, self.sequence = None, True, 0


class TlsStream:
    """One TLS connection; what is inside goes to a stage of its own."""

    def __init__(self, begin: Begin, shop: Shop) -> None:
        self._begin = replace(begin, tls=True)
        self._shop = shop
        self._inner: Stage | None = None
        self._refused = False
        self._directions = {side: Direction() for side in Side}
        self._client_random = self._server_random = b""
        self._version = 0
        self._suite: Suite | None = None
        self._encrypt_then_mac = False
        self._opened = False

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `Stage`."""
        if isinstance(item, End):
            yield from self._end(item)
        elif not self._refused:
            try:
                if isinstance(item, Gap):
                    yield from self._gap(item)
                else:
                    yield from self._chunk(item)
            except Refused as reason:
                yield from self._refuse(str(reason), item)

    def _end(self, item: End) -> Iterator[AnyItem]:
        if self._inner is not None:
            yield from self._inner.feed(item)
        else:
            if not self._refused:
                yield from self._refuse("it ended before any data", item)
            yield item

    def _refuse(self, reason: str, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        self._refused = True
        if self._inner is None:
            yield self._begin
        number = self._begin.connection
        yield Note(
            text=f"TLS connection not decrypted: {reason}",
            connection=number,
            time=item.time,
            frame=item.frame,
            file=item.file,
        )

    def _gap(self, gap: Gap) -> Iterator[AnyItem]:
        direction = self._directions[gap.sender]
        if self._begin.midstream or not direction.encrypted:
            raise Refused("bytes of its handshake are missing")
        lost = MOST_LOST if gap.size is None else min(MOST_LOST, gap.size // (HEADER + 17) + 2)
        direction.lost += lost
        direction.buffer.clear()
        if self._inner is not None:
            yield from self._inner.feed(replace(gap, size=None))

    def _chunk(self, chunk: Chunk) -> Iterator[AnyItem]:
        if self._begin.midstream:
            raise Refused("it began before the capture")
        direction = self._directions[chunk.sender]
        base = len(direction.buffer)
        direction.buffer += chunk.data
        run = Run()
        refused: Refused | None = None
        try:
            for kind, plain, end in self._records(direction, chunk.sender):
                if kind == HANDSHAKE:
                    self._handshake(direction, chunk.sender, plain)
                elif kind == CHANGE_CIPHER_SPEC and self._version == TLS12:
                    direction.activate()
                elif kind == APPLICATION_DATA and plain:
                    run.add(plain, *chunk.at(end - base - 1))
        except Refused as reason:
            refused = reason
        if run.parts:
            if self._inner is None:
                self._inner = self._shop.opening(self._begin, self._shop)
            yield from self._inner.feed(run.chunk(chunk.connection, chunk.sender, chunk.file))
        if refused:
            raise refused

    def _records(self, direction: Direction, sender: Side) -> Iterator[tuple[int, bytes, int]]:
        """(content type, plain bytes, offset of the end in the buffer as it was) of every whole record."""
        buffer, start = direction.buffer, 0
        try:
            while start + HEADER <= len(buffer):
                if direction.lost:
                    found = self._search(direction, start)
                    if found is None:
                        return
                    start = found
                header = bytes(buffer[start : start + HEADER])
                if not is_record(header):
                    raise Refused("what follows is no TLS record")
                end = start + HEADER + int.from_bytes(header[3:5])
                if end > len(buffer):
                    return
                body = bytes(buffer[start + HEADER : end])
                start = end
                yield *self._open(direction, sender, header, body), end
        finally:
            del buffer[:start]

    def _open(self, direction: Direction, sender: Side, header: bytes, body: bytes) -> tuple[int, bytes]:
        """The content of a record."""
        kind = header[0]
        if self._version == TLS13 and kind == APPLICATION_DATA and not direction.encrypted:
            direction.activate()
        if kind == APPLICATION_DATA and not direction.encrypted:
            raise Refused("data comes before its handshake")
        if not direction.encrypted or (self._version == TLS13 and kind == CHANGE_CIPHER_SPEC):
            return kind, body
        if self._version == TLS13 and kind != APPLICATION_DATA:
            return ALERT, body  # an alert in clear: the handshake failed
        if direction.cipher is None:
            direction.cipher = self._cipher(direction, sender)
        try:
            opened = direction.cipher.open(header, body, direction.sequence)
        except Unreadable:
            self._shop.tls_unfit += not self._opened
            raise Refused("the key log has a secret for it, but that does not fit") from None
        self._shop.tls_opened += not self._opened
        self._opened = True
        direction.sequence += 1
        return opened

    def _search(self, direction: Direction, start: int) -> int | None:
        """Where the next record begins after a hole; None if it is not there yet."""
        buffer, place = direction.buffer, start - 1
        if direction.cipher is None:
            raise Refused("bytes of its handshake are missing")
        while (place := buffer.find(APPLICATION_RECORD, place + 1)) >= 0:
            header = bytes(buffer[place : place + HEADER])
            end = place + HEADER + int.from_bytes(header[3:])
            if not is_record(header) or end > len(buffer):
                continue
            body = bytes(buffer[place + HEADER : end])
            for sequence in range(direction.sequence, direction.sequence + direction.lost + 1):
                try:
                    direction.cipher.open(header, body, sequence)
                except Unreadable:
                    continue
                direction.sequence, direction.lost = sequence, 0
                return place
        if len(buffer) > SEARCHED:
            raise Refused("after missing bytes no further record could be found")
        return None

    def _handshake(self, direction: Direction, sender: Side, plain: bytes) -> None:
        """Looks into the handshake messages that matter."""
        data = direction.handshake
        data += plain
        while len(data) >= 4 and (size := 4 + int.from_bytes(data[1:4])) <= len(data):
            kind, body = data[0], bytes(data[4:size])
            del data[:size]
            try:
                if kind == CLIENT_HELLO and sender is Side.CLIENT:
                    self._client_random = body[2:34]
                elif kind == SERVER_HELLO and sender is Side.SERVER:
                    self._server_hello(body)
            except (struct.error, IndexError):
                raise Refused("its handshake is damaged") from None
            if self._version == TLS13 and kind == FINISHED and direction.encrypted:
                direction.epoch = 1
                direction.activate()
            elif kind == KEY_UPDATE and isinstance(direction.cipher, Tls13):
                direction.cipher = direction.cipher.updated()
                direction.sequence = 0
        if len(data) > LONGEST_HANDSHAKE or (direction.encrypted and self._version == TLS12):
            data.clear()  # nothing that matters

    def _server_hello(self, body: bytes) -> None:
        """Version, cipher suite and the extensions that change the record layer (RFC 8446, 4.1.3)."""
        version, random, sid = struct.unpack_from("!H32sB", body)
        if random == RETRY:
            return
        (number,) = struct.unpack_from("!H", body, 35 + sid)
        extensions = dict(_extensions(body, 35 + sid + 3))
        if SUPPORTED_VERSIONS in extensions:
            version = int.from_bytes(extensions[SUPPORTED_VERSIONS])
        if version not in (TLS12, TLS13):
            raise Refused(f"TLS version {version:#06x} is not supported (1.2 and 1.3 are)")
        self._version, self._server_random = version, random
        self._encrypt_then_mac = ENCRYPT_THEN_MAC in extensions
        self._suite = SUITES.get(number)
        if self._suite is None:
            raise Refused(f"cipher suite {number:#06x} is not supported")

    def _cipher(self, direction: Direction, sender: Side) -> RecordCipher:
        """The keys of a direction as it is now."""
        suite = self._suite
        if suite is None:
            raise Refused("its handshake is not in the capture")
        label = LABELS[sender][direction.epoch] if self._version == TLS13 else "CLIENT_RANDOM"
        secret = self._shop.keys.find(label, self._client_random)
        if secret is None:
            if not self._shop.keys:
                raise Refused("no key log was given and the capture holds no secrets")
            self._shop.tls_unfit += 1
            raise Refused(f"the key log has no {label} for client random {self._client_random.hex()[:16]}...")
        if self._version == TLS13:
            return Tls13(suite, secret)
        ciphers = tls12_ciphers(
            suite, secret, self._client_random, self._server_random, self._encrypt_then_mac
        )
        return ciphers[sender is Side.SERVER]


def _extensions(body: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    """(type, data) of the extensions whose length field is at `position`, if there are any."""
    position += 2
    while position + 4 <= len(body):
        kind, size = struct.unpack_from("!HH", body, position)
        yield kind, body[position + 4 : position + 4 + size]
        position += 4 + size
