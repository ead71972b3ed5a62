# SPDX-License-Identifier: GPL-2.0-only
"""Harmless changes of a recorded capture add no finding and lose no story; lossy ones only turn a finding
into a doubt.

A small number of examples in `make test`, the same each time; `make harmless` runs 10,000 in all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from dissectors.rules.inspector import Inspection
from fixtures.captures import DIRECTORY
from suites.selftest.dissectors.capture.capture_mutations import Packet, packets, save, without
from suites.selftest.dissectors.capture.harmless_changes import (
    HARMLESS,
    INTERFACE_S,
    WAYS,
    Change,
    one_direction,
    save_interfaces,
    save_way,
    two_legs,
    with_room,
)
from suites.selftest.given_captures import given as given_files

RECORDED = ("semi-seamless", "seamless", "switch-host", "late")
#: Of each property; `make harmless` asks for more, in parts of at most PART, each a test of its own.
EXAMPLES = int(os.environ.get("HARMLESS_EXAMPLES", "15"))
PART = 200
settled = settings(
    max_examples=min(EXAMPLES, PART),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def holds_for(**drawn: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[[int], None]]:
    """Makes a property into tests: a part of its examples each, every part with other ones."""

    def parts(holds: Callable[..., None]) -> Callable[[int], None]:
        @pytest.mark.parametrize("part", range(-(-EXAMPLES // PART)))
        def test(part: int) -> None:
            seed(part)(settled(given(**drawn)(holds)))()

        test.__doc__ = holds.__doc__
        return test

    return parts


seeds = st.integers(0, 1 << 32)


ETHERNET_BYTES = 14


def bare(packet: Packet) -> Packet:
    """Raw IPv4, also of a packet with an Ethernet header."""
    if packet.data[0] >> 4 == 4:
        return packet
    return replace(packet, data=packet.data[ETHERNET_BYTES:], wire=packet.wire - ETHERNET_BYTES)


@cache
def recording(name: str) -> tuple[Packet, ...]:
    return bare_packets(DIRECTORY / f"{name}.pcapng.gz")


def bare_packets(path: Path) -> tuple[Packet, ...]:
    """The TCP packets of a capture, each with room for more headers."""
    return tuple(chain.from_iterable(with_room(bare(packet)) for packet in packets(path)))


def after(packets: list[Packet], changes: Sequence[Change], random: Random) -> list[Packet]:
    """The packets after these changes."""
    for change in changes:
        packets = change(packets, random)
    return packets


def judged(path: Path) -> tuple[set[str], list[tuple[Any, ...]]]:
    """The broken requirements, and the migrations."""
    inspection = Inspection([path])
    inspection.finish()
    assert inspection.error is None
    moves = inspection.as_dict()["migrations"]
    story = [(m["scheme"], m["outcome"], m["session_id"], m["target"] is not None) for m in moves]
    return {finding.requirement for finding in inspection.findings}, story


@cache
def untouched(name: str) -> list[tuple[Any, ...]]:
    with TemporaryDirectory() as folder:
        broken, story = judged(save(Path(folder) / "x.pcap", recording(name)))
    assert broken == set()
    assert story
    return story


@holds_for(
    name=st.sampled_from(RECORDED),
    changes=st.lists(st.sampled_from(HARMLESS), max_size=4),
    way=st.sampled_from(sorted(WAYS)),
    chance=seeds,
)
def test_the_same_story_and_no_finding(name: str, changes: list[Change], way: str, chance: int) -> None:
    changed = after(list(recording(name)), changes, Random(chance))
    with TemporaryDirectory() as folder:
        broken, story = judged(save_way(Path(folder) / "x.pcap", changed, way))
    assert (broken, story) == (set(), untouched(name))


@holds_for(
    name=st.sampled_from(RECORDED),
    shift=st.floats(-INTERFACE_S, INTERFACE_S),
    changes=st.lists(st.sampled_from(HARMLESS), max_size=1),
    chance=seeds,
)
def test_interfaces_whose_clocks_differ(name: str, shift: float, changes: list[Change], chance: int) -> None:
    changed = after(list(recording(name)), changes, Random(chance))
    with TemporaryDirectory() as folder:
        broken, story = judged(save_interfaces(Path(folder) / "x.pcapng", changed, [0.0, shift]))
    assert (broken, story) == (set(), untouched(name))


@holds_for(
    name=st.sampled_from(RECORDED),
    first=st.floats(0, 1),
    last=st.floats(0, 1),
    changes=st.lists(st.sampled_from(HARMLESS), max_size=1),
    chance=seeds,
)
def test_cuts_at_either_end(name: str, first: float, last: float, changes: list[Change], chance: int) -> None:
    whole = recording(name)
    begin, end = sorted((round(first * len(whole)), round(last * len(whole))))
    changed = after(list(whole[begin:end]), changes, Random(chance))
    with TemporaryDirectory() as folder:
        broken, _ = judged(save(Path(folder) / "x.pcap", changed))
    assert broken == set()


@holds_for(
    name=st.sampled_from(RECORDED), changes=st.lists(st.sampled_from(HARMLESS), max_size=1), chance=seeds
)
def test_one_direction_accuses_nobody(name: str, changes: list[Change], chance: int) -> None:
    changed = after(list(recording(name)), [one_direction, *changes], Random(chance))
    with TemporaryDirectory() as folder:
        broken, _ = judged(save(Path(folder) / "x.pcap", changed))
    assert broken == set()


@holds_for(
    name=st.sampled_from(RECORDED), changes=st.lists(st.sampled_from(HARMLESS), max_size=2), chance=seeds
)
def test_two_legs_of_a_proxy(name: str, changes: list[Change], chance: int) -> None:
    """Each leg is a session of its own, to be told as if the other were not there."""
    changed = after(list(recording(name)), [*changes, two_legs], Random(chance))
    with TemporaryDirectory() as folder:
        broken, story = judged(save(Path(folder) / "x.pcap", changed))
    assert broken == set()
    assert [leg for leg in untouched(name) if leg not in story] == []


@holds_for(
    name=st.sampled_from(RECORDED),
    view=st.sampled_from((None, one_direction, two_legs)),
    lost=st.integers(1, 6),
    chance=seeds,
)
def test_lost_packets_add_nothing(name: str, view: Change | None, lost: int, chance: int) -> None:
    random, whole = Random(chance), list(recording(name))
    if view is not None:
        whole = view(whole, random)
    gone = random.sample(range(len(whole)), lost)
    with TemporaryDirectory() as folder:
        broken, _ = judged(save(Path(folder) / "x.pcap", without(whole, gone)))
    assert broken == set()


BROKEN = [path for path in given_files("rules/*.pcap.gz") if path.name[0] in "abcdfg"]


@pytest.mark.skipif(not BROKEN, reason="the given captures are not beside the checkout")
@holds_for(data=st.data())
def test_lost_packets_accuse_nobody_else(data: st.DataObject) -> None:
    """In a capture with one breach, lost packets do not turn it into another."""
    path = data.draw(st.sampled_from(BROKEN))
    whole = given_packets(path)
    gone = Random(data.draw(seeds)).sample(range(len(whole)), data.draw(st.integers(1, 3)))
    with TemporaryDirectory() as folder:
        known, _ = judged(path)
        broken, _ = judged(save(Path(folder) / "x.pcap", without(whole, gone)))
    assert broken <= known


@cache
def given_packets(path: Path) -> tuple[Packet, ...]:
    return bare_packets(path)
