# SPDX-License-Identifier: GPL-2.0-only
"""Decrypts TLS 1.2 and 1.3 connections whose secrets are known: from records to plain bytes.

After a hole it finds the next record by trial: a record that its key authenticates proves its beginning and
its number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

from dissectors.capture.capture_items import AnyItem, Begin, Chunk, ChunkBuilder, End, Gap
from dissectors.capture.protocol_heads import protocol_name
from dissectors.capture.stream_context import OnlyTheEnd, StreamContext, StreamStage, announced
from dissectors.capture.tls_alerts import alert_event, encrypted_alert
from dissectors.capture.tls_certificates import certificate_event, extensions, first_certificate, hello_wishes
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
from dissectors.framing.events import ConnectionEvent, TlsHello, WrongProtocol
from dissectors.wire.constants import Side

SERVER_HELLO, CERTIFICATE, FINISHED, KEY_UPDATE = 2, 11, 20, 24
ENCRYPT_THEN_MAC, SUPPORTED_VERSIONS = 22, 43
TLS12, TLS13 = 0x0303, 0x0304
#: The random of a ServerHello that is a HelloRetryRequest (RFC 8446, 4.1.3).
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
#: The first bytes of an application data record, in both versions.
APPLICATION_RECORD = bytes([APPLICATION_DATA, 3, 3])
#: The most bytes of a handshake message that is parsed.
LONGEST_HANDSHAKE = 1 << 17
#: The most records that one hole may have lost, and the most bytes in which the next one is searched.
MOST_LOST, SEARCHED = 1024, 1 << 20
#: The records that are inspected of a connection without secrets; the bytes of an encrypted alert.
LOOKED_AT, SEALED_ALERT = 8, 2 + 1 + 16
#: The ALPN protocols of web clients.
WEB_ONLY = "h2"

LABELS = {
    Side.CLIENT: ("CLIENT_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0"),
    Side.SERVER: ("SERVER_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"),
}


class CannotDecrypt(Exception):
    """Why a connection cannot be decrypted; one line."""


class TlsDirection:
    """One end's direction."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.handshake = bytearray()
        self.cipher: RecordCipher | None = None
        self.encrypted = False
        self.sequence = 0
        self.epoch = 0  # TLS 1.3: 0 handshake, 1 application data
        self.records = 0  # inspected without decryption
        self.finished = False  # its part of the handshake is over
        self.lost = 0  # > 0: bytes are missing, and at most this many records

    def activate(self) -> None:
        """New keys apply from here on; they are looked up when needed."""
        self.cipher, self.encrypted, self.sequence = None, True, 0


class TlsStream:
    """One TLS connection; its content goes to a stage of its own."""

    def __init__(self, begin: Begin, context: StreamContext) -> None:
        self._begin = replace(begin, tls=True, depth=begin.depth + 1)
        self._protocols: tuple[str, ...] = ()  # that the client offers
        self._data = False  # a record of data was seen
        self._where = (begin.frame, begin.time)  # of the present record
        self._facts: list[ConnectionEvent] = []  # that the present chunk has brought
        self._silent = False  # the server speaks no TLS: only the end matters
        self._context = context
        self._inner: StreamStage | None = None
        self._refused = False
        self._directions = {side: TlsDirection() for side in Side}
        self._client_random = self._server_random = b""
        self._version = 0
        self._suite: Suite | None = None
        self._suite_number = 0
        self._encrypt_then_mac = False
        self._opened = False

    def feed(self, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        """See `StreamStage`."""
        if isinstance(item, End):
            yield from self._end(item)
        elif self._silent:
            return
        elif self._refused:
            if isinstance(item, Chunk) and self._inner is None:
                yield from self._from_outside(item)
        else:
            try:
                if isinstance(item, Gap):
                    yield from self._gap(item)
                else:
                    yield from self._chunk(item)
            except CannotDecrypt as reason:
                yield from self._tell_facts()
                yield from self._refuse(str(reason), item)
                if isinstance(item, Chunk) and self._inner is None:
                    yield from self._from_outside(replace(item, data=b""))

    def _end(self, item: End) -> Iterator[AnyItem]:
        if self._inner is not None:
            yield from self._inner.feed(item)
        else:
            if not self._refused:
                yield from self._refuse("ended before any data", item)
            yield item

    def _refuse(self, reason: str, item: Chunk | Gap | End) -> Iterator[AnyItem]:
        self._refused = True
        if self._inner is None:
            if WEB_ONLY in self._protocols:
                self._inner = self._context.foreign(self._begin)
                return
            self._begin.readable = False
            yield from announced(self._begin)
        self._context.tls_refused(reason)

    def _tell_facts(self) -> Iterator[AnyItem]:
        """Reports the handshake's facts from the present chunk."""
        facts, self._facts = self._facts, []
        for fact in facts:
            yield from self._begin.facts.report(fact)

    def _wrong_protocol(self, chunk: Chunk, name: str) -> Iterator[AnyItem]:
        """The server's first bytes are no TLS."""
        frame, time = chunk.at(0)
        self._silent = True
        yield from self._begin.facts.report(
            WrongProtocol(
                time=time,
                frame=frame,
                connection=chunk.connection,
                client_speaks="TLS",
                server_speaks=name,
            )
        )
        yield from announced(self._begin)
        self._inner = OnlyTheEnd()

    def _alert(self, direction: TlsDirection, sender: Side, body: bytes) -> None:
        """An alert that could be read."""
        frame, time = self._where
        finished = direction.finished or self._data
        number = self._begin.connection
        event = alert_event(body, connection=number, sender=sender, time=time, frame=frame, finished=finished)
        if event is not None:
            self._facts.append(event)

    def _from_outside(self, chunk: Chunk) -> Iterator[AnyItem]:
        """The first records that cannot be decrypted: one that can only be an alert ends the handshake.

        In TLS 1.3 it is the client's first one and as small as no other; in TLS 1.2 its header tells.
        """
        direction = self._directions[chunk.sender]
        if direction.records > LOOKED_AT:
            direction.buffer.clear()
            return
        base = len(direction.buffer)
        direction.buffer += chunk.data
        while len(direction.buffer) >= HEADER and direction.records <= LOOKED_AT:
            header = bytes(direction.buffer[:HEADER])
            size = HEADER + int.from_bytes(header[3:])
            if not is_record(header) or len(direction.buffer) < size:
                break
            del direction.buffer[:size]
            base -= size
            direction.records += 1
            sealed = header[0] == ALERT and not self._data
            if header[0] == APPLICATION_DATA:
                first = self._version == TLS13 and chunk.sender is Side.CLIENT and not direction.finished
                sealed = first and size == HEADER + SEALED_ALERT
                direction.finished = True
                self._data = self._data or self._version != TLS13
            if sealed:
                frame, time = chunk.at(max(-base - 1, 0)) if chunk.data else (chunk.frame, chunk.time)
                number, finished = chunk.connection, self._data
                yield from self._begin.facts.report(
                    encrypted_alert(
                        connection=number, sender=chunk.sender, time=time, frame=frame, finished=finished
                    )
                )

    def _gap(self, gap: Gap) -> Iterator[AnyItem]:
        direction = self._directions[gap.sender]
        if self._begin.midstream or not direction.encrypted:
            raise CannotDecrypt("bytes of its handshake are missing")
        lost = MOST_LOST if gap.size is None else min(MOST_LOST, gap.size // (HEADER + 17) + 2)
        direction.lost += lost
        direction.buffer.clear()
        if self._inner is not None:
            yield from self._inner.feed(replace(gap, size=None))

    def _chunk(self, chunk: Chunk) -> Iterator[AnyItem]:
        if self._begin.midstream:
            raise CannotDecrypt("it began before the capture")
        direction = self._directions[chunk.sender]
        if chunk.sender is Side.SERVER and not direction.records:
            direction.records = 1
            if (name := protocol_name(chunk.data)) not in (None, "TLS"):
                yield from self._wrong_protocol(chunk, name)
                return
        base = len(direction.buffer)
        direction.buffer += chunk.data
        builder = ChunkBuilder(chunk.connection, chunk.sender, chunk.file)
        refused: CannotDecrypt | None = None
        try:
            for kind, plain, end in self._records(direction, chunk, base):
                if kind == APPLICATION_DATA:
                    if plain:
                        builder.add(plain, *chunk.at(end - base - 1))
                else:
                    self._control(direction, chunk.sender, kind, plain)
        except CannotDecrypt as reason:
            refused = reason
        yield from self._tell_facts()
        if builder.parts:
            self._data = True
            if self._inner is None:
                self._inner = self._context.opening(self._begin, self._context)
            yield from self._inner.feed(builder.chunk())
        if refused:
            raise refused

    def _control(self, direction: TlsDirection, sender: Side, kind: int, plain: bytes) -> None:
        """A record that holds no data."""
        if kind == ALERT:
            self._alert(direction, sender, plain)
        elif kind == HANDSHAKE:
            self._handshake(direction, sender, plain)
        elif kind == CHANGE_CIPHER_SPEC and self._version != TLS13:
            direction.activate()

    def _records(self, direction: TlsDirection, chunk: Chunk, base: int) -> Iterator[tuple[int, bytes, int]]:
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
                    raise CannotDecrypt("what follows is no TLS record")
                end = start + HEADER + int.from_bytes(header[3:5])
                if end > len(buffer):
                    return
                body = bytes(buffer[start + HEADER : end])
                start = end
                self._where = chunk.at(max(end - base - 1, 0))
                yield *self._open(direction, chunk.sender, header, body), end
        finally:
            del buffer[:start]

    def _open(self, direction: TlsDirection, sender: Side, header: bytes, body: bytes) -> tuple[int, bytes]:
        """The content of a record."""
        kind = header[0]
        if self._version == TLS13 and kind == APPLICATION_DATA and not direction.encrypted:
            direction.activate()
        if kind == APPLICATION_DATA and not direction.encrypted:
            raise CannotDecrypt("data comes before its handshake")
        if not direction.encrypted or (self._version == TLS13 and kind == CHANGE_CIPHER_SPEC):
            return kind, body
        if self._version == TLS13 and kind != APPLICATION_DATA:
            return ALERT, body  # an alert in clear: the handshake failed
        if direction.cipher is None:
            direction.cipher = self._cipher(direction, sender)
        try:
            opened = direction.cipher.open(header, body, direction.sequence)
        except Unreadable:
            self._context.tls_unfit += not self._opened
            raise CannotDecrypt("the key log has a secret for it, but that does not fit") from None
        self._context.tls_opened += not self._opened
        self._opened = True
        direction.sequence += 1
        return opened

    def _search(self, direction: TlsDirection, start: int) -> int | None:
        """Where the next record begins after a hole; None if it is not there yet."""
        buffer, place = direction.buffer, start - 1
        if direction.cipher is None:
            raise CannotDecrypt("bytes of its handshake are missing")
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
            raise CannotDecrypt("after missing bytes no further record could be found")
        return None

    def _handshake(self, direction: TlsDirection, sender: Side, plain: bytes) -> None:
        """Parses the handshake messages that matter."""
        data = direction.handshake
        data += plain
        while len(data) >= 4 and (size := 4 + int.from_bytes(data[1:4])) <= len(data):
            kind, body = data[0], bytes(data[4:size])
            del data[:size]
            try:
                if kind == CLIENT_HELLO and sender is Side.CLIENT:
                    self._client_hello(body)
                elif kind == CERTIFICATE and sender is Side.SERVER:
                    self._certificate(body)
                elif kind == SERVER_HELLO and sender is Side.SERVER:
                    self._server_hello(body)
            except (struct.error, IndexError):
                raise CannotDecrypt("its handshake is damaged") from None
            direction.finished = direction.finished or kind == FINISHED
            if self._version == TLS13 and kind == FINISHED and direction.encrypted:
                direction.epoch = 1
                direction.activate()
            elif kind == KEY_UPDATE and isinstance(direction.cipher, Tls13):
                direction.cipher = direction.cipher.updated()
                direction.sequence = 0
        if len(data) > LONGEST_HANDSHAKE or (direction.encrypted and self._version == TLS12):
            data.clear()  # nothing that matters

    def _client_hello(self, body: bytes) -> None:
        """ClientHello: the random, the server name and the ALPN protocols."""
        self._client_random = body[2:34]
        name, self._protocols = hello_wishes(body)
        frame, time = self._where
        number = self._begin.connection
        hello = TlsHello(
            time=time, frame=frame, connection=number, server_name=name, protocols=self._protocols
        )
        self._facts.append(hello)

    def _certificate(self, body: bytes) -> None:
        """Certificate: the server's own certificate."""
        frame, time = self._where
        der = first_certificate(body, tls13=self._version == TLS13)
        event = certificate_event(der, connection=self._begin.connection, time=time, frame=frame)
        if event is not None:
            self._facts.append(event)

    def _server_hello(self, body: bytes) -> None:
        """Version, cipher suite and the extensions that change the record layer (RFC 8446, 4.1.3)."""
        version, random, sid = struct.unpack_from("!H32sB", body)
        if random == RETRY:
            return
        (number,) = struct.unpack_from("!H", body, 35 + sid)
        found = dict(extensions(body, 35 + sid + 3))
        if SUPPORTED_VERSIONS in found:
            version = int.from_bytes(found[SUPPORTED_VERSIONS])
        self._version, self._server_random = version, random
        self._encrypt_then_mac = ENCRYPT_THEN_MAC in found
        self._suite = SUITES.get(number)
        self._suite_number = number

    def _cipher(self, direction: TlsDirection, sender: Side) -> RecordCipher:
        """The present keys of a direction."""
        suite = self._suite
        if self._version and self._version not in (TLS12, TLS13):
            raise CannotDecrypt(f"TLS version {self._version:#06x} is not supported (1.2 and 1.3 are)")
        if suite is None and self._version:
            raise CannotDecrypt(f"cipher suite {self._suite_number:#06x} is not supported")
        if suite is None:
            raise CannotDecrypt("its handshake is not in the capture")
        label = LABELS[sender][direction.epoch] if self._version == TLS13 else "CLIENT_RANDOM"
        secret = self._context.keys.find(label, self._client_random)
        if secret is None:
            if not self._context.keys:
                raise CannotDecrypt("no key log was given and the capture holds no secrets")
            self._context.tls_unfit += 1
            raise CannotDecrypt(
                f"the key log has no {label} for client random {self._client_random.hex()[:16]}..."
            )
        if self._version == TLS13:
            return Tls13(suite, secret)
        ciphers = tls12_ciphers(
            suite, secret, self._client_random, self._server_random, self._encrypt_then_mac
        )
        return ciphers[sender is Side.SERVER]
