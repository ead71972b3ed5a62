# SPDX-License-Identifier: GPL-2.0-only
"""Changes of a capture that do not change what the peers said: other ways of capturing, other network paths.

Packets are raw IPv4 with TCP, as `capture_mutations.packets` gives them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from suites.selftest.dissectors.capture.capture_mutations import Packet

Packets = list[Packet]
Change = Callable[[Packets, Random], Packets]
#: A capture's own header and what stands before each packet, and its link type.
Wrap = Callable[[bytes], bytes]

IP_BYTES = 20
ROOM = 40_000
CLIENT_SEEN, FIRST_HOST = bytes((192, 168, 7, 9)), bytes((10, 0, 0, 1))
#: Of a proxy or a NAT: its address on the hosts' side, and the first bytes of those on the client's side.
FORWARDER = bytes((172, 20, 0, 200))
INTERFACE_S = 0.002  # the clocks of two interfaces differ by at most so much


def _tcp_bytes(packet: Packet) -> int:
    return (packet.data[IP_BYTES + 12] >> 4) * 4


def _flow(packet: Packet) -> bytes:
    return packet.data[12 : IP_BYTES + 4]


def ports(packet: Packet) -> tuple[int, int]:
    """Of the sender and the receiver."""
    source, target = struct.unpack_from("!HH", packet.data, IP_BYTES)
    return source, target


def server_ports(packets: Sequence[Packet]) -> list[int]:
    """The hosts' addresses, in the order of the links to them."""
    found: dict[int, None] = {}
    for packet in packets:
        if packet.data[IP_BYTES + 13] & 0x12 == 0x02:
            found[ports(packet)[1]] = None
    return list(found)


def _resized(packet: Packet, head: bytes, payload: bytes, time: float | None = None) -> Packet:
    data = head + payload
    data = data[:2] + struct.pack("!H", len(data)) + data[4:]
    return replace(packet, data=data, wire=len(data), time=packet.time if time is None else time)


def retransmitted(packets: Packets, random: Random) -> Packets:
    """Some segments come a second time, a little later."""
    again = [replace(p, time=p.time + random.uniform(0, 0.3)) for p in packets if random.random() < 0.2]
    return sorted([*packets, *again], key=lambda packet: packet.time)


def two_taps(packets: Packets, random: Random) -> Packets:
    """The capture sees each packet at two places of its path."""
    later = random.uniform(1e-6, 0.0005)
    return sorted(
        [*packets, *(replace(p, time=p.time + later) for p in packets)], key=lambda packet: packet.time
    )


def overtaken(packets: Packets, random: Random) -> Packets:
    """Neighbouring packets of one direction change places."""
    result = list(packets)
    for index in range(len(result) - 1):
        one, other = result[index], result[index + 1]
        if _flow(one) == _flow(other) and one.payload and other.payload and random.random() < 0.5:
            result[index], result[index + 1] = replace(other, time=one.time), replace(one, time=other.time)
    return result


def in_two(packet: Packet, at: int) -> Packets:
    """A segment as two, of which the first has `at` bytes of payload."""
    payload = packet.payload
    head = bytearray(packet.data[: len(packet.data) - len(payload)])
    first = _resized(packet, bytes(head), payload[:at])
    (number,) = struct.unpack_from("!I", head, IP_BYTES + 4)
    struct.pack_into("!I", head, IP_BYTES + 4, (number + at) & 0xFFFFFFFF)
    return [first, _resized(packet, bytes(head), payload[at:], packet.time + 1e-6)]


def with_room(packet: Packet) -> Packets:
    """A segment with room for headers around it: the loopback device takes up to 64 kB at once."""
    return in_two(packet, ROOM) if len(packet.payload) > ROOM else [packet]


def split(packets: Packets, random: Random) -> Packets:
    """Splits some segments in two."""
    result: Packets = []
    for packet in packets:
        size = len(packet.payload)
        if size < 2 or random.random() < 0.5:
            result.append(packet)
        else:
            result += in_two(packet, random.randint(1, size - 1))
    return result


def with_options(packets: Packets, random: Random) -> Packets:
    """Each TCP header has options that do nothing."""
    words = random.randint(1, 5)
    result = []
    for packet in packets:
        size, payload = _tcp_bytes(packet), packet.payload
        words_here = min(words, (60 - size) // 4)
        head = bytearray(packet.data[: IP_BYTES + size] + b"\1" * 4 * words_here)
        head[IP_BYTES + 12] = ((size + 4 * words_here) // 4) << 4
        result.append(_resized(packet, bytes(head), payload))
    return result


def translated(packets: Packets, random: Random) -> Packets:
    """The client, and each of the hosts, has another address in the capture than it knows itself."""
    hosts = {port: FIRST_HOST[:3] + bytes((1 + n,)) for n, port in enumerate(server_ports(packets))}
    result = []
    for packet in packets:
        source, target = ports(packet)
        first = hosts.get(source, CLIENT_SEEN)
        second = hosts.get(target, CLIENT_SEEN)
        result.append(replace(packet, data=packet.data[:12] + first + second + packet.data[IP_BYTES:]))
    return result


def moved_clock(packets: Packets, random: Random) -> Packets:
    """The capturing machine's clock shows another time."""
    shift = random.uniform(-1e6, 1e6)
    return [replace(packet, time=packet.time + shift) for packet in packets]


def _renumbered(data: bytes, own: int, other: int) -> bytes:
    """An IPv4 packet whose TCP sequence number is `own` higher, and its acknowledgement `other` higher."""
    sequence, acknowledged = struct.unpack_from("!II", data, IP_BYTES + 4)
    changed = bytearray(data)
    struct.pack_into("!I", changed, IP_BYTES + 4, (sequence + own) & 0xFFFFFFFF)
    if data[IP_BYTES + 13] & 0x10:
        struct.pack_into("!I", changed, IP_BYTES + 8, (acknowledged + other) & 0xFFFFFFFF)
    return bytes(changed)


def two_legs(packets: Packets, random: Random) -> Packets:
    """The capture is made where a proxy or a NAT forwards the connections: it shows the client's leg and the
    hosts' leg of each, which differ in addresses (a proxy: in sequence numbers too)."""
    delay = random.uniform(1e-6, 0.0001)
    numbers = (random.getrandbits(32), random.getrandbits(32)) if random.random() < 0.5 else (0, 0)
    hosts = {port: n + 1 for n, port in enumerate(server_ports(packets))}
    result: Packets = []
    for index, packet in enumerate(packets):
        from_client = ports(packet)[1] in hosts
        number = bytes((hosts.get(ports(packet)[from_client], 1),))
        own, other = numbers if from_client else numbers[::-1]
        time = packet.time + 2 * index * delay  # what follows a packet has to wait for it
        for client, host, later, renumber in (
            (CLIENT_SEEN, FORWARDER[:3] + number, not from_client, True),
            (FORWARDER, FIRST_HOST[:3] + number, from_client, False),
        ):
            ends = client + host if from_client else host + client
            data = packet.data[:12] + ends + packet.data[IP_BYTES:]
            data = _renumbered(data, own, other) if renumber else data
            result.append(replace(packet, data=data, time=time + delay * later))
    return sorted(result, key=lambda packet: packet.time)


def one_direction(packets: Packets, random: Random) -> Packets:
    """The capture sees the client's packets only, or the hosts' only (a mirror port, another way back)."""
    hosts, from_clients = set(server_ports(packets)), random.random() < 0.5
    return [packet for packet in packets if (ports(packet)[1] in hosts) is from_clients]


HARMLESS: Sequence[Change] = (
    retransmitted,
    two_taps,
    overtaken,
    split,
    with_options,
    translated,
    moved_clock,
)


def _ethernet(packet: bytes) -> bytes:
    return bytes(6) + bytes((2, 0, 0, 0, 0, 1)) + b"\x08\x00" + packet


def _vlan(packet: bytes) -> bytes:
    return bytes(12) + b"\x81\x00\x00\x2a\x08\x00" + packet


def _ip(protocol: int, payload: bytes) -> bytes:
    addresses = bytes((172, 16, 0, 1, 172, 16, 0, 2))
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + addresses + payload


def _vxlan(packet: bytes) -> bytes:
    inner = b"\x08\0\0\0\0\0\x2a\0" + _ethernet(packet)
    return _ethernet(_ip(17, struct.pack("!HHHH", 49_152, 4789, 8 + len(inner), 0) + inner))


def _gre(packet: bytes) -> bytes:
    return _ip(47, b"\0\0\x08\0" + packet)


#: Name -> (link type, what is put around each packet).
WAYS: dict[str, tuple[int, Wrap]] = {
    "raw": (101, lambda packet: packet),
    "ethernet": (1, _ethernet),
    "vlan": (1, _vlan),
    "vxlan": (1, _vxlan),
    "gre": (101, _gre),
}


def save_way(path: Path, packets: Sequence[Packet], way: str) -> Path:
    """A pcap file of packets in a tunnel or behind a link header."""
    link, wrap = WAYS[way]
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, link))
        for packet in packets:
            data = wrap(packet.data)
            seconds, fraction = divmod(round(packet.time * 1e6), 1_000_000)
            file.write(struct.pack("<IIII", seconds, fraction, len(data), len(data)) + data)
    return path


def save_interfaces(path: Path, packets: Sequence[Packet], shifts: Sequence[float]) -> Path:
    """A pcapng file in which each host has an interface, whose clock is `shifts` seconds off."""
    hosts = {port: n for n, port in enumerate(server_ports(packets))}
    timed = []
    for packet in packets:
        number = next((hosts[port] for port in ports(packet) if port in hosts), 0) % len(shifts)
        timed.append((packet.time + shifts[number], number, packet.data))
    with path.open("wb") as file:
        file.write(_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        for _ in shifts:
            file.write(_block(1, struct.pack("<HHI", 101, 0, 0)))
        for time, number, data in sorted(timed, key=lambda one: one[0]):
            ticks = round(time * 1e6)
            head = struct.pack("<IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
            file.write(_block(6, head + data + bytes(-len(data) % 4)))
    return path


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size
