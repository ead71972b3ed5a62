# SPDX-License-Identifier: GPL-2.0-only
"""The effect of a host's call, a link and a leave in each state: literal tables, as
`dissectors.conversation.owed_answers` has them for messages.

Callbacks are not in these tables: the rules of the source judge them, to the millisecond."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dissectors.conversation.connection_states import State
from dissectors.conversation.owed_answers import ANY, LEAVING, NOT_YET, WAITING
from dissectors.wire.constants import (
    ChannelType,
    MsgInputs,
    MsgMain,
    MsgPlayback,
    MsgPort,
    MsgRecord,
    MsgSpicevmc,
)
from suites.matrix.acts import MAIN, LinkId

M, CT = MsgMain, ChannelType


@dataclass(frozen=True)
class Brings:
    """`result`: of a call, or the error of a link; None: not compared. `says`: message types that the server
    sends on the place's connection; `ends`: whether it ends this connection. `free`: the server must survive;
    its other reactions are not compared."""

    result: str | None = None
    says: tuple[int, ...] = ()
    ends: bool = False
    free: bool = False


#: Stands for BEGIN or BEGIN_SEAMLESS, as the host is set.
BEGIN = M.SPICE_MSG_MAIN_MIGRATE_BEGIN
CANCEL, SWITCH = M.SPICE_MSG_MAIN_MIGRATE_CANCEL, M.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST
PENDING = (
    State.ANNOUNCED,
    State.ANNOUNCED_SEAMLESS,
    State.REFUSED,
    State.CONNECTED,
    State.CONNECTED_SEAMLESS,
)
CONNECTED = (State.CONNECTED, State.CONNECTED_SEAMLESS)
NOTHING, OK, VOID, FAILS = Brings(), Brings("returns 0"), Brings("returns None"), Brings("returns -1")
Row = Mapping[State | None, Brings]


def _in(brings: Brings, *states: State) -> dict[State | None, Brings]:
    return dict.fromkeys(states, brings)


CALLS: Mapping[str, Row] = MappingProxyType(
    {
        "migrate_connect": {
            ANY: Brings("returns 0", (BEGIN,)),
            **_in(Brings("returns 0", (CANCEL, BEGIN)), *CONNECTED),
            **_in(OK, *NOT_YET),
        },
        "migrate_start": {ANY: FAILS, **_in(OK, *PENDING)},
        "migrate_end 0": {ANY: OK, **_in(Brings("returns 0", (CANCEL,)), *CONNECTED)},
        "migrate_end 1": {
            ANY: Brings("returns -1", ends=True),
            **_in(Brings("returns 0", (SWITCH,)), *PENDING),
            State.CONNECTED: Brings("returns 0", (M.SPICE_MSG_MAIN_MIGRATE_END,)),
            State.CONNECTED_SEAMLESS: Brings("returns 0", (1,)),
        },
        "migrate_switch": {ANY: OK, **_in(Brings("returns 0", (SWITCH,)), *PENDING)},
        "vm_start": {ANY: VOID},
        "vm_stop": {ANY: VOID},
        "set_ticket 0 0": {ANY: Brings("returns 0", ends=True)},
        "set_ticket 1 0": {ANY: FAILS},
        "set_ticket 0 1": {ANY: Brings("returns 0", ends=True)},
        "set_noauth": {ANY: OK},
        "set_seamless_migration": {ANY: VOID},
        "set_channel_security": {ANY: OK},
        "set_agent_mouse": {ANY: OK},
        "set_agent_copypaste": {ANY: OK},
        "set_agent_file_xfer": {ANY: OK},
        "set_image_compression": {ANY: OK},
        "set_playback_compression": {ANY: OK},
        "set_streaming_video": {ANY: OK},
        "get_num_clients": {ANY: NOTHING},
        "is_server_mouse": {ANY: Brings("returns 1")},
        "add_migration": {ANY: FAILS},
        "agent_attach": {
            ANY: Brings(says=(M.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS,)),
            **_in(NOTHING, *NOT_YET),
        },
        "agent_detach": {ANY: Brings("returns 0", (M.SPICE_MSG_MAIN_AGENT_DISCONNECTED,))},
        "agent_send": {ANY: NOTHING},  # no client has sent AGENT_START
        "agent_send, agent started": {ANY: Brings(says=(M.SPICE_MSG_MAIN_AGENT_DATA,))},
        "destroy": {ANY: Brings("returns None", ends=True)},
    }
)
VMC_DATA = (MsgSpicevmc.SPICE_MSG_SPICEVMC_DATA,)
CHANNEL_CALLS: Mapping[str, Row] = MappingProxyType(
    {
        "kbd_leds": {
            ANY: Brings("returns 0", (MsgInputs.SPICE_MSG_INPUTS_KEY_MODIFIERS,)),
            State.TARGET_SILENT: OK,
        },
        "playback_start": {
            ANY: Brings(says=(MsgPlayback.SPICE_MSG_PLAYBACK_START,)),
            State.TARGET_SILENT: NOTHING,
        },
        "playback_stop": {ANY: Brings(says=(MsgPlayback.SPICE_MSG_PLAYBACK_STOP,))},
        "playback_put": {ANY: Brings(free=True)},
        "record_start": {
            ANY: Brings(says=(MsgRecord.SPICE_MSG_RECORD_START,)),
            State.TARGET_SILENT: NOTHING,
        },
        "record_stop": {ANY: Brings(says=(MsgRecord.SPICE_MSG_RECORD_STOP,))},
        "record_get": {ANY: NOTHING},
        "sound_volume": {ANY: Brings(free=True)},
        "sound_mute": {ANY: Brings(free=True)},
        "chardev_send": {
            ANY: Brings(says=VMC_DATA),
            **_in(NOTHING, State.TARGET_SILENT, State.TARGET_RESTORING),
        },
        "port_event": {
            ANY: Brings(says=(MsgPort.SPICE_MSG_PORT_EVENT,)),
            State.TARGET_SILENT: NOTHING,
            **_in(Brings(free=True), *LEAVING),
        },
        "chardev_send, machine stopped": {ANY: NOTHING},
        "chardev_send smartcard": {ANY: NOTHING},  # no client has added a reader
        "chardev_detach smartcard": {ANY: OK},
        "chardev_detach": {ANY: Brings("returns 0", ends=True), State.TARGET_SILENT: OK},
        "qxl_draw": {ANY: Brings(free=True)},
        "qxl_reset": {ANY: Brings(free=True)},
        "qxl_cursor": {ANY: Brings(free=True)},
    }
)
#: The messages with which a channel begins once it is linked, if there are any.
FIRST: Mapping[int, tuple[int, ...]] = MappingProxyType(
    {
        CT.SPICE_CHANNEL_INPUTS: (MsgInputs.SPICE_MSG_INPUTS_INIT,),
        CT.SPICE_CHANNEL_PLAYBACK: (MsgPlayback.SPICE_MSG_PLAYBACK_MODE,),
        CT.SPICE_CHANNEL_PORT: (MsgPort.SPICE_MSG_PORT_INIT,),
        CT.SPICE_CHANNEL_WEBDAV: (MsgPort.SPICE_MSG_PORT_INIT,),
    }
)
LINKED, BAD_ID, SHUT = "SPICE_LINK_ERR_OK", "SPICE_LINK_ERR_BAD_CONNECTION_ID", "closed"


def link(channel: int, number: LinkId, state: State, *, there: bool, target: bool) -> Brings:
    """The effect of a link on its own connection. `there`: the machine has the channel. `target`: the session
    has the id that it had at the source."""
    if not there:
        return Brings(SHUT, ends=True)
    if channel == MAIN:  # any id opens main: with an id other than 0 the server waits as a target
        return Brings(LINKED, (M.SPICE_MSG_MAIN_INIT,) if number is LinkId.ZERO else ())
    joins = number in (LinkId.OWN, LinkId.OTHER) or (number is LinkId.GIVEN and target)
    if not joins:
        return Brings(BAD_ID, ends=True)
    if state in WAITING or (state is State.TARGET_SEAMLESS and channel == CT.SPICE_CHANNEL_PLAYBACK):
        return Brings(LINKED)
    return Brings(LINKED, FIRST.get(channel, ()))
