# SPDX-License-Identifier: GPL-2.0-only
"""The protocol's order as literal tables: the messages that each side may send in each state of a connection.

One table serves both sides and every use: the live oracle, the capture inspector, the fuzzer's choice of
legal messages, and the generated documentation. A cell is the next state and the requirements that the step
keeps; a message that a row does not name breaks its `otherwise`, or the exact requirement in `breaks`.

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
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from dissectors.framing.events import Message
from dissectors.wire.constants import MESSAGE_NAMES, ChannelType, MsgBase, MsgcBase, MsgcMain, MsgMain, Side

S, C = Side.SERVER, Side.CLIENT


class State(StrEnum):
    """The state of a connection."""

    LINKING = "linking"
    LINKED = "linked"
    READY = "ready"
    ANNOUNCED = "announced"
    ANNOUNCED_SEAMLESS = "announced seamless"
    REFUSED = "refused"
    CONNECTED = "connected"
    CONNECTED_AGAIN = "connected, said again"
    CONNECTED_SEAMLESS = "connected seamless"
    SEAMLESS_AGAIN = "connected seamless, said again"
    SEAMLESS_UNASKED = "connected seamless to a plain announcement"
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
    FLUSH_ONLY_DUE = "flush mark due, no data"
    DATA_DUE = "migrate data due"
    GONE = "gone"
    ORPHAN = "without a session"


@dataclass(frozen=True)
class To:
    """A legal step: the next state and the ids of the requirements that it keeps."""

    state: State
    keeps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Breach:
    """An illegal step: the requirement that it breaks, and the next state (None: the state stays).

    Later messages that the breach explains are no breaches: those that either side had to send in the state
    before it, and the other side's answers (`excuses`).
    """

    requirement: str
    to: State | None = None
    excuses: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Row:
    """The messages that one side may send in one state.

    `go`: steps. `stay`: allowed without a change of state (None: all others are). `breaks`: messages that
    break a requirement of their own. `otherwise`: the requirement that any other message breaks.
    """

    go: Mapping[int, To] = field(default_factory=dict)
    stay: frozenset[int] | None = None
    breaks: Mapping[int, Breach] = field(default_factory=dict)
    otherwise: str = ""


B, BC, M, MC = MsgBase, MsgcBase, MsgMain, MsgcMain

ANNOUNCEMENTS = frozenset(
    {
        M.SPICE_MSG_MAIN_MIGRATE_BEGIN,
        M.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS,
        M.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST,
    }
)

#: The messages that a server may send on main at any time of a running session.
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
#: The messages that a client may send on main at any time of a running session.
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
#: What a timer may still send while the client leaves, and the client's answers to earlier messages.
IN_FLIGHT = frozenset({int(B.SPICE_MSG_PING), int(B.SPICE_MSG_DISCONNECTING)})
CLIENT_IN_FLIGHT = frozenset({int(BC.SPICE_MSGC_PONG), int(BC.SPICE_MSGC_ACK), int(BC.SPICE_MSGC_ACK_SYNC)})

#: Answers without a question.
_UNASKED: dict[int, Breach] = {
    M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK: Breach("MIG-DST-020"),
    M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK: Breach("MIG-DST-020"),
}
#: The messages that a source must not send before it may move its client. SPICE_MSG_MIGRATE's flags decide
#: the next state.
_NEVER_ON_SOURCE: dict[int, Breach] = {
    **_UNASKED,
    M.SPICE_MSG_MAIN_INIT: Breach("MAIN-002"),
    B.SPICE_MSG_MIGRATE: Breach("MIG-SRC-040"),
    B.SPICE_MSG_MIGRATE_DATA: Breach("MIG-SRC-042", State.GONE),
    M.SPICE_MSG_MAIN_MIGRATE_END: Breach("MIG-SRC-015", State.ENDED),
}
_ON_A_CONNECTED_SOURCE: dict[int, Breach] = {
    **_UNASKED,
    M.SPICE_MSG_MAIN_INIT: Breach("MAIN-002"),
    B.SPICE_MSG_MIGRATE_DATA: Breach("MIG-SRC-042", State.GONE),
    M.SPICE_MSG_MAIN_MIGRATE_BEGIN: Breach("MIG-SRC-025", State.ANNOUNCED),
    M.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS: Breach("MIG-SRC-025", State.ANNOUNCED_SEAMLESS),
}
_NOT_WHILE_IT_WAITS: dict[int, Breach] = {
    M.SPICE_MSG_MAIN_INIT: Breach("MIG-DST-002", State.TARGET_EARLY),
    M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK: Breach("MIG-DST-020", State.TARGET_SEAMLESS),
    M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK: Breach("MIG-DST-020", State.TARGET_ANSWERED),
}
#: The client's MIGRATE_END belongs to the target.
_END_ELSEWHERE: dict[int, Breach] = {MC.SPICE_MSGC_MAIN_MIGRATE_END: Breach("MIG-CLI-004")}
#: A server answers the question for a target (DST_DO_SEAMLESS) also where it is no target.
_ASK_ELSEWHERE: dict[int, Breach] = {
    MC.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS: Breach("MIG-CLI-015", excuses=frozenset(map(int, _UNASKED)))
}
_NOT_TO_A_SOURCE: dict[int, Breach] = {**_END_ELSEWHERE, **_ASK_ELSEWHERE}
#: A repeated answer is too late: the server sends MIGRATE_CANCEL, and the first answer counts.
_AGAIN: dict[int, Breach] = {
    MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED: Breach("MIG-CLI-015", State.CONNECTED_AGAIN),
    MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS: Breach("MIG-CLI-015", State.CONNECTED_AGAIN),
}
_SEAMLESS_AGAIN: dict[int, Breach] = {kind: Breach("MIG-CLI-015", State.SEAMLESS_AGAIN) for kind in _AGAIN}
#: While the client leaves: if it closes an active sound channel before main, the server sends
#: MULTI_MEDIA_TIME once more (server/reds.cpp, reds_enable_mm_time); the client's ATTACH_CHANNELS may have
#: crossed the end.
AFTER_THE_END = frozenset({int(M.SPICE_MSG_MAIN_MULTI_MEDIA_TIME), int(M.SPICE_MSG_MAIN_CHANNELS_LIST)})
_ANNOUNCE: dict[int, To] = {
    M.SPICE_MSG_MAIN_MIGRATE_BEGIN: To(State.ANNOUNCED),
    M.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS: To(State.ANNOUNCED_SEAMLESS),
}
_SWITCH: dict[int, To] = {M.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST: To(State.SWITCHED)}
_CANCEL: dict[int, To] = {M.SPICE_MSG_MAIN_MIGRATE_CANCEL: To(State.READY)}

#: SPICE_MSG_MIGRATE's flags (SpiceMigrateFlags) -> the channel's next state.
AFTER_MIGRATE: Mapping[int, State] = MappingProxyType(
    {0: State.GONE, 1: State.FLUSH_ONLY_DUE, 2: State.DATA_DUE, 3: State.FLUSH_DUE}
)

_CONNECTED = Row(
    go={M.SPICE_MSG_MAIN_MIGRATE_END: To(State.ENDED, ("MIG-SRC-015",)), **_SWITCH, **_CANCEL},
    stay=TALK,
    breaks={**_ON_A_CONNECTED_SOURCE, B.SPICE_MSG_MIGRATE: Breach("MIG-SRC-040")},
    otherwise="MAIN-003",
)
_CANCEL_OF_THE_SECOND: dict[int, To] = {M.SPICE_MSG_MAIN_MIGRATE_CANCEL: To(State.CONNECTED)}
_CONNECTED_SEAMLESS = Row(
    go={
        B.SPICE_MSG_MIGRATE: To(State.FLUSH_DUE, ("MIG-SRC-040", "MIG-SRC-045")),
        **_SWITCH,
        **_CANCEL,
    },
    stay=TALK,
    breaks={
        **_ON_A_CONNECTED_SOURCE,
        M.SPICE_MSG_MAIN_MIGRATE_END: Breach("MIG-SRC-045", State.ENDED),
    },
    otherwise="MAIN-003",
)

MAIN: Mapping[tuple[State, Side], Row] = MappingProxyType(
    {
        (State.LINKED, S): Row(
            go={M.SPICE_MSG_MAIN_INIT: To(State.READY, ("MAIN-001",))},
            stay=NOTHING,
            breaks={
                M.SPICE_MSG_MAIN_MIGRATE_BEGIN: Breach("MAIN-001", State.ANNOUNCED),
                M.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS: Breach("MAIN-001", State.ANNOUNCED_SEAMLESS),
                M.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST: Breach("MAIN-001", State.SWITCHED),
                M.SPICE_MSG_MAIN_MIGRATE_END: Breach("MAIN-001", State.ENDED),
            },
            otherwise="MAIN-001",
        ),
        (State.LINKED, C): Row(),
        (State.READY, S): Row(
            go={**_ANNOUNCE, **_SWITCH},
            stay=TALK | {M.SPICE_MSG_MAIN_MIGRATE_CANCEL},  # the answer to a CONNECTED that came too late
            breaks=_NEVER_ON_SOURCE,
            otherwise="MAIN-003",
        ),
        (State.READY, C): Row(
            stay=CLIENT_TALK
            | {
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED,  # too late: the server no longer waits
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS,
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR,
            },
            breaks=_NOT_TO_A_SOURCE,
            otherwise="MIG-CLI-015",
        ),
        (State.ANNOUNCED, S): Row(
            go={**_ANNOUNCE, **_SWITCH, **_CANCEL},
            stay=TALK,
            breaks=_NEVER_ON_SOURCE,
            otherwise="MAIN-003",
        ),
        (State.ANNOUNCED, C): Row(
            go={
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED: To(State.CONNECTED, ("MIG-CLI-002",)),
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR: To(State.REFUSED, ("MIG-CLI-002",)),
            },
            stay=CLIENT_TALK,
            breaks={
                **_NOT_TO_A_SOURCE,
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS: Breach("MIG-CLI-007", State.SEAMLESS_UNASKED),
            },
            otherwise="MIG-CLI-015",
        ),
        (State.ANNOUNCED_SEAMLESS, S): Row(
            go={**_ANNOUNCE, **_SWITCH, **_CANCEL},
            stay=TALK,
            breaks=_NEVER_ON_SOURCE,
            otherwise="MAIN-003",
        ),
        (State.ANNOUNCED_SEAMLESS, C): Row(
            go={
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED: To(State.CONNECTED, ("MIG-CLI-002",)),
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS: To(State.CONNECTED_SEAMLESS, ("MIG-CLI-002",)),
                MC.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR: To(State.REFUSED, ("MIG-CLI-002",)),
            },
            stay=CLIENT_TALK,
            breaks=_NOT_TO_A_SOURCE,
            otherwise="MIG-CLI-015",
        ),
        (State.REFUSED, S): Row(
            go={**_ANNOUNCE, **_SWITCH},
            stay=TALK | {M.SPICE_MSG_MAIN_MIGRATE_CANCEL},
            breaks={**_NEVER_ON_SOURCE, M.SPICE_MSG_MAIN_MIGRATE_END: Breach("MIG-SRC-018", State.ENDED)},
            otherwise="MAIN-003",
        ),
        (State.REFUSED, C): Row(stay=CLIENT_TALK, breaks=_NOT_TO_A_SOURCE, otherwise="MIG-CLI-015"),
        (State.CONNECTED, S): _CONNECTED,
        (State.CONNECTED, C): Row(
            stay=CLIENT_TALK, breaks={**_NOT_TO_A_SOURCE, **_AGAIN}, otherwise="MIG-CLI-015"
        ),
        (State.CONNECTED_AGAIN, S): replace(_CONNECTED, go={**_CONNECTED.go, **_CANCEL_OF_THE_SECOND}),
        (State.CONNECTED_AGAIN, C): Row(
            stay=CLIENT_TALK, breaks={**_NOT_TO_A_SOURCE, **_AGAIN}, otherwise="MIG-CLI-015"
        ),
        (State.SEAMLESS_UNASKED, S): replace(
            _CONNECTED, breaks={**_CONNECTED.breaks, B.SPICE_MSG_MIGRATE: Breach("MIG-SRC-049")}
        ),
        (State.SEAMLESS_UNASKED, C): Row(
            stay=CLIENT_TALK, breaks={**_NOT_TO_A_SOURCE, **_AGAIN}, otherwise="MIG-CLI-015"
        ),
        (State.CONNECTED_SEAMLESS, S): _CONNECTED_SEAMLESS,
        (State.CONNECTED_SEAMLESS, C): Row(
            stay=CLIENT_TALK, breaks={**_NOT_TO_A_SOURCE, **_SEAMLESS_AGAIN}, otherwise="MIG-CLI-015"
        ),
        (State.SEAMLESS_AGAIN, S): replace(
            _CONNECTED_SEAMLESS,
            go={
                **_CONNECTED_SEAMLESS.go,
                M.SPICE_MSG_MAIN_MIGRATE_CANCEL: To(State.CONNECTED_SEAMLESS),
            },
        ),
        (State.SEAMLESS_AGAIN, C): Row(
            stay=CLIENT_TALK, breaks={**_NOT_TO_A_SOURCE, **_SEAMLESS_AGAIN}, otherwise="MIG-CLI-015"
        ),
        (State.ENDED, S): Row(stay=IN_FLIGHT | AFTER_THE_END, otherwise="MIG-SRC-023"),
        (State.ENDED, C): Row(stay=CLIENT_TALK, breaks=_NOT_TO_A_SOURCE, otherwise="MIG-CLI-015"),
        (State.SWITCHED, S): Row(
            stay=IN_FLIGHT
            | AFTER_THE_END
            | {M.SPICE_MSG_MAIN_MIGRATE_CANCEL},  # to a CONNECTED that crossed it
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
            breaks=_NOT_TO_A_SOURCE,
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
        # The target is silent until it answers. Any message restarts the latency timer, whose PINGs follow
        # 100 ms later (server/red-channel-client.cpp, msg_sent). They may cross MIGRATE_END, too.
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
        (State.TARGET_EARLY, S): Row(),  # the early beginning is a finding already
        (State.TARGET_EARLY, C): Row(go={MC.SPICE_MSGC_MAIN_MIGRATE_END: To(State.READY)}),
        (State.TARGET_ASKED, S): Row(
            go={
                M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK: To(State.TARGET_SEAMLESS, ("MIG-DST-020",)),
                M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK: To(State.TARGET_ANSWERED, ("MIG-DST-020",)),
            },
            stay=NOTHING,
            breaks={M.SPICE_MSG_MAIN_INIT: Breach("MIG-DST-002")},
            otherwise="MIG-DST-003",
        ),
        # A client that does not wait for the answer moves the target on too.
        (State.TARGET_ASKED, C): Row(
            stay=CLIENT_TALK,
            breaks={
                BC.SPICE_MSGC_MIGRATE_DATA: Breach("MIG-CLI-007", State.READY),
                MC.SPICE_MSGC_MAIN_MIGRATE_END: Breach("MIG-CLI-015", State.TARGET_INIT),
            },
            otherwise="MIG-CLI-015",
        ),
        (State.TARGET_SEAMLESS, S): Row(
            go=_SWITCH,  # its own machine has moved on before the client came (MIG-SRC-018)
            stay=TALK - {B.SPICE_MSG_NOTIFY},
            breaks={
                **_UNASKED,
                M.SPICE_MSG_MAIN_INIT: Breach("MIG-DST-023"),
                B.SPICE_MSG_NOTIFY: Breach("MIG-DST-027"),
            },
            otherwise="MIG-DST-003",
        ),
        (State.TARGET_SEAMLESS, C): Row(
            go={
                BC.SPICE_MSGC_MIGRATE_DATA: To(State.READY, ("MIG-DST-023", "MIG-CLI-016")),
                MC.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS: To(State.TARGET_REASKED),
            },
            stay=CLIENT_TALK,
            breaks={
                MC.SPICE_MSGC_MAIN_MIGRATE_END: Breach(
                    "MIG-CLI-016", excuses=frozenset({int(M.SPICE_MSG_MAIN_INIT)})
                )
            },
            otherwise="MIG-CLI-015",
        ),
        (State.TARGET_REASKED, S): Row(
            go={
                M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK: To(State.TARGET_SEAMLESS),
                M.SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK: To(State.TARGET_SEAMLESS),
                **_SWITCH,
            },
            stay=TALK,
            breaks={M.SPICE_MSG_MAIN_INIT: Breach("MIG-DST-023")},
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

#: The states of every channel after SPICE_MSG_MIGRATE.
MIGRATING: Mapping[tuple[State, Side], Row] = MappingProxyType(
    {
        (State.FLUSH_DUE, S): Row(
            stay=NOTHING,
            breaks={B.SPICE_MSG_MIGRATE_DATA: Breach("MIG-SRC-042", State.GONE)},
            otherwise="MIG-SRC-041",
        ),
        # Messages that the client sent before it read SPICE_MSG_MIGRATE may still come.
        (State.FLUSH_DUE, C): Row(
            go={BC.SPICE_MSGC_MIGRATE_FLUSH_MARK: To(State.DATA_DUE, ("MIG-CLI-009",))},
            breaks={BC.SPICE_MSGC_MIGRATE_DATA: Breach("MIG-CLI-010")},
        ),
        (State.FLUSH_ONLY_DUE, S): Row(stay=NOTHING, otherwise="MIG-SRC-041"),
        (State.FLUSH_ONLY_DUE, C): Row(
            go={BC.SPICE_MSGC_MIGRATE_FLUSH_MARK: To(State.GONE, ("MIG-CLI-009",))}
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

#: FLUSH_MARK answers a source's SPICE_MSG_MIGRATE with NEED_FLUSH.
_NO_MARK: dict[int, Breach] = {BC.SPICE_MSGC_MIGRATE_FLUSH_MARK: Breach("MIG-CLI-009")}
SECONDARY: Mapping[tuple[State, Side], Row] = MappingProxyType(
    {
        (State.OPEN, S): Row(
            go={B.SPICE_MSG_MIGRATE: To(State.FLUSH_DUE)},
            breaks={B.SPICE_MSG_MIGRATE_DATA: Breach("MIG-SRC-042", State.GONE)},
        ),
        (State.OPEN, C): Row(
            breaks={**_NO_MARK, BC.SPICE_MSGC_MIGRATE_DATA: Breach("MIG-CLI-010")},
        ),
        (State.TARGET_SILENT, S): Row(stay=NOTHING, otherwise="MIG-DST-005"),
        (State.TARGET_SILENT, C): Row(breaks=_NO_MARK),
        (State.TARGET_RESTORING, S): Row(),
        (State.TARGET_RESTORING, C): Row(
            go={BC.SPICE_MSGC_MIGRATE_DATA: To(State.OPEN, ("MIG-DST-027",))}, breaks=_NO_MARK
        ),
        (State.ORPHAN, S): Row(),
        (State.ORPHAN, C): Row(),
    }
)

#: On main a second answer to the announcement is a breach, which MIGRATE_CANCEL answers.
_SAID_TWICE = {
    kind: Breach("MIG-CLI-015", excuses=frozenset({int(M.SPICE_MSG_MAIN_MIGRATE_CANCEL)})) for kind in _AGAIN
}
_MAIN_FLUSH_DUE = replace(
    MIGRATING[State.FLUSH_DUE, C],
    stay=CLIENT_TALK,
    breaks={**MIGRATING[State.FLUSH_DUE, C].breaks, **_SAID_TWICE},
    otherwise="MIG-CLI-015",
)
_MAIN_ROWS = {**MAIN, **MIGRATING, (State.FLUSH_DUE, C): _MAIN_FLUSH_DUE}
_SECONDARY_ROWS = {**SECONDARY, **MIGRATING}
FREE = Row()


def row(channel: int, state: State, sender: Side) -> Row:
    """The row of a channel; where the table has none, a row that allows everything."""
    rows = _MAIN_ROWS if channel == ChannelType.SPICE_CHANNEL_MAIN else _SECONDARY_ROWS
    return rows.get((state, sender), FREE)


def allows(state: State, message: Message) -> bool:
    """Whether the message keeps the order in this state."""
    found = row(message.channel, state, message.sender)
    if message.type in found.go or message.type in found.breaks:
        return message.type in found.go
    return found.stay is None or message.type in found.stay


class Step(NamedTuple):
    """The next state after a message, and the types that may come late after it, by sender."""

    state: State
    late: Mapping[Side, frozenset[int]]


_NOTHING_LATE: Mapping[Side, frozenset[int]] = MappingProxyType({S: NOTHING, C: NOTHING})


def step(state: State, message: Message, late: frozenset[int] = NOTHING) -> Step:
    """The next state after a message. An illegal one also moves as the table says: one breach, one finding.

    `late`: the types that the sender may still send after an earlier breach.
    """
    found = row(message.channel, state, message.sender)
    cell, breach = found.go.get(message.type), found.breaks.get(message.type)
    if message.sender is S and message.type == B.SPICE_MSG_MIGRATE and state not in MOVING:
        to = AFTER_MIGRATE.get(message.body[0] & 3 if message.body else 0, State.GONE)
        cell, breach = cell and To(to), breach and replace(breach, to=to)
    if cell is not None:
        return Step(cell.state, _NOTHING_LATE)
    if breach is None or message.type in late:
        return Step(state, _NOTHING_LATE)
    other = C if message.sender is S else S
    own, others = NOTHING, NOTHING
    if breach.to is not None:
        own = frozenset(found.go) - {message.type} if found.stay == NOTHING else NOTHING
        others = frozenset(row(message.channel, state, other).go)
    return Step(breach.to or state, {other: others | breach.excuses, message.sender: own})


#: The next state of a target's main channel after DST_DO_SEAMLESS, when the client sends CONNECTED_SEAMLESS
#: to the source without the target's answer: messages that were due there may still come.
TAKEN_ALONG: Mapping[State, State] = MappingProxyType({State.TARGET_ASKED: State.TARGET_SEAMLESS})
#: States of a source's channel that is migrating.
MOVING = frozenset({State.FLUSH_DUE, State.FLUSH_ONLY_DUE, State.DATA_DUE, State.GONE})
#: States of a source after the client's CONNECTED: MIGRATE_END, or SPICE_MSG_MIGRATE, is due.
CONNECTED = frozenset({State.CONNECTED, State.CONNECTED_AGAIN, State.SEAMLESS_UNASKED})
CONNECTED_SEAMLESS = frozenset({State.CONNECTED_SEAMLESS, State.SEAMLESS_AGAIN})
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
#: States of a target's main channel: before the client's MIGRATE_END, and between that and INIT.
WAITING = frozenset({State.TARGET_WAIT, State.TARGET_ANSWERED})
INIT_DUE = frozenset({State.TARGET_INIT, State.TARGET_INIT_DUE})


def legal(channel: int, state: State, sender: Side) -> frozenset[int] | None:
    """The message types that `sender` may send now; None: any that its channel has."""
    found = row(channel, state, sender)
    return None if found.stay is None else found.stay | frozenset(found.go)


def decisive_types(channel: int, state: State, sender: Side) -> frozenset[int]:
    """The types that change this state or break a requirement of their own: the framer must show them."""
    found = row(channel, state, sender)
    steps = frozenset(found.go) | frozenset(found.breaks)
    if found.stay is None:
        return steps
    return steps | (frozenset(MESSAGE_NAMES.get((channel, sender), ())) - found.stay)
