# SPDX-License-Identifier: GPL-2.0-only
"""The cells of a place: everything that can happen there, and the reason for each cell that is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType

from dissectors.wire.constants import MESSAGE_NAMES, ChannelType, Side
from suites.fuzz.moves import AGENT_MESSAGE
from suites.matrix.acts import MAIN, Act, CallAct, LeaveAct, LeaveHow, LinkAct, LinkId, SendAct
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


#: Calls of a hypervisor, and acts of a guest, at places of main.
MAIN_CALLS: tuple[CallAct, ...] = (
    CallAct("migrate_connect", NOWHERE),
    CallAct("migrate_start"),
    CallAct("migrate_end", {"completed": 0}),
    CallAct("migrate_end", {"completed": 1}),
    CallAct("migrate_switch"),
    CallAct("migrate_info", NOWHERE),
    CallAct("vm_start"),
    CallAct("vm_stop"),
    CallAct(
        "set_ticket",
        {"password": "tell", "lifetime": 0, "fail_if_connected": 0, "disconnect_if_connected": 0},
    ),
    CallAct(
        "set_ticket",
        {"password": "tell", "lifetime": 1, "fail_if_connected": 1, "disconnect_if_connected": 0},
    ),
    CallAct(
        "set_ticket",
        {"password": "tell", "lifetime": 9, "fail_if_connected": 0, "disconnect_if_connected": 1},
    ),
    CallAct("set_noauth"),
    CallAct("set_seamless_migration", {"enable": 0}),
    CallAct("set_seamless_migration", {"enable": 1}),
    CallAct("set_channel_security", {"channel": "inputs", "security": 2}),
    CallAct("set_agent_mouse", {"enable": 0}),
    CallAct("set_agent_copypaste", {"enable": 0}),
    CallAct("set_agent_file_xfer", {"enable": 0}),
    CallAct("set_image_compression", {"value": 1}),
    CallAct("set_playback_compression", {"enable": 0}),
    CallAct("set_streaming_video", {"value": 1}),
    CallAct("get_num_clients"),
    CallAct("is_server_mouse"),
    CallAct("add_migration"),
    CallAct("agent_attach"),
    CallAct("agent_detach"),
    CallAct("agent_send", {"hex": AGENT_MESSAGE.hex()}),
    CallAct("kbd_leds", {"leds": 2}),
    CallAct("destroy"),
)
#: What the guest does with the device behind a channel.
CHANNEL_CALLS: Mapping[int, tuple[CallAct, ...]] = MappingProxyType(
    {
        CT.SPICE_CHANNEL_INPUTS: (CallAct("kbd_leds", {"leds": 2}),),
        CT.SPICE_CHANNEL_PLAYBACK: (
            CallAct("playback_start"),
            CallAct("playback_stop"),
            CallAct("playback_put"),
            CallAct("sound_volume", {"device": "playback", "volumes": [0x1234, 0x8765]}),
            CallAct("sound_mute", {"device": "playback", "mute": 1}),
        ),
        CT.SPICE_CHANNEL_RECORD: (
            CallAct("record_start"),
            CallAct("record_stop"),
            CallAct("record_get"),
            CallAct("sound_volume", {"device": "record", "volumes": [0x1234, 0x8765]}),
            CallAct("sound_mute", {"device": "record", "mute": 1}),
        ),
        CT.SPICE_CHANNEL_SMARTCARD: (
            CallAct("chardev_send", {"device": "smartcard", "hex": "01000000000000000400000002000100"}),
            CallAct("chardev_detach", {"device": "smartcard"}),
        ),
        CT.SPICE_CHANNEL_USBREDIR: (
            CallAct("chardev_send", {"device": "usbredir", "hex": "c0ffee"}),
            CallAct("chardev_detach", {"device": "usbredir"}),
        ),
        CT.SPICE_CHANNEL_PORT: (
            CallAct("chardev_send", {"device": "port:org.example.0", "hex": "c0ffee"}),
            CallAct("port_event", {"device": "port:org.example.0", "event": 0}),
            CallAct("chardev_detach", {"device": "port:org.example.0"}),
        ),
        CT.SPICE_CHANNEL_WEBDAV: (
            CallAct("chardev_send", {"device": "webdav", "hex": "c0ffee"}),
            CallAct("port_event", {"device": "webdav", "event": 0}),
            CallAct("chardev_detach", {"device": "webdav"}),
        ),
        CT.SPICE_CHANNEL_DISPLAY: (CallAct("qxl_draw"), CallAct("qxl_reset")),
        CT.SPICE_CHANNEL_CURSOR: (CallAct("qxl_cursor"), CallAct("qxl_cursor", {"kind": "hide"})),
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
        yield Cell(place, SendAct(place.channel, kind), place.left_out)
    for call in MAIN_CALLS if place.channel == MAIN else CHANNEL_CALLS.get(place.channel, ()):
        yield Cell(place, call, place.left_out or _misuse(place, call))
    if place.channel == MAIN:
        for channel in LINKED:
            for number in LinkId:
                yield Cell(place, LinkAct(channel, number, ANOTHER), _no_id(place, number))
    for how in LeaveHow:
        yield Cell(place, LeaveAct(place.channel, how), place.left_out)


def _misuse(place: Place, call: CallAct) -> str | None:
    """Why a hypervisor or guest cannot or must not make a call at this place (`REASONS`); None: it may."""
    for calls, holds, why in REASONS:
        if call.name in calls and holds(place):
            return why
    return None


def _no_id(place: Place, number: LinkId) -> str | None:
    others = any(isinstance(act, LinkAct) and act.client == 2 for act in place.path)
    return "cannot be: there is no other client" if number is LinkId.OTHER and not others else None


def chosen(place: Place, glob: str | None) -> Iterator[Cell]:
    """The cells of a place, or those whose name fits a glob."""
    for cell in cells(place):
        if glob is None or fnmatchcase(cell.name, glob):
            yield cell
