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
SOURCE_WIDTH, SOURCE_HEIGHT = 16, 8
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


def _image(number: int, form: BitmapFmt, width: int, height: int, stride: int, pixels: bytes) -> Piece:
    descriptor = pack("<QBBII", 1 | number << 32, ImageType.SPICE_IMAGE_TYPE_BITMAP, 0, width, height)
    bitmap = pack("<BBIII", form, TOP_DOWN | DIRECT, width, height, stride)
    return Piece(descriptor, bitmap, None, Piece(pixels))


def _true_colour(number: int, width: int, height: int, colours: Colours) -> Piece:
    pixels = b"".join(pack("<I", colours(x, y)) for y in range(height) for x in range(width))
    return _image(number, BitmapFmt.SPICE_BITMAP_FMT_32BIT, width, height, 4 * width, pixels)


def bits() -> bytes:
    """The mask, 16 x 8 pixels."""
    rows = (sum(masked(x, y) << (15 - x) for x in range(16)) for y in range(8))
    return b"".join(row.to_bytes(2, "big") for row in rows)


def alphas() -> bytes:
    """The mask of a composition, 16 x 8 pixels of one byte."""
    return bytes(0xFF * masked(x, y) for y in range(8) for x in range(16))


SOURCE = _true_colour(7, SOURCE_WIDTH, SOURCE_HEIGHT, source)
PATTERN = _true_colour(8, TILE, TILE, tile)
MASK = _image(9, BitmapFmt.SPICE_BITMAP_FMT_1BIT_BE, 16, 8, 2, bits())
ALPHA = _image(10, BitmapFmt.SPICE_BITMAP_FMT_8BIT_A, 16, 8, 16, alphas())
ORIGINS = pack("<4h", FROM_X, FROM_Y, FROM_X + 1, FROM_Y + 1)
#: Two rows of three numbers in fixed point: nothing but distinct.
MATRIX = Piece(pack("<6I", *(n * 0x10001 for n in range(1, 7))))
AREA = pack("<4i", FROM_Y, FROM_X, FROM_Y + HEIGHT, FROM_X + WIDTH)  # QXLRect
NO_MASK: tuple[Field, ...] = (bytes(9), None)
INVERTED = int(MaskFlags.SPICE_MASK_FLAGS_INVERS)


def mask_at(flags: int) -> tuple[Field, ...]:
    return pack("<Bii", flags, FROM_X, FROM_Y), MASK


def solid(colour: int) -> tuple[Field, ...]:
    return (pack("<III", BrushType.SPICE_BRUSH_TYPE_SOLID, colour, 0) + bytes(8),)


def pattern_brush() -> tuple[Field, ...]:
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
    y = (top + 1) * FIXED
    ends = ((left * FIXED, y), ((left + WIDTH) * FIXED, y))
    flags = PathFlags.SPICE_PATH_BEGIN | PathFlags.SPICE_PATH_END
    segment = pack("<II", flags, len(ends)) + b"".join(pack("<ii", *end) for end in ends)
    return Piece(pack("<II", len(segment), len(segment)), *_CHUNK, segment)


def text(left: int, top: int) -> Piece:
    glyph = pack("<iiiiHH", left + 1, top + 2, -1, -2, WIDTH, HEIGHT) + GLYPH
    flags = StringFlags.SPICE_STRING_FLAGS_RASTER_A1
    return Piece(pack("<IHHI", len(glyph), 1, flags, len(glyph)), *_CHUNK, glyph)
