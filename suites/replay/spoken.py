# SPDX-License-Identifier: GPL-2.0-only
"""A server's messages on one connection, field by field, and the differences between two such accounts.

Fields that differ between two runs of one server are ignored (ids, times, serials, keys, addresses and
ports), and so are fields that hold only a length or a position. Capability words, flags, tokens, versions,
names, lists of channels and the migration data's state are compared. Sans-I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from scapy.fields import Field, FieldLenField
from scapy.packet import NoPayload, Packet

from dissectors.framing.events import LinkBytes, Message
from dissectors.wire.constants import ChannelType, MsgBase, MsgInputs, Side
from dissectors.wire.visible_text import visible

#: Fields that differ between two runs of one server, in any packet.
VOLATILE = frozenset(
    {
        *("session_id", "connection_id", "generation", "message_serial", "serial", "pub_key"),
        *("multi_media_time", "timestamp", "time_stamp"),
        *("host", "port", "sport"),
        # memory of the hypervisor's graphics card
        "ram_hint",
        # of the display's migration data: numbers of caches and images, and the channels' serials
        *("pixmap_cache_id", "pixmap_cache_clients", "glz_dict_id", "glz_dict_last_image_id"),
        # the packet's length, and bytes that other fields point into
        *("size", "gap", "tail", "num_common_caps", "num_channel_caps", "caps_offset"),
    }
)
#: Fields whose names end so hold a position or a length.
PLACES = ("_offset", "_size")
#: Exceptions, which hold a value of their own.
VALUES = frozenset({"pixmap_cache_size", "glz_dict_size", "chunk_size", "chunk_header_size"})
#: Messages that every channel sends once it works.
ON_EVERY_CHANNEL = frozenset(
    {
        MsgBase.SPICE_MSG_MIGRATE,
        MsgBase.SPICE_MSG_MIGRATE_DATA,
        MsgBase.SPICE_MSG_SET_ACK,
        MsgBase.SPICE_MSG_NOTIFY,
        MsgBase.SPICE_MSG_DISCONNECTING,
    }
)
#: Messages that a server sends by itself on a new connection.
FIRST_WORDS = frozenset({"link reply", "link result", "SPICE_MSG_SET_ACK", "SPICE_MSG_INPUTS_INIT"})
LONGEST = 120


@dataclass(frozen=True)
class SpokenMessage:
    """A message or a packet of the link stage. `fields`: the compared fields, by path, as text."""

    name: str
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The messages, on one line."""
        fields = ", ".join(f"{path} {value}" for path, value in self.fields.items())
        return f"{self.name.removeprefix('SPICE_MSG_')}{': ' if fields else ''}{fields}"


@dataclass(frozen=True)
class SpokenDifference:
    """One difference: of a field, or of a whole message (`field` is empty). None: the value or message is
    missing."""

    message: str
    field: str = ""
    recorded: str | None = None
    here: str | None = None

    def __str__(self) -> str:
        if not self.field:
            return f"{self.message} only {'here' if self.recorded is None else 'in the recording'}"
        old, new = ("nothing" if value is None else value for value in (self.recorded, self.here))
        return f"{self.message}: {self.field} is {old} in the recording, {new} here"


def compared(message: Message) -> bool:
    """Whether a message of a channel other than main is compared."""
    if message.sender is not Side.SERVER:
        return False
    first = message.channel == ChannelType.SPICE_CHANNEL_INPUTS and (
        message.type == MsgInputs.SPICE_MSG_INPUTS_INIT
    )
    return first or message.type in ON_EVERY_CHANNEL


def spoken(event: Message | LinkBytes) -> SpokenMessage:
    """A server's message or link packet, in the form that a replay compares."""
    name = event.name if isinstance(event, Message) else f"link {event.kind}"
    return SpokenMessage(name, dict(_fields(event.packet)))


def _fields(packet: Packet, path: str = "") -> Iterator[tuple[str, str]]:
    for one in packet.fields_desc:
        name = one.name
        if _aside(one) or packet.getfieldval(name) is None:
            continue
        value = packet.getfieldval(name)
        if isinstance(value, Packet):
            yield from _fields(value, f"{path}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Packet):
            parts = (f"({', '.join(f'{n} {v}' for n, v in _fields(part))})" for part in value)
            yield path + name, " ".join(parts)
        else:
            yield path + name, _readable(packet, one, value)
    if packet.payload and not isinstance(packet.payload, NoPayload):
        yield from _fields(packet.payload, f"{path}rest.")


def _aside(one: Field[Any, Any]) -> bool:
    name = one.name
    placed = name.endswith(PLACES) and name not in VALUES
    return name in VOLATILE or placed or isinstance(one, FieldLenField)


def _readable(packet: Packet, one: Field[Any, Any], value: Any) -> str:
    if isinstance(value, bytes):
        text = value.rstrip(b"\0")
        shown = visible(text.decode()) if text.isascii() and text.decode().isprintable() else value.hex()
    else:
        shown = visible(str(one.i2repr(packet, value)))
    return (shown[: LONGEST - 1] + "…" if len(shown) > LONGEST else shown) or "empty"


# ---- two accounts

#: A line of two accounts side by side: the recording's message, how the two compare, this run's message.
Line = tuple[SpokenMessage | None, str, SpokenMessage | None]
SAME, OTHERWISE, GONE, NEW = " ", "!", "<", ">"


def side_by_side(recorded: Sequence[SpokenMessage], here: Sequence[SpokenMessage]) -> Iterator[Line]:
    """Both accounts, each message beside its counterpart. Messages that the recorded client did not stay for
    are left out: the end of a link stage and a channel's first messages, if they come at the very end and
    only in this run."""
    lines = list(_lines(recorded, here))
    while lines and lines[-1][0] is None and lines[-1][2] and lines[-1][2].name in FIRST_WORDS:
        lines.pop()
    yield from lines


def _lines(recorded: Sequence[SpokenMessage], here: Sequence[SpokenMessage]) -> Iterator[Line]:
    names = [[said.name for said in account] for account in (recorded, here)]
    for kind, a, b, c, d in SequenceMatcher(None, names[0], names[1], autojunk=False).get_opcodes():
        if kind == "equal":
            for old, new in zip(recorded[a:b], here[c:d], strict=True):
                yield old, SAME if old == new else OTHERWISE, new
            continue
        for old in recorded[a:b]:
            yield old, GONE, None
        for new in here[c:d]:
            yield None, NEW, new


def differences(
    recorded: Sequence[SpokenMessage], here: Sequence[SpokenMessage]
) -> Iterator[SpokenDifference]:
    """The differences between the accounts, in order."""
    for old, mark, new in side_by_side(recorded, here):
        if new is None:
            assert old is not None
            yield SpokenDifference(old.name, recorded=old.words)
        elif old is None:
            yield SpokenDifference(new.name, here=new.words)
        elif mark is OTHERWISE:
            for path in dict.fromkeys((*old.fields, *new.fields)):
                values = old.fields.get(path), new.fields.get(path)
                if values[0] != values[1]:
                    yield SpokenDifference(old.name, path, *values)
