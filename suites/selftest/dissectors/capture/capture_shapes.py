# SPDX-License-Identifier: GPL-2.0-only
"""The shapes in which people have the same capture: halves, cut packets, holes, mirror ports, NAT, wrong
clocks.

A shape is a function of the packets and a source of chance; the packets are raw IPv4 with TCP, as
`capture_mutations.packets` gives them. In none of these shapes may the inspector find a breach that it does
not find in the whole capture."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

from suites.selftest.dissectors.capture.capture_mutations import Packet, cut, save, without
from suites.selftest.dissectors.capture.harmless_changes import (
    Change,
    Packets,
    ports,
    server_ports,
    translated,
    two_legs,
    two_taps,
)

RAW_IP, ETHERNET, SLL2 = 101, 1, 276
VLAN = bytes(12) + b"\x81\x00\x00\x2a\x08\x00"
#: The header of "any" (LINKTYPE_LINUX_SLL2): IPv4, interface 2, loopback, to us.
ANY = struct.pack("!HHIHBB8s", 0x0800, 0, 2, 772, 0, 6, bytes(8))
STEP_BACK_S = 0.010
HOLE = 5
QUEUES_S = 0.002


@dataclass(frozen=True)
class Shape:
    """A change, and the link type and header of the file that it is saved in."""

    change: Change
    link: int = RAW_IP
    header: bytes = b""

    def save(self, path: Path, packets: Sequence[Packet], random: Random) -> Path:
        """The changed capture as a pcap file."""
        return save(path, self.change(list(packets), random), self.link, self.header)


def whole(packets: Packets, random: Random) -> Packets:
    """The packets as they are."""
    return packets


def one_half(packets: Packets, random: Random, *, clients: bool) -> Packets:
    """The clients' packets alone, or the servers'."""
    hosts = set(server_ports(packets))
    return [packet for packet in packets if (ports(packet)[1] in hosts) is clients]


def snapped(packets: Packets, random: Random, *, size: int) -> Packets:
    """Each packet is cut, as by `tcpdump -s`."""
    return cut(packets, size)


def late(packets: Packets, random: Random) -> Packets:
    """The capture was started after the first packets."""
    return packets[random.randrange(len(packets)) :]


def stopped(packets: Packets, random: Random) -> Packets:
    """The capture was stopped before the last packets."""
    return packets[: random.randrange(1, len(packets) + 1)]


def _connection(packet: Packet) -> tuple[int, ...]:
    return tuple(sorted(ports(packet)))


def without_a_connection(packets: Packets, random: Random) -> Packets:
    """One connection is not in the capture: it went through another interface."""
    lost = random.choice(sorted({_connection(packet) for packet in packets}))
    return [packet for packet in packets if _connection(packet) != lost]


def with_a_hole(packets: Packets, random: Random) -> Packets:
    """The capture lost some packets in a row."""
    at = random.randrange(len(packets))
    return without(packets, range(at, at + HOLE))


def in_another_order(packets: Packets, random: Random) -> Packets:
    """Packets stand up to 2 ms from their own place in the file, with their own times."""
    return sorted(packets, key=lambda packet: packet.time + random.uniform(0, QUEUES_S))


def with_a_step_back(packets: Packets, random: Random) -> Packets:
    """The capturing machine's clock was set back: a packet seems to be 10 ms older than the last."""
    at = random.randrange(len(packets))
    back = STEP_BACK_S + packets[at].time - packets[at - 1].time if at else 0.0
    return [*packets[:at], *(replace(p, time=p.time - back) for p in packets[at:])]


SHAPES: Mapping[str, Shape] = {
    "bare": Shape(whole),
    "clients-half": Shape(partial(one_half, clients=True)),
    "servers-half": Shape(partial(one_half, clients=False)),
    "snaplen-96": Shape(partial(snapped, size=96)),
    "snaplen-200": Shape(partial(snapped, size=200)),
    "late": Shape(late),
    "stopped": Shape(stopped),
    "connection-missing": Shape(without_a_connection),
    "hole": Shape(with_a_hole),
    "reordered": Shape(in_another_order),
    "mirror-port": Shape(two_taps),
    "nat": Shape(translated),
    "both-sides-of-nat": Shape(two_legs),
    "clock-set-back": Shape(with_a_step_back),
    "vlan": Shape(whole, ETHERNET, VLAN),
    "any": Shape(whole, SLL2, ANY),
}


def is_plain(packets: Sequence[Packet]) -> bool:
    """Whether all packets are IPv4 without options and carry TCP: what the changes can be made to."""
    return all(packet.data[0] == 0x45 and packet.data[9] == 6 for packet in packets)


def merged(one: Sequence[Packet], other: Sequence[Packet]) -> Packets | None:
    """Two captures that began at the same moment, as one; None where they have a connection or a server's
    port in common. Clients and hosts keep their addresses: they are on the same machines."""
    if not one or not other or set(server_ports(one)) & set(server_ports(other)):
        return None
    if {_connection(packet) for packet in one} & {_connection(packet) for packet in other}:
        return None
    shift = one[0].time - other[0].time
    moved = [replace(packet, time=packet.time + shift) for packet in other]
    return sorted([*one, *moved], key=lambda packet: packet.time)
