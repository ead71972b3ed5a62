# SPDX-License-Identifier: GPL-2.0-only
"""Every message of the enumerations has a packet that builds, dissects and rebuilds; none raises."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.packet import Packet, fuzz

from dissectors.channels.agent import VDAgentMessage
from dissectors.channels.inventory import MessageRow, inventory, sample
from dissectors.channels.message_classes import decode
from dissectors.wire.constants import ChannelType, Side
from dissectors.wire.message import SpiceMessage, SpiceUnknown
from dissectors.wire.structs import fuzz_struct

ROWS = inventory()
CLASSES: list[type[SpiceMessage]] = [*dict.fromkeys(row.cls for row in ROWS), VDAgentMessage]
QUICK = settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def _id(row: MessageRow) -> str:
    return f"{row.channel_name}-{row.name}"


def _flat(packet: Packet) -> Any:
    """The values that were set in a packet, to compare with the dissected ones."""
    if isinstance(packet, Packet):
        return {name: _flat(value) for name, value in packet.fields.items()}
    return [_flat(part) for part in packet] if isinstance(packet, list) else packet


def _within(given: Any, seen: Any) -> bool:
    """Whether all values that were set are there; computed fields are only in the dissected packet."""
    if isinstance(given, dict):
        return all(_within(value, seen.get(name)) for name, value in given.items() if value is not None)
    if isinstance(given, list):
        return len(given) == len(seen) and all(_within(a, b) for a, b in zip(given, seen, strict=True))
    return bool(given == seen)


def _check(cls: type[SpiceMessage], raw: bytes) -> SpiceMessage:
    """Dissects a body; it must rebuild to the same bytes, and the packet must print."""
    packet = cls.parse(raw)
    assert bytes(packet) == raw
    assert isinstance(packet.show(dump=True), str)
    assert packet.summary()
    assert isinstance(packet.problems(), list)
    assert bytes(packet.copy()) == raw
    return packet


@pytest.mark.parametrize("row", ROWS, ids=_id)
def test_round_trip(row: MessageRow) -> None:
    """A packet with other values than the defaults is built, dissected, and rebuilt from the fields alone:
    equal."""
    assert row.cls is not SpiceUnknown
    assert row.cls.sender == row.sender
    assert row.cls.message_type == row.type
    for packet in row.examples():
        raw = bytes(packet)
        seen = decode(row.channel, row.sender, row.type, raw)
        assert type(seen) is row.cls
        assert seen.problems() == [], seen.show(dump=True)
        assert _within(_flat(packet), _flat(seen)), seen.show(dump=True)
        assert "SPICE malformed" not in str(seen.show(dump=True))
        seen.clear_cache()
        assert bytes(seen) == raw


@pytest.mark.parametrize("row", ROWS, ids=_id)
def test_cut_and_extended(row: MessageRow) -> None:
    """Any beginning of a message, and bytes after it, are described."""
    whole = row.example
    step = max(1, len(whole) // 24)
    for length in range(0, len(whole), step):
        _check(row.cls, whole[:length])
    _check(row.cls, whole + b"\x01\x02\x03")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_scapy_fuzz_builds(cls: type[SpiceMessage]) -> None:
    """Scapy's fuzz and ours give something that builds."""
    random.seed(1)
    for _ in range(3):
        assert isinstance(bytes(fuzz(cls())), bytes)
        _check(cls, bytes(fuzz_struct(cls())))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@QUICK
@given(raw=st.binary(max_size=300))
def test_random_bytes(cls: type[SpiceMessage], raw: bytes) -> None:
    """Random bytes never raise, and rebuild to the same bytes."""
    _check(cls, raw)


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls.fields_desc], ids=lambda cls: cls.__name__)
@QUICK
@given(data=st.data())
def test_mutated(cls: type[SpiceMessage], data: st.DataObject) -> None:
    """Well-formed messages with some bytes changed, cut out or inserted never raise either."""
    raw = bytearray(bytes(sample(cls, data.draw(st.integers(0, 15)))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        put = data.draw(st.one_of(st.binary(max_size=4), st.sampled_from([b"\xff" * 4, b"\0" * 4])))
        raw[at : at + data.draw(st.integers(0, 4))] = put
    _check(cls, bytes(raw))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_large_bytes_take_little_time(cls: type[SpiceMessage]) -> None:
    """With 256 KiB more, of small and of large numbers: the time grows no faster than the bytes."""
    for filler in (b"\x00", b"\x01", b"\xff"):
        began = time.process_time()
        packet = cls.parse(bytes(sample(cls)) + filler * (1 << 18))
        packet.problems()
        assert time.process_time() - began < 5  # seconds of the processor; most need a hundredth


def test_every_channel_has_its_own_migration_data() -> None:
    """The channels that migrate with data, both directions."""
    with_data = {
        (row.channel_name, row.sender) for row in ROWS if row.name.endswith("MIGRATE_DATA") and row.channel
    }
    channels = ("main", "display", "inputs", "smartcard", "usbredir", "port", "webdav")
    assert with_data == {(channel, side) for channel in channels for side in Side}


def test_the_table_covers_every_channel() -> None:
    """All channels except the tunnel, for which no enumeration has messages."""
    named = {row.channel for row in ROWS if row.channel}
    assert named == set(ChannelType) - {ChannelType.SPICE_CHANNEL_TUNNEL}


def test_no_field_hides_behind_an_attribute_of_scapys_packet() -> None:
    """`Packet.time` is the packet's time of capture: a field of this name could not be read as an
    attribute."""
    hidden = [
        f"{cls.__name__}.{f.name}" for cls in CLASSES for f in cls.fields_desc if hasattr(Packet, f.name)
    ]
    assert hidden == []
