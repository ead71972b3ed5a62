# SPDX-License-Identifier: GPL-2.0-only
"""The places of the matrix: each state of the order tables, and the way into it.

Literal tables. A place is one host, its settings, and the acts that lead there. (A source's announcement may
name a port where nobody listens: the target's part is played at the target's places.)"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from dissectors.conversation.connection_states import NOT_BY_AN_ACT, State
from dissectors.wire.constants import ChannelType, MsgcBase, MsgcDisplay, MsgcMain, channel_name
from fixtures.system.hosts import SEVERAL_CLIENTS
from suites.matrix.acts import MAIN, Act, CallAct, LeaveAct, LinkAct, LinkId, PassAct, SendAct

CT, MC = ChannelType, MsgcMain
REAL_TIME = "the display's worker, and with it the host, waits 10 s of real time for MIGRATE_DATA"
#: The machine's devices: one for each kind of channel. A display has worker threads, which a copy cannot
#: include: its places are made again for each cell.
PLAIN = ("keyboard", "mouse", "playback", "record", "smartcard", "usbredir", "port:org.example.0", "webdav")
WITH_AGENT, WITH_DISPLAY = (*PLAIN, "agent"), ("keyboard", "mouse", "tablet", "display")
NOWHERE = {"host": "127.0.0.1", "port": 0x1F91}

SESSION = (LinkAct(MAIN),)
#: A session that has ended, so that a stale id exists.
EARLIER = (LinkAct(MAIN, client=0), LeaveAct(MAIN, client=0))
ANNOUNCE, CANCEL = CallAct("migrate_connect", NOWHERE), CallAct("migrate_end", {"completed": 0})
MOVE = (CallAct("migrate_start"), CallAct("vm_stop"), CallAct("migrate_end", {"completed": 1}))
VERSION_1, VERSION_2 = b"\1\0\0\0", b"\2\0\0\0"
CONNECTED = SendAct(MAIN, MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED)
CONNECTED_SEAMLESS = SendAct(MAIN, MC.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS)
CANNOT = SendAct(MAIN, MC.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR)
FLUSH = SendAct(MAIN, MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK)
DATA = SendAct(MAIN, MsgcBase.SPICE_MSGC_MIGRATE_DATA)
END = SendAct(MAIN, MC.SPICE_MSGC_MAIN_MIGRATE_END)
ASK = SendAct(MAIN, MC.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS, VERSION_1)
ASK_LATER_VERSION = SendAct(MAIN, MC.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS, VERSION_2)
RUNS = CallAct("vm_start")
AGENT_START = SendAct(MAIN, MC.SPICE_MSGC_MAIN_AGENT_START, b"\x0a\0\0\0")
ARRIVING = (LinkAct(MAIN, LinkId.GIVEN),)


@dataclass(frozen=True)
class Place:
    """A state and the way into it. `settings`: of `fixtures.system.hosts.Settings`."""

    name: str
    channel: int
    state: State
    path: tuple[Act, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    label: str = "source"
    #: Why nothing is played at this place, if so.
    left_out: str | None = None
    #: The state whose answers apply, if it is not the state that the messages show.
    instead: State | None = None

    @property
    def answers(self) -> State:
        """The state whose answers apply."""
        return self.instead or self.state

    @property
    def arrives(self) -> bool:
        """Whether its session has the id that it had at a source."""
        return any(isinstance(act, LinkAct) and act.id is LinkId.GIVEN for act in self.path)

    @property
    def stopped(self) -> bool:
        """Whether its machine is stopped."""
        calls = [act.name for act in self.path if isinstance(act, CallAct)]
        return "vm_stop" in calls or (self.label == "target" and "vm_start" not in calls)

    @property
    def agent(self) -> bool:
        """Whether an agent is attached."""
        runs = self.label == "source" or not self.stopped
        return "agent" in self.settings["devices"] and runs

    @property
    def ended(self) -> bool:
        """Whether the hypervisor has ended a migration that has not completed."""
        return MOVE[-1] in self.path

    @property
    def forks(self) -> bool:
        """Whether its host can be copied."""
        return "display" not in self.settings.get("devices", ())

    def __str__(self) -> str:
        return f"{channel_name(self.channel)}: {self.name}"


def _main(
    name: str,
    state: State,
    *path: Act,
    label: str = "source",
    instead: State | None = None,
    devices: tuple[str, ...] = PLAIN,
    **settings: Any,
) -> Place:
    target = {"incoming": True} if label == "target" else {}
    settings = {"devices": devices, **target, **settings}
    return Place(name, MAIN, state, (*EARLIER, *path), settings, label, instead=instead)


SEAMLESS: Mapping[str, Any] = MappingProxyType({"seamless": True})
TARGET: Mapping[str, Any] = MappingProxyType({"label": "target", "seamless": True})
MANY: Mapping[str, Any] = MappingProxyType({"environment": SEVERAL_CLIENTS})
TWO = (*SESSION, LinkAct(MAIN, client=2))

MAIN_PLACES: tuple[Place, ...] = (
    _main("session", State.READY, *SESSION),
    _main("session, machine stopped", State.READY, *SESSION, CallAct("vm_stop")),
    _main("session with an agent", State.READY, *SESSION, devices=WITH_AGENT),
    _main("session with an agent, started", State.READY, *SESSION, AGENT_START, devices=WITH_AGENT),
    _main("session, another client there", State.READY, *TWO, **MANY),
    _main("announced", State.ANNOUNCED, *SESSION, ANNOUNCE),
    _main("announced, another client there", State.ANNOUNCED, *TWO, ANNOUNCE, **MANY),
    _main("announced, 10 s ago", State.ANNOUNCED, *SESSION, ANNOUNCE, PassAct(10_000), instead=State.REFUSED),
    _main("announced, then failed", State.ANNOUNCED, *SESSION, ANNOUNCE, CANCEL, instead=State.READY),
    _main("connected", State.CONNECTED, *SESSION, ANNOUNCE, CONNECTED),
    _main("connected, another client there", State.CONNECTED, *TWO, ANNOUNCE, CONNECTED, **MANY),
    _main("connected, machine stopped", State.CONNECTED, *SESSION, ANNOUNCE, CONNECTED, *MOVE[:2]),
    _main("refused", State.REFUSED, *SESSION, ANNOUNCE, CANNOT),
    _main("cancelled", State.READY, *SESSION, ANNOUNCE, CONNECTED, CANCEL),
    _main("ended", State.ENDED, *SESSION, ANNOUNCE, CONNECTED, *MOVE),
    _main("switched", State.SWITCHED, *SESSION, ANNOUNCE, CANNOT, *MOVE),
    _main("announced seamless", State.ANNOUNCED_SEAMLESS, *SESSION, ANNOUNCE, **SEAMLESS),
    _main("connected seamless", State.CONNECTED_SEAMLESS, *SESSION, ANNOUNCE, CONNECTED_SEAMLESS, **SEAMLESS),
    _main("connected, seamless offered", State.CONNECTED, *SESSION, ANNOUNCE, CONNECTED, **SEAMLESS),
    _main("refused, seamless offered", State.REFUSED, *SESSION, ANNOUNCE, CANNOT, **SEAMLESS),
    _main(
        "connected seamless, not asked for",
        State.SEAMLESS_UNASKED,
        *SESSION,
        ANNOUNCE,
        CONNECTED_SEAMLESS,
        instead=State.CONNECTED_SEAMLESS,
    ),
    _main("cancelled seamless", State.READY, *SESSION, ANNOUNCE, CONNECTED_SEAMLESS, CANCEL, **SEAMLESS),
    _main("flush mark due", State.FLUSH_DUE, *SESSION, ANNOUNCE, CONNECTED_SEAMLESS, *MOVE, **SEAMLESS),
    _main("data sent", State.GONE, *SESSION, ANNOUNCE, CONNECTED_SEAMLESS, *MOVE, FLUSH, **SEAMLESS),
    _main("target waits", State.TARGET_WAIT, *ARRIVING, **TARGET),
    _main("target waits, machine runs", State.TARGET_WAIT, *ARRIVING, RUNS, **TARGET),
    _main("target has cancelled", State.TARGET_ANSWERED, *ARRIVING, CONNECTED, **TARGET),
    _main("target has refused", State.TARGET_ANSWERED, *ARRIVING, ASK_LATER_VERSION, **TARGET),
    _main("target restores", State.TARGET_SEAMLESS, *ARRIVING, ASK, **TARGET),
    _main("target restores, asked twice", State.TARGET_SEAMLESS, *ARRIVING, ASK, ASK, **TARGET),
    _main("arrived", State.READY, *ARRIVING, RUNS, END, **TARGET),
    _main("arrived seamless", State.READY, *ARRIVING, ASK, RUNS, DATA, **TARGET),
    _main("arrived after a refusal", State.READY, *ARRIVING, ASK_LATER_VERSION, RUNS, END, **TARGET),
    _main("arrived, with an agent", State.READY, *ARRIVING, RUNS, END, devices=WITH_AGENT, **TARGET),
    _main("new session at a target", State.READY, *SESSION, **TARGET),
)
#: States that a server leaves before another act can reach it, and why.
NOT_HELD: Mapping[State, str] = MappingProxyType(
    {
        State.LINKING: "the link stage has a suite of its own",
        State.LINKED: "the server sends INIT at once when it lets the client in",
        State.CONNECTED_AGAIN: "the server answers a second CONNECTED at once when it reads it",
        State.SEAMLESS_AGAIN: "the server answers a second CONNECTED at once when it reads it",
        State.DATA_DUE: "the server sends MIGRATE_DATA at once when it reads FLUSH_MARK",
        State.TARGET_ASKED: "the server answers DST_DO_SEAMLESS at once when it reads it",
        State.TARGET_REASKED: "the server answers DST_DO_SEAMLESS at once when it reads it",
        State.TARGET_INIT: "the server sends INIT at once when it reads MIGRATE_END",
        State.TARGET_INIT_DUE: "the server sends INIT at once when it reads MIGRATE_END",
        **NOT_BY_AN_ACT,
    }
)

#: Channels whose places are made: type -> the devices of the machine.
CHANNELS: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        CT.SPICE_CHANNEL_INPUTS: PLAIN,
        CT.SPICE_CHANNEL_PLAYBACK: PLAIN,
        CT.SPICE_CHANNEL_RECORD: PLAIN,
        CT.SPICE_CHANNEL_SMARTCARD: PLAIN,
        CT.SPICE_CHANNEL_USBREDIR: PLAIN,
        CT.SPICE_CHANNEL_PORT: PLAIN,
        CT.SPICE_CHANNEL_WEBDAV: PLAIN,
        CT.SPICE_CHANNEL_DISPLAY: WITH_DISPLAY,
        CT.SPICE_CHANNEL_CURSOR: WITH_DISPLAY,
    }
)
#: The channels of a machine without a display.
PLAIN_CHANNELS = frozenset(channel for channel, devices in CHANNELS.items() if devices is PLAIN)
#: The sound streams that the guest starts, so that it can stop them and the client can hear them.
SOUND: Mapping[int, str] = MappingProxyType(
    {CT.SPICE_CHANNEL_PLAYBACK: "playback_start", CT.SPICE_CHANNEL_RECORD: "record_start"}
)
#: Channels whose state travels, with a flush mark and MIGRATE_DATA; the others end with MIGRATE.
WITH_DATA = frozenset(CHANNELS) - {
    CT.SPICE_CHANNEL_PLAYBACK,
    CT.SPICE_CHANNEL_RECORD,
    CT.SPICE_CHANNEL_CURSOR,
}


def channel_places(channel: int) -> Iterator[Place]:
    """The places of a channel other than main."""
    own, flush = LinkAct(channel, LinkId.OWN), SendAct(channel, MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK)
    data = SendAct(channel, MsgcBase.SPICE_MSGC_MIGRATE_DATA)
    display = channel == CT.SPICE_CHANNEL_DISPLAY
    begin = (SendAct(channel, MsgcDisplay.SPICE_MSGC_DISPLAY_INIT),) if display else ()
    opened = (*SESSION, own, *begin)
    left = State.FLUSH_DUE if channel in WITH_DATA else State.GONE

    def place(name: str, state: State, *path: Act, label: str = "source", seamless: bool = False) -> Place:
        settings = {"devices": CHANNELS[channel], "seamless": seamless, "incoming": label == "target"}
        return Place(name, channel, state, path, settings, label)

    yield place("open", State.OPEN, *opened)
    yield place("open, machine stopped", State.OPEN, *opened, CallAct("vm_stop"))
    if channel in SOUND:
        yield place("open, sound on", State.OPEN, *opened, CallAct(SOUND[channel]))
    yield place("announced", State.OPEN, *opened, ANNOUNCE)
    yield place("connected", State.OPEN, *opened, ANNOUNCE, CONNECTED)
    yield place("ended", State.OPEN, *opened, ANNOUNCE, CONNECTED, *MOVE)
    yield place("switched", State.OPEN, *opened, ANNOUNCE, CANNOT, *MOVE)
    seamless = (*opened, ANNOUNCE, CONNECTED_SEAMLESS)
    yield place("connected seamless", State.OPEN, *seamless, seamless=True)
    yield place("migrating", left, *seamless, *MOVE, seamless=True)
    if channel in WITH_DATA:
        yield place("data sent", State.GONE, *seamless, *MOVE, flush, seamless=True)
    waiting: dict[str, Any] = {"label": "target", "seamless": True}
    yield place("target waits", State.TARGET_SILENT, *ARRIVING, own, **waiting)
    yield place("target has cancelled", State.TARGET_SILENT, *ARRIVING, own, CONNECTED, **waiting)
    yield place("target restores", State.TARGET_RESTORING, *ARRIVING, ASK, own, **waiting)
    yield place("arrived", State.OPEN, *ARRIVING, own, *begin, RUNS, END, **waiting)
    due = place("arrived, its data due", State.TARGET_RESTORING, *ARRIVING, ASK, own, RUNS, DATA, **waiting)
    if channel == CT.SPICE_CHANNEL_DISPLAY:
        due = replace(due, left_out=REAL_TIME)
    yield due
    if channel in WITH_DATA:
        yield place("arrived seamless", State.OPEN, *ARRIVING, ASK, own, data, RUNS, DATA, **waiting)


def places() -> Iterator[Place]:
    """Every place."""
    yield from MAIN_PLACES
    for channel in CHANNELS:
        yield from channel_places(channel)
