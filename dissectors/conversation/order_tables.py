# SPDX-License-Identifier: GPL-2.0-only
"""The protocol's order as literal tables: for each state of a connection what each side may send.

One table serves both sides and every use: the live oracle, the capture inspector, the fuzzer's idea of what
is legal next, and the generated documentation. A cell is the next state and the requirements that the step
keeps; what a row does not name breaks its `otherwise`, or the more telling requirement in `breaks`.

States of the main channel
    source: LINKING -> LINKED -> READY -> ANNOUNCED(_SEAMLESS) -> CONNECTED(_SEAMLESS) | REFUSED
            -> ENDED | SWITCHED | the migrating states
    target: LINKING -> TARGET_WAIT -> TARGET_INIT -> READY            (semi-seamless)
                       TARGET_WAIT -> TARGET_ASKED -> TARGET_SEAMLESS -> READY   (seamless)
                       TARGET_ASKED -> TARGET_ANSWERED -> TARGET_INIT_DUE -> READY   (after NACK)
States of the other channels: OPEN, the target's TARGET_SILENT and TARGET_RESTORING, and the migrating states
FLUSH_DUE, DATA_DUE, GONE that SPICE_MSG_MIGRATE leads to by its flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from dissectors.framing.events import Message
from dissectors.wire.constants import MESSAGE_NAMES, ChannelType, MsgBase, MsgcBase, MsgcMain, MsgMain, Side

S, C = Side.SERVER, Side.CLIENT


class State(StrEnum):
    """Where a connection stands."""

    LINKING = "linking"
    LINKED = "linked"
    READY = "ready"
    ANNOUNCED = "announced"
    ANNOUNCED_SEAMLESS = "announced seamless"
    REFUSED = "refused"
    CONNECTED = "connected"
    CONNECTED_SEAMLESS = "connected seamless"
    ENDED = "ended"
    SWITCHED = "switched"
    TARGET_WAIT = "target waits"
    TARGET_ANSWERED = "target waits, having answered"
    TARGET_ASKED = "target asked for seamless"
    TARGET_SEAMLESS = "target restores"
    TARGET_REASKED = "target asked again while it restores"
    TARGET_INIT = "target begins"
    TARGET_INIT_DUE = "target begins, having answered"
    TARGET_EARLY = "target began too early"
    OPEN = "open"
    TARGET_SILENT = "target channel waits"
    TARGET_RESTORING = "target channel restores"
    FLUSH_DUE = "flush mark due"
    DATA_DUE = "migrate data due"
    GONE = "gone"
    ORPHAN = "without a session"


@dataclass(frozen=True)
class To:
    """A legal step: the next state and the ids of the requirements that it keeps."""

    state: State
    keeps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """What one side may send in one state.

    `go`: steps. `stay`: allowed, nothing changes (None: everything else is). `breaks`: message -> requirement
    that it breaks. `otherwise`: the requirement that any other message breaks.
    """

    go: Mapping[int, To] = field(default_factory=dict)
    stay: frozenset[int] | None = None
    breaks: Mapping[int, str] = field(default_factory=dict)
    otherwise: str = ""


B, BC, M, MC = MsgBase, MsgcBase, MsgMain, MsgcMain

ANNOUNCEMENTS = frozenset(
    {
        M.SPICE_MSG_MAIN_MIGRATE_BEGIN,
        M.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS,
        M.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST,
    }
)

#: What a server may say on main at any time of a running session.
TALK = frozenset(
    {
        B.SPICE_MSG_SET_ACK,
        B.SPICE_MSG_PING,
        B.SPICE_MSG_WAIT_FOR_CHANNELS,
        B.SPICE_MSG_DISCONNECTING,
        B.SPICE_MSG_NOTIFY,
        B.SPICE_MSG_LIST,
        M.SPICE_MSG_MAIN_CHANNELS_LIST,
        M.SPICE_MSG_MAIN_MOUSE_MODE,
        M.SPICE_MSG_MAIN_MULTI_MEDIA_TIME,
        M.SPICE_MSG_MAIN_AGENT_CONNECTED,
        M.SPICE_MSG_MAIN_AGENT_DISCONNECTED,
        M.SPICE_MSG_MAIN_AGENT_DATA,
        M.SPICE_MSG_MAIN_AGENT_TOKEN,
        M.SPICE_MSG_MAIN_NAME,
        M.SPICE_MSG_MAIN_UUID,
        M.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS,
    }
)
#: What a client may say on main at any time of a running session.
CLIENT_TALK = frozenset(
    {
        BC.SPICE_MSGC_ACK_SYNC,
        BC.SPICE_MSGC_ACK,
        BC.SPICE_MSGC_PONG,
        BC.SPICE_MSGC_DISCONNECTING,
        MC.SPICE_MSGC_MAIN_CLIENT_INFO,
        MC.SPICE_MSGC_MAIN_ATTACH_CHANNELS,
        MC.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST,
        MC.SPICE_MSGC_MAIN_AGENT_START,
        MC.SPICE_MSGC_MAIN_AGENT_DATA,
        MC.SPICE_MSGC_MAIN_AGENT_TOKEN,
        MC.SPICE_MSGC_MAIN_QUALITY_INDICATOR,
    }
)
NOTHING: frozenset[int] = frozenset()
#: What a timer may still send while the client is on its way out, and how the client answers what it had got.
IN_FLIGHT = frozenset({int(B.SPICE_MSG_PING), int(B.SPICE_MSG_DISCONNECTING)})
CLIENT_IN_FLIGHT = frozenset({int(BC.SPICE_MSGC_PONG), int(BC.SPICE_MSGC_ACK), int(BC.SPICE_MSGC_ACK_SYNC)})

_NEVER_ON_SOURCE: dict[int, str] = {
    M.SPICE_MSG_MAIN_INIT: "MAIN-002",
    M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK: "MIG-DST-020",
    M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK: "MIG-DST-020",
    B.SPICE_MSG_MIGRATE: "MIG-SRC-040",
    B.SPICE_MSG_MIGRATE_DATA: "MIG-SRC-042",
}
_NO_ANSWER_DUE: dict[int, str] = {
    M.SPICE_MSG_MAIN_INIT: "MIG-DST-023",
    M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK: "MIG-DST-020",
    M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK: "MIG-DST-020",
}
_NOT_WHILE_IT_WAITS: dict[int, str] = {
    M.SPICE_MSG_MAIN_INIT: "MIG-DST-002",
    M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK: "MIG-DST-020",
    M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK: "MIG-DST-020",
}
#: The client's MIGRATE_END belongs to the target.
_END_ELSEWHERE: dict[int, str] = {MC.SPICE_MSGC_MAIN_MIGRATE_END: "MIG-CLI-004"}
_ANNOUNCE: dict[int, To] = {
    M.SPICE_MSG_MAIN_MIGRATE_BEGIN: To(State.ANNOUNCED),
    M.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS: To(State.ANNOUNCED_SEAMLESS),
}
_SWITCH: dict[int, To] = {M.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST: To(State.SWITCHED)}
_CANCEL: dict[int, To] = {M.SPICE_MSG_MAIN_MIGRATE_CANCEL: To(State.READY)}

#: SPICE_MSG_MIGRATE's flags (SpiceMigrateFlags) -> what the channel owes next.
AFTER_MIGRATE: Mapping[int, State] = MappingProxyType(
    {0: State.GONE, 1: State.FLUSH_DUE, 2: State.DATA_DUE, 3: State.FLUSH_DUE}
)

MAIN: Mapping[tuple[State, Side], Row] = MappingProxyType(
    {
        (State.LINKED, S): Row(
            go={M.SPICE_MSG_MAIN_INIT: To(State.READY, ("MAIN-001",))}, stay=NOTHING, otherwise="MAIN-001"
        ),
        (State.LINKED, C): Row(),
        (State.READY, S): Row(
            go={**_ANNOUNCE, **_SWITCH},
            stay=TALK | {M.SPICE_MSG_MAIN_MIGRATE_CANCEL},  # the answer to a CONNECTED that came too late
            breaks={**_NEVER_ON_SOURCE, M.SPICE_MSG_MAIN_MIGRATE_END: "MIG-SRC-015"},
            otherwise="MAIN-003",
        ),
        (State.READY, C): Row(
            stay=CLIENT_TALK
            | {
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED,  # too late: the server has stopped to wait
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS,
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR,
            },
            breaks={MC.SPICE_MSGC_MAIN_MIGRATE_END: "MIG-CLI-004"},
            otherwise="MIG-CLI-015",
        ),
        (State.ANNOUNCED, S): Row(
            go={**_ANNOUNCE, **_SWITCH, **_CANCEL},
            stay=TALK,
            breaks={**_NEVER_ON_SOURCE, M.SPICE_MSG_MAIN_MIGRATE_END: "MIG-SRC-015"},
            otherwise="MAIN-003",
        ),
        (State.ANNOUNCED, C): Row(
            go={
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED: To(State.CONNECTED, ("MIG-CLI-002",)),
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR: To(State.REFUSED, ("MIG-CLI-002",)),
            },
            stay=CLIENT_TALK,
            breaks={
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS: "MIG-CLI-007",
                MC.SPICE_MSGC_MAIN_MIGRATE_END: "MIG-CLI-004",
            },
            otherwise="MIG-CLI-015",
        ),
        (State.ANNOUNCED_SEAMLESS, S): Row(
            go={**_ANNOUNCE, **_SWITCH, **_CANCEL},
            stay=TALK,
            breaks={**_NEVER_ON_SOURCE, M.SPICE_MSG_MAIN_MIGRATE_END: "MIG-SRC-015"},
            otherwise="MAIN-003",
        ),
        (State.ANNOUNCED_SEAMLESS, C): Row(
            go={
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED: To(State.CONNECTED, ("MIG-CLI-002",)),
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS: To(State.CONNECTED_SEAMLESS, ("MIG-CLI-002",)),
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR: To(State.REFUSED, ("MIG-CLI-002",)),
            },
            stay=CLIENT_TALK,
            breaks={MC.SPICE_MSGC_MAIN_MIGRATE_END: "MIG-CLI-004"},
            otherwise="MIG-CLI-015",
        ),
        (State.REFUSED, S): Row(
            go={**_ANNOUNCE, **_SWITCH},
            stay=TALK | {M.SPICE_MSG_MAIN_MIGRATE_CANCEL},
            breaks={**_NEVER_ON_SOURCE, M.SPICE_MSG_MAIN_MIGRATE_END: "MIG-SRC-018"},
            otherwise="MAIN-003",
        ),
        (State.REFUSED, C): Row(stay=CLIENT_TALK, breaks=_END_ELSEWHERE, otherwise="MIG-CLI-015"),
        (State.CONNECTED, S): Row(
            go={M.SPICE_MSG_MAIN_MIGRATE_END: To(State.ENDED, ("MIG-SRC-015",)), **_SWITCH, **_CANCEL},
            stay=TALK,
            breaks={
                **_NEVER_ON_SOURCE,
                M.SPICE_MSG_MAIN_MIGRATE_BEGIN: "MIG-SRC-025",
                M.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS: "MIG-SRC-025",
            },
            otherwise="MAIN-003",
        ),
        (State.CONNECTED, C): Row(stay=CLIENT_TALK, breaks=_END_ELSEWHERE, otherwise="MIG-CLI-015"),
        (State.CONNECTED_SEAMLESS, S): Row(
            go={
                B.SPICE_MSG_MIGRATE: To(State.FLUSH_DUE, ("MIG-SRC-040", "MIG-SRC-045")),
                **_SWITCH,
                **_CANCEL,
            },
            stay=TALK,
            breaks={
                **{k: v for k, v in _NEVER_ON_SOURCE.items() if k != B.SPICE_MSG_MIGRATE},
                M.SPICE_MSG_MAIN_MIGRATE_END: "MIG-SRC-045",
                M.SPICE_MSG_MAIN_MIGRATE_BEGIN: "MIG-SRC-025",
                M.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS: "MIG-SRC-025",
            },
            otherwise="MAIN-003",
        ),
        (State.CONNECTED_SEAMLESS, C): Row(stay=CLIENT_TALK, breaks=_END_ELSEWHERE, otherwise="MIG-CLI-015"),
        (State.ENDED, S): Row(stay=IN_FLIGHT, otherwise="MIG-SRC-023"),
        (State.ENDED, C): Row(stay=CLIENT_TALK, breaks=_END_ELSEWHERE, otherwise="MIG-CLI-015"),
        (State.SWITCHED, S): Row(
            stay=IN_FLIGHT | {M.SPICE_MSG_MAIN_MIGRATE_CANCEL},  # to a CONNECTED that crossed it
            otherwise="MIG-SRC-023",
        ),
        (State.SWITCHED, C): Row(
            # its answer to the announcement may have crossed SWITCH_HOST on the wire
            stay=CLIENT_TALK
            | {
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED,
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS,
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR,
            },
            breaks=_END_ELSEWHERE,
            otherwise="MIG-CLI-015",
        ),
        (State.TARGET_WAIT, S): Row(
            # to a CONNECTED that belongs to the source
            go={M.SPICE_MSG_MAIN_MIGRATE_CANCEL: To(State.TARGET_ANSWERED)},
            stay=NOTHING,
            breaks=_NOT_WHILE_IT_WAITS,
            otherwise="MIG-DST-003",
        ),
        (State.TARGET_WAIT, C): Row(
            go={
                MC.SPICE_MSGC_MAIN_MIGRATE_END: To(State.TARGET_INIT, ("MIG-DST-002", "MIG-DST-003")),
                MC.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS: To(State.TARGET_ASKED),
            },
            stay=CLIENT_TALK,
            otherwise="MIG-CLI-015",
        ),
        # Its silence ends with its answer: any message restarts the latency timer, whose PINGs follow 100 ms
        # later (server/red-channel-client.cpp, msg_sent). They may cross MIGRATE_END, too.
        (State.TARGET_ANSWERED, S): Row(
            stay=frozenset({int(M.SPICE_MSG_MAIN_MIGRATE_CANCEL), int(B.SPICE_MSG_PING)}),
            breaks=_NOT_WHILE_IT_WAITS,
            otherwise="MIG-DST-003",
        ),
        (State.TARGET_ANSWERED, C): Row(
            go={
                MC.SPICE_MSGC_MAIN_MIGRATE_END: To(State.TARGET_INIT_DUE, ("MIG-DST-002", "MIG-DST-003")),
                MC.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS: To(State.TARGET_ASKED),
            },
            stay=CLIENT_TALK,
            otherwise="MIG-CLI-015",
        ),
        (State.TARGET_INIT_DUE, S): Row(
            go={M.SPICE_MSG_MAIN_INIT: To(State.READY, ("MIG-DST-004",))},
            stay=frozenset({int(B.SPICE_MSG_PING)}),
            otherwise="MIG-DST-004",
        ),
        (State.TARGET_INIT_DUE, C): Row(stay=CLIENT_TALK, otherwise="MIG-CLI-015"),
        (State.TARGET_EARLY, S): Row(),  # that it began is told already
        (State.TARGET_EARLY, C): Row(go={MC.SPICE_MSGC_MAIN_MIGRATE_END: To(State.READY)}),
        (State.TARGET_ASKED, S): Row(
            go={
                M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK: To(State.TARGET_SEAMLESS, ("MIG-DST-020",)),
                M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK: To(State.TARGET_ANSWERED, ("MIG-DST-020",)),
            },
            stay=NOTHING,
            breaks={M.SPICE_MSG_MAIN_INIT: "MIG-DST-002"},
            otherwise="MIG-DST-003",
        ),
        (State.TARGET_ASKED, C): Row(stay=CLIENT_TALK, otherwise="MIG-CLI-015"),
        (State.TARGET_SEAMLESS, S): Row(
            go=_SWITCH,  # its own machine has moved on before the client came (MIG-SRC-018)
            stay=TALK - {B.SPICE_MSG_NOTIFY},
            breaks={**_NO_ANSWER_DUE, B.SPICE_MSG_NOTIFY: "MIG-DST-027"},
            otherwise="MIG-DST-003",
        ),
        (State.TARGET_SEAMLESS, C): Row(
            go={
                BC.SPICE_MSGC_MIGRATE_DATA: To(State.READY, ("MIG-DST-023", "MIG-CLI-016")),
                MC.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS: To(State.TARGET_REASKED),
            },
            stay=CLIENT_TALK,
            breaks={MC.SPICE_MSGC_MAIN_MIGRATE_END: "MIG-CLI-016"},
            otherwise="MIG-CLI-015",
        ),
        (State.TARGET_REASKED, S): Row(
            go={
                M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK: To(State.TARGET_SEAMLESS),
                M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK: To(State.TARGET_SEAMLESS),
                **_SWITCH,
            },
            stay=TALK,
            breaks={M.SPICE_MSG_MAIN_INIT: "MIG-DST-023"},
            otherwise="MIG-DST-003",
        ),
        (State.TARGET_REASKED, C): Row(
            go={BC.SPICE_MSGC_MIGRATE_DATA: To(State.READY)}, stay=CLIENT_TALK, otherwise="MIG-CLI-015"
        ),
        (State.TARGET_INIT, S): Row(
            go={M.SPICE_MSG_MAIN_INIT: To(State.READY, ("MIG-DST-004",))},
            stay=NOTHING,
            otherwise="MIG-DST-004",
        ),
        (State.TARGET_INIT, C): Row(stay=CLIENT_TALK, otherwise="MIG-CLI-015"),
    }
)

#: The states that every channel can be in once SPICE_MSG_MIGRATE was sent.
MIGRATING: Mapping[tuple[State, Side], Row] = MappingProxyType(
    {
        (State.FLUSH_DUE, S): Row(
            stay=NOTHING, breaks={B.SPICE_MSG_MIGRATE_DATA: "MIG-SRC-042"}, otherwise="MIG-SRC-041"
        ),
        (State.FLUSH_DUE, C): Row(
            go={BC.SPICE_MSGC_MIGRATE_FLUSH_MARK: To(State.DATA_DUE, ("MIG-CLI-009",))}
        ),
        (State.DATA_DUE, S): Row(
            go={B.SPICE_MSG_MIGRATE_DATA: To(State.GONE, ("MIG-SRC-041", "MIG-SRC-042"))},
            stay=NOTHING,
            otherwise="MIG-SRC-041",
        ),
        (State.DATA_DUE, C): Row(stay=CLIENT_IN_FLIGHT, otherwise="MIG-CLI-011"),
        (State.GONE, S): Row(stay=NOTHING, otherwise="MIG-SRC-041"),
        (State.GONE, C): Row(stay=CLIENT_IN_FLIGHT, otherwise="MIG-CLI-011"),
    }
)

SECONDARY: Mapping[tuple[State, Side], Row] = MappingProxyType(
    {
        (State.OPEN, S): Row(
            go={B.SPICE_MSG_MIGRATE: To(State.FLUSH_DUE)}, breaks={B.SPICE_MSG_MIGRATE_DATA: "MIG-SRC-042"}
        ),
        (State.OPEN, C): Row(
            breaks={
                BC.SPICE_MSGC_MIGRATE_FLUSH_MARK: "MIG-CLI-009",
                BC.SPICE_MSGC_MIGRATE_DATA: "MIG-CLI-010",
            }
        ),
        (State.TARGET_SILENT, S): Row(stay=NOTHING, otherwise="MIG-DST-005"),
        (State.TARGET_SILENT, C): Row(),
        (State.TARGET_RESTORING, S): Row(),
        (State.TARGET_RESTORING, C): Row(go={BC.SPICE_MSGC_MIGRATE_DATA: To(State.OPEN, ("MIG-DST-027",))}),
        (State.ORPHAN, S): Row(),
        (State.ORPHAN, C): Row(),
    }
)

_MAIN_ROWS = {**MAIN, **MIGRATING}
_SECONDARY_ROWS = {**SECONDARY, **MIGRATING}
FREE = Row()


def row(channel: int, state: State, sender: Side) -> Row:
    """The row of a channel; where the table has none, everything goes."""
    rows = _MAIN_ROWS if channel == ChannelType.SPICE_CHANNEL_MAIN else _SECONDARY_ROWS
    return rows.get((state, sender), FREE)


def next_state(state: State, message: Message) -> State:
    """Where a message leads; an illegal one leads where it says, so that one breach is told once."""
    if message.sender is S and message.type == B.SPICE_MSG_MIGRATE:
        return AFTER_MIGRATE.get(message.body[0] & 3 if message.body else 0, State.GONE)
    cell = row(message.channel, state, message.sender).go.get(message.type)
    if cell is not None:
        return cell.state
    if message.channel == ChannelType.SPICE_CHANNEL_MAIN and (message.sender, message.type) in FORCED:
        states, forced = FORCED[message.sender, message.type]
        return forced if state in states else state
    return state


#: States of a session that has not begun, of one that runs, and of one with an announcement out.
NOT_BEGUN = frozenset(
    {
        State.TARGET_WAIT,
        State.TARGET_ANSWERED,
        State.TARGET_ASKED,
        State.TARGET_INIT,
        State.TARGET_INIT_DUE,
        State.LINKED,
    }
)
#: Of a target's main channel: before the client's MIGRATE_END, and between that and INIT.
WAITING = frozenset({State.TARGET_WAIT, State.TARGET_ANSWERED})
INIT_DUE = frozenset({State.TARGET_INIT, State.TARGET_INIT_DUE})
BEGUN = frozenset(State) - NOT_BEGUN

#: Where messages lead that came when they must not have: (from these states, to that one).
FORCED: Mapping[tuple[Side, int], tuple[frozenset[State], State]] = MappingProxyType(
    {
        (S, int(M.SPICE_MSG_MAIN_MIGRATE_END)): (BEGUN, State.ENDED),
        (S, int(M.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST)): (BEGUN, State.SWITCHED),
        (S, int(M.SPICE_MSG_MAIN_INIT)): (NOT_BEGUN, State.TARGET_EARLY),
        (S, int(M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK)): (
            frozenset({State.TARGET_WAIT}),
            State.TARGET_SEAMLESS,
        ),
        (S, int(M.SPICE_MSG_MAIN_MIGRATE_BEGIN)): (BEGUN, State.ANNOUNCED),
        (S, int(M.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS)): (BEGUN, State.ANNOUNCED_SEAMLESS),
        (C, int(MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS)): (
            frozenset({State.ANNOUNCED}),
            State.CONNECTED_SEAMLESS,
        ),
    }
)


def legal(channel: int, state: State, sender: Side) -> frozenset[int] | None:
    """The message types that `sender` may send now; None: any that its channel has."""
    found = row(channel, state, sender)
    return None if found.stay is None else found.stay | frozenset(found.go)


def told(channel: int, state: State, sender: Side) -> frozenset[int]:
    """The types that a step, or a breach, of this state may be: nobody may hide them."""
    found = row(channel, state, sender)
    steps = frozenset(found.go) | frozenset(found.breaks)
    if found.stay is None:
        return steps
    return steps | (frozenset(MESSAGE_NAMES.get((channel, sender), ())) - found.stay)
