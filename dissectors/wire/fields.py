# SPDX-License-Identifier: GPL-2.0-only
"""Scapy fields that SPICE needs and Scapy does not have. Everything on the wire is little-endian."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from enum import IntEnum, IntFlag
from typing import Any

from scapy.fields import (
    ByteEnumField,
    Field,
    FieldListField,
    FlagsField,
    LEIntEnumField,
    LEIntField,
    LEShortEnumField,
    StrField,
)
from scapy.packet import Packet


def names(enum: type[IntEnum]) -> dict[int, str]:
    """{value: name} as Scapy's enum fields want it."""
    return {int(member): member.name for member in enum}


def enum8(name: str, default: int | None, enum: type[IntEnum]) -> Field[Any, Any]:
    """One byte of an enumeration."""
    return ByteEnumField(name, default, names(enum))


def enum16(name: str, default: int | None, enum: type[IntEnum]) -> Field[Any, Any]:
    """Two bytes, little-endian, of an enumeration."""
    return LEShortEnumField(name, default, names(enum))


def enum32(name: str, default: int | None, enum: type[IntEnum]) -> Field[Any, Any]:
    """Four bytes, little-endian, of an enumeration."""
    return LEIntEnumField(name, default, names(enum))


def flags(name: str, default: int, bits: int, enum: type[IntFlag]) -> Field[Any, Any]:
    """`bits` bits of flags, little-endian, shown by the enumeration's names."""
    known = {int(member): member.name or "" for member in enum}
    return FlagsField(
        name, default, -bits if bits > 8 else bits, [known.get(1 << b, f"bit{b}") for b in range(bits)]
    )


class NoteField(Field[str, str]):
    """A remark of the dissector's: shown, never on the wire."""

    def __init__(self, name: str, default: str) -> None:
        super().__init__(name, default, "0s")

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, str]:
        """Consumes nothing."""
        return s, self.default or ""

    def addfield(self, pkt: Packet, s: bytes, val: str | None) -> bytes:
        """Adds nothing."""
        return s


class CapsField(FieldListField):
    """Capability words: a list of uint32, little-endian, shown as the names of the bits that are set.

    `enum_of(packet)` gives the enumeration of bit numbers, or None where it is unknown.
    """

    __slots__ = ["enum_of"]

    def __init__(
        self,
        name: str,
        count_from: Callable[[Packet], int],
        enum_of: Callable[[Packet], type[IntEnum] | None],
    ) -> None:
        super().__init__(name, [], LEIntField("word", 0), count_from=count_from)
        self.enum_of = enum_of

    def i2repr(self, pkt: Packet, x: Any) -> str:
        """The names of the set bits."""
        return " ".join(cap_names(x or [], self.enum_of(pkt))) or "none"


def cap_bits(words: Iterable[int]) -> frozenset[int]:
    """Capability words to the numbers of the bits that are set."""
    return frozenset(32 * i + b for i, word in enumerate(words) for b in range(32) if word >> b & 1)


def cap_words(bits: Iterable[int]) -> list[int]:
    """Numbers of bits to capability words (as few as hold them)."""
    wanted = frozenset(bits)
    words = [0] * (max(wanted) // 32 + 1 if wanted else 0)
    for bit in wanted:
        words[bit // 32] |= 1 << bit % 32
    return words


def cap_names(words: Iterable[int], enum: type[IntEnum] | None) -> list[str]:
    """The names of the bits that are set, `bit N` where there is no name."""
    known = names(enum) if enum else {}
    return [known.get(bit, f"bit {bit}") for bit in sorted(cap_bits(words))]


class StringTailField(StrField):
    """All bytes after the fixed part: where the pointers of the fixed part lead to.

    None builds it from the packet's `PointedStringField`s, in their order, each followed by a NUL.
    """

    def __init__(self, name: str = "tail") -> None:
        super().__init__(name, None)

    def i2m(self, pkt: Packet, x: bytes | None) -> bytes:
        """The bytes themselves, or what the pointed fields hold."""
        return x if x is not None else b"".join(f.block(pkt) for f in _pointed(pkt))


class PointedStringField(Field[Any, Any]):
    """A string that lies elsewhere in the message: resolved from an offset and a size, no bytes here.

    Stands after the `StringTailField`. `size` and `offset` name the integer fields that point to it; the
    terminating NUL that some senders count and others do not is left out. Absent (offset 0 or size 0):
    None. A pointer that leaves the message gives None too, and `SpiceMessage.problems` reports it.
    """

    __slots__ = ["offset_field", "size_field"]

    def __init__(self, name: str, *, size: str, offset: str) -> None:
        super().__init__(name, None, "0s")
        self.size_field, self.offset_field = size, offset

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, bytes | None]:
        """Follows the pointer; consumes nothing."""
        start = fixed_length(pkt)
        offset, size = pkt.fields[self.offset_field], pkt.fields[self.size_field]
        tail = pkt.fields["tail"]
        if not offset or not size or self.problem(pkt):
            return s, None
        return s, bytes(tail[offset - start : offset - start + size]).split(b"\0", 1)[0]

    def addfield(self, pkt: Packet, s: bytes, val: Any) -> bytes:
        """Adds nothing: the bytes are in the tail."""
        return s

    def i2repr(self, pkt: Packet, x: Any) -> str:
        """The text as shown."""
        return "absent" if x is None else repr(bytes(x).decode("utf-8", "backslashreplace"))

    def any2i(self, pkt: Packet | None, x: Any) -> bytes | None:
        """Accepts text too."""
        return x.encode() if isinstance(x, str) else x

    def problem(self, pkt: Packet) -> str | None:
        """The pointer's problem, or None."""
        offset, size = pkt.fields.get(self.offset_field), pkt.fields.get(self.size_field)
        if not offset or not size:
            return None
        end = fixed_length(pkt) + len(pkt.fields.get("tail") or b"")
        if offset < fixed_length(pkt) or offset + size > end:
            return f"{self.name}: bytes {offset}..{offset + size} are outside the message's {end}"
        return None

    def block(self, pkt: Packet) -> bytes:
        """Its bytes in a tail that is built."""
        value = pkt.getfieldval(self.name)
        return b"" if value is None else value + b"\0"


class PointerSizeField(LEIntField):
    """Size of a pointed string, with its NUL; None computes it."""

    __slots__ = ["of"]

    def __init__(self, name: str, of: str) -> None:
        super().__init__(name, None)
        self.of = of

    def i2m(self, pkt: Packet, x: int | None) -> int:
        """The given size, or the one of what is pointed to."""
        return x if x is not None else len(_by_name(pkt, self.of).block(pkt))


class PointerOffsetField(LEIntField):
    """Offset of a pointed string from the start of the message body; None computes it (0: absent)."""

    __slots__ = ["of"]

    def __init__(self, name: str, of: str) -> None:
        super().__init__(name, None)
        self.of = of

    def i2m(self, pkt: Packet, x: int | None) -> int:
        """The given offset, or the one at which the tail will hold it."""
        if x is not None:
            return x
        offset = fixed_length(pkt)
        for field in _pointed(pkt):
            if field.name == self.of:
                return offset if field.block(pkt) else 0
            offset += len(field.block(pkt))
        return 0


def fixed_length(pkt: Packet) -> int:
    """Bytes before the tail."""
    length = 0
    for field in pkt.fields_desc:
        if isinstance(field, StringTailField):
            break
        length += struct.calcsize(field.fmt)
    return length


def _pointed(pkt: Packet) -> list[PointedStringField]:
    return [f for f in pkt.fields_desc if isinstance(f, PointedStringField)]


def _by_name(pkt: Packet, name: str) -> PointedStringField:
    return next(f for f in _pointed(pkt) if f.name == name)
