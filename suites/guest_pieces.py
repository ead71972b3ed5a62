# SPDX-License-Identifier: GPL-2.0-only
"""What a guest writes into the memory of its graphics card for its drawings: images, brushes, masks, paths
and text (spice/qxl_dev.h)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import pack
from typing import Union

from dissectors.wire.enums import BitmapFmt, BrushType, ImageType, MaskFlags, PathFlags, StringFlags

Field = Union[bytes, "Piece", None]
#: A colour, 0xRRGGBB, for each column and row of a box.
Colours = Callable[[int, int], int]

TOP_DOWN, DIRECT = 4, 1  # qxl_dev.h, QXLBitmapFlags
#: Each drawing's box, pixels, and where in its source it begins.
WIDTH, HEIGHT = 6, 4
FROM_X, FROM_Y = 3, 2
#: The source's size, and the pattern's.
SIZE = SOURCE_WIDTH, SOURCE_HEIGHT = 16, 8
TILE = 8
TILE_X, TILE_Y = 2, 1  # the pattern's origin on the screen


@dataclass(frozen=True)
class Piece:
    """A piece of the guest's memory: bytes, and pointers to further pieces (None: a null pointer)."""

    fields: tuple[Field, ...]

    def __init__(self, *fields: Field) -> None:
        object.__setattr__(self, "fields", fields)

    def parts(self) -> list[tuple[str, list[list[int]]]]:
        """This piece and all that it points to: bytes as hex, and at which offset which part's address
        goes."""
        pieces: list[Piece] = [self]
        parts = []
        for piece in pieces:
            content, addresses = b"", []
            for value in piece.fields:
                if isinstance(value, Piece):
                    addresses.append([len(content), len(pieces)])
                    pieces.append(value)
                content += value if isinstance(value, bytes) else bytes(8)
            parts.append((content.hex(), addresses))
        return parts


def source(x: int, y: int) -> int:
    """The colour of the source at a column and row."""
    return 0x203000 + x * 0x0B + y * 0x070000


def tile(x: int, y: int) -> int:
    """The colour of the pattern at a column and row."""
    return 0x0A4020 + x * 0x1100 + y * 0x13


def masked(x: int, y: int) -> bool:
    """Whether the mask has a bit at a column and row."""
    return (x + 2 * y) % 3 == 0


def cut(x: int, y: int) -> int:
    """The part of the source that is drawn."""
    return source(x + FROM_X, y + FROM_Y)


def image(
    number: int,
    form: BitmapFmt,
    size: tuple[int, int],
    stride: int,
    data: Piece,
    flags: int = TOP_DOWN | DIRECT,
    palette: Piece | None = None,
) -> Piece:
    """A bitmap of so many columns and rows, `stride` bytes a row. `number`: by which clients tell images
    apart; without DIRECT the data begin with the first of their chunks."""
    descriptor = pack("<QBBII", 1 | number << 32, ImageType.SPICE_IMAGE_TYPE_BITMAP, 0, *size)
    return Piece(descriptor, pack("<BBIII", form, flags, *size, stride), palette, data)


def rows(width: int, height: int, pixel: Callable[[int, int], bytes], top_down: bool = True) -> bytes:
    """The bytes of all pixels."""
    order = range(height) if top_down else reversed(range(height))
    return b"".join(pixel(x, y) for y in order for x in range(width))


def _true_colour(number: int, width: int, height: int, colours: Colours) -> Piece:
    pixels = rows(width, height, lambda x, y: pack("<I", colours(x, y)))
    return image(number, BitmapFmt.SPICE_BITMAP_FMT_32BIT, (width, height), 4 * width, Piece(pixels))


def bits() -> bytes:
    """The mask, 16 x 8 pixels."""
    rows = (sum(masked(x, y) << (15 - x) for x in range(16)) for y in range(8))
    return b"".join(row.to_bytes(2, "big") for row in rows)


def alphas() -> bytes:
    """The mask of a composition, 16 x 8 pixels of one byte."""
    return bytes(0xFF * masked(x, y) for y in range(8) for x in range(16))


SOURCE = _true_colour(7, SOURCE_WIDTH, SOURCE_HEIGHT, source)
PATTERN = _true_colour(8, TILE, TILE, tile)
MASK = image(9, BitmapFmt.SPICE_BITMAP_FMT_1BIT_BE, SIZE, 2, Piece(bits()))
ALPHA = image(10, BitmapFmt.SPICE_BITMAP_FMT_8BIT_A, SIZE, SOURCE_WIDTH, Piece(alphas()))
#: An image of 5 bits a colour, whose lowest row comes first.
WORDS = rows(*SIZE, lambda x, y: pack("<H", x | y << 5 | (x ^ y) << 10), top_down=False)
FROM_BELOW = image(12, BitmapFmt.SPICE_BITMAP_FMT_16BIT, SIZE, 2 * SOURCE_WIDTH, Piece(WORDS), flags=DIRECT)
#: An image of one byte a colour, in two chunks of the guest's memory.
TRIPLES = rows(*SIZE, lambda x, y: pack("<I", source(x, y))[:3])
_CUT = 5 * 3 * SOURCE_WIDTH
CHUNKS = Piece(
    pack("<I", _CUT),
    None,
    Piece(pack("<I", len(TRIPLES) - _CUT), None, None, TRIPLES[_CUT:]),
    TRIPLES[:_CUT],
)
IN_CHUNKS = image(13, BitmapFmt.SPICE_BITMAP_FMT_24BIT, SIZE, 3 * SOURCE_WIDTH, CHUNKS, flags=TOP_DOWN)
#: An image whose bytes are places in a palette.
PLACES = rows(*SIZE, lambda x, y: bytes([(x + y) % 32]))
COLOURS = tuple(0x104070 + n * 0x050301 for n in range(32))


def of_palette(number: int, unique: int) -> Piece:
    """That image, with a palette of this number."""
    palette = Piece(pack("<QH32I", unique, len(COLOURS), *COLOURS))
    return image(number, BitmapFmt.SPICE_BITMAP_FMT_8BIT, SIZE, SOURCE_WIDTH, Piece(PLACES), palette=palette)


ORIGINS = pack("<4h", FROM_X, FROM_Y, FROM_X + 1, FROM_Y + 1)
#: Two rows of three numbers in fixed point: nothing but distinct.
MATRIX = Piece(pack("<6I", *(n * 0x10001 for n in range(1, 7))))
AREA = pack("<4i", FROM_Y, FROM_X, FROM_Y + HEIGHT, FROM_X + WIDTH)  # QXLRect
NO_MASK: tuple[Field, ...] = (bytes(9), None)
INVERTED = int(MaskFlags.SPICE_MASK_FLAGS_INVERS)


def mask_at(flags: int) -> tuple[Field, ...]:
    """The mask from its part that is drawn (QXLQMask)."""
    return pack("<Bii", flags, FROM_X, FROM_Y), MASK


def solid(colour: int) -> tuple[Field, ...]:
    """A brush of one colour (QXLBrush)."""
    return (pack("<III", BrushType.SPICE_BRUSH_TYPE_SOLID, colour, 0) + bytes(8),)


def pattern_brush() -> tuple[Field, ...]:
    """A brush of the pattern (QXLBrush)."""
    return (
        pack("<I", BrushType.SPICE_BRUSH_TYPE_PATTERN),
        PATTERN,
        pack("<ii", TILE_X, TILE_Y),
    )


#: A line through the second row of the box, with dashes; a glyph of one bit a pixel, the lowest row first.
DASHES = (0x23, 0x45, 0x67)
GLYPH = bytes(sum(masked(x, y) << (7 - x) for x in range(WIDTH)) for y in reversed(range(HEIGHT)))
FIXED = 16  # a pixel, in fixed point
_CHUNK: tuple[Field, ...] = (None, None)


def path(left: int, top: int) -> Piece:
    """A line through the box's second row (QXLPath, with one QXLPathSeg)."""
    y = (top + 1) * FIXED
    ends = ((left * FIXED, y), ((left + WIDTH) * FIXED, y))
    flags = PathFlags.SPICE_PATH_BEGIN | PathFlags.SPICE_PATH_END
    segment = pack("<II", flags, len(ends)) + b"".join(pack("<ii", *end) for end in ends)
    return Piece(pack("<II", len(segment), len(segment)), *_CHUNK, segment)


def text(left: int, top: int) -> Piece:
    """One glyph in the box (QXLString, with one QXLRasterGlyph)."""
    glyph = pack("<iiiiHH", left + 1, top + 2, -1, -2, WIDTH, HEIGHT) + GLYPH
    flags = StringFlags.SPICE_STRING_FLAGS_RASTER_A1
    return Piece(pack("<IHHI", len(glyph), 1, flags, len(glyph)), *_CHUNK, glyph)
