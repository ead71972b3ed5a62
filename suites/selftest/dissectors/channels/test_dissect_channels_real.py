# SPDX-License-Identifier: GPL-2.0-only
"""Messages of a real server and its client dissect without a problem and rebuild from their fields."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from dissectors.channels.message_classes import decode
from dissectors.wire.constants import Side, message_name
from dissectors.wire.enums import ImageType
from dissectors.wire.message import SpiceMessage, SpiceUnknown

REAL = Path(__file__).with_name("data") / "real_messages.txt"


@cache
def _messages() -> list[tuple[int, Side, int, bytes]]:
    lines = [line.split() for line in REAL.read_text().splitlines() if not line.startswith("#")]
    return [
        (int(channel), Side(sender), int(kind), bytes.fromhex(body.replace("-", "")))
        for channel, sender, kind, body in lines
    ]


@pytest.mark.parametrize("number", range(len(_messages())))
def test_real_message(number: int) -> None:
    """No problem, byte for byte the same from the fields alone, and readable."""
    channel, sender, kind, body = _messages()[number]
    packet: SpiceMessage = decode(channel, sender, kind, body)
    assert not isinstance(packet, SpiceUnknown)
    assert packet.problems() == [], packet.show(dump=True)
    assert packet.show(dump=True).startswith(f"###[ {message_name(channel, sender, kind)} ]###")
    packet.clear_cache()
    assert bytes(packet) == body


def test_real_images() -> None:
    """Of several encodings, found through their offsets."""
    seen = {decode(*m).src_bitmap.type for m in _messages() if m[:3] == (2, Side.SERVER, 304)}
    assert seen == {
        ImageType.SPICE_IMAGE_TYPE_BITMAP,
        ImageType.SPICE_IMAGE_TYPE_LZ_RGB,
        ImageType.SPICE_IMAGE_TYPE_GLZ_RGB,
        ImageType.SPICE_IMAGE_TYPE_LZ4,
    }


def test_laid_out_again_as_the_server_did() -> None:
    """Without the server's offsets and tail: what we lay out has the same parts, and no problem."""
    for channel, sender, kind, body in _messages():
        packet = decode(channel, sender, kind, body)
        if hasattr(packet, "unpin"):
            packet.unpin()
            again = decode(channel, sender, kind, bytes(packet))
            assert again.problems() == []
            assert len(bytes(packet)) == len(body)
