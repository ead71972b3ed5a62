# SPDX-License-Identifier: GPL-2.0-only
"""A server's answer to a letter as one line, which is equal whenever the server does the same.

Volatile fields are left out (times, keys, serials); an id is replaced by its owner. The messages of each
connection are in order, the connections in a fixed order: which connection was read first does not count."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from scapy.packet import Packet

from dissectors.channels.migration_data import MigrateData
from dissectors.framing.events import HostEvent, Message
from dissectors.wire.constants import ChannelType, MsgBase, MsgMain, channel_name

#: The answer to a letter that cannot be played: its connection is not open, or the process is gone.
NOTHING, IMPOSSIBLE = "nothing", "-"
#: Between the messages of two connections; messages of one connection are separated by commas.
PARTS = "; "
DIED, HUNG = "process died", "process hangs"
CLOSED, LINKED = "closed", "linked"
END_COMPLETE = "migrate_end_complete"
CALLBACKS = ("migrate_connect_complete", END_COMPLETE)
#: Messages that are listed once, however many come in a row: the number of PINGs depends on the server's own
#: clock; a NOTIFY comes for each link that waits at a target, and a model cannot count them.
REPEATED = ("PING", "NOTIFY")
#: The port that announcements name.
ANNOUNCED_PORT = 0x5A1C


@dataclass(frozen=True)
class Answer:
    """`text`: the answer. What can be played afterwards: `open`, names of the channels that the client has
    open; `calls`, the calls that a hypervisor may make. `over`: the process is gone or hangs."""

    text: str
    open: frozenset[str] = frozenset()
    over: bool = False
    calls: frozenset[str] = frozenset()

    @property
    def whole(self) -> str:
        """The whole answer as text, to compare two answers."""
        return f"{self.text} [open: {', '.join(sorted(self.open)) or 'nothing'}]"

    def as_list(self) -> list[object]:
        """The answers as a list, for the cache."""
        return [self.text, ",".join(sorted(self.open)), int(self.over), ",".join(sorted(self.calls))]

    @classmethod
    def from_list(cls, data: Sequence[object]) -> Answer:
        """Answers from such a list. Raises ValueError."""
        text, channels, over, calls = data
        return cls(str(text), _names(channels), bool(over), _names(calls))


def _names(text: object) -> frozenset[str]:
    return frozenset(str(text).split(",")) - {""}


Fields = Callable[[Packet, int], str]


def _init(packet: Packet, chosen: int) -> str:
    whose = "the client's id" if packet.session_id == chosen else "a new id"
    mouse = f"{int(packet.current_mouse_mode)} of {int(packet.supported_mouse_modes)}"
    return f"{whose}, agent {int(packet.agent_connected)}, mouse {mouse}"


def _announced(packet: Packet, _: int) -> str:
    port = "as told" if packet.port == ANNOUNCED_PORT else str(packet.port)
    version = getattr(packet, "src_mig_version", None)
    return f"port {port}" + ("" if version is None else f", version {version}")


def _channels(packet: Packet, _: int) -> str:
    return " ".join(channel_name(int(c.type)) for c in packet.channels if hasattr(c, "type"))


def _data(packet: Packet, _: int) -> str:
    return (
        f"{packet.magic:#x}, version {packet.version}" if isinstance(packet, MigrateData) else "not readable"
    )


_BASE: Mapping[int, Fields] = MappingProxyType(
    {
        int(MsgBase.SPICE_MSG_MIGRATE): lambda packet, _: f"flags {int(packet.flags)}",
        int(MsgBase.SPICE_MSG_MIGRATE_DATA): _data,
        int(MsgBase.SPICE_MSG_NOTIFY): lambda packet, _: f"severity {int(packet.severity)}",
    }
)
_MAIN: Mapping[int, Fields] = MappingProxyType(
    {
        int(MsgMain.SPICE_MSG_MAIN_INIT): _init,
        int(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN): _announced,
        int(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS): _announced,
        int(MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST): _announced,
        int(MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST): _channels,
        int(MsgMain.SPICE_MSG_MAIN_MOUSE_MODE): lambda packet, _: f"{packet.current_mode}",
    }
)


def word(message: Message, chosen: int) -> str:
    """A message with its relevant fields. `chosen`: the connection_id that its client linked with."""
    name = message.name.removeprefix("SPICE_MSG_").removeprefix(f"{channel_name(message.channel).upper()}_")
    main = message.channel == ChannelType.SPICE_CHANNEL_MAIN
    fields = _BASE.get(message.type) or (_MAIN.get(message.type) if main else None)
    return f"{name}({fields(message.packet, chosen)})" if fields else name


def said(words: Iterable[str]) -> list[str]:
    """The messages in order, each run of one of `REPEATED` once."""
    found: list[str] = []
    for each in words:
        if not each.startswith(REPEATED) or found[-1:] != [each]:
            found.append(each)
    return found


#: Parts to remove from the last line of a process: glib's prefix, places in the source, pointers.
_PREFIX = re.compile(r"^.*?(?:ERROR|CRITICAL|WARNING)\s*\*\*:?\s*(?:[\d:.]+:\s*)?")
_PLACE = re.compile(r"[\w./+-]+\.(?:cpp|cc|c|h|hpp):\d+:?\s*")
_POINTER = re.compile(r"0x[0-9a-f]+")
_TYPES = re.compile(r"(?:static |void |bool |int |gboolean |std::)*\b(\w+(?:::\w+)*)\([^)]*\)")


def death(signal: str | None, line: str | None) -> str:
    """How a process ended: the signal and the assertion, without the parts that differ between builds."""
    text = _PREFIX.sub("", line or "it said nothing")
    text = _POINTER.sub("#", _PLACE.sub("", text)).strip()
    return f"{DIED} ({signal}: {text})"


def callbacks(events: Iterable[HostEvent]) -> list[str]:
    """The migration callbacks among a host's events, in order."""
    return [event.name for event in events if event.name in CALLBACKS]
