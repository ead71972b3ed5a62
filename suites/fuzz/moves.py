# SPDX-License-Identifier: GPL-2.0-only
"""The alphabet of the machine: the acts of clients and hypervisors, each move a small object that JSON can
hold.

A move names its place (client, host, channel) and refers to no object, so that a list of moves can be
shortened, saved and played again; a player skips a move whose place does not exist. Session ids have names
too (`Id`), since every run has its own."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar

from dissectors.wire.constants import ChannelType, Side, channel_name, message_name

HOSTS = ("source", "target")
MAIN = int(ChannelType.SPICE_CHANNEL_MAIN)


class Id(StrEnum):
    """The connection_id that a link names."""

    ZERO = "zero"
    OWN = "own"  # the client's session id, wherever it got it; 0 before that
    OTHER = "other"  # the other client's
    WRONG = "wrong"  # nobody's


class Caps(StrEnum):
    """The capabilities that a client claims."""

    ALL = "all"
    NO_SEAMLESS = "no seamless"
    NO_MIGRATION = "no migration"
    FULL_HEADER = "full header"


class Upto(StrEnum):
    """The step of the link stage at which a client stops."""

    LINKED = "linked"
    MESS = "link message"
    CONNECTED = "connected"


@dataclass(frozen=True)
class Slot:
    """A client's connection to a channel of a host; a client has one of each."""

    client: int
    host: str
    channel: int

    def __str__(self) -> str:
        return f"client {self.client}, {channel_name(self.channel)} of the {self.host}"

    def on(self, host: str) -> Slot:
        """The same channel, on another host."""
        return Slot(self.client, host, self.channel)


@dataclass(frozen=True)
class _AtSlot:
    """What a client does with its connection to a channel of a host."""

    client: int
    host: str
    channel: int

    @property
    def slot(self) -> Slot:
        """The connection's place."""
        return Slot(self.client, self.host, self.channel)


@dataclass(frozen=True)
class Call:
    """A hypervisor's call: a name of `CALLS`."""

    kind: ClassVar[str] = "call"
    host: str
    name: str

    def __str__(self) -> str:
        return f"hypervisor of the {self.host}: {self.name}"


@dataclass(frozen=True)
class Link(_AtSlot):
    """A client opens a connection and goes through the link stage up to a step."""

    kind: ClassVar[str] = "link"
    id: Id = Id.ZERO
    caps: Caps = Caps.ALL
    upto: Upto = Upto.LINKED

    def __str__(self) -> str:
        more = "".join(
            f", {word}"
            for word, plain in ((self.caps, Caps.ALL), (self.upto, Upto.LINKED))
            if word is not plain
        )
        return f"{self.slot}: link with id {self.id}{more}"


@dataclass(frozen=True)
class End(_AtSlot):
    """A client ends a connection: in order (FIN) or by RST."""

    kind: ClassVar[str] = "end"
    reset: bool = False

    def __str__(self) -> str:
        return f"{self.slot}: {'reset' if self.reset else 'close'}"


@dataclass(frozen=True)
class Send(_AtSlot):
    """A client sends a message with a correct body or, by the seed `mutation`, a mutated one."""

    kind: ClassVar[str] = "send"
    type: int
    mutation: int = 0

    def __str__(self) -> str:
        name = message_name(self.channel, Side.CLIENT, self.type)
        bad = f" (mutation {self.mutation})" if self.mutation else ""
        return f"{self.slot}: {name}{bad}"


@dataclass(frozen=True)
class Pass:
    """The host's clock moves on by `ms`."""

    kind: ClassVar[str] = "pass"
    host: str
    ms: int

    def __str__(self) -> str:
        return f"clock of the {self.host}: {self.ms} ms"


Move = Call | Link | End | Send | Pass
_KINDS: Mapping[str, type[Move]] = MappingProxyType({c.kind: c for c in (Call, Link, End, Send, Pass)})
_WORDS: Mapping[str, type[StrEnum]] = MappingProxyType({"id": Id, "caps": Caps, "upto": Upto})


class Kit(StrEnum):
    """Which devices a host has besides keyboard and mouse."""

    INPUTS = "inputs"
    MANY = "many"
    DISPLAY = "display"


KITS: Mapping[Kit, tuple[str, ...]] = MappingProxyType(
    {
        Kit.INPUTS: (),
        Kit.MANY: ("playback", "record", "usbredir", "smartcard", "webdav"),
        Kit.DISPLAY: ("display",),
    }
)
#: The channel types that these devices bring.
CHANNELS: Mapping[Kit, tuple[int, ...]] = MappingProxyType(
    {
        Kit.INPUTS: (),
        Kit.MANY: tuple(
            int(channel)
            for channel in (
                ChannelType.SPICE_CHANNEL_PLAYBACK,
                ChannelType.SPICE_CHANNEL_RECORD,
                ChannelType.SPICE_CHANNEL_USBREDIR,
                ChannelType.SPICE_CHANNEL_SMARTCARD,
                ChannelType.SPICE_CHANNEL_WEBDAV,
            )
        ),
        Kit.DISPLAY: (int(ChannelType.SPICE_CHANNEL_DISPLAY), int(ChannelType.SPICE_CHANNEL_CURSOR)),
    }
)


class Carrier(StrEnum):
    """What carries SPICE: all connections of a play use the same."""

    TCP = "TCP"
    TLS = "TLS"
    WEBSOCKET = "WebSocket"


@dataclass(frozen=True)
class Setup:
    """The hosts of a play: a source, and a target that waits for its migration; and what carries its
    connections."""

    seamless: bool = False
    agent: bool = False
    kit: Kit = Kit.INPUTS
    many_clients: bool = False  # the server serves several at once, and nothing seamless
    carrier: Carrier = Carrier.TCP

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Setup:
        """The inverse of `dataclasses.asdict`. Raises TypeError, ValueError."""
        kit, carrier = Kit(data.get("kit", Kit.INPUTS)), Carrier(data.get("carrier", Carrier.TCP))
        return cls(**{**data, "kit": kit, "carrier": carrier})

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices of the hosts, for `fixtures.system.hosts.Settings`."""
        return ("keyboard", "mouse", *KITS[self.kit], *(("agent",) if self.agent else ()))

    @property
    def channels(self) -> tuple[int, ...]:
        """The channel types of these devices: main, inputs, and those that the kit brings."""
        return (MAIN, int(ChannelType.SPICE_CHANNEL_INPUTS), *CHANNELS[self.kit])


class HypervisorPhase(StrEnum):
    """The hypervisor's phase in a migration."""

    IDLE = "idle"
    ANNOUNCED = "announced"
    STARTED = "started"
    OVER = "over"


#: The first words of the guest's agent: VDIChunkHeader (8 bytes) and VDAgentMessage (20 bytes) of an
#: ANNOUNCE_CAPABILITIES with one word (vd_agent.h).
AGENT_MESSAGE = struct.pack("<II IIQI II", 1, 28, 1, 6, 0, 8, 1, 0)
#: A hypervisor's calls, and its guest's acts: name -> (function, arguments). `announce` has the other host as
#: a further argument.
CALLS: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "announce": ("migrate_connect", {}),
        "migrate_start": ("migrate_start", {}),
        "finish": ("migrate_end", {"completed": 1}),
        "fail": ("migrate_end", {"completed": 0}),
        "vm_start": ("vm_start", {}),
        "vm_stop": ("vm_stop", {}),
        "agent_attach": ("agent_attach", {}),
        "agent_detach": ("agent_detach", {}),
        "agent_says": ("agent_send", {"hex": AGENT_MESSAGE.hex()}),
        "agent_says_chunk_header": ("agent_send", {"hex": AGENT_MESSAGE[:8].hex()}),
        "agent_says_both_headers": ("agent_send", {"hex": AGENT_MESSAGE[:28].hex()}),
        "usbredir_says": ("chardev_send", {"device": "usbredir", "hex": "c0ffee"}),
        "usbredir_detach": ("chardev_detach", {"device": "usbredir"}),
        "usbredir_attach": ("chardev_attach", {"device": "usbredir"}),
        "webdav_says": ("chardev_send", {"device": "webdav", "hex": "c0ffee"}),
        "keyboard_lights": ("kbd_leds", {"leds": 5}),
        "playback_start": ("playback_start", {}),
        "playback_put": ("playback_put", {}),
        "playback_stop": ("playback_stop", {}),
        "record_start": ("record_start", {}),
        "record_get": ("record_get", {}),
        "record_stop": ("record_stop", {}),
        "draw": ("qxl_draw", {}),
        "image": ("qxl_image", {}),
        "surfaces": ("qxl_surfaces", {"count": 2}),
        "cursor": ("qxl_cursor", {}),
    }
)
#: The device that a guest's act needs.
NEEDED_DEVICE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("agent_says", "agent_says_chunk_header", "agent_says_both_headers"), "agent"),
        **dict.fromkeys(("usbredir_says", "usbredir_detach", "usbredir_attach"), "usbredir"),
        "webdav_says": "webdav",
        "keyboard_lights": "keyboard",
        **dict.fromkeys(("playback_start", "playback_put", "playback_stop"), "playback"),
        **dict.fromkeys(("record_start", "record_get", "record_stop"), "record"),
        **dict.fromkeys(("draw", "image", "surfaces", "cursor"), "display"),
    }
)
#: The calls that a hypervisor may make in each phase of a migration, and the phase that follows. Any other
#: call would be the hypervisor's own misuse. A finished migration has to complete (`migrate_end_complete`)
#: before the next one.
MIGRATING: Mapping[HypervisorPhase, Mapping[str, HypervisorPhase]] = MappingProxyType(
    {
        HypervisorPhase.IDLE: {"announce": HypervisorPhase.ANNOUNCED},
        HypervisorPhase.ANNOUNCED: {
            "announce": HypervisorPhase.ANNOUNCED,
            "migrate_start": HypervisorPhase.STARTED,
            "fail": HypervisorPhase.IDLE,
        },
        HypervisorPhase.STARTED: {"finish": HypervisorPhase.OVER, "fail": HypervisorPhase.IDLE},
        HypervisorPhase.OVER: {},
    }
)


def as_json(moves: Iterable[Move]) -> list[dict[str, Any]]:
    """Moves in the form that a finding stores."""
    return [{"move": move.kind, **asdict(move)} for move in moves]


def from_json(data: Any) -> list[Move]:
    """The inverse of `as_json`. Raises ValueError with one line."""
    if not isinstance(data, list):
        raise ValueError("the moves are no list")
    return [_move(entry, number) for number, entry in enumerate(data, 1)]


def _move(entry: Any, number: int) -> Move:
    if not isinstance(entry, dict) or entry.get("move") not in _KINDS:
        raise ValueError(f"move {number} is none of {', '.join(_KINDS)}")
    fields = {key: value for key, value in entry.items() if key != "move"}
    try:
        for word, kind in _WORDS.items():
            if word in fields:
                fields[word] = kind(fields[word])
        move = _KINDS[entry["move"]](**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"move {number}: {error}") from None
    numbers = [value for key, value in asdict(move).items() if key not in ("host", "name", *_WORDS)]
    if move.host not in HOSTS or not all(isinstance(value, int) for value in numbers):
        raise ValueError(f"move {number}: {entry}: a host is one of {', '.join(HOSTS)}, the rest are numbers")
    if isinstance(move, Call) and move.name not in CALLS:
        raise ValueError(f"move {number}: no such call: {move.name}")
    return move
