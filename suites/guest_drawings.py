# SPDX-License-Identifier: GPL-2.0-only
"""Every way in which a guest can draw: what it writes into its memory, what the client must get (spice.proto,
DRAW_*), and which colours the guest must find on its screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from struct import pack

from dissectors.wire.constants import MsgDisplay
from dissectors.wire.enums import BitmapFmt, BrushType, CompositeFlags, ImageType, Ropd, StringFlags
from suites.guest_pieces import (
    ALPHA,
    AREA,
    COLOURS,
    DASHES,
    FIXED,
    FROM_BELOW,
    FROM_X,
    FROM_Y,
    GLYPH,
    HEIGHT,
    IN_CHUNKS,
    INVERTED,
    MATRIX,
    NO_MASK,
    ORIGINS,
    PLACES,
    SOURCE,
    SOURCE_HEIGHT,
    SOURCE_WIDTH,
    TILE,
    TILE_X,
    TILE_Y,
    TOP_DOWN,
    TRIPLES,
    WIDTH,
    WORDS,
    Colours,
    Piece,
    alphas,
    bits,
    cut,
    mask_at,
    masked,
    of_palette,
    path,
    pattern_brush,
    solid,
    source,
    text,
    tile,
)

BLEND, OPAQUE = 0, 1  # qxl_dev.h, QXLEffectType: whether what was there still matters
PUT, XOR = int(Ropd.SPICE_ROPD_OP_PUT), int(Ropd.SPICE_ROPD_OP_XOR)
#: The screen before a drawing, and a brush.
BACK, BRUSH = 0x204060, 0x5A3C96
#: What is taken from the screen is the box so many rows above: that of the drawing before.
ABOVE = 20
WHOLE = pack("<4i", 0, 0, HEIGHT, WIDTH)  # QXLRect of what is taken
HALF = 0x80  # of 255
#: All three, exclusively combined: the last byte of a Windows ternary raster operation.
ROP3_XOR = 0x96
#: A composition that puts the source in place of what is there (QXL_OP_SOURCE), and where both begin.
COMPOSE_SOURCE = 1
EVERYTHING_ELSE = int(
    CompositeFlags.SPICE_COMPOSITE_HAS_MASK
    | CompositeFlags.SPICE_COMPOSITE_HAS_SRC_TRANSFORM
    | CompositeFlags.SPICE_COMPOSITE_HAS_MASK_TRANSFORM
)


class Qxl(IntEnum):
    """qxl_dev.h, QXL_DRAW_*."""

    FILL, OPAQUE, COPY, COPY_BITS, BLEND, BLACKNESS, WHITENESS, INVERS = range(1, 9)
    ROP3, STROKE, TEXT, TRANSPARENT, ALPHA_BLEND, COMPOSITE = range(9, 15)


@dataclass(frozen=True)
class Drawing:
    """`memory`: the drawing's own part of QXLDrawable. `fields`: of the client's message, by their path.
    `colours`: of the box afterwards, for the tests that read it; `near`: by how much each may differ.
    `above`: its source is the screen itself, the box ABOVE."""

    kind: Qxl
    message: MsgDisplay
    memory: Piece
    fields: Mapping[str, object]
    colours: Colours | None = None
    effect: int = OPAQUE
    near: int = 0
    above: bool = False


def _picture(name: str, colours: Colours, width: int, height: int) -> dict[str, object]:
    """The fields of an image that is not compressed."""
    pixels = b"".join(pack("<I", colours(x, y)) for y in range(height) for x in range(width))
    return {
        f"{name}.type": int(ImageType.SPICE_IMAGE_TYPE_BITMAP),
        f"{name}.width": width,
        f"{name}.height": height,
        f"{name}.content.format": int(BitmapFmt.SPICE_BITMAP_FMT_32BIT),
        f"{name}.content.flags": TOP_DOWN,
        f"{name}.content.stride": 4 * width,
        f"{name}.content.data": pixels,
    }


IS_SOURCE = {
    **_picture("src_bitmap", source, SOURCE_WIDTH, SOURCE_HEIGHT),
    "src_area.left": FROM_X,
    "src_area.top": FROM_Y,
    "src_area.right": FROM_X + WIDTH,
    "src_area.bottom": FROM_Y + HEIGHT,
}
IS_MASK = {
    "mask.pos.x": FROM_X,
    "mask.pos.y": FROM_Y,
    "mask.bitmap.type": int(ImageType.SPICE_IMAGE_TYPE_BITMAP),
    "mask.bitmap.content.format": int(BitmapFmt.SPICE_BITMAP_FMT_1BIT_BE),
    "mask.bitmap.content.stride": 2,
    "mask.bitmap.content.data": bits(),
}
IS_COMPOSED = {name: due for name, due in IS_SOURCE.items() if name.startswith("src_bitmap")}
UNMASKED = {"mask.flags": 0, "mask.bitmap": None}


def _is_solid(name: str, colour: int) -> dict[str, object]:
    return {f"{name}.type": int(BrushType.SPICE_BRUSH_TYPE_SOLID), f"{name}.content.color": colour}


def _is_pattern(name: str) -> dict[str, object]:
    return {
        f"{name}.type": int(BrushType.SPICE_BRUSH_TYPE_PATTERN),
        f"{name}.content.pos.x": TILE_X,
        f"{name}.content.pos.y": TILE_Y,
        **_picture(f"{name}.content.pat", tile, TILE, TILE),
    }


def stored(form: BitmapFmt, data: bytes) -> dict[str, object]:
    """The fields of a source that is stored in another form."""
    return {"src_bitmap.content.format": int(form), "src_bitmap.content.data": data}


def five_bits(x: int, y: int) -> int:
    """The colour of a pixel of WORDS: each 5 bits, whose highest three fill up the byte."""
    return sum((v << 3 | v >> 2) << n for v, n in ((x, 0), (y, 8), (x ^ y, 16)))


def _exclusive(*values: int) -> int:
    result = 0
    for value in values:
        result ^= value
    return result


def _half(above: int, below: int) -> int:
    """Half of one colour over another, component by component."""
    shifts = (0, 8, 16)
    mixed = (
        ((above >> n & 255) * HALF + (below >> n & 255) * (255 - HALF) + 127) // 255 << n for n in shifts
    )
    return sum(mixed)


FAR_SIDE = 24  # of the off-screen surface that is copied
#: A copy of a part of the off-screen surface 1.
FROM_SURFACE = Drawing(
    Qxl.COPY,
    MsgDisplay.SPICE_MSG_DISPLAY_DRAW_COPY,
    Piece(
        Piece(pack("<QBBIII", 1 | 11 << 32, ImageType.SPICE_IMAGE_TYPE_SURFACE, 0, FAR_SIDE, FAR_SIDE, 1)),
        AREA,
        pack("<HB", PUT, 0),
        *NO_MASK,
    ),
    {
        "src_bitmap.type": int(ImageType.SPICE_IMAGE_TYPE_SURFACE),
        "src_bitmap.content.surface_id": 1,
        "src_area.left": FROM_X,
        "src_area.bottom": FROM_Y + HEIGHT,
    },
)


def drawings(left: int, top: int) -> dict[str, Drawing]:
    """Each drawing for a box whose upper left corner is there, by name."""
    rop_put, rop_xor = pack("<HB", PUT, 0), pack("<HB", XOR, 0)
    x0, y0 = left - TILE_X, top - TILE_Y

    def pattern(x: int, y: int) -> int:
        return tile((x + x0) % TILE, (y + y0) % TILE)

    def within(colours: Colours, bit: bool = True) -> Colours:
        return lambda x, y: colours(x, y) if masked(x + FROM_X, y + FROM_Y) == bit else BACK

    M = MsgDisplay  # noqa: N806
    line = {
        "path.segments.0.count": 2,
        "path.segments.0.points.0.x": left * FIXED,
        "path.segments.0.points.1.x": (left + WIDTH) * FIXED,
        "path.segments.0.points.1.y": (top + 1) * FIXED,
        "fore_mode": PUT,
        "back_mode": XOR,
    }
    modes = pack("<HH", PUT, XOR)
    return {
        "fill with a pattern": Drawing(
            Qxl.FILL,
            M.SPICE_MSG_DISPLAY_DRAW_FILL,
            Piece(*pattern_brush(), pack("<H", PUT), *NO_MASK),
            {**_is_pattern("brush"), "rop_descriptor": PUT, **UNMASKED},
            pattern,
        ),
        "fill within a mask": Drawing(
            Qxl.FILL,
            M.SPICE_MSG_DISPLAY_DRAW_FILL,
            Piece(*solid(BRUSH), pack("<H", PUT), *mask_at(INVERTED)),
            {**_is_solid("brush", BRUSH), "mask.flags": INVERTED, **IS_MASK},
            within(lambda x, y: BRUSH, bit=False),
            BLEND,
        ),
        "opaque": Drawing(
            Qxl.OPAQUE,
            M.SPICE_MSG_DISPLAY_DRAW_OPAQUE,
            Piece(SOURCE, AREA, *pattern_brush(), rop_xor, *NO_MASK),
            {**IS_SOURCE, **_is_pattern("brush"), "rop_descriptor": XOR, "scale_mode": 0, **UNMASKED},
            lambda x, y: cut(x, y) ^ pattern(x, y),
        ),
        "copy within a mask": Drawing(
            Qxl.COPY,
            M.SPICE_MSG_DISPLAY_DRAW_COPY,
            Piece(SOURCE, AREA, rop_put, *mask_at(0)),
            {**IS_SOURCE, "rop_descriptor": PUT, "mask.flags": 0, **IS_MASK},
            within(cut),
            BLEND,
        ),
        "copy of 5 bits a colour, from below": Drawing(
            Qxl.COPY,
            M.SPICE_MSG_DISPLAY_DRAW_COPY,
            Piece(FROM_BELOW, AREA, rop_put, *NO_MASK),
            {**stored(BitmapFmt.SPICE_BITMAP_FMT_16BIT, WORDS), "src_bitmap.content.flags": 0},
            lambda x, y: five_bits(x + FROM_X, y + FROM_Y),
        ),
        "copy of three bytes a pixel, in two chunks": Drawing(
            Qxl.COPY,
            M.SPICE_MSG_DISPLAY_DRAW_COPY,
            Piece(IN_CHUNKS, AREA, rop_put, *NO_MASK),
            {**stored(BitmapFmt.SPICE_BITMAP_FMT_24BIT, TRIPLES), "src_bitmap.content.flags": TOP_DOWN},
            cut,
        ),
        "copy with a palette": Drawing(
            Qxl.COPY,
            M.SPICE_MSG_DISPLAY_DRAW_COPY,
            Piece(of_palette(14, 0), AREA, rop_put, *NO_MASK),
            {
                **stored(BitmapFmt.SPICE_BITMAP_FMT_8BIT, PLACES),
                "src_bitmap.content.flags": TOP_DOWN,
                "src_bitmap.content.palette.ents": list(COLOURS),
            },
            lambda x, y: COLOURS[(x + FROM_X + y + FROM_Y) % len(COLOURS)],
        ),
        "blend": Drawing(
            Qxl.BLEND,
            M.SPICE_MSG_DISPLAY_DRAW_BLEND,
            Piece(SOURCE, AREA, rop_xor, *NO_MASK),
            {**IS_SOURCE, "rop_descriptor": XOR, "scale_mode": 0, **UNMASKED},
            lambda x, y: cut(x, y) ^ BACK,
            BLEND,
        ),
        "copy of the screen": Drawing(
            Qxl.COPY_BITS,
            M.SPICE_MSG_DISPLAY_COPY_BITS,
            Piece(pack("<ii", left, top - ABOVE)),
            {"src_pos.x": left, "src_pos.y": top - ABOVE},
            lambda x, y: cut(x, y) ^ BACK,
        ),
        "ternary operation with the screen": Drawing(
            Qxl.ROP3,
            M.SPICE_MSG_DISPLAY_DRAW_ROP3,
            Piece(None, WHOLE, *pattern_brush(), pack("<BB", ROP3_XOR, 0), *NO_MASK),
            {**_picture("src_bitmap", cut, WIDTH, HEIGHT), **_is_pattern("brush"), "rop3": ROP3_XOR},
            lambda x, y: _exclusive(cut(x, y) ^ BACK, pattern(x, y), BACK),
            BLEND,
            above=True,
        ),
        "blackness": Drawing(
            Qxl.BLACKNESS,
            M.SPICE_MSG_DISPLAY_DRAW_BLACKNESS,
            Piece(*mask_at(0)),
            {"mask.flags": 0, **IS_MASK},
            within(lambda x, y: 0),
            BLEND,
        ),
        "whiteness": Drawing(
            Qxl.WHITENESS,
            M.SPICE_MSG_DISPLAY_DRAW_WHITENESS,
            Piece(*mask_at(0)),
            {"mask.flags": 0, **IS_MASK},
            within(lambda x, y: 0xFFFFFF),
            BLEND,
        ),
        "invers": Drawing(
            Qxl.INVERS,
            M.SPICE_MSG_DISPLAY_DRAW_INVERS,
            Piece(*mask_at(0)),
            {"mask.flags": 0, **IS_MASK},
            within(lambda x, y: BACK ^ 0xFFFFFF),
            BLEND,
        ),
        "ternary operation": Drawing(
            Qxl.ROP3,
            M.SPICE_MSG_DISPLAY_DRAW_ROP3,
            Piece(SOURCE, AREA, *pattern_brush(), pack("<BB", ROP3_XOR, 0), *NO_MASK),
            {**IS_SOURCE, **_is_pattern("brush"), "rop3": ROP3_XOR, **UNMASKED},
            lambda x, y: _exclusive(cut(x, y), pattern(x, y), BACK),
            BLEND,
        ),
        "stroke": Drawing(
            Qxl.STROKE,
            M.SPICE_MSG_DISPLAY_DRAW_STROKE,
            Piece(path(left, top), bytes(12), None, *solid(BRUSH), modes),
            {**line, "attr.flags": 0, **_is_solid("brush", BRUSH)},
            lambda x, y: BRUSH if y == 1 else BACK,
            BLEND,
        ),
        "dashed stroke": Drawing(
            Qxl.STROKE,
            M.SPICE_MSG_DISPLAY_DRAW_STROKE,
            Piece(
                path(left, top),
                pack("<BBBBii", 8, 0, 0, len(DASHES), 0, 0),
                Piece(pack("<3i", *DASHES)),
                *solid(BRUSH),
                modes,
            ),
            {**line, "attr.flags": 8, "attr.style_nseg": 3, "attr.style.lengths": list(DASHES)},
            None,
            BLEND,
        ),
        "text": Drawing(
            Qxl.TEXT,
            M.SPICE_MSG_DISPLAY_DRAW_TEXT,
            Piece(text(left, top), bytes(16), *solid(BRUSH), *solid(BACK), modes),
            {
                "str.flags": int(StringFlags.SPICE_STRING_FLAGS_RASTER_A1),
                "str.glyphs.0.render_pos.x": left + 1,
                "str.glyphs.0.render_pos.y": top + 2,
                "str.glyphs.0.glyph_origin.x": -1,
                "str.glyphs.0.glyph_origin.y": -2,
                "str.glyphs.0.width": WIDTH,
                "str.glyphs.0.data": GLYPH,
                **_is_solid("fore_brush", BRUSH),
                **_is_solid("back_brush", BACK),
                "fore_mode": PUT,
                "back_mode": XOR,
            },
            lambda x, y: BRUSH if masked(x, y) else BACK,
            BLEND,
        ),
        "transparent": Drawing(
            Qxl.TRANSPARENT,
            M.SPICE_MSG_DISPLAY_DRAW_TRANSPARENT,
            Piece(SOURCE, AREA, pack("<II", 0x12345, cut(2, 1))),
            {**IS_SOURCE, "src_color": 0x12345, "true_color": cut(2, 1)},
            lambda x, y: BACK if (x, y) == (2, 1) else cut(x, y),
            BLEND,
        ),
        "alpha blend": Drawing(
            Qxl.ALPHA_BLEND,
            M.SPICE_MSG_DISPLAY_DRAW_ALPHA_BLEND,
            Piece(pack("<HB", 0, HALF), SOURCE, AREA),
            {**IS_SOURCE, "alpha": HALF, "alpha_flags": 0},
            lambda x, y: _half(cut(x, y), BACK),
            BLEND,
            near=1,
        ),
        "composition": Drawing(
            Qxl.COMPOSITE,
            M.SPICE_MSG_DISPLAY_DRAW_COMPOSITE,
            Piece(pack("<I", COMPOSE_SOURCE), SOURCE, None, None, None, ORIGINS),
            {"flags": COMPOSE_SOURCE, "src_origin.x": FROM_X, "src_origin.y": FROM_Y, **IS_COMPOSED},
            cut,
        ),
        "composition with a mask": Drawing(
            Qxl.COMPOSITE,
            M.SPICE_MSG_DISPLAY_DRAW_COMPOSITE,
            Piece(pack("<I", COMPOSE_SOURCE), SOURCE, MATRIX, ALPHA, MATRIX, ORIGINS),
            {
                "flags": COMPOSE_SOURCE | EVERYTHING_ELSE,
                "mask_bitmap.type": int(ImageType.SPICE_IMAGE_TYPE_BITMAP),
                "mask_bitmap.content.format": int(BitmapFmt.SPICE_BITMAP_FMT_8BIT_A),
                "mask_bitmap.content.data": alphas(),
                "src_transform.t02": 0x30003,
                "mask_transform.t12": 0x60006,
                "mask_origin.x": FROM_X + 1,
                "mask_origin.y": FROM_Y + 1,
                **IS_COMPOSED,
            },
            effect=BLEND,
        ),
    }
