# SPDX-License-Identifier: GPL-2.0-only
"""Images down to the headers of their encodings (spice.proto, Image); pixels stay bytes."""

from scapy.fields import (
    ConditionalField,
    Field,
    FieldLenField,
    FieldListField,
    LEIntField,
    XLEIntField,
    XLELongField,
)
from scapy.packet import Packet

from dissectors.channels.encodings import EncodedStream, GlzStream, Lz4Stream, LzStream, QuicStream, stream
from dissectors.wire.enums import BitmapFlags, BitmapFmt, ImageFlags, ImageType, JpegAlphaFlags
from dissectors.wire.fields import enum8, flags
from dissectors.wire.struct_fields import BulkField, UnionField, by_type, pointer
from dissectors.wire.structs import Struct


def image_size(bits: int, width: int, height: int) -> int:
    """Bytes of `height` rows of `width` pixels of `bits` bits, each row padded to whole bytes."""
    return (bits * width + 7) // 8 * height


class SpicePalette(Struct):
    """Colours of an indexed image, 0x00RRGGBB; `unique` is its id in the palette cache."""

    fields_desc = [
        XLELongField("unique", 0),
        FieldLenField("num_ents", None, count_of="ents", fmt="<H"),
        FieldListField("ents", [], XLEIntField("colour", 0), count_from=lambda p: p.num_ents),
    ]


def _from_cache(packet: Packet) -> bool:
    return bool(int(packet.flags) & BitmapFlags.SPICE_BITMAP_FLAGS_PAL_FROM_CACHE)


def _palette() -> list[Field]:
    """The id of a palette in the cache, or a pointer to a palette."""
    return [
        ConditionalField(XLELongField("palette_id", 0), _from_cache),
        *(
            ConditionalField(field, lambda p: not _from_cache(p))
            for field in pointer("palette", SpicePalette)
        ),
    ]


class SpiceBitmap(Struct):
    """Pixels as they are; `stride` bytes a row, `x` by `y` pixels."""

    fields_desc = [
        enum8("format", 0, BitmapFmt),
        flags("flags", 0, 8, BitmapFlags),
        LEIntField("x", 0),
        LEIntField("y", 0),
        LEIntField("stride", 0),
        *_palette(),
        BulkField("data", b"", length_from=lambda p: image_size(8, p.stride, p.y)),
    ]


class SpiceQUICData(Struct):
    """A QUIC stream."""

    fields_desc = stream(QuicStream)


class SpiceLZRGBData(Struct):
    """An LZ stream."""

    fields_desc = stream(LzStream)


class SpiceGLZRGBData(Struct):
    """A GLZ stream: LZ that refers to earlier images."""

    fields_desc = stream(GlzStream)


class SpiceLZ4Data(Struct):
    """An LZ4 stream."""

    fields_desc = stream(Lz4Stream)


class SpiceJPEGData(Struct):
    """A JPEG stream."""

    fields_desc = stream(EncodedStream)


_SIZE, _STREAM = stream(LzStream)


class SpiceLZPLTData(Struct):
    """An LZ stream of an indexed image."""

    fields_desc = [
        flags("flags", 0, 8, BitmapFlags),
        _SIZE,
        *_palette(),
        _STREAM,
    ]


class SpiceZlibGlzRGBData(Struct):
    """A GLZ stream of `glz_data_size` bytes, compressed by zlib."""

    fields_desc = [
        LEIntField("glz_data_size", 0),
        FieldLenField("data_size", None, length_of="data", fmt="<I"),
        BulkField("data", b"", length_from=lambda p: p.data_size),
    ]


class SpiceJPEGAlphaData(Struct):
    """A JPEG stream of `jpeg_size` bytes, then an LZ stream of the alpha channel."""

    fields_desc = [
        flags("flags", 0, 8, JpegAlphaFlags),
        LEIntField("jpeg_size", 0),
        FieldLenField("data_size", None, length_of="data", fmt="<I"),
        BulkField("data", b"", length_from=lambda p: p.data_size),
    ]


class SpiceSurface(Struct):
    """An image that is another surface's contents."""

    fields_desc = [LEIntField("surface_id", 0)]


#: Images from the cache have no more than their descriptor.
IMAGES = {
    ImageType.SPICE_IMAGE_TYPE_BITMAP: SpiceBitmap,
    ImageType.SPICE_IMAGE_TYPE_QUIC: SpiceQUICData,
    ImageType.SPICE_IMAGE_TYPE_LZ_PLT: SpiceLZPLTData,
    ImageType.SPICE_IMAGE_TYPE_LZ_RGB: SpiceLZRGBData,
    ImageType.SPICE_IMAGE_TYPE_GLZ_RGB: SpiceGLZRGBData,
    ImageType.SPICE_IMAGE_TYPE_SURFACE: SpiceSurface,
    ImageType.SPICE_IMAGE_TYPE_JPEG: SpiceJPEGData,
    ImageType.SPICE_IMAGE_TYPE_ZLIB_GLZ_RGB: SpiceZlibGlzRGBData,
    ImageType.SPICE_IMAGE_TYPE_JPEG_ALPHA: SpiceJPEGAlphaData,
    ImageType.SPICE_IMAGE_TYPE_LZ4: SpiceLZ4Data,
}


class SpiceImage(Struct):
    """The descriptor (`id` in the pixmap cache, width and height in pixels), then what the type says."""

    fields_desc = [
        XLELongField("id", 0),
        enum8("type", 0, ImageType),
        flags("flags", 0, 8, ImageFlags),
        LEIntField("width", 0),
        LEIntField("height", 0),
        UnionField("content", by_type(IMAGES, "type")),
    ]
