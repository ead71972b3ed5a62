# SPDX-License-Identifier: GPL-2.0-only
"""Structures that offsets lead to: found wherever the sender put them, laid out when built, judged."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest

from dissectors.channels import draw, encodings, image
from dissectors.channels.cursor import SpiceMsgCursorSet
from dissectors.channels.display import SpiceMsgDisplayStreamCreate
from dissectors.wire.enums import BitmapFlags, BitmapFmt, ClipType, CompositeFlags, ImageType, MaskFlags
from dissectors.wire.geometry import SpiceRect
from dissectors.wire.message import SpiceMessage

SOURCE_OFFSET = 21  # of src_bitmap's offset in a DRAW_COPY without clip
FIXED = 57  # bytes of it before the tail


def _bitmap(**fields: Any) -> image.SpiceImage:
    content = image.SpiceBitmap(
        format=BitmapFmt.SPICE_BITMAP_FMT_8BIT, x=3, y=2, stride=3, data=b"pixels", **fields
    )
    return image.SpiceImage(id=7, width=3, height=2, content=content)


def _copy(**fields: Any) -> bytes:
    return bytes(draw.SpiceMsgDisplayDrawCopy(**fields))


def _seen(raw: bytes) -> SpiceMessage:
    packet = draw.SpiceMsgDisplayDrawCopy.parse(raw)
    assert bytes(packet) == raw
    return packet


def test_laid_out_in_order() -> None:
    """The images in the order of their offsets, then the parts that they point to."""
    palette = image.SpicePalette(unique=9, ents=[0xFF0000, 0x00FF00])
    mask = draw.SpiceQMask(
        flags=MaskFlags.SPICE_MASK_FLAGS_INVERS,
        bitmap=image.SpiceImage(type=ImageType.SPICE_IMAGE_TYPE_FROM_CACHE, id=3),
    )
    packet = _seen(_copy(src_bitmap=_bitmap(palette=palette), mask=mask))
    assert packet.problems() == []
    assert packet.src_bitmap_offset == FIXED
    assert packet.mask.bitmap_offset == FIXED + 18 + 18 + 6
    assert packet.src_bitmap.content.palette_offset == packet.mask.bitmap_offset + 18
    assert packet.src_bitmap.content.palette.ents == [0xFF0000, 0x00FF00]
    assert packet.mask.bitmap.id == 3


def test_found_wherever_the_sender_put_it() -> None:
    """In another order, and one image for two offsets."""
    whole = _copy(src_bitmap=image.SpiceImage(type=ImageType.SPICE_IMAGE_TYPE_FROM_CACHE, id=5))
    shared = whole[: FIXED - 4] + struct.pack("<I", FIXED) + whole[FIXED:]
    packet = _seen(shared)
    assert packet.problems() == []
    assert packet.src_bitmap.id == packet.mask.bitmap.id == 5


@pytest.mark.parametrize("offset", [FIXED + 18, 1000, 0xFFFFFFFF])
def test_offsets_outside(offset: int) -> None:
    """Bad offsets are reported, and no content is invented."""
    whole = _copy(src_bitmap=image.SpiceImage(type=ImageType.SPICE_IMAGE_TYPE_FROM_CACHE))
    packet = _seen(whole[:SOURCE_OFFSET] + struct.pack("<I", offset) + whole[SOURCE_OFFSET + 4 :])
    assert packet.problems() == [f"src_bitmap: offset {offset} is outside the message's {len(whole)} bytes"]
    assert packet.src_bitmap is None


def test_a_cut_image() -> None:
    """The problem names the part that is too short."""
    packet = _seen(_copy(src_bitmap=_bitmap())[:-2])
    assert packet.problems() == ["src_bitmap: content: data holds 4 of 6 bytes"]


def test_an_empty_offset_is_no_problem() -> None:
    """Without an image and without a mask."""
    packet = _seen(_copy())
    assert packet.problems() == []
    assert packet.src_bitmap is None
    assert "absent" in packet.show(dump=True)


def test_changes_reach_the_bytes() -> None:
    """In the fixed part at once; in what is pointed to after `unpin`."""
    packet = _seen(_copy(src_bitmap=_bitmap()))
    packet.base.box.right = 640
    assert draw.SpiceMsgDisplayDrawCopy.parse(bytes(packet)).base.box.right == 640
    packet.src_bitmap.content.data, packet.src_bitmap.content.y = b"more pixels!", 4
    packet.unpin()
    again = draw.SpiceMsgDisplayDrawCopy.parse(bytes(packet))
    assert again.problems() == []
    assert again.src_bitmap.content.data == b"more pixels!"


def test_packets_share_nothing() -> None:
    """Two new packets share nothing, and neither do a packet and its copy."""
    draw.SpiceClipRects().rects.append(SpiceRect())
    assert draw.SpiceClipRects().rects == []
    draw.SpiceMsgDisplayDrawCopy().base.box.right = 5
    assert draw.SpiceMsgDisplayDrawCopy().base.box.right == 0
    packet = _seen(_copy(src_bitmap=_bitmap()))
    clone = packet.copy()
    clone.base.box.right, clone.src_bitmap.content.y = 640, 9
    assert (packet.base.box.right, packet.src_bitmap.content.y) == (0, 2)


def test_palette_from_cache() -> None:
    """The surface's id is in the place of the offset."""
    flags = BitmapFlags.SPICE_BITMAP_FLAGS_PAL_FROM_CACHE
    packet = _seen(_copy(src_bitmap=_bitmap(flags=flags, palette_id=0x1122334455667788)))
    assert packet.problems() == []
    assert packet.src_bitmap.content.palette_id == 0x1122334455667788


def test_clip_moves_the_rest() -> None:
    """Rectangles stand in the fixed part; offsets go beyond them."""
    clip = draw.SpiceClip(
        type=ClipType.SPICE_CLIP_TYPE_RECTS, rects=draw.SpiceClipRects(rects=[SpiceRect(right=1)] * 3)
    )
    raw = _copy(base=draw.SpiceDisplayBase(clip=clip), src_bitmap=_bitmap())
    assert _seen(raw).src_bitmap_offset == FIXED + 4 + 3 * 16
    stream = SpiceMsgDisplayStreamCreate(clip=clip)
    assert SpiceMsgDisplayStreamCreate.parse(bytes(stream)).clip.rects.num_rects == 3


def test_composite_with_and_without_its_options() -> None:
    """Each flag brings its field."""
    lengths = {}
    for flags in (
        0,
        CompositeFlags.SPICE_COMPOSITE_HAS_MASK,
        CompositeFlags.SPICE_COMPOSITE_HAS_SRC_TRANSFORM,
        CompositeFlags.SPICE_COMPOSITE_HAS_MASK_TRANSFORM,
    ):
        raw = bytes(draw.SpiceMsgDisplayDrawComposite(flags=flags))
        assert draw.SpiceMsgDisplayDrawComposite.parse(raw).problems() == []
        lengths[int(flags)] = len(raw)
    base = lengths.pop(0)
    assert [length - base for length in lengths.values()] == [4, 24, 24]


ENCODED = [
    (ImageType.SPICE_IMAGE_TYPE_QUIC, encodings.QuicStream, 20),
    (ImageType.SPICE_IMAGE_TYPE_LZ_RGB, encodings.LzStream, 28),
    (ImageType.SPICE_IMAGE_TYPE_LZ_PLT, encodings.LzStream, 28),
    (ImageType.SPICE_IMAGE_TYPE_GLZ_RGB, encodings.GlzStream, 33),
    (ImageType.SPICE_IMAGE_TYPE_LZ4, encodings.Lz4Stream, 2),
]


@pytest.mark.parametrize(("kind", "cls", "size"), ENCODED)
def test_headers_of_encoded_images(kind: ImageType, cls: type, size: int) -> None:
    """Where the header is as it is due; else the bytes."""
    content = image.IMAGES[kind](data=cls(data=b"encoded"))
    packet = _seen(_copy(src_bitmap=image.SpiceImage(type=kind, content=content)))
    assert packet.problems() == []
    assert packet.src_bitmap.content.data_size == size + 7
    assert type(packet.src_bitmap.content.data) is cls
    bare = _seen(_copy(src_bitmap=image.SpiceImage(type=kind, content=image.IMAGES[kind](data=b"?"))))
    assert bare.problems() == []
    assert type(bare.src_bitmap.content.data) is encodings.EncodedStream


def test_cursor_header_only_where_there_is_a_cursor() -> None:
    """The flag NONE leaves it out."""
    none, some = (
        SpiceMsgCursorSet.parse(bytes.fromhex("0a00140001" + rest)) for rest in ("0100", "0000" + "00" * 17)
    )
    assert none.problems() == some.problems() == []
    assert none.cursor.header is None
    assert some.cursor.header.width == 0


def test_a_large_image_takes_little_time() -> None:
    """8 MiB of pixels: no more than some copies of them."""
    content = image.SpiceBitmap(x=2048, y=1024, stride=8192, data=bytes(8 << 20))
    raw = _copy(src_bitmap=image.SpiceImage(content=content))
    began = time.process_time()
    packet = draw.SpiceMsgDisplayDrawCopy.parse(raw)
    assert packet.problems() == []
    assert len(packet.show(dump=True)) < 10_000
    assert time.process_time() - began < 2  # seconds of the processor; a twentieth is usual


def test_many_rectangles_take_time_that_grows_with_them() -> None:
    """5,000 of them, and as many empty segments of a path."""
    rects = struct.pack("<I", 5_000) + bytes(16 * 5_000)
    began = time.process_time()
    clip = SpiceMsgDisplayStreamCreate.parse(bytes(50) + b"\x01" + rects)
    assert clip.problems() == []
    path = draw.SpicePath(struct.pack("<I", 5_000) + bytes(5 * 5_000))
    assert len(path.segments) == 5_000
    assert time.process_time() - began < 10  # seconds of the processor; half of one is usual
