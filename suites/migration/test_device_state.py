# SPDX-License-Identifier: GPL-2.0-only
"""The channels of character devices in a seamless migration: smartcard, usbredir, port and webdav
(server/spicevmc.cpp, server/smartcard.cpp; server/migration-protocol.h)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from dissectors.wire.constants import (
    ChannelType,
    MsgBase,
    MsgcSmartcard,
    MsgcSpicevmc,
    MsgSmartcard,
    MsgSpicevmc,
)
from dissectors.wire.enums import MigrateFlags, VscMessageType
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, changed, lost, put, requirement
from fixtures.peer import Client, Connection
from fixtures.system.hosts import Ability, Host
from suites.guest_agent import read_by_guest
from suites.steps import migrated

MIGRATE, DATA = MsgBase.SPICE_MSG_MIGRATE, MsgBase.SPICE_MSG_MIGRATE_DATA
VMC_DATA, CARD_DATA = MsgSpicevmc.SPICE_MSG_SPICEVMC_DATA, MsgSmartcard.SPICE_MSG_SMARTCARD_DATA
#: Both flags: the MigrateFlags of a channel whose state travels; none: of a channel that begins anew.
BOTH, NONE = (
    MigrateFlags.SPICE_MIGRATE_NEED_FLUSH | MigrateFlags.SPICE_MIGRATE_NEED_DATA_TRANSFER,
    MigrateFlags(0),
)
FLAGS = {
    ChannelType.SPICE_CHANNEL_MAIN: BOTH,
    ChannelType.SPICE_CHANNEL_DISPLAY: BOTH,
    ChannelType.SPICE_CHANNEL_INPUTS: BOTH,
    ChannelType.SPICE_CHANNEL_CURSOR: NONE,
    ChannelType.SPICE_CHANNEL_PLAYBACK: NONE,
    ChannelType.SPICE_CHANNEL_RECORD: NONE,
    ChannelType.SPICE_CHANNEL_SMARTCARD: BOTH,
    ChannelType.SPICE_CHANNEL_USBREDIR: BOTH,
    ChannelType.SPICE_CHANNEL_PORT: BOTH,
    ChannelType.SPICE_CHANNEL_WEBDAV: BOTH,
}
EVERY_DEVICE = (
    "keyboard",
    "mouse",
    "display",
    "playback",
    "record",
    "smartcard",
    "usbredir",
    "port:org.example",
    "webdav",
)
READER = 0  # the first reader of the machine
APDU, ATR, READER_ADD = (
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_APDU,
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_ATR,
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_ReaderAdd,
)

pytestmark = pytest.mark.needs(Ability.SEAMLESS_DATA, Ability.CALLS, Ability.DEVICES)


def same(content: bytes) -> bytes:
    return content


def from_client(content: bytes) -> bytes:
    """A message of the client's card, little-endian as on the wire."""
    return struct.pack("<III", APDU, READER, len(content)) + content


def at_guest(content: bytes) -> bytes:
    """The message as the guest's reader reads and writes it: in network byte order, as in libcacard."""
    return struct.pack(">III", APDU, READER, len(content)) + content


@dataclass(frozen=True)
class DataChannel:
    """A channel that carries a device's data, and the form of the data at client and guest."""

    device: str
    channel: ChannelType
    client_says: int
    guest_says: int
    on_wire: Callable[[bytes], bytes] = same
    at_guest: Callable[[bytes], bytes] = same

    def connection(self, client: Client) -> Connection:
        """The client's connection of the channel."""
        return next(c for key, c in client.current.channels.items() if key[0] == self.channel)

    def say(self, client: Client, content: bytes) -> None:
        """Sends this data from the client."""
        self.connection(client).send(self.client_says, self.on_wire(content))


def _vmc(device: str, channel: ChannelType) -> DataChannel:
    return DataChannel(device, channel, MsgcSpicevmc.SPICE_MSGC_SPICEVMC_DATA, VMC_DATA)


CARRIERS = (
    _vmc("usbredir", ChannelType.SPICE_CHANNEL_USBREDIR),
    _vmc("port:org.example", ChannelType.SPICE_CHANNEL_PORT),
    _vmc("webdav", ChannelType.SPICE_CHANNEL_WEBDAV),
    DataChannel(
        "smartcard",
        ChannelType.SPICE_CHANNEL_SMARTCARD,
        MsgcSmartcard.SPICE_MSGC_SMARTCARD_DATA,
        CARD_DATA,
        from_client,
        at_guest,
    ),
)
every_carrier = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda c: c.channel.name[14:].lower())


def opened(bench: Bench, carrier: DataChannel) -> tuple[Host, Host, Client]:
    """A pair of hosts with the device, and a client that has its channel open; for a smartcard, a reader is
    added."""
    source, target = bench.pair(seamless=True, devices=("keyboard", "mouse", carrier.device))
    client = bench.client(source)
    if carrier.channel == ChannelType.SPICE_CHANNEL_SMARTCARD:
        added = struct.pack("<III", READER_ADD, 0xFFFFFFFF, 2) + b"r\0"
        carrier.connection(client).send(carrier.client_says, added)
    bench.settle()
    return source, target, client


@requirement(
    "MIG-SRC-063",
    fault=(
        put(MIGRATE, channel=ChannelType.SPICE_CHANNEL_DISPLAY, flags=1),
        put(MIGRATE, channel=ChannelType.SPICE_CHANNEL_CURSOR, flags=3),
    ),
)
def test_what_each_channel_asks_for(bench: Bench) -> None:
    """A machine with every device: the flags of SPICE_MSG_MIGRATE on each channel."""
    source, target = bench.pair(seamless=True, devices=EVERY_DEVICE)
    client = bench.client(source)
    bench.settle()
    migrated(bench, source, client, target)
    for connection in client.left[0]:
        asked = [int(m.packet.flags) for m in connection.got(MIGRATE)]
        due = int(FLAGS[ChannelType(connection.wanted.channel)])
        bench.claim(asked == [due], f"flags {due} on {connection.name}", asked, source)


@requirement(
    "MIG-DST-051",
    fault=Fault("the guest misses a byte", plant=("clip:webdav",), on="target", case="webdav-9"),
)
@pytest.mark.parametrize("room", [0, 1, 9])
@every_carrier
def test_data_that_the_guest_has_not_taken(bench: Bench, carrier: DataChannel, room: int) -> None:
    """Three messages wait at the source, the first perhaps partly read."""
    source, target, client = opened(bench, carrier)
    before = len(read_by_guest(bench, source))
    source.call("chardev_take", device=carrier.device, room=room)
    sent = [b"first, 16 bytes.", b"2nd", b"the third message"]
    for one in sent:
        carrier.say(client, one)
    bench.settle()
    migrated(bench, source, client, target)
    bench.settle()
    taken, due = read_by_guest(bench, source, target)[before:], b"".join(map(carrier.at_guest, sent))
    bench.claim(taken == due, due.hex(), taken.hex(), target)


@requirement(
    "MIG-DST-052",
    fault=(
        changed("the last byte", VMC_DATA, lambda b: b[:-1] + b"\0", host="target", case="usbredir"),
        lost(CARD_DATA, host="target", case="smartcard"),
    ),
)
@every_carrier
def test_data_at_the_target(bench: Bench, carrier: DataChannel) -> None:
    """Data passes both ways at the target, as at the source."""
    source, target, client = opened(bench, carrier)
    for host in (source, target):
        before = len(read_by_guest(bench, host))
        carrier.say(client, b"from the client")
        host.call("chardev_send", device=carrier.device, hex=carrier.at_guest(b"from the guest").hex())
        connection = carrier.connection(client)
        said = lambda c=connection: c.got(carrier.guest_says)  # noqa: E731
        bench.until(said, f"what the guest says on {carrier.device}")
        bench.settle()
        bodies = [m.body for m in connection.got(carrier.guest_says)]
        bench.claim(bodies == [carrier.on_wire(b"from the guest")], "what the guest has said", bodies, host)
        taken, due = read_by_guest(bench, host)[before:], carrier.at_guest(b"from the client")
        bench.claim(taken == due, due.hex(), taken.hex(), host)
        if host is source:
            migrated(bench, source, client, target)


@requirement(
    "MIG-DST-053", fault=changed("the last byte", CARD_DATA, lambda b: b[:-1] + b"\0", host="target")
)
@pytest.mark.parametrize("cut", [1, 11, 12, 13, 25])
def test_card_message_that_the_migration_cuts(bench: Bench, cut: int) -> None:
    """The guest's reader writes the first bytes of a message at the source, within its header of 12 bytes or
    after it, and the others at the target; a reader that was added stays added."""
    carrier = CARRIERS[-1]
    source, target, client = opened(bench, carrier)
    whole = at_guest(b"an answer of 26")
    source.call("chardev_send", device=carrier.device, hex=whole[:cut].hex())
    bench.settle()
    left = carrier.connection(client)
    migrated(bench, source, client, target)
    added = int(left.got(DATA)[0].packet.reader_added)
    bench.claim(added == 1, "reader_added 1", added, source)
    target.call("chardev_send", device=carrier.device, hex=whole[cut:].hex())
    card = carrier.connection(client)
    bench.until(lambda: card.got(CARD_DATA), "the message of the guest's reader")
    bodies = [m.body for m in card.got(CARD_DATA)]
    due = struct.pack("<III", APDU, READER, 15) + b"an answer of 26"
    bench.claim(bodies == [due], due.hex(), [b.hex() for b in bodies], target)
