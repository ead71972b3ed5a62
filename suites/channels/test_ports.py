# SPDX-License-Identifier: GPL-2.0-only
"""Ports: their names, whether they are open, their events, and compressed data (spice.proto, PortChannel;
server/spicevmc.cpp)."""

from __future__ import annotations

import struct

import pytest

from dissectors.wire.constants import ChannelType, MsgcPort, MsgcSpicevmc, MsgPort, MsgSpicevmc, SpicevmcCap
from dissectors.wire.enums import DataCompressionType, PortEvent
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, changed, lost, put, requirement, turned
from fixtures.peer import Connection
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability, Host
from suites.steps import unix_path

PORT_INIT, PORT_EVENT = MsgPort.SPICE_MSG_PORT_INIT, MsgPort.SPICE_MSG_PORT_EVENT
DATA, COMPRESSED = MsgSpicevmc.SPICE_MSG_SPICEVMC_DATA, MsgSpicevmc.SPICE_MSG_SPICEVMC_COMPRESSED_DATA
LZ4 = SpicevmcCap.SPICE_SPICEVMC_CAP_DATA_COMPRESS_LZ4
LZ4_TYPE = DataCompressionType.SPICE_DATA_COMPRESSION_TYPE_LZ4
#: Device -> its channel and its name.
PORTS = {
    "port:org.example.one": (ChannelType.SPICE_CHANNEL_PORT, b"org.example.one"),
    "webdav": (ChannelType.SPICE_CHANNEL_WEBDAV, b"org.spice-space.webdav.0"),
}
CHANNELS = {
    **{name: kind for name, (kind, _) in PORTS.items()},
    "usbredir": ChannelType.SPICE_CHANNEL_USBREDIR,
}
OPENED, CLOSED, BREAK = (
    PortEvent.SPICE_PORT_EVENT_OPENED,
    PortEvent.SPICE_PORT_EVENT_CLOSED,
    PortEvent.SPICE_PORT_EVENT_BREAK,
)
#: Data that compresses well, and is long enough for compression (server/spicevmc.cpp, COMPRESS_THRESHOLD).
LARGE, SMALL = b"0123456789abcdef" * 128, b"small"
#: The longest data that are not compressed, and a byte more.
EDGE, OVER = LARGE[:1_000], LARGE[:1_001]

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def opened(bench: Bench, source: Host, device: str, *without: SpicevmcCap) -> Connection:
    """The device's channel, for a client without these capabilities."""
    caps = EVERYTHING.without(*without)
    client = bench.client(source, channels=(CHANNELS[device],), capabilities=caps)
    bench.settle()
    return client.current.channels[CHANNELS[device], 0]


@requirement(
    "CHAN-045",
    fault=(
        put(PORT_INIT, opened=1, case="False-webdav"),
        put(PORT_INIT, opened=0, case="True-webdav"),
        changed("one letter", PORT_INIT, lambda b: b.replace(b"o", b"0", 1), case="False-webdav"),
        changed("no NUL", PORT_INIT, lambda b: b[:-1] + b"x", case="False-webdav"),
        lost(PORT_INIT),
    ),
)
@pytest.mark.parametrize("device", PORTS)
@pytest.mark.parametrize("is_open", [False, True])
def test_port_init(bench: Bench, is_open: bool, device: str) -> None:
    """PORT_INIT comes first, with the port's name and whether the guest has it open."""
    source = bench.start(devices=("keyboard", "mouse", device))
    for event in (OPENED, CLOSED, OPENED, BREAK) if is_open else (OPENED, CLOSED, BREAK):
        source.call("port_event", device=device, event=event)
    port = opened(bench, source, device)
    message = bench.expect(port, PORT_INIT)
    init = message.packet
    said = bytes(init.port_name).rstrip(b"\0"), int(init.opened)
    wanted = PORTS[device][1], int(is_open)
    bench.claim(said == wanted, f"name and state {wanted}", said)
    ends = int(init.name_size) == len(PORTS[device][1]) + 1 and message.body.endswith(b"\0")
    bench.claim(ends, "a name that ends with a NUL, which its size counts", message.body.hex())
    seen = len(port.got(PORT_INIT))
    bench.claim(seen == 1, "PORT_INIT once", seen)


@requirement("CHAN-046", fault=(lost(PORT_EVENT, nth=3), put(PORT_EVENT, event=0, nth=2)))
@pytest.mark.parametrize("device", PORTS)
def test_port_events_of_the_guest(bench: Bench, device: str) -> None:
    """The client gets each event of the guest's side, in order."""
    source = bench.start(devices=("keyboard", "mouse", device))
    port = opened(bench, source, device)
    events = [OPENED, BREAK, CLOSED, OPENED]
    for event in events:
        source.call("port_event", device=device, event=event)
    bench.settle()
    seen = [int(m.packet.event) for m in port.got(PORT_EVENT)]
    bench.claim(seen == events, events, seen)


@requirement(
    "CHAN-047",
    fault=(
        lost(MsgcPort.SPICE_MSGC_PORT_EVENT, nth=2),
        changed("another", MsgcPort.SPICE_MSGC_PORT_EVENT, b"\2", nth=1),
    ),
)
@pytest.mark.parametrize("device", PORTS)
def test_port_events_of_the_client(bench: Bench, device: str) -> None:
    """The guest gets each event of the client's side, in order, and an event when the client connects or
    leaves."""
    source = bench.start(devices=("keyboard", "mouse", device))
    port = opened(bench, source, device)
    events = [OPENED, BREAK, CLOSED]
    for event in events:
        port.send(MsgcPort.SPICE_MSGC_PORT_EVENT, struct.pack("<B", event))
    bench.settle()
    tape = [e.args for e in bench.pump.tape.host_events if e.name == "chardev_event"]
    seen = [args["event"] for args in tape if args["device"] == device]
    bench.claim(seen == events, events, seen)


@requirement(
    "CHAN-048",
    fault=(
        turned(DATA, COMPRESSED, lambda b: b"\0" + b, nth=1, case="False-usbredir"),
        turned(COMPRESSED, DATA, lambda b: LARGE, case="True-usbredir"),
        changed("a size less", COMPRESSED, lambda b: b[:1] + bytes([b[1] ^ 1]) + b[2:], case="True-webdav"),
    ),
)
@pytest.mark.parametrize("device", CHANNELS)
@pytest.mark.parametrize("able", [True, False])
def test_compressed_data_of_the_guest(bench: Bench, able: bool, device: str) -> None:
    """If server and client have LZ4, the server compresses large data; it sends small data, and all data to
    other clients, uncompressed."""
    source = bench.start(devices=("keyboard", "mouse", device))
    channel = opened(bench, source, device, *(() if able else (LZ4,)))
    offered = channel.reply.channel_caps
    both = able and bool(offered and offered[0] >> LZ4 & 1)
    said = (LARGE, SMALL, EDGE, OVER)
    for data in said:
        source.call("chardev_send", device=device, hex=data.hex())
        bench.settle()
    seen = [m for m in channel.messages if m.type in (DATA, COMPRESSED)]
    plain = [m.body for m in seen if m.type == DATA]
    due = [data for data in said if not both or len(data) <= len(EDGE)]
    bench.claim(plain == due, f"plain data of {[len(data) for data in due]}", [len(body) for body in plain])
    packed = [m.packet for m in seen if m.type == COMPRESSED]
    shapes = [(int(p.type), int(p.uncompressed_size or 0)) for p in packed]
    wanted = [(int(LZ4_TYPE), len(data)) for data in (LARGE, OVER)] if both else []
    bench.claim(shapes == wanted, f"compressed data {wanted}", shapes)
    shorter = all(len(p.compressed_data) < len(OVER) for p in packed)
    bench.claim(shorter, "compressed data that are shorter", [len(p.compressed_data) for p in packed])


@requirement("CHAN-159", fault=turned(DATA, COMPRESSED, lambda b: b"\0" + b, nth=1))
def test_data_over_a_unix_socket(bench: Bench) -> None:
    """A client with LZ4 on a UNIX socket gets large data as they are."""
    source = bench.start(devices=("keyboard", "mouse", "webdav"), listen=unix_path(bench))
    client = bench.client(source, channels=(CHANNELS["webdav"],))
    bench.settle()
    source.call("chardev_send", device="webdav", hex=LARGE.hex())
    bench.settle()
    seen = [(m.type, m.body) for m in client.current.channels[CHANNELS["webdav"], 0].got(DATA, COMPRESSED)]
    bench.claim(seen == [(DATA, LARGE)], "the data as they are", [(kind, len(body)) for kind, body in seen])


def literals(data: bytes) -> bytes:
    """An LZ4 block of at least 15 bytes without repetitions."""
    rest = len(data) - 15
    return b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255]) + data


@requirement("CHAN-049", fault=Fault("the guest misses a byte", plant=("clip:webdav",), case="webdav"))
@pytest.mark.parametrize("device", CHANNELS)
def test_compressed_data_of_the_client(bench: Bench, device: str) -> None:
    """Where the server offers LZ4, compressed data from the client reaches the guest decompressed."""
    source = bench.start(devices=("keyboard", "mouse", device))
    channel = opened(bench, source, device)
    offered = channel.reply.channel_caps
    if not offered or not offered[0] >> LZ4 & 1:
        pytest.skip("UNSUPPORTED: this build offers no LZ4")
    packed = struct.pack("<BI", LZ4_TYPE, len(LARGE)) + literals(LARGE)
    channel.send(MsgcSpicevmc.SPICE_MSGC_SPICEVMC_COMPRESSED_DATA, packed)
    channel.send(MsgcSpicevmc.SPICE_MSGC_SPICEVMC_DATA, SMALL)
    bench.settle()
    events = [e.args for e in bench.pump.tape.host_events if e.name == "chardev_write"]
    heard = b"".join(bytes.fromhex(args["hex"]) for args in events if args["device"] == device)
    bench.claim(
        heard == LARGE + SMALL, f"{len(LARGE) + len(SMALL)} bytes as they were", f"{len(heard)} bytes"
    )
