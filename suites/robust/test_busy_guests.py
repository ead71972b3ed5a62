# SPDX-License-Identifier: GPL-2.0-only
"""Clients that leave while the guest does not read from its character devices, or in the middle of a message
to one (server/char-device.cpp, spicevmc.cpp, smartcard-channel-client.cpp)."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest

from dissectors.channels.agent_enums import AgentType
from dissectors.wire.constants import MsgcMain
from fixtures.bench import Bench
from fixtures.bench.planting import dies_at, requirement
from fixtures.peer import Client, Connection
from fixtures.system.hosts import Ability, HarnessError, Host
from suites.channels.test_device_life import (
    APDU,
    CARD_TO_GUEST,
    NO_READER,
    READER_ADD,
    TO_GUEST,
    WITH_STATE,
    card,
    of,
)
from suites.guest_agent import agent_message, chunk, read_by_guest

WITHIN, WAITING = "within a message", "with messages that wait"

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def comes(bench: Bench, source: Host, device: str) -> tuple[Client, Connection]:
    """A client that uses the device, and the connection on which it does."""
    client = bench.client(source, channels=() if device == "agent" else (WITH_STATE[device],))
    if device == "agent":
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 10))
    elif device == "smartcard":
        of(client, WITH_STATE[device]).send(CARD_TO_GUEST, card(READER_ADD, NO_READER, b"r\0"))
    bench.settle()
    return client, client.main if device == "agent" else of(client, WITH_STATE[device])


def a_message(device: str, number: int) -> tuple[int, bytes, bytes]:
    """A message of a client to the device: its type, its body, and what the guest gets of it."""
    content = bytes([number]) * 20
    if device == "agent":
        said = agent_message(AgentType.VD_AGENT_REPLY, content)
        return MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, said, chunk(said)
    if device == "smartcard":
        return CARD_TO_GUEST, card(APDU, 0, content), card(APDU, 0, content, ">")
    return TO_GUEST, content, content


#: The device, and how its clients leave, one after the other.
LEAVES = {
    "agent": ("agent", (WITHIN, WAITING)),
    "smartcard": ("smartcard", (WITHIN, WAITING)),
    "usbredir": ("usbredir", (WITHIN,)),
    "usbredir, late guest": ("usbredir", (WAITING,)),
}


@requirement("ROBUST-011", fault=dies_at(CARD_TO_GUEST, nth=4, case="smartcard"))
@pytest.mark.parametrize(("device", "leaves"), LEAVES.values(), ids=LEAVES.keys())
def test_client_leaves_while_its_guest_is_busy(bench: Bench, device: str, leaves: tuple[str, ...]) -> None:
    """A client leaves in the middle of a message, or with messages that the guest has not taken; then the
    guest takes everything: the server lives, and the guest gets the message of the next client."""
    source = bench.start(devices=("keyboard", "mouse", device))
    for how in leaves:
        client, channel = comes(bench, source, device)
        if how == WITHIN:
            kind, body, _ = a_message(device, 0)
            channel.send_raw(struct.pack("<HI", kind, len(body)) + body[:7])
        else:
            source.call("chardev_take", device=device, room=5, wakes=False)
            for number in range(1, 4):
                kind, body, _ = a_message(device, number)
                channel.send(kind, body)
        bench.settle()
        client.close()
        bench.settle()
        with suppress(HarnessError):
            source.call("chardev_take", device=device, room=None)
        bench.alive(f"after a client that left {how}", source)
        if not source.life().alive:
            return
    _, channel = comes(bench, source, device)
    kind, body, due = a_message(device, 9)
    channel.send(kind, body)
    bench.settle()
    read = read_by_guest(bench)
    bench.claim(read.endswith(due), f"at last {due.hex()} at the guest", read.hex())
