# SPDX-License-Identifier: GPL-2.0-only
"""The server's due answer to each message of a client in each state: messages, silence, the end of the
connection, or only that the server survives.

The counterpart of `order_tables`, which say what a side may send. Literal tables: a message, its answer in
any state, then the states with another answer. PINGs and messages from timers are no answers. Source:
server/main-channel-client.cpp, red-channel-client.cpp, reds.cpp and each channel's own file; every entry was
seen on 0.14.3, 0.15.1, 0.15.2 and 0.16.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dissectors.conversation.connection_states import State
from dissectors.conversation.order_tables import row
from dissectors.wire.constants import (
    MESSAGE_NAMES,
    ChannelType,
    MsgBase,
    MsgcBase,
    MsgcDisplay,
    MsgcInputs,
    MsgcMain,
    MsgcPort,
    MsgcRecord,
    MsgcSmartcard,
    MsgcSpicevmc,
    MsgInputs,
    MsgMain,
    Side,
)

#: The requirements for answers: to messages that the client may send, and to those that it must not.
TAKEN, BORNE = "CELL-001", "CELL-002"


@dataclass(frozen=True)
class OwedAnswer:
    """`says`: message types in their order; () is silence. `ends`: the server ends the connection.

    `free`: the server survives; nothing else is judged. `keeps`: the requirement, where the answer has one of
    its own.
    """

    says: tuple[int, ...] = ()
    ends: bool = False
    free: bool = False
    keeps: str = ""


SILENCE, END, SURVIVAL = OwedAnswer(), OwedAnswer(ends=True), OwedAnswer(free=True)
ANY = None
#: State (ANY: all states that are not named) -> the answer.
ByState = Mapping[State | None, OwedAnswer]


def says(*messages: int, keeps: str = "") -> OwedAnswer:
    """These messages."""
    return OwedAnswer(tuple(map(int, messages)), keeps=keeps)


def _in(answer: OwedAnswer, *states: State) -> dict[State | None, OwedAnswer]:
    return dict.fromkeys(states, answer)


BC, M, MC, CT = MsgcBase, MsgMain, MsgcMain, ChannelType
#: Of a target's main channel before its session begins.
WAITING = (State.TARGET_WAIT, State.TARGET_ANSWERED)
NOT_YET = (*WAITING, State.TARGET_SEAMLESS)
#: After SPICE_MSG_MIGRATE only MIGRATE_DATA is due (MIG-SRC-041, MIG-SRC-042: the order tables have it).
LEAVING = (State.FLUSH_DUE, State.GONE)
_CANCEL = says(M.SPICE_MSG_MAIN_MIGRATE_CANCEL)
_CONNECTED: ByState = {
    ANY: _CANCEL,  # the server does not wait for it
    **_in(SILENCE, State.ANNOUNCED, State.ANNOUNCED_SEAMLESS),
    **_in(SURVIVAL, *LEAVING),
}

_EVERY_CHANNEL: dict[int, ByState] = {
    BC.SPICE_MSGC_ACK_SYNC: {ANY: SILENCE},
    BC.SPICE_MSGC_ACK: {ANY: SILENCE},
    BC.SPICE_MSGC_PONG: {ANY: SILENCE},
    BC.SPICE_MSGC_DISCONNECTING: {ANY: SILENCE},
    BC.SPICE_MSGC_MIGRATE_FLUSH_MARK: {
        ANY: SURVIVAL,
        State.FLUSH_DUE: says(MsgBase.SPICE_MSG_MIGRATE_DATA, keeps="MIG-SRC-042"),
        State.TARGET_SILENT: SILENCE,
    },
    BC.SPICE_MSGC_MIGRATE_DATA: {ANY: END, State.TARGET_SILENT: SILENCE, State.TARGET_RESTORING: SILENCE},
}
MAIN: Mapping[int, ByState] = MappingProxyType(
    {
        **_EVERY_CHANNEL,
        BC.SPICE_MSGC_MIGRATE_DATA: {
            ANY: END,
            State.TARGET_SEAMLESS: says(M.SPICE_MSG_MAIN_MULTI_MEDIA_TIME, keeps="MIG-DST-025"),
        },
        MC.SPICE_MSGC_MAIN_CLIENT_INFO: {ANY: END},
        MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED: _CONNECTED,
        MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS: _CONNECTED,
        MC.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR: {ANY: SILENCE},
        MC.SPICE_MSGC_MAIN_ATTACH_CHANNELS: {
            ANY: says(M.SPICE_MSG_MAIN_CHANNELS_LIST, keeps="MAIN-008"),
            **_in(SILENCE, *NOT_YET),
            **_in(SURVIVAL, *LEAVING),
        },
        MC.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST: {ANY: SILENCE},
        MC.SPICE_MSGC_MAIN_AGENT_START: {ANY: SILENCE},
        MC.SPICE_MSGC_MAIN_AGENT_DATA: {ANY: SILENCE},
        MC.SPICE_MSGC_MAIN_AGENT_TOKEN: {ANY: SILENCE},
        MC.SPICE_MSGC_MAIN_MIGRATE_END: {
            ANY: SILENCE,
            **_in(says(M.SPICE_MSG_MAIN_INIT, keeps="MIG-DST-004"), *WAITING),
            State.TARGET_SEAMLESS: SURVIVAL,
        },
        MC.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS: {
            ANY: SURVIVAL,
            **_in(says(M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK, keeps="MIG-DST-020"), *WAITING),
            State.TARGET_SEAMLESS: says(M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK),
        },
        MC.SPICE_MSGC_MAIN_QUALITY_INDICATOR: {ANY: END},
    }
)
_VMC: dict[int, ByState] = {
    MsgcSpicevmc.SPICE_MSGC_SPICEVMC_DATA: {ANY: SILENCE},
    MsgcSpicevmc.SPICE_MSGC_SPICEVMC_COMPRESSED_DATA: {ANY: SILENCE},
}
_PORT: dict[int, ByState] = {**_VMC, MsgcPort.SPICE_MSGC_PORT_EVENT: {ANY: SILENCE}}
_NO_DATA: dict[int, ByState] = {BC.SPICE_MSGC_MIGRATE_DATA: {ANY: END, State.TARGET_SILENT: SILENCE}}
_INPUTS: dict[int, ByState] = {kind: {ANY: SILENCE} for kind in MsgcInputs}
#: A channel's own entries, which add to those of every channel or replace them.
OTHERS: Mapping[int, Mapping[int, ByState]] = MappingProxyType(
    {
        CT.SPICE_CHANNEL_INPUTS: {
            **_INPUTS,
            BC.SPICE_MSGC_MIGRATE_DATA: {
                ANY: END,
                State.TARGET_SILENT: SILENCE,
                State.TARGET_RESTORING: says(MsgInputs.SPICE_MSG_INPUTS_KEY_MODIFIERS),
            },
        },
        CT.SPICE_CHANNEL_PLAYBACK: _NO_DATA,
        CT.SPICE_CHANNEL_RECORD: {**_NO_DATA, **{kind: {ANY: SILENCE} for kind in MsgcRecord}},
        CT.SPICE_CHANNEL_CURSOR: _NO_DATA,
        CT.SPICE_CHANNEL_SMARTCARD: {MsgcSmartcard.SPICE_MSGC_SMARTCARD_DATA: {ANY: SILENCE}},
        CT.SPICE_CHANNEL_USBREDIR: _VMC,
        CT.SPICE_CHANNEL_PORT: _PORT,
        CT.SPICE_CHANNEL_WEBDAV: _PORT,
        CT.SPICE_CHANNEL_DISPLAY: {
            BC.SPICE_MSGC_MIGRATE_DATA: {ANY: SURVIVAL},
            **{kind: {ANY: SURVIVAL} for kind in MsgcDisplay},
        },
    }
)
#: Channels that bring no MIGRATE_DATA.
WITHOUT_DATA = frozenset({CT.SPICE_CHANNEL_PLAYBACK, CT.SPICE_CHANNEL_RECORD, CT.SPICE_CHANNEL_CURSOR})
#: A type that the channel does not have.
UNKNOWN: ByState = {ANY: END, State.TARGET_SILENT: SILENCE}


def answer(channel: int, state: State, message: int) -> OwedAnswer:
    """The answer that is due to a message."""
    rows = MAIN if channel == CT.SPICE_CHANNEL_MAIN else {**_EVERY_CHANNEL, **OTHERS.get(channel, {})}
    found = rows.get(message, UNKNOWN)
    if state is State.TARGET_SILENT:
        return SILENCE  # the server reads nothing before the session begins
    return found.get(state, found[ANY])


def may_send(channel: int, state: State, message: int) -> bool:
    """Whether the order tables allow the client this message in this state."""
    found = row(channel, state, Side.CLIENT)
    if message not in MESSAGE_NAMES[channel, Side.CLIENT] or message in found.breaks:
        return False
    if message == BC.SPICE_MSGC_MIGRATE_DATA and channel in WITHOUT_DATA:
        return False
    return found.stay is None or message in found.stay or message in found.go


def requirement(channel: int, state: State, message: int) -> str:
    """The requirement that a wrong answer breaks."""
    if not may_send(channel, state, message):
        return BORNE
    return answer(channel, state, message).keeps or TAKEN


def table() -> Iterator[tuple[int, int, State | None, OwedAnswer]]:
    """Every entry: channel, message, state (None: any other), answer; for documentation."""
    for channel in (CT.SPICE_CHANNEL_MAIN, *OTHERS):
        rows = MAIN if channel == CT.SPICE_CHANNEL_MAIN else {**_EVERY_CHANNEL, **OTHERS[channel]}
        for message, states in rows.items():
            for state, owed in states.items():
                yield channel, message, state, owed
