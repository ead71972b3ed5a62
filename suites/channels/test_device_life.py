# SPDX-License-Identifier: GPL-2.0-only
"""Devices with a channel of their own, from their first client until they are unplugged: character devices
and sound (server/spicevmc.cpp, smartcard.cpp, char-device.cpp; spice-char.h)."""

from __future__ import annotations

import struct

import pytest

from dissectors.channels.agent_enums import AgentType
from dissectors.framing.events import DISCONNECTED
from dissectors.wire.constants import (
    ChannelType,
    LinkErr,
    MsgcMain,
    MsgcSmartcard,
    MsgcSpicevmc,
    MsgMain,
    MsgPlayback,
    MsgSmartcard,
    MsgSpicevmc,
)
from dissectors.wire.enums import VscMessageType
from fixtures.bench import Bench
from fixtures.bench.planting import (
    Fault,
    called_twice,
    changed,
    lost,
    never,
    put,
    requirement,
    stuck_after,
    timers,
    twice,
)
from fixtures.peer import Client, Connection
from fixtures.system.hosts import Ability, Host
from suites.channel_devices import SPICEVMC, UNCOMPRESSED
from suites.guest_agent import agent_message, chunk, read_by_guest

INIT, LIST = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
TO_GUEST, FROM_GUEST = MsgcSpicevmc.SPICE_MSGC_SPICEVMC_DATA, MsgSpicevmc.SPICE_MSG_SPICEVMC_DATA
CARD_TO_GUEST, CARD_FROM_GUEST = (
    MsgcSmartcard.SPICE_MSGC_SMARTCARD_DATA,
    MsgSmartcard.SPICE_MSG_SMARTCARD_DATA,
)
WITH_STATE = {**SPICEVMC, "smartcard": ChannelType.SPICE_CHANNEL_SMARTCARD}
CAN_GO = {
    **SPICEVMC,
    "playback": ChannelType.SPICE_CHANNEL_PLAYBACK,
    "record": ChannelType.SPICE_CHANNEL_RECORD,
}
#: Bytes that a guest writes at once, and how many times at most: the server stops reading when this much
#: waits.
BLOCK, BLOCKS, WAITING = 32_000, 400, 8 * 32_000
#: How long a guest may wait for bytes that it refused at first, ms (CHAR_DEVICE_WRITE_TO_TIMEOUT: 100).
RETRY_MS = 100
READER_ADD, READER_REMOVE, APDU = (
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_ReaderAdd,
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_ReaderRemove,
    VscMessageType.SPICE_VSC_MESSAGE_TYPE_APDU,
)
NO_READER = 0xFFFFFFFF
ERROR, GENERAL_ERROR = VscMessageType.SPICE_VSC_MESSAGE_TYPE_Error, struct.pack("<I", 1)

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def short(device: str) -> str:
    """The device's name as part of a test's name."""
    return device.partition(":")[0]


def of(client: Client, channel: int, number: int = 0) -> Connection:
    return client.current.channels[channel, number]


def states(bench: Bench) -> list[bool]:
    """The client states that a character device was notified of so far: connected, or gone."""
    return [bool(e.args["connected"]) for e in bench.pump.tape.host_events if e.name == "chardev_state"]


@requirement(
    "CHAN-068",
    fault=(
        never("chardev_state", case="usbredir"),
        called_twice("chardev_state", case="smartcard"),
    ),
)
@pytest.mark.parametrize("device", WITH_STATE, ids=short)
def test_device_hears_of_its_client(bench: Bench, device: str) -> None:
    """The device is notified once when its channel gets a client, and once when the client is gone, each
    time."""
    source = bench.start(devices=("keyboard", "mouse", device))
    wanted: list[bool] = []
    for end in ("its channel ends", "the client goes"):
        client = bench.client(source)
        bench.settle()
        wanted.append(True)
        bench.claim(states(bench) == wanted, f"state {wanted}", states(bench))
        if end == "its channel ends":
            of(client, WITH_STATE[device]).close()
        else:
            client.close()
        bench.settle()
        wanted.append(False)
        bench.claim(states(bench) == wanted, f"state {wanted}", states(bench))
        client.close()
        bench.settle()


@requirement(
    "MAIN-073",
    fault=(never("chardev_state", case="detached"), called_twice("chardev_state", case="malformed")),
)
@pytest.mark.parametrize("end", ["detached", "malformed"])
def test_agent_hears_that_it_is_used(bench: Bench, end: str) -> None:
    """The agent's device is notified once when the server takes it, before any client, and once when the
    server gives it up; clients that come and go change nothing."""
    source = bench.start(devices=("keyboard", "mouse"))
    source.call("agent_attach")
    bench.settle()
    bench.claim(states(bench) == [True], "connected, once", states(bench))
    for stays in (False, True):
        client = bench.client(source, channels=())
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 10))
        bench.settle()
        if not stays:
            client.close()
            bench.settle()
    bench.claim(states(bench) == [True], "nothing more when clients come and go", states(bench))
    if end == "detached":
        source.call("agent_detach")
    else:
        source.call("agent_send", hex=chunk(agent_message(AgentType.VD_AGENT_REPLY, b"", protocol=2)).hex())
    bench.settle()
    bench.claim(states(bench) == [True, False], "gone, once", states(bench))


@requirement("CHAN-069", fault=changed("its last byte", FROM_GUEST, lambda b: b[:-1] if b[-1] else b))
@pytest.mark.parametrize("device", SPICEVMC, ids=short)
def test_client_after_one_that_did_not_read(bench: Bench, device: str) -> None:
    """A client leaves with much unread data while the server has stopped reading from the guest: the next
    client gets what the guest sends."""
    source = bench.start(devices=("keyboard", "mouse", device))
    client = bench.client(source, capabilities=UNCOMPRESSED)
    bench.settle()
    waits = 0
    for _ in range(BLOCKS):
        if waits < WAITING:
            waits = source.call("chardev_send", device=device, hex=bytes(BLOCK).hex())
    bench.claim(waits >= WAITING, "a guest that has to wait", f"{waits} bytes left")
    source.call("set_ticket", password="away", disconnect_if_connected=1)  # before the client can read
    source.call("set_noauth")
    bench.settle()
    client = bench.client(source, capabilities=UNCOMPRESSED)
    waits = source.call("chardev_send", device=device, hex=b"here I am".hex())
    for _ in range(BLOCKS):  # each call wakes the server, which reads 64 KiB at most
        waits = waits and source.call("chardev_send", device=device, hex="")
    bench.settle()
    bench.claim(not waits, "a server that reads from the guest again", f"{waits} bytes left")
    bodies = [m.body for m in of(client, SPICEVMC[device]).got(FROM_GUEST)]
    seen = bodies[-1][-9:] if bodies else b"nothing"
    bench.claim(seen == b"here I am", "what the guest says to the next client", seen)


@requirement("CHAN-157", fault=lost(FROM_GUEST))
def test_guest_that_speaks_before_its_client(bench: Bench) -> None:
    """The guest writes while nobody is there, and nothing wakes the server later: the first client gets
    it."""
    source = bench.start(devices=("keyboard", "mouse", "webdav"))
    waits = source.call("chardev_send", device="webdav", hex=b"anybody?".hex())
    bench.claim(waits == len(b"anybody?"), "data that wait in the guest", f"{waits} bytes")
    channel = of(bench.client(source, capabilities=UNCOMPRESSED), SPICEVMC["webdav"])
    bench.settle()
    bodies = [m.body for m in channel.got(FROM_GUEST)]
    bench.claim(bodies == [b"anybody?"], "what the guest has said", bodies)


@requirement("CHAN-158", fault=(lost(CARD_FROM_GUEST), twice(CARD_FROM_GUEST)))
def test_card_that_speaks_to_nobody(bench: Bench) -> None:
    """The guest's reader writes a message, and a part of one, while no client is there, and the rest later:
    the client gets only what the reader says to it."""
    source = bench.start(devices=("keyboard", "mouse", "smartcard"))
    cut, told = card(APDU, 0, b"cut off", ">"), card(APDU, 0, b"to you", ">")
    channel = None
    for said in (card(APDU, 0, b"to nobody", ">") + cut[:-3], cut[-3:], told):
        if said == told:
            channel = of(bench.client(source), ChannelType.SPICE_CHANNEL_SMARTCARD)
            bench.settle()
        waits = source.call("chardev_send", device="smartcard", hex=said.hex())
        bench.claim(not waits, "a server that reads", f"{waits} bytes wait")
    bench.settle()
    seen = [m.body for m in channel.got(CARD_FROM_GUEST)] if channel else []
    bench.claim(seen == [card(APDU, 0, b"to you")], "one message", [body.hex() for body in seen])


@requirement("CHAN-070", fault=stuck_after(MsgPlayback.SPICE_MSG_PLAYBACK_MODE, case="playback"))
@pytest.mark.parametrize("device", CAN_GO, ids=short)
def test_device_is_unplugged(bench: Bench, device: str) -> None:
    """The channel of an unplugged device ends, leaves the list and cannot be opened; after the device is
    plugged again, it works as before."""
    kind = CAN_GO[device]
    source = bench.start(devices=("keyboard", "mouse", device))
    client = bench.client(source)
    bench.settle()
    source.call("chardev_detach", device=device)
    ending = of(client, kind).expect_end(deadline=2)
    bench.claim(ending in DISCONNECTED, "the channel's end", ending)
    bench.claim(client.main.ending is None, "the session goes on", client.main.ending)
    again = bench.connect(source, channel=kind, connection_id=client.session_id)
    answer = bench.try_link(again)
    bench.claim(answer != LinkErr.SPICE_LINK_ERR_OK, "a link that is refused", answer)
    newcomer = bench.client(source)
    kinds = [key[0] for key in newcomer.current.channels]
    bench.claim(kind not in kinds, "a list without it", kinds)
    source.call("chardev_attach", device=device)
    joined = bench.connect(source, channel=kind, connection_id=newcomer.session_id)
    answer = bench.try_link(joined)
    bench.claim(answer == LinkErr.SPICE_LINK_ERR_OK, "a link to the device that is back", answer)


@requirement("CHAN-070")
def test_card_reader_is_unplugged(bench: Bench) -> None:
    """The channel of an unplugged smartcard reader ends, and the session goes on."""
    source = bench.start(devices=("keyboard", "mouse", "smartcard"))
    client = bench.client(source)
    bench.settle()
    source.call("chardev_detach", device="smartcard")
    bench.settle()
    ending = of(client, ChannelType.SPICE_CHANNEL_SMARTCARD).ending
    bench.claim(ending in DISCONNECTED, "the end of the reader's channel", ending or "it stays open")
    bench.claim(client.main.ending is None, "the session goes on", client.main.ending)


@requirement("CHAN-071", fault=timers(+1, case="agent-0"))
@pytest.mark.needs(Ability.VIRTUAL_CLOCK)
@pytest.mark.parametrize("room", [0, 5])
@pytest.mark.parametrize("device", ["agent", *SPICEVMC], ids=short)
def test_guest_that_takes_it_later(bench: Bench, device: str, room: int) -> None:
    """The guest takes nothing, or a part, and after 100 ms everything: the server tries again by itself and
    delivers all bytes in order."""
    source = bench.start(devices=("keyboard", "mouse", device))
    client = bench.client(source)
    if device == "agent":
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 10))
    bench.settle()
    source.call("chardev_take", device=device, room=room, wakes=False)
    parts = [agent_message(AgentType.VD_AGENT_REPLY, bytes([number]) * 8) for number in range(3)]
    for part in parts:
        if device == "agent":
            client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, part)
        else:
            of(client, SPICEVMC[device]).send(TO_GUEST, part)
    bench.settle()
    bench.claim(len(read_by_guest(bench)) == room, f"{room} bytes at first", len(read_by_guest(bench)))
    source.call("chardev_take", device=device, room=None, wakes=False)
    bench.pass_time(source, RETRY_MS)
    wanted = b"".join(chunk(part) if device == "agent" else part for part in parts)
    read = read_by_guest(bench)
    bench.claim(read == wanted, f"{len(wanted)} bytes in order", read.hex() or "none")


def card(kind: VscMessageType, reader: int, content: bytes = b"", order: str = "<") -> bytes:
    """A card's message; at the guest in network byte order (">"), as in libcacard."""
    return struct.pack(f"{order}III", kind, reader, len(content)) + content


@requirement(
    "CHAN-072",
    fault=(
        put(CARD_FROM_GUEST, reader_id=7),
        changed("another type", CARD_FROM_GUEST, lambda b: bytes([b[0] ^ 2]) + b[1:]),
        Fault("the guest misses a byte", plant=("clip:smartcard",)),
    ),
)
@pytest.mark.parametrize("said", [0, 3, NO_READER], ids=hex)
def test_card_and_reader(bench: Bench, said: int) -> None:
    """The guest's reader gets ReaderAdd with its number, and its messages to the client carry this number
    whatever the guest writes; when the client leaves, the reader gets ReaderRemove."""
    source = bench.start(devices=("keyboard", "mouse", "smartcard"))
    client = bench.client(source)
    channel = of(client, ChannelType.SPICE_CHANNEL_SMARTCARD)
    channel.send(CARD_TO_GUEST, card(READER_ADD, NO_READER, b"r\0"))
    bench.settle()
    wanted = card(READER_ADD, 0, order=">")
    read = read_by_guest(bench)
    bench.claim(read == wanted, f"ReaderAdd at the guest {wanted.hex()}", read.hex())
    source.call("chardev_send", device="smartcard", hex=card(APDU, said, b"answer", ">").hex())
    bench.settle()
    seen = [m.body for m in channel.got(CARD_FROM_GUEST)]
    bench.claim(seen == [card(APDU, 0, b"answer")], "the guest's message with reader 0", seen)
    client.close()
    bench.settle()
    wanted += card(READER_REMOVE, 0, order=">")
    read = read_by_guest(bench)
    bench.claim(read == wanted, f"then ReaderRemove {wanted.hex()}", read.hex())


@requirement(
    "CHAN-077",
    fault=(
        lost(CARD_FROM_GUEST, case="5"),
        put(CARD_FROM_GUEST, reader_id=6, case="5"),
        changed("code 2", CARD_FROM_GUEST, lambda b: b[:12] + b"\2" + b[13:], case="removed"),
    ),
)
@pytest.mark.parametrize("reader", [0, 5, NO_READER, "removed"], ids=str)
def test_removed_reader_that_is_not_there(bench: Bench, reader: int | str) -> None:
    """ReaderRemove for a reader that the client has not added, or has removed already: the server answers
    with an error, and the next reader can be added."""
    source = bench.start(devices=("keyboard", "mouse", "smartcard"))
    channel = of(bench.client(source), ChannelType.SPICE_CHANNEL_SMARTCARD)
    number = reader if isinstance(reader, int) else 0
    if reader == "removed":
        channel.send(CARD_TO_GUEST, card(READER_ADD, NO_READER, b"r\0"))
        channel.send(CARD_TO_GUEST, card(READER_REMOVE, number))
        bench.settle()
    channel.send(CARD_TO_GUEST, card(READER_REMOVE, number))
    bench.settle()
    told = [m.body.hex() for m in channel.got(CARD_FROM_GUEST)]
    wanted = [card(ERROR, number, GENERAL_ERROR).hex()]
    bench.claim(told == wanted, f"VSC_GENERAL_ERROR for reader {number:#x}: {wanted}", told)
    channel.send(CARD_TO_GUEST, card(READER_ADD, NO_READER, b"r\0"))
    bench.settle()
    added = read_by_guest(bench)
    bench.claim(
        added.endswith(card(READER_ADD, 0, order=">")), "ReaderAdd at the guest after that", added.hex()
    )


@requirement("MAIN-019", fault=changed("id 0", LIST, lambda b: b[:-1] + b"\0", nth=2))
def test_second_channel_of_a_type_that_comes_later(bench: Bench) -> None:
    """The server lists the second and third port that the machine gets with ids of their own."""
    source = bench.start(devices=("keyboard", "mouse", "port:early.example"))
    main = bench.link(source)
    bench.expect(main, INIT, proves="MAIN-001")
    main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    bench.expect(main, LIST, proves="MAIN-008")
    for number in (1, 2):
        source.call("chardev_attach", device=f"port:late.example.{number}")
        seen = [(int(c.type), int(c.id)) for c in bench.expect(main, LIST).packet.channels]
        wanted = [(int(ChannelType.SPICE_CHANNEL_PORT), number)]
        bench.claim(seen == wanted, f"the new channel {wanted}", seen)


@requirement(
    "MIG-SRC-071",
    fault=(never("chardev_write", case="agent-before"), lost(FROM_GUEST, case="webdav-meanwhile")),
)
@pytest.mark.parametrize("plugged", ["before", "meanwhile"])
@pytest.mark.parametrize("device", ["agent", *SPICEVMC], ids=short)
def test_machine_that_stands_still(bench: Bench, device: str, plugged: str) -> None:
    """While the machine is stopped, the server neither writes to its devices nor reads from them, whether
    they were plugged before or after the stop; once it runs, all data arrives in order."""
    agent = device == "agent"
    source: Host = bench.start(devices=("keyboard", "mouse", *[device] * (plugged == "before")))
    source.call("vm_stop")
    if plugged == "meanwhile":
        source.call("chardev_attach", device=device)
    client = bench.client(source, capabilities=UNCOMPRESSED)
    if agent:
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 10))
    channel = client.main if agent else of(client, SPICEVMC[device])
    bench.settle()
    message = agent_message(AgentType.VD_AGENT_REPLY, b"12345678")
    channel.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA if agent else TO_GUEST, message)
    whole = (struct.pack("<II", 1, len(message)) if agent else b"") + message
    source.call("chardev_send", device=device, hex=whole.hex())
    bench.settle()
    kind = MsgMain.SPICE_MSG_MAIN_AGENT_DATA if agent else FROM_GUEST
    seen = read_by_guest(bench), [m.body for m in channel.got(kind)]
    bench.claim(seen == (b"", []), "nothing at guest and client", seen)
    source.call("vm_start")
    bench.settle()
    seen = read_by_guest(bench), [m.body for m in channel.got(kind)]
    bench.claim(seen == (whole, [message]), "what was said, at guest and client", seen)
