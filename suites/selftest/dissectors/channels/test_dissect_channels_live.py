# SPDX-License-Identifier: GPL-2.0-only
"""Messages of a real server and our client on every channel, and in a seamless migration, recorded by the
test."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dissectors.channels import agent_messages as messages
from dissectors.channels import inputs, smartcard, spicevmc
from dissectors.channels.agent import AgentStream, VDAgentMessage, chunks
from dissectors.channels.agent_enums import AgentType
from dissectors.channels.main import SpiceMsgcMainAgentStart
from dissectors.framing.events import Message
from dissectors.wire.constants import (
    ChannelType,
    MsgBase,
    MsgcMain,
    MsgCursor,
    MsgDisplay,
    MsgInputs,
    MsgMain,
    MsgPlayback,
    MsgPort,
    MsgRecord,
    MsgSmartcard,
    MsgSpicevmc,
)
from dissectors.wire.enums import VscMessageType
from dissectors.wire.message import SpiceUnknown
from fixtures.library import LibraryHost, LibraryLauncher
from fixtures.peer import Client, Pump
from fixtures.system.hosts import Settings

DEVICES = (
    "keyboard",
    "mouse",
    "display",
    "agent",
    "playback",
    "record",
    "smartcard",
    "usbredir",
    "webdav",
    "port:org.example.0",
)
CAPABILITIES = messages.VDAgentAnnounceCapabilities(request=1, caps=[0x3FFFF])
ANNOUNCE = bytes(VDAgentMessage(type=AgentType.VD_AGENT_ANNOUNCE_CAPABILITIES, body=CAPABILITIES))
ATR = bytes.fromhex("3b6500002063cb6800")


@pytest.fixture(scope="module")
def launcher() -> Iterator[LibraryLauncher]:
    with LibraryLauncher() as launcher:
        yield launcher


@pytest.fixture
def pump() -> Iterator[Pump]:
    with Pump() as pump:
        yield pump


def _agent_chunk(data: bytes) -> str:
    """As the guest's agent writes it: port 1, size."""
    return (struct.pack("<II", 1, len(data)) + data).hex()


def _guest_acts(host: LibraryHost) -> None:
    """Something of each device."""
    host.call("qxl_draw")
    for kind in ("set", "move", "hide"):
        host.call("qxl_cursor", kind=kind)
    host.call("agent_send", hex=_agent_chunk(ANNOUNCE))
    host.call("chardev_send", device="usbredir", hex=b"from the guest's usb".hex())
    host.call("chardev_send", device="webdav", hex=bytes(5000).hex())
    host.call("port_event", device="port:org.example.0", event=2)
    apdu = struct.pack(">III", VscMessageType.SPICE_VSC_MESSAGE_TYPE_APDU, 0, 4) + b"\0\xa4\4\0"
    host.call("chardev_send", device="smartcard", hex=apdu.hex())
    host.call("kbd_leds", leds=5)
    for action in ("start", "put", "stop"):
        host.call(f"playback_{action}")
    for action in ("start", "stop"):
        host.call(f"record_{action}")


def _client_acts(client: Client) -> None:
    """Something on each channel."""
    session = client.current
    session.main.send(SpiceMsgcMainAgentStart(num_tokens=10))
    for piece in chunks([VDAgentMessage(type=AgentType.VD_AGENT_ANNOUNCE_CAPABILITIES, body=CAPABILITIES)]):
        session.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, piece)
    for kind, body in (
        (VscMessageType.SPICE_VSC_MESSAGE_TYPE_ReaderAdd, smartcard.VSCMsgReaderAdd(reader_name=b"reader\0")),
        (VscMessageType.SPICE_VSC_MESSAGE_TYPE_ATR, smartcard.VSCMsgATR(atr=ATR)),
    ):
        if card := session.channel(ChannelType.SPICE_CHANNEL_SMARTCARD):
            card.send(smartcard.SpiceMsgcSmartcardData(type=kind, body=body))
    if usb := session.channel(ChannelType.SPICE_CHANNEL_USBREDIR):
        usb.send(spicevmc.SpiceMsgcSpicevmcData(data=b"from the client's usb"))
    if keys := session.channel(ChannelType.SPICE_CHANNEL_INPUTS):
        for _ in range(4):
            keys.send(inputs.SpiceMsgcInputsMouseMotion(dx=-3, dy=5))


def _check(seen: list[Message]) -> set[tuple[int, int]]:
    """Each message dissects without a problem and rebuilds from its fields; returns their (channel, type)."""
    for message in seen:
        packet = message.packet
        assert not isinstance(packet, SpiceUnknown), message
        assert packet.problems() == [], packet.show(dump=True)
        packet.clear_cache()
        assert bytes(packet) == message.body, packet.show(dump=True)
    return {(message.channel, message.type) for message in seen}


def _said(client: Client) -> list[Message]:
    sessions = [*client.left, *filter(None, (client.session, client.target))]
    return [
        message
        for session in sessions
        for connection in session
        for message in (*connection.messages, *connection.sent)
    ]


HEARD = {
    ChannelType.SPICE_CHANNEL_MAIN: (MsgMain.SPICE_MSG_MAIN_AGENT_DATA,),
    ChannelType.SPICE_CHANNEL_DISPLAY: (
        MsgDisplay.SPICE_MSG_DISPLAY_SURFACE_CREATE,
        MsgDisplay.SPICE_MSG_DISPLAY_DRAW_FILL,
    ),
    ChannelType.SPICE_CHANNEL_CURSOR: (
        MsgCursor.SPICE_MSG_CURSOR_SET,
        MsgCursor.SPICE_MSG_CURSOR_MOVE,
        MsgCursor.SPICE_MSG_CURSOR_HIDE,
    ),
    ChannelType.SPICE_CHANNEL_INPUTS: (
        MsgInputs.SPICE_MSG_INPUTS_KEY_MODIFIERS,
        MsgInputs.SPICE_MSG_INPUTS_MOUSE_MOTION_ACK,
    ),
    ChannelType.SPICE_CHANNEL_PLAYBACK: (
        MsgPlayback.SPICE_MSG_PLAYBACK_START,
        MsgPlayback.SPICE_MSG_PLAYBACK_STOP,
    ),
    ChannelType.SPICE_CHANNEL_RECORD: (MsgRecord.SPICE_MSG_RECORD_START, MsgRecord.SPICE_MSG_RECORD_STOP),
    ChannelType.SPICE_CHANNEL_SMARTCARD: (MsgSmartcard.SPICE_MSG_SMARTCARD_DATA,),
    ChannelType.SPICE_CHANNEL_USBREDIR: (MsgSpicevmc.SPICE_MSG_SPICEVMC_DATA,),
    ChannelType.SPICE_CHANNEL_WEBDAV: (MsgPort.SPICE_MSG_PORT_INIT,),
    ChannelType.SPICE_CHANNEL_PORT: (MsgPort.SPICE_MSG_PORT_INIT, MsgPort.SPICE_MSG_PORT_EVENT),
}


def test_every_channel(launcher: LibraryLauncher, pump: Pump) -> None:
    """Guest and client use each channel; the dissectors understand every message."""
    host = launcher.start("source", Settings(devices=DEVICES))
    pump.add_host(host)
    client = Client(pump, host)
    client.open()
    pump.settle()
    _client_acts(client)
    pump.settle()
    _guest_acts(host)
    for channel, types in HEARD.items():
        connection = client.current.channel(channel)
        assert connection, channel.name
        for kind in types:
            pump.until(lambda c=connection, k=kind: c.got(k), what=kind.name)  # type: ignore[misc]
    _check(_said(client))
    data = [message.body for message in client.main.got(MsgMain.SPICE_MSG_MAIN_AGENT_DATA)]
    (announced,) = [packet for stream in [AgentStream()] for body in data for packet in stream.feed(body)]
    assert bytes(announced) == ANNOUNCE
    assert announced.problems() == []
    host.stop()


def test_migration_data(launcher: LibraryLauncher, pump: Pump) -> None:
    """The migration data of each channel, in a seamless migration in the middle of an agent's message."""
    settings = Settings(devices=DEVICES, seamless=True)
    source = launcher.start("source", settings)
    target = launcher.start("target", replace(settings, incoming=True))
    for host in (source, target):
        pump.add_host(host)
    client = Client(pump, source)
    client.open()
    _client_acts(client)
    pump.settle()
    begun = 8 + 5  # bytes: the chunk's header, the first of the message's
    source.call("agent_send", hex=_agent_chunk(ANNOUNCE)[: 2 * begun])
    pump.settle()
    source.announce(target)
    pump.until(lambda: client.target and client.target.linked, what="the target's channels")
    source.complete(target)
    pump.until(
        lambda: any(c.got(MsgBase.SPICE_MSG_MIGRATE_DATA) for c in client.left[0]) if client.left else None,
        what="MIGRATE_DATA",
    )
    pump.settle()
    said = _said(client)
    _check(said)
    carried = {m.channel for m in said if m.name.endswith("MIGRATE_DATA")}
    assert carried >= {1, 2, 3, 8, 9}
    main = next(m.packet for m in said if m.name == "SPICE_MSG_MIGRATE_DATA" and m.channel == 1)
    assert main.client_agent_started == 1
    assert main.msg_header == ANNOUNCE[:5]
    assert target.life().alive, target.life()
    source.stop()
    target.stop()
