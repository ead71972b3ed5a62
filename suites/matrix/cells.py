# SPDX-License-Identifier: GPL-2.0-only
"""The cells of a place: everything that can happen there, and the reason for each cell that is left out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType

from dissectors.wire.constants import MESSAGE_NAMES, ChannelType, Side
from suites.matrix.acts import MAIN, Act, Call, How, Id, Leave, Link, Send
from suites.matrix.places import ANNOUNCE, CANCEL, NOWHERE, SOUND, Place

CT = ChannelType
#: A message type that no channel has.
UNKNOWN_TYPE = 0x1B7


@dataclass(frozen=True)
class Cell:
    """One thing that happens at a place; `left_out`: why it is not played, if it is not."""

    place: Place
    act: Act
    left_out: str | None = None

    @property
    def name(self) -> str:
        """The cell's name, as `--cell` and the reports use it: `main: announced / SPICE_MSGC_PONG`."""
        return f"{self.place} / {self.act}"


#: VDIChunkHeader and VDAgentMessage of ANNOUNCE_CAPABILITIES with one word, as the guest's agent sends it.
AGENT_HELLO = struct.pack("<II IIQI II", 1, 28, 1, 6, 0, 8, 1, 0).hex()
#: Calls of a hypervisor, and acts of a guest, at places of main.
MAIN_CALLS: tuple[Call, ...] = (
    Call("migrate_connect", NOWHERE),
    Call("migrate_start"),
    Call("migrate_end", {"completed": 0}),
    Call("migrate_end", {"completed": 1}),
    Call("migrate_switch"),
    Call("migrate_info", NOWHERE),
    Call("vm_start"),
    Call("vm_stop"),
    Call(
        "set_ticket",
        {"password": "tell", "lifetime": 0, "fail_if_connected": 0, "disconnect_if_connected": 0},
    ),
    Call(
        "set_ticket",
        {"password": "tell", "lifetime": 1, "fail_if_connected": 1, "disconnect_if_connected": 0},
    ),
    Call(
        "set_ticket",
        {"password": "tell", "lifetime": 9, "fail_if_connected": 0, "disconnect_if_connected": 1},
    ),
    Call("set_noauth"),
    Call("set_seamless_migration", {"enable": 0}),
    Call("set_seamless_migration", {"enable": 1}),
    Call("set_channel_security", {"channel": "inputs", "security": 2}),
    Call("set_agent_mouse", {"enable": 0}),
    Call("set_agent_copypaste", {"enable": 0}),
    Call("set_agent_file_xfer", {"enable": 0}),
    Call("set_image_compression", {"value": 1}),
    Call("set_playback_compression", {"enable": 0}),
    Call("set_streaming_video", {"value": 1}),
    Call("get_num_clients"),
    Call("is_server_mouse"),
    Call("add_migration"),
    Call("agent_attach"),
    Call("agent_detach"),
    Call("agent_send", {"hex": AGENT_HELLO}),
    Call("kbd_leds", {"leds": 2}),
    Call("destroy"),
)
#: What the guest does with the device behind a channel.
CHANNEL_CALLS: Mapping[int, tuple[Call, ...]] = MappingProxyType(
    {
        CT.SPICE_CHANNEL_INPUTS: (Call("kbd_leds", {"leds": 2}),),
        CT.SPICE_CHANNEL_PLAYBACK: (
            Call("playback_start"),
            Call("playback_stop"),
            Call("playback_put"),
            Call("sound_volume", {"device": "playback", "volumes": [0x1234, 0x8765]}),
            Call("sound_mute", {"device": "playback", "mute": 1}),
        ),
        CT.SPICE_CHANNEL_RECORD: (
            Call("record_start"),
            Call("record_stop"),
            Call("record_get"),
            Call("sound_volume", {"device": "record", "volumes": [0x1234, 0x8765]}),
            Call("sound_mute", {"device": "record", "mute": 1}),
        ),
        CT.SPICE_CHANNEL_SMARTCARD: (
            Call("chardev_send", {"device": "smartcard", "hex": "01000000000000000400000002000100"}),
            Call("chardev_detach", {"device": "smartcard"}),
        ),
        CT.SPICE_CHANNEL_USBREDIR: (
            Call("chardev_send", {"device": "usbredir", "hex": "c0ffee"}),
            Call("chardev_detach", {"device": "usbredir"}),
        ),
        CT.SPICE_CHANNEL_PORT: (
            Call("chardev_send", {"device": "port:org.example.0", "hex": "c0ffee"}),
            Call("port_event", {"device": "port:org.example.0", "event": 0}),
            Call("chardev_detach", {"device": "port:org.example.0"}),
        ),
        CT.SPICE_CHANNEL_WEBDAV: (
            Call("chardev_send", {"device": "webdav", "hex": "c0ffee"}),
            Call("port_event", {"device": "webdav", "event": 0}),
            Call("chardev_detach", {"device": "webdav"}),
        ),
        CT.SPICE_CHANNEL_DISPLAY: (Call("qxl_draw"), Call("qxl_reset")),
        CT.SPICE_CHANNEL_CURSOR: (Call("qxl_cursor"), Call("qxl_cursor", {"kind": "hide"})),
    }
)
#: Channels that a link may name at a main place: those of its machine, one that the machine lacks, one that
#: does not exist.
LINKED = (
    MAIN,
    CT.SPICE_CHANNEL_INPUTS,
    CT.SPICE_CHANNEL_PLAYBACK,
    CT.SPICE_CHANNEL_RECORD,
    CT.SPICE_CHANNEL_SMARTCARD,
    CT.SPICE_CHANNEL_USBREDIR,
    CT.SPICE_CHANNEL_PORT,
    CT.SPICE_CHANNEL_WEBDAV,
    CT.SPICE_CHANNEL_DISPLAY,
    0x63,
)
#: Calls, the places where they are left out, and why: they are impossible there, or the interface forbids
#: them, so that a failure would be the hypervisor's fault (spice-server.h).
REASONS: tuple[tuple[frozenset[str], Callable[[Place], bool], str], ...] = (
    (
        frozenset({"migrate_info"}),
        lambda place: True,
        "misuse: a machine with the migration interface uses migrate_connect instead",
    ),
    (frozenset({"vm_stop"}), lambda place: place.stopped, "misuse: the machine is stopped already"),
    (frozenset({"vm_start"}), lambda place: not place.stopped, "misuse: the machine runs already"),
    (
        frozenset({"vm_start", "migrate_connect", "migrate_start", "migrate_end", "migrate_switch"}),
        lambda place: place.ended,
        "misuse: the machine runs at the target, and migrate_end has not completed yet",
    ),
    (
        frozenset({"migrate_end"}),
        lambda place: ANNOUNCE not in place.path or CANCEL in place.path,
        "misuse: no migration has been announced",
    ),
    (
        frozenset({"agent_attach", "agent_detach", "agent_send", "kbd_leds", *SOUND.values()})
        | {"playback_put", "playback_stop", "record_get", "record_stop", "sound_volume", "sound_mute"}
        | {"port_event", "qxl_draw", "qxl_reset", "qxl_cursor"},
        lambda place: place.stopped,
        "cannot be: the guest does nothing while its machine is stopped",
    ),
    (frozenset({"agent_attach"}), lambda place: place.agent, "misuse: the agent is attached already"),
    (
        frozenset({"agent_detach", "agent_send"}),
        lambda place: not place.agent,
        "cannot be: no agent is attached",
    ),
    (
        frozenset({"playback_put", "playback_stop", "record_get", "record_stop"}),
        lambda place: "sound on" not in place.name,
        "misuse: the guest has not started its sound",
    ),
    (
        frozenset(SOUND.values()),
        lambda place: "sound on" in place.name,
        "misuse: the guest has started its sound already",
    ),
)
ANOTHER = 3  # the client that links is not one of the place's


def messages(channel: int) -> list[int]:
    """Every message type of a client on a channel, and one type that does not exist."""
    return [*sorted(MESSAGE_NAMES[channel, Side.CLIENT]), UNKNOWN_TYPE]


def cells(place: Place) -> Iterator[Cell]:
    """Every cell of a place, including those that are left out."""
    for kind in messages(place.channel):
        yield Cell(place, Send(place.channel, kind), place.left_out)
    for call in MAIN_CALLS if place.channel == MAIN else CHANNEL_CALLS.get(place.channel, ()):
        yield Cell(place, call, place.left_out or _misuse(place, call))
    if place.channel == MAIN:
        for channel in LINKED:
            for number in Id:
                yield Cell(place, Link(channel, number, ANOTHER), _no_id(place, number))
    for how in How:
        yield Cell(place, Leave(place.channel, how), place.left_out)


def _misuse(place: Place, call: Call) -> str | None:
    """Why a hypervisor or guest cannot or must not make a call at this place (`REASONS`); None: it may."""
    for calls, holds, why in REASONS:
        if call.name in calls and holds(place):
            return why
    return None


def _no_id(place: Place, number: Id) -> str | None:
    others = any(isinstance(act, Link) and act.client == 2 for act in place.path)
    return "cannot be: there is no other client" if number is Id.OTHER and not others else None


def chosen(place: Place, glob: str | None) -> Iterator[Cell]:
    """The cells of a place, or those whose name fits a glob."""
    for cell in cells(place):
        if glob is None or fnmatchcase(cell.name, glob):
            yield cell
