# SPDX-License-Identifier: GPL-2.0-only
"""Writes a recording as pcapng: TCP packets made for the bytes that were exchanged, and host events.

Wireshark reads it without a warning: handshakes, acknowledgements, checksums and window sizes are those of
a faultless network. Host events are systemd journal entries, which Wireshark shows among the packets.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import BinaryIO

from dissectors.capture.frame_numbers import LARGEST, segments
from dissectors.capture.link_layers import ACK, FIN, PSH, RST, SYN
from dissectors.capture.pcapng_reader import (
    BYTE_ORDER,
    DSB,
    EPB,
    IDB,
    IF_TSRESOL,
    JEB,
    SHB,
    SHB_USERAPPL,
    TLS_KEY_LOG,
)
from dissectors.capture.record import OWN_APPLICATION
from dissectors.framing.events import Ending, Endpoint, HostEvent
from dissectors.wire.constants import Side

COMMENT = 1  # opt_comment
RAW_IP = 101  # link type: an IP packet and nothing before it
MICROSECONDS, TICKS = 6, 1_000_000  # of if_tsresol: decimal places of a time, and ticks a second
#: In a SYN: maximum segment size as on loopback, window scale 2 ** 14 (so that no window is ever full).
SYN_OPTIONS = struct.pack("!BBHBBBB", 2, 4, LARGEST, 1, 3, 3, 14)
WINDOW = 65_535
#: Hosts that are names and not addresses get one from here (RFC 2544).
FIRST_STAND_IN = IPv4Address("198.18.0.1")

Address = IPv4Address | IPv6Address


@dataclass
class _End:
    address: Address
    port: int
    sequence: int
    unacknowledged: int = 0


@dataclass
class _Connection:
    ends: dict[Side, _End]
    closed: set[Side] = field(default_factory=set)


class PcapngWriter:
    """Writes to `file`; every method that writes a record returns its frame number (from 1).

    `epoch` is added to every time (seconds), for times that are not since the epoch. Connections are
    numbered by the caller. Not safe for several threads at once.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        epoch: float = 0.0,
        comment: str = "",
        application: str = OWN_APPLICATION,
    ) -> None:
        self.frame = 0
        self._note = b""  # the comment of the next packet
        self._file = file
        self._epoch = epoch
        self._connections: dict[int, _Connection] = {}
        self._stand_ins: dict[str, IPv4Address] = {}
        options = _option(SHB_USERAPPL, application.encode())
        if comment:
            options = _option(COMMENT, comment.encode()) + options
        self._block(SHB, struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1) + options + _option(0, b""))
        resolution = _option(IF_TSRESOL, bytes([MICROSECONDS])) + _option(0, b"")
        self._block(IDB, struct.pack("<HHI", RAW_IP, 0, 0) + resolution)

    def note(self, text: str) -> None:
        """Adds this comment to the next packet."""
        self._note = text.encode("utf-8", "replace")

    def open_connection(
        self, connection: int, client: Endpoint, server: Endpoint, time: float, *, handshake: bool = True
    ) -> int:
        """Writes a handshake of three packets, or none for a connection that began before the recording."""
        ends = {
            Side.CLIENT: _End(self._address(client.host), client.port, connection * 0x9E3779B1 & 0xFFFFFFFF),
            Side.SERVER: _End(self._address(server.host), server.port, connection * 0x85EBCA6B & 0xFFFFFFFF),
        }
        if len({end.address.version for end in ends.values()}) > 1:
            for end in ends.values():
                if end.address.version == 4:
                    end.address = IPv6Address(b"\0" * 10 + b"\xff\xff" + end.address.packed)
        self._connections[connection] = _Connection(ends)
        if not handshake:
            return self.frame
        self._packet(connection, Side.CLIENT, SYN, b"", time)
        self._packet(connection, Side.SERVER, SYN | ACK, b"", time)
        return self._packet(connection, Side.CLIENT, ACK, b"", time)

    def attempt(self, client: Endpoint, server: Endpoint, time: float) -> int:
        """Writes a SYN that nobody answers."""
        number = -1 - len(self._connections)
        self.open_connection(number, client, server, time, handshake=False)
        return self._packet(number, Side.CLIENT, SYN, b"", time)

    def skip(self, connection: int, sender: Side, size: int) -> None:
        """Leaves a hole of `size` bytes in the sequence numbers: bytes of `sender` that are missing."""
        source = self._connections[connection].ends[sender]
        source.sequence = (source.sequence + size) & 0xFFFFFFFF

    def segment(self, connection: int, sender: Side, data: bytes, time: float) -> int:
        """Writes bytes that `sender` sent, in as many packets as they need."""
        view, frame = memoryview(data), self.frame
        receiver = _other(sender)
        source = self._connections[connection].ends[sender]
        for start, end, acknowledged in segments(len(view), source.unacknowledged):
            frame = self._packet(connection, sender, PSH | ACK, view[start:end], time)
            if acknowledged:
                self._packet(connection, receiver, ACK, b"", time)
        return frame

    def close_connection(self, connection: int, how: Ending, by: Side, time: float) -> int:
        """Writes FIN of `by` and its acknowledgement, or RST; other endings leave no packet."""
        state = self._connections[connection]
        if how is Ending.RESET:
            state.closed = set(Side)
            return self._packet(connection, by, RST | ACK, b"", time)
        frame = self.frame
        if how is Ending.CLOSED and by not in state.closed:
            state.closed.add(by)
            frame = self._packet(connection, by, FIN | ACK, b"", time)
            self._packet(connection, _other(by), ACK, b"", time)
        return frame

    def host_event(self, event: HostEvent) -> int:
        """Writes a host event as a journal entry."""
        fields = {
            "MESSAGE": f"{event.host}: {event.name}",
            "SPICE_HOST": event.host,
            "SPICE_NAME": event.name,
            "SPICE_ARGS": json.dumps(dict(event.args), sort_keys=True, default=str),
        }
        if event.clock_ms is not None:
            fields["SPICE_CLOCK_MS"] = repr(event.clock_ms)
        return self.journal(fields, event.time)

    def journal(self, fields: dict[str, str], time: float) -> int:
        """Writes a systemd journal entry in the export format."""
        entry = [b"__REALTIME_TIMESTAMP=%d\n" % self._ticks(time)]
        for name, text in fields.items():
            value = text.encode("utf-8", "surrogateescape")
            if b"\n" in value:
                entry.append(name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
            else:
                entry.append(name.encode() + b"=" + value + b"\n")
        self._block(JEB, b"".join(entry))
        self.frame += 1
        return self.frame

    def secrets(self, key_log: str) -> None:
        """Writes lines of a TLS key log; they must come before the packets that need them."""
        data = key_log.encode()
        self._block(DSB, struct.pack("<II", TLS_KEY_LOG, len(data)) + _padded(data))

    def _address(self, host: str) -> Address:
        try:
            return ip_address(host)
        except ValueError:
            return self._stand_ins.setdefault(host, FIRST_STAND_IN + len(self._stand_ins))

    def _ticks(self, time: float) -> int:
        return ticks(time + self._epoch)

    def _packet(
        self, connection: int, sender: Side, flags: int, data: bytes | memoryview, time: float
    ) -> int:
        ends = self._connections[connection].ends
        source, target = ends[sender], ends[_other(sender)]
        ack = target.sequence if flags & ACK else 0
        options = SYN_OPTIONS if flags & SYN else b""
        packet = _packet(source, target, ack, flags, options, data)
        source.sequence = (source.sequence + len(data) + bool(flags & (SYN | FIN))) & 0xFFFFFFFF
        source.unacknowledged += len(data)
        target.unacknowledged = 0
        when = self._ticks(time)
        head = struct.pack("<IIIII", 0, when >> 32, when & 0xFFFFFFFF, len(packet), len(packet))
        note, self._note = self._note, b""
        options = _option(COMMENT, note) + _option(0, b"") if note else b""
        self._block(EPB, head + _padded(packet) + options)
        self.frame += 1
        return self.frame

    def _block(self, kind: int, body: bytes) -> None:
        body = _padded(body)
        size = len(body) + 12
        self._file.write(struct.pack("<II", kind, size) + body + struct.pack("<I", size))


def ticks(seconds: float) -> int:
    """A time in the microseconds of a recording; `/ TICKS` gives the time that is read back."""
    return round(seconds * TICKS)


def _packet(
    source: _End, target: _End, ack: int, flags: int, options: bytes, data: bytes | memoryview
) -> bytes:
    """An IP packet with right checksums."""
    head = struct.pack(
        "!HHIIBBHHH",
        source.port,
        target.port,
        source.sequence,
        ack,
        (20 + len(options)) // 4 << 4,
        flags,
        WINDOW,
        0,
        0,
    )
    addresses = source.address.packed + target.address.packed
    size = len(head) + len(options) + len(data)
    tcp = bytearray(head + options)
    tcp += data
    tcp[16:18] = _checksum(addresses + struct.pack("!HH", 6, size) + tcp).to_bytes(2)
    if source.address.version == 6:
        return struct.pack("!IHBB", 6 << 28, size, 6, 64) + addresses + tcp
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, 64, 6, 0) + addresses
    return ip[:10] + _checksum(ip).to_bytes(2) + ip[12:] + tcp


def _checksum(data: bytes | bytearray) -> int:
    """The Internet checksum (RFC 1071): the number modulo 2 ** 16 - 1 is the ones' complement sum."""
    total = int.from_bytes(data + b"\0" * (len(data) % 2)) % 0xFFFF
    return 0xFFFF - total if total or not any(data) else 0


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _other(side: Side) -> Side:
    return Side.SERVER if side is Side.CLIENT else Side.CLIENT
