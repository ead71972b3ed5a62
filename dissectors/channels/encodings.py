# SPDX-License-Identifier: GPL-2.0-only
"""The headers of encoded images: QUIC, LZ, GLZ and LZ4. What follows them stays bytes.

Source: the encoders of spice-common and of the server; spice.proto says no more than the length.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from scapy.fields import (
    BitEnumField,
    BitField,
    ByteField,
    FieldLenField,
    IntEnumField,
    IntField,
    LEIntField,
    LongField,
    StrFixedLenField,
    XIntField,
    XLEIntField,
)
from scapy.packet import Packet

from dissectors.wire.enums import BitmapFmt
from dissectors.wire.fields import enum8, enum32, names
from dissectors.wire.struct_fields import RestField, UnionField
from dissectors.wire.structs import Struct

LZ_MAGIC = b"  ZL"
QUIC_MAGIC = b"QUIC"


class QuicImageType(IntEnum):
    """Pixels of a QUIC stream (quic.h)."""

    QUIC_IMAGE_TYPE_INVALID = 0
    QUIC_IMAGE_TYPE_GRAY = 1
    QUIC_IMAGE_TYPE_RGB16 = 2
    QUIC_IMAGE_TYPE_RGB24 = 3
    QUIC_IMAGE_TYPE_RGB32 = 4
    QUIC_IMAGE_TYPE_RGBA = 5


class LzImageType(IntEnum):
    """Pixels of an LZ or GLZ stream (lz_common.h)."""

    LZ_IMAGE_TYPE_INVALID = 0
    LZ_IMAGE_TYPE_PLT1_LE = 1
    LZ_IMAGE_TYPE_PLT1_BE = 2
    LZ_IMAGE_TYPE_PLT4_LE = 3
    LZ_IMAGE_TYPE_PLT4_BE = 4
    LZ_IMAGE_TYPE_PLT8 = 5
    LZ_IMAGE_TYPE_RGB16 = 6
    LZ_IMAGE_TYPE_RGB24 = 7
    LZ_IMAGE_TYPE_RGB32 = 8
    LZ_IMAGE_TYPE_RGBA = 9
    LZ_IMAGE_TYPE_XXXA = 10
    LZ_IMAGE_TYPE_A8 = 11


class QuicStream(Struct):
    """Words, little-endian."""

    fields_desc = [
        StrFixedLenField("magic", QUIC_MAGIC, 4),
        XLEIntField("version", 0),
        enum32("type", 0, QuicImageType),
        LEIntField("width", 0),
        LEIntField("height", 0),
        RestField("data"),
    ]


class LzStream(Struct):
    """Numbers in network order; `stride` in bytes."""

    fields_desc = [
        StrFixedLenField("magic", LZ_MAGIC, 4),
        XIntField("version", 0x10001),
        IntEnumField("type", 0, names(LzImageType)),
        IntField("width", 0),
        IntField("height", 0),
        IntField("stride", 0),
        IntField("top_down", 0),
        RestField("data"),
    ]


class GlzStream(Struct):
    """Numbers in network order; `image_id` counts the images of the dictionary."""

    fields_desc = [
        StrFixedLenField("magic", LZ_MAGIC, 4),
        XIntField("version", 0x10001),
        BitField("top_down", 0, 4),
        BitEnumField("type", 0, 4, names(LzImageType)),
        IntField("width", 0),
        IntField("height", 0),
        IntField("stride", 0),
        LongField("image_id", 0),
        IntField("window_head_distance", 0),
        RestField("data"),
    ]


class Lz4Stream(Struct):
    """Blocks, each after its length (u32 in network order)."""

    fields_desc = [ByteField("top_down", 0), enum8("format", 0, BitmapFmt), RestField("data")]


class EncodedStream(Struct):
    """No header that is known."""

    fields_desc = [RestField("data")]


def stream(cls: type[Struct]) -> list[Any]:
    """The length of a stream, and the stream; one without the header that is due stays bytes."""
    due = cls()
    magic = due.getfieldval("magic") if "magic" in due.default_fields else b""

    def choose(packet: Packet, s: bytes) -> type[Struct]:
        return cls if not s or (s.startswith(magic) and len(s) >= len(due)) else EncodedStream

    return [
        FieldLenField("data_size", None, length_of="data", fmt="<I"),
        UnionField("data", choose, length_from=lambda p: p.data_size),
    ]
