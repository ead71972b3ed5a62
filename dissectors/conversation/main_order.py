# SPDX-License-Identifier: GPL-2.0-only
"""The order of the main channel: what each side may send in each state until SPICE_MSG_MIGRATE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from dissectors.conversation.connection_states import State
from dissectors.conversation.order_rows import NOTHING, Breach, Row, To
from dissectors.wire.constants import MsgBase, MsgcBase, MsgcMain, MsgMain, Side

S, C = Side.SERVER, Side.CLIENT
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

#: What a timer may still send while the client leaves, and the client's answers to earlier messages.
IN_FLIGHT = frozenset({int(B.SPICE_MSG_PING), int(B.SPICE_MSG_DISCONNECTING)})

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

#: The answers that accept an announcement. A repeated one is too late: the server sends MIGRATE_CANCEL, and
#: the first answer counts.
ACCEPTANCES: tuple[int, ...] = (
    MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED,
    MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS,
)
_AGAIN = {kind: Breach("MIG-CLI-015", State.CONNECTED_AGAIN) for kind in ACCEPTANCES}
_SEAMLESS_AGAIN: dict[int, Breach] = {
    kind: Breach("MIG-CLI-015", State.SEAMLESS_AGAIN) for kind in ACCEPTANCES
}

#: While the client leaves: if it closes an active sound channel before main, the server sends
#: MULTI_MEDIA_TIME once more (server/reds.cpp, reds_enable_mm_time); the client's ATTACH_CHANNELS, or its
#: link to a channel without TLS, of which NOTIFY tells the user (server/inputs-channel.cpp), may have crossed
#: the end.
AFTER_THE_END = frozenset(
    {
        int(M.SPICE_MSG_MAIN_MULTI_MEDIA_TIME),
        int(M.SPICE_MSG_MAIN_CHANNELS_LIST),
        int(B.SPICE_MSG_NOTIFY),
    }
)
_ANNOUNCE: dict[int, To] = {
    M.SPICE_MSG_MAIN_MIGRATE_BEGIN: To(State.ANNOUNCED),
    M.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS: To(State.ANNOUNCED_SEAMLESS),
}
_SWITCH: dict[int, To] = {M.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST: To(State.SWITCHED)}
_CANCEL: dict[int, To] = {M.SPICE_MSG_MAIN_MIGRATE_CANCEL: To(State.READY)}
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

MAIN_ORDER: Mapping[tuple[State, Side], Row] = MappingProxyType(
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
