# SPDX-License-Identifier: GPL-2.0-only
# scapy.contrib.description = SPICE drawing commands
# scapy.contrib.status = library
"""What drawing commands consist of, and the DRAW_* messages of the display channel (spice.proto)."""

from collections.abc import Callable

from scapy.fields import (
    ByteField,
    ConditionalField,
    FieldLenField,
    FieldListField,
    LEIntField,
    LEShortField,
    LESignedIntField,
    XLEIntField,
)
from scapy.packet import Packet

from dissectors.channels.image import SpiceImage, image_size
from dissectors.wire.constants import ChannelType, MsgDisplay
from dissectors.wire.enums import (
    AlphaFlags,
    BrushType,
    ClipType,
    CompositeFlags,
    ImageScaleMode,
    LineFlags,
    MaskFlags,
    PathFlags,
    Ropd,
    StringFlags,
)
from dissectors.wire.fields import enum8, flags
from dissectors.wire.geometry import SpicePoint, SpicePoint16, SpicePointFix, SpiceRect, SpiceTransform
from dissectors.wire.message import message
from dissectors.wire.struct_fields import (
    BulkField,
    PartField,
    PartListField,
    TailField,
    UnionField,
    by_type,
    pointer,
)
from dissectors.wire.structs import Struct, StructMessage

DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY


def has(mask: int, field: str = "flags") -> Callable[[Packet], bool]:
    """The condition that a flag is set."""
    return lambda p: bool(int(p.getfieldval(field)) & mask)


class SpiceClipRects(Struct):
    """The rectangles inside which something is drawn."""

    fields_desc = [
        FieldLenField("num_rects", None, count_of="rects", fmt="<I"),
        PartListField("rects", SpiceRect, count_from=lambda p: p.num_rects),
    ]


class SpiceClip(Struct):
    """Nothing, or rectangles."""

    fields_desc = [
        enum8("type", 0, ClipType),
        UnionField("rects", by_type({ClipType.SPICE_CLIP_TYPE_RECTS: SpiceClipRects}, "type")),
    ]


class SpiceDisplayBase(Struct):
    """Where something is drawn: a surface, a rectangle of it, a clip."""

    fields_desc = [LEIntField("surface_id", 0), PartField("box", SpiceRect), PartField("clip", SpiceClip)]


class SpicePattern(Struct):
    """A brush that is an image, and its origin."""

    fields_desc = [*pointer("pat", SpiceImage), PartField("pos", SpicePoint)]


class SpiceSolid(Struct):
    """A brush of one colour, 0x00RRGGBB."""

    fields_desc = [XLEIntField("color", 0)]


class SpiceBrush(Struct):
    """Nothing, a colour, or a pattern."""

    fields_desc = [
        enum8("type", 0, BrushType),
        UnionField(
            "content",
            by_type(
                {
                    BrushType.SPICE_BRUSH_TYPE_SOLID: SpiceSolid,
                    BrushType.SPICE_BRUSH_TYPE_PATTERN: SpicePattern,
                },
                "type",
            ),
        ),
    ]


class SpiceQMask(Struct):
    """A one-bit image that says where to draw; absent: everywhere."""

    fields_desc = [
        flags("flags", 0, 8, MaskFlags),
        PartField("pos", SpicePoint),
        *pointer("bitmap", SpiceImage),
    ]


class SpicePathSegment(Struct):
    """Points of a line or of Bezier curves."""

    fields_desc = [
        flags("flags", 0, 8, PathFlags),
        FieldLenField("count", None, count_of="points", fmt="<I"),
        PartListField("points", SpicePointFix, count_from=lambda p: p.count),
    ]


class SpicePath(Struct):
    """Segments, one after the other."""

    fields_desc = [
        FieldLenField("num_segments", None, count_of="segments", fmt="<I"),
        PartListField(
            "segments",
            SpicePathSegment,
            count_from=lambda p: p.num_segments,
            span=lambda p, s, at: 5 + 8 * int.from_bytes(s[at + 1 : at + 5], "little"),
        ),
    ]


class SpiceLineStyle(Struct):
    """Lengths of dashes and gaps, fixed point: 1/16 pixels."""

    fields_desc = [
        FieldListField("lengths", [], LESignedIntField("length", 0), count_from=lambda p: p.parent.style_nseg)
    ]


_STYLED = has(LineFlags.SPICE_LINE_FLAGS_STYLED)


class SpiceLineAttr(Struct):
    """How a line is dashed."""

    fields_desc = [
        flags("flags", 0, 8, LineFlags),
        ConditionalField(ByteField("style_nseg", 0), _STYLED),
        *(ConditionalField(field, _STYLED) for field in pointer("style", SpiceLineStyle)),
    ]


#: Bits of a pixel of a glyph.
GLYPH_BITS = {
    StringFlags.SPICE_STRING_FLAGS_RASTER_A1: 1,
    StringFlags.SPICE_STRING_FLAGS_RASTER_A4: 4,
    StringFlags.SPICE_STRING_FLAGS_RASTER_A8: 8,
}


def glyph_bits(string: Packet) -> int:
    """Bits of a pixel of the string's glyphs: 0 if its flags name no kind."""
    return next((bits for flag, bits in GLYPH_BITS.items() if int(string.flags) & flag), 0)


class SpiceRasterGlyph(Struct):
    """One glyph and where it goes."""

    fields_desc = [
        PartField("render_pos", SpicePoint),
        PartField("glyph_origin", SpicePoint),
        LEShortField("width", 0),
        LEShortField("height", 0),
        BulkField("data", b"", length_from=lambda p: image_size(glyph_bits(p.parent), p.width, p.height)),
    ]


def _glyph_span(string: Packet, s: bytes, at: int) -> int:
    width, height = (int.from_bytes(s[at + n : at + n + 2], "little") for n in (16, 18))
    return 20 + image_size(glyph_bits(string), width, height)


class SpiceString(Struct):
    """Glyphs, one after the other; `length` of them."""

    fields_desc = [
        FieldLenField("length", None, count_of="glyphs", fmt="<H"),
        flags("flags", 0, 8, StringFlags),
        PartListField(
            "glyphs",
            SpiceRasterGlyph,
            count_from=lambda p: p.length if glyph_bits(p) else 0,
            span=_glyph_span,
        ),
    ]


def _base() -> PartField:
    return PartField("base", SpiceDisplayBase)


def _source() -> list[object]:
    return [*pointer("src_bitmap", SpiceImage), PartField("src_area", SpiceRect)]


def _rop_and_mask() -> list[object]:
    return [
        flags("rop_descriptor", 0, 16, Ropd),
        enum8("scale_mode", 0, ImageScaleMode),
        PartField("mask", SpiceQMask),
        TailField(),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_FILL, DISPLAY)
class SpiceMsgDisplayDrawFill(StructMessage):
    """A brush into the box."""

    fields_desc = [
        _base(),
        PartField("brush", SpiceBrush),
        flags("rop_descriptor", 0, 16, Ropd),
        PartField("mask", SpiceQMask),
        TailField(),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_OPAQUE, DISPLAY)
class SpiceMsgDisplayDrawOpaque(StructMessage):
    """An image with a brush over it."""

    fields_desc = [_base(), *_source(), PartField("brush", SpiceBrush), *_rop_and_mask()]


@message(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_COPY, DISPLAY)
class SpiceMsgDisplayDrawCopy(StructMessage):
    """A part of an image into the box."""

    fields_desc = [_base(), *_source(), *_rop_and_mask()]


@message(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_BLEND, DISPLAY)
class SpiceMsgDisplayDrawBlend(StructMessage):
    """A part of an image, combined with what is there."""

    fields_desc = [_base(), *_source(), *_rop_and_mask()]


class _Mask(StructMessage):
    fields_desc = [_base(), PartField("mask", SpiceQMask), TailField()]


@message(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_BLACKNESS, DISPLAY)
class SpiceMsgDisplayDrawBlackness(_Mask):
    """Black."""


@message(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_WHITENESS, DISPLAY)
class SpiceMsgDisplayDrawWhiteness(_Mask):
    """White."""


@message(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_INVERS, DISPLAY)
class SpiceMsgDisplayDrawInvers(_Mask):
    """The inverse of what is there."""


@message(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_ROP3, DISPLAY)
class SpiceMsgDisplayDrawRop3(StructMessage):
    """Image, brush and what is there, combined by a ternary raster operation."""

    fields_desc = [
        _base(),
        *_source(),
        PartField("brush", SpiceBrush),
        ByteField("rop3", 0),
        enum8("scale_mode", 0, ImageScaleMode),
        PartField("mask", SpiceQMask),
        TailField(),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_STROKE, DISPLAY)
class SpiceMsgDisplayDrawStroke(StructMessage):
    """A path."""

    fields_desc = [
        _base(),
        *pointer("path", SpicePath),
        PartField("attr", SpiceLineAttr),
        PartField("brush", SpiceBrush),
        flags("fore_mode", 0, 16, Ropd),
        flags("back_mode", 0, 16, Ropd),
        TailField(),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_TEXT, DISPLAY)
class SpiceMsgDisplayDrawText(StructMessage):
    """Glyphs."""

    fields_desc = [
        _base(),
        *pointer("str", SpiceString),
        PartField("back_area", SpiceRect),
        PartField("fore_brush", SpiceBrush),
        PartField("back_brush", SpiceBrush),
        flags("fore_mode", 0, 16, Ropd),
        flags("back_mode", 0, 16, Ropd),
        TailField(),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_TRANSPARENT, DISPLAY)
class SpiceMsgDisplayDrawTransparent(StructMessage):
    """A part of an image without one of its colours (0x00RRGGBB)."""

    fields_desc = [
        _base(),
        *_source(),
        XLEIntField("src_color", 0),
        XLEIntField("true_color", 0),
        TailField(),
    ]


@message(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_ALPHA_BLEND, DISPLAY)
class SpiceMsgDisplayDrawAlphaBlend(StructMessage):
    """A part of an image, let through by `alpha` of 255."""

    fields_desc = [
        _base(),
        flags("alpha_flags", 0, 8, AlphaFlags),
        ByteField("alpha", 0),
        *_source(),
        TailField(),
    ]


_MASKED = has(CompositeFlags.SPICE_COMPOSITE_HAS_MASK)


@message(MsgDisplay.SPICE_MSG_DISPLAY_DRAW_COMPOSITE, DISPLAY)
class SpiceMsgDisplayDrawComposite(StructMessage):
    """The X Render operation: source, mask and what is there."""

    fields_desc = [
        _base(),
        flags("flags", 0, 32, CompositeFlags),
        *pointer("src_bitmap", SpiceImage),
        *(ConditionalField(field, _MASKED) for field in pointer("mask_bitmap", SpiceImage)),
        ConditionalField(
            PartField("src_transform", SpiceTransform), has(CompositeFlags.SPICE_COMPOSITE_HAS_SRC_TRANSFORM)
        ),
        ConditionalField(
            PartField("mask_transform", SpiceTransform),
            has(CompositeFlags.SPICE_COMPOSITE_HAS_MASK_TRANSFORM),
        ),
        PartField("src_origin", SpicePoint16),
        PartField("mask_origin", SpicePoint16),
        TailField(),
    ]
