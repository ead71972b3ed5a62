# SPDX-License-Identifier: GPL-2.0-only
"""The content of MIGRATE_DATA: layouts, offsets, and data of real servers."""

from __future__ import annotations

import struct

import pytest

from dissectors.channels import migration_data as data
from dissectors.channels.message_classes import decode
from dissectors.wire.constants import ChannelType, MsgBase, MsgcBase, Side
from dissectors.wire.message import SpiceMessage

MAIN, DISPLAY = ChannelType.SPICE_CHANNEL_MAIN, ChannelType.SPICE_CHANNEL_DISPLAY
USBREDIR = ChannelType.SPICE_CHANNEL_USBREDIR
#: Bytes of a MIGRATE_DATA without anything that an offset leads to.
FIXED = [
    (MAIN, data.SpiceMsgMigrateDataMain, 65),
    (DISPLAY, data.SpiceMsgMigrateDataDisplay, 80),
    (ChannelType.SPICE_CHANNEL_INPUTS, data.SpiceMsgMigrateDataInputs, 10),
    (ChannelType.SPICE_CHANNEL_SMARTCARD, data.SpiceMsgMigrateDataSmartcard, 42),
    (USBREDIR, data.SpiceMsgMigrateDataSpicevmc, 33),
]


def _source(channel: int, raw: bytes) -> SpiceMessage:
    return decode(channel, Side.SERVER, MsgBase.SPICE_MSG_MIGRATE_DATA, raw)


@pytest.mark.parametrize(("channel", "cls", "size"), FIXED)
def test_fixed_parts(channel: int, cls: type[SpiceMessage], size: int) -> None:
    """As long as the server's structures, with the magic in front; the same class of layout both ways."""
    raw = bytes(cls())
    assert len(raw) == size
    assert raw[:4].decode() == cls().magic_due.name
    assert _source(channel, raw).problems() == []
    target = decode(channel, Side.CLIENT, MsgcBase.SPICE_MSGC_MIGRATE_DATA, raw)
    assert type(target).__bases__ == cls.__bases__


@pytest.mark.parametrize(("channel", "cls", "size"), FIXED)
def test_header_is_judged(channel: int, cls: type[SpiceMessage], size: int) -> None:
    """Another channel's magic, a later version; earlier ones and whatever else is left alone."""
    raw = bytes(cls())
    assert _source(channel, b"XXXX" + raw[4:]).problems() == [
        f"magic is 0x58585858, not {cls.magic_due.name}"
    ]
    assert _source(channel, raw[:4] + struct.pack("<I", 2) + raw[8:]).problems() == [
        "version 2 is later than 1"
    ]
    assert _source(channel, raw[: size - 1]).problems()


def test_what_was_not_yet_written_to_a_device() -> None:
    """Found by its offset, which counts from the start of the body."""
    base = data.SpiceMigrateDataCharDevice(connected=1, num_client_tokens=10, write_data=b"to the device")
    raw = bytes(data.SpiceMsgMigrateDataSpicevmc(base=base))
    seen = _source(USBREDIR, raw)
    assert seen.problems() == []
    assert seen.base.write_data == b"to the device"
    assert (seen.base.write_size, seen.base.write_data_offset) == (13, 33)


@pytest.mark.parametrize(("size", "offset"), [(14, 33), (0xFFFFFFFF, 33), (1, 46), (13, 0xFFFFFFFF)])
def test_sizes_and_offsets_out_of_range(size: int, offset: int) -> None:
    """Bad offsets are reported, and the bytes kept."""
    whole = bytes(
        data.SpiceMsgMigrateDataSpicevmc(base=data.SpiceMigrateDataCharDevice(write_data=b"x" * 13))
    )
    raw = whole[:21] + struct.pack("<III", size, 0, offset) + whole[33:]
    seen = _source(USBREDIR, raw)
    assert "write_data" in seen.problems()[0]
    assert bytes(seen) == raw


def test_surfaces_with_and_without_losses() -> None:
    """Two layouts that differ in their length."""
    lossless = data.MigrateDisplaySurfacesAtClientLossless(
        surfaces=[data.MigrateDisplaySurfaceLossless(id=n) for n in (0, 7)]
    )
    rect = data.SpiceMigrateDataRect(left=1, top=2, right=3, bottom=4)
    lossy = data.MigrateDisplaySurfacesAtClientLossy(
        surfaces=[data.MigrateDisplaySurfaceLossy(id=n, lossy_rect=rect) for n in (0, 7)]
    )
    for surfaces in (lossless, lossy):
        raw = bytes(data.SpiceMsgMigrateDataDisplay(surfaces_at_client=surfaces))
        seen = _source(DISPLAY, raw)
        assert seen.problems() == []
        assert type(seen.surfaces_at_client) is type(surfaces)
        assert [surface.id for surface in seen.surfaces_at_client.surfaces] == [0, 7]
        seen.clear_cache()
        assert bytes(seen) == raw


def test_a_message_header_that_was_cut_off() -> None:
    """Of the agent's stream: the bytes that the source had already read."""
    raw = bytes(
        data.SpiceMsgMigrateDataMain(
            chunk_header_size=8, chunk_port=1, chunk_size=30, msg_header=b"\1\0\0\0\6"
        )
    )
    seen = _source(MAIN, raw)
    assert seen.problems() == []
    assert (seen.msg_header, seen.msg_header_partial_len, seen.msg_header_offset) == (b"\1\0\0\0\6", 5, 65)


def test_nothing_leads_to_the_rest() -> None:
    """Bytes at the end that no offset leads to."""
    raw = bytes(data.SpiceMsgMigrateDataSpicevmc()) + b"??"
    assert _source(USBREDIR, raw).problems() == ["2 bytes that no offset leads to"]
