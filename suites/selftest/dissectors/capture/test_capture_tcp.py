# SPDX-License-Identifier: GPL-2.0-only
"""The capture reader puts segments in order, whatever changes the network and the capture host made."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectors.capture import CaptureItem, Chunk, End, Gap
from dissectors.capture.capture_files import CaptureFile
from dissectors.capture.tcp import Reassembler
from dissectors.capture.tcp_connections import ENDED
from dissectors.framing.events import Ending, Endpoint
from dissectors.wire.constants import Side
from suites.selftest.dissectors.capture.capture_mutations import (
    CLIENT,
    LINK,
    SERVER,
    Packet,
    cut,
    dialogue,
    duplicated,
    overlapping,
    packets,
    record,
    said,
    save,
    shuffled,
    story,
    without,
)

SIZES = (1, 7, 536, 1448, 16_384, 65_495)


@pytest.mark.parametrize("segment", SIZES)
@pytest.mark.parametrize(
    "ends", [(CLIENT, SERVER), (Endpoint("2001:db8::1", 1), Endpoint("2001:db8::2", 65_535))]
)
def test_any_segment_size(tmp_path: Path, segment: int, ends: tuple[Endpoint, Endpoint]) -> None:
    turns = dialogue(longest=200 if segment < 100 else 100_000)
    found = story(record(tmp_path / "a", turns, segment=segment, ends=ends))
    assert found.says() == said(turns)
    assert not found.gaps
    (begin,) = found.begins
    assert (begin.client, begin.server, begin.directed, begin.midstream) == (*ends, True, False)
    assert [(e.how, e.by) for e in found.ends] == [(Ending.CLOSED, Side.SERVER)]


@pytest.mark.parametrize("segment", [1, 100, 1448])
@pytest.mark.parametrize("seed", range(8))
def test_mutations_that_lose_nothing(tmp_path: Path, segment: int, seed: int) -> None:
    turns = dialogue(seed, longest=100 if segment == 1 else 10_000)
    original = packets(record(tmp_path / "a", turns, segment=segment))
    for mutated in (
        shuffled(original, seed),
        shuffled(original, seed, distance=20) if segment > 1 else original,
        duplicated(original, seed),
        overlapping(original, seed),
        shuffled(duplicated(original, seed), seed, distance=4),
    ):
        found = story(save(tmp_path / "b", mutated))
        assert found.says() == said(turns)
        assert not found.gaps
        assert [(b.client, b.server) for b in found.begins] == [(CLIENT, SERVER)]
        assert [e.how for e in found.ends] == [Ending.CLOSED]


def test_frame_of_a_byte_is_the_one_that_made_it_available(tmp_path: Path) -> None:
    turns = [*dialogue(turns=0), (Side.SERVER, bytes(10_000))]
    original = packets(record(tmp_path / "a", turns, segment=1000))
    first = next(i for i, p in enumerate(original) if len(p.payload) == 1000)
    swapped = [*original[:first], original[first + 1], original[first], *original[first + 2 :]]
    found = story(save(tmp_path / "b", [*swapped, swapped[first]]))
    chunks = [item for item in found.items if isinstance(item, Chunk) and len(item.data) >= 1000]
    pieces = [(data, frame) for chunk in chunks for data, _, frame in chunk.pieces() if len(data) == 1000]
    assert [frame for _, frame in pieces[:3]] == [first + 2, first + 2, first + 3]  # the later of the two
    assert chunks[0].at(len(LINK))[0] == chunks[0].at(len(LINK) + 1999)[0] == first + 2
    assert b"".join(data for data, _ in pieces) == turns[-1][1]


def test_a_lost_segment_is_a_gap_of_its_size(tmp_path: Path) -> None:
    turns = dialogue(turns=8)
    original = packets(record(tmp_path / "a", turns, segment=1000))
    data = [i for i, p in enumerate(original) if len(p.payload) == 1000]
    lost = data[len(data) // 2]
    found = story(save(tmp_path / "b", without(original, [lost])))
    (gap,) = found.gaps
    whole = said(turns)[gap.sender]
    assert gap.size == 1000
    assert found.streams[1, gap.sender] == whole.replace(original[lost].payload, b"", 1)
    assert [e.how for e in found.ends] == [Ending.CLOSED]


def test_a_hole_that_was_given_up_costs_nothing_more(tmp_path: Path) -> None:
    original = packets(record(tmp_path / "a", dialogue(turns=40), segment=1000))
    data = [i for i, p in enumerate(original) if len(p.payload) == 1000]
    records = list(CaptureFile(save(tmp_path / "b", without(original, data[3:9:3]))).records())
    reassembler = Reassembler()
    assert sum(isinstance(item, Gap) for item in reassembler.items([records])) == 2
    assert not reassembler.connections.doubtful


class Looks(dict[Any, None]):
    """Counts how many entries are looked at."""

    count = 0

    def __iter__(self) -> Iterator[Any]:
        self.count += len(self)
        return super().__iter__()


def bare_segment(
    number: int, sequence: int, flags: int, payload: bytes = b"", *, ack: int = 1, server: bool = False
) -> bytes:
    """Raw IPv4 with a TCP segment of client 10.9.x.y, by its number, or of its server."""
    ends = [(struct.pack("!BBH", 10, 9, number), 40_000), (bytes((10, 9, 9, 9)), 22)]
    (source, port), (target, target_port) = reversed(ends) if server else ends
    tcp = struct.pack("!HHIIBBHHH", port, target_port, sequence, ack, 0x50, flags, 65_535, 0, 0) + payload
    addresses = source + target
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + addresses + tcp


def test_thousands_of_holes_cost_each_packet_the_same(tmp_path: Path) -> None:
    """Many connections at once of which the capture lost a segment, as a busy host's: no packet makes the
    reader look at all of them."""
    steps = ((0, 0x02, b""), (1, 0x18, b"SSH-2.0-x"), (50, 0x18, b"more"), (54, 0x18, b"and more"))
    segments = [bare_segment(n, *step) for step in steps for n in range(1500)]
    many = [Packet(index * 1e-5, data, len(data)) for index, data in enumerate(segments)]
    records = list(CaptureFile(save(tmp_path / "b", many)).records())
    reassembler = Reassembler()
    looks = reassembler.connections.doubtful = Looks()
    for _ in reassembler.items([records]):
        pass
    assert len(looks) == 1500
    assert looks.count < 60 * len(records)


@pytest.mark.parametrize("later", [0.0, 60.0], ids=["at the end", "after a minute"])
def test_thousands_of_connections_that_end_at_once(tmp_path: Path, later: float) -> None:
    """More connections than are remembered end when their holes are given up. A connection can be forgotten
    while one of its directions still waits."""
    count = ENDED + 100
    steps = (
        (False, 0, 0, 0x02, b""),
        (True, 100, 1, 0x12, b""),
        (False, 50, 101, 0x19, b"later"),
        (True, 150, 1, 0x19, b"later"),
    )
    segments = [
        bare_segment(number, seq, flags, data, ack=ack, server=server)
        for server, seq, ack, flags, data in steps
        for number in range(count)
    ]
    many = [Packet(index * 1e-5, data, len(data)) for index, data in enumerate(segments)]
    if later:
        many += [Packet(later, data, len(data)) for data in [bare_segment(count, 0, 0x02)] * 20]
    reassembler = Reassembler()
    items = list(reassembler.items([list(CaptureFile(save(tmp_path / "b", many)).records())]))
    items += reassembler.finish(later)
    ends = Counter(item.connection for item in items if isinstance(item, End))
    assert len(ends) == count
    assert set(ends.values()) == {1}


@given(seed=st.integers(0, 1 << 32), rate=st.sampled_from([0.02, 0.2, 0.6]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_losses_add_up(tmp_path_factory: pytest.TempPathFactory, seed: int, rate: float) -> None:
    """Bytes and gaps together are as long as the stream; every byte that was read is in its place."""
    path = tmp_path_factory.mktemp("c")
    turns = dialogue(seed, turns=12)
    original = packets(record(path / "a", turns, segment=500))
    lost = [i for i in range(3, len(original)) if hash((seed, i)) % 1000 < rate * 1000]
    found = story(save(path / "b", without(original, lost)))
    place = dict.fromkeys(Side, 0)
    for item in found.items:
        if isinstance(item, Chunk):
            start = place[item.sender]
            assert said(turns)[item.sender][start : start + len(item.data)] == item.data
            place[item.sender] += len(item.data)
        elif isinstance(item, Gap):
            place[item.sender] += item.size or 0
    # A FIN that is lost together with the bytes before it looks like one byte more.
    assert all(place[side] <= len(whole) + 1 for side, whole in said(turns).items())


def test_snap_length_leaves_gaps(tmp_path: Path) -> None:
    turns = dialogue(turns=6)
    original = packets(record(tmp_path / "a", turns, segment=1000))
    found = story(save(tmp_path / "b", cut(original, 40 + 100)))
    for side in Side:
        missing = sum(gap.size or 0 for gap in found.gaps if gap.sender is side)
        assert len(found.streams[1, side]) + missing == len(said(turns)[side])


def test_begins_before_the_capture(tmp_path: Path) -> None:
    turns = dialogue(turns=12)
    original = packets(record(tmp_path / "a", turns, segment=1000))
    first = next(i for i, p in enumerate(original) if len(p.payload) == 1000)
    found = story(save(tmp_path / "b", original[first:]))
    (begin,) = found.begins
    assert begin.midstream
    assert not begin.directed
    assert {begin.client, begin.server} == {CLIENT, SERVER}
    same = begin.client == CLIENT
    for side, whole in said(turns).items():
        told_side = side if same else next(s for s in Side if s is not side)
        assert whole.endswith(found.streams[1, told_side])
        assert len(found.streams[1, told_side]) + 2000 > len(whole) - 1000
    assert not found.gaps


@pytest.mark.parametrize("lost", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_without_handshake_the_link_shows_the_client(tmp_path: Path, lost: tuple[int, ...]) -> None:
    turns = dialogue()
    original = packets(record(tmp_path / "a", turns))
    found = story(save(tmp_path / "b", without(original, lost)))
    assert [(b.client, b.server, b.directed) for b in found.begins] == [(CLIENT, SERVER, True)]
    assert found.says() == said(turns)


def test_sequence_numbers_wrap(tmp_path: Path) -> None:
    turns = dialogue()
    original = packets(record(tmp_path / "a", turns))
    moved = [shifted(packet, 0xFFFFFFFF - 3000) for packet in original]
    for mutated in (moved, shuffled(moved, 3), duplicated(moved, 4)):
        found = story(save(tmp_path / "b", mutated))
        assert found.says() == said(turns)
        assert not found.gaps


def shifted(packet: Packet, start: int) -> Packet:
    """The packets, as if both ends had begun at `start` instead of their initial sequence numbers."""
    data = bytearray(packet.data)
    seq, ack = struct.unpack_from("!II", data, 24)
    client = data[12:16] == bytes((192, 0, 2, 1))
    own, other = (0x9E3779B1, 0x85EBCA6B) if client else (0x85EBCA6B, 0x9E3779B1)
    flags = data[33]
    struct.pack_into("!I", data, 24, (seq - own + start) & 0xFFFFFFFF)
    struct.pack_into("!I", data, 28, (ack - other + start) & 0xFFFFFFFF if flags & 16 else 0)
    return replace(packet, data=bytes(data))


def test_a_late_copy_of_a_syn_is_no_new_connection(tmp_path: Path) -> None:
    """Also where the capture shows the SYN after its answer, as two interfaces may."""
    turns = dialogue(turns=3)
    syn, answer, *rest = packets(record(tmp_path / "a", turns))
    late = [replace(packet, time=rest[-1].time + 0.1) for packet in (syn, rest[1])]
    told = story(save(tmp_path / "b", [answer, replace(syn, time=answer.time), *rest, *late]))
    assert len(told.begins) == 1
    assert told.says() == said(turns)


def test_port_reuse_is_another_connection(tmp_path: Path) -> None:
    one, two = dialogue(1), dialogue(2)
    first = packets(record(tmp_path / "a", one, how=Ending.RESET))
    second = [shifted(packet, 77) for packet in packets(record(tmp_path / "b", two))]
    found = story(save(tmp_path / "c", [*first, *second]))
    assert (found.says(1), found.says(2)) == (said(one), said(two))
    assert [(e.connection, e.how) for e in found.ends] == [(1, Ending.RESET), (2, Ending.CLOSED)]
    found = story(save(tmp_path / "d", [*first[:-1], *second]))
    assert [(e.connection, e.how) for e in found.ends] == [(1, None), (2, Ending.CLOSED)]


def test_keep_alives_and_probes_say_nothing(tmp_path: Path) -> None:
    turns = dialogue()
    original = packets(record(tmp_path / "a", turns))
    noisy: list[Packet] = []
    for packet in original:
        noisy.append(packet)
        if packet.payload:
            data = bytearray(packet.data[:40]) + b"\xaa"
            seq = struct.unpack_from("!I", data, 24)[0] + len(packet.payload) - 1
            struct.pack_into("!I", data, 24, seq & 0xFFFFFFFF)
            struct.pack_into("!H", data, 2, len(data))
            noisy.append(Packet(packet.time, bytes(data), len(data)))
    found = story(save(tmp_path / "b", noisy))
    assert found.says() == said(turns)


@pytest.mark.parametrize(("how", "by"), [(Ending.RESET, Side.SERVER), (Ending.CLOSED, Side.SERVER)])
def test_how_it_ended(tmp_path: Path, how: Ending, by: Side) -> None:
    found = story(record(tmp_path / "a", dialogue(), how=how))
    assert [(e.how, e.by) for e in found.ends] == [(how, by)]


def test_capture_that_stops_leaves_the_end_open(tmp_path: Path) -> None:
    original = packets(record(tmp_path / "a", dialogue(), how=Ending.RESET))
    found = story(save(tmp_path / "b", original[:-1]))
    assert [(e.how, e.by) for e in found.ends] == [(None, None)]


def test_two_files_are_merged_by_time(tmp_path: Path) -> None:
    """The halves of the packets in two files, as if captured on two hosts."""
    turns = dialogue()
    original = packets(record(tmp_path / "a", turns))
    one, two = save(tmp_path / "1", original[::2]), save(tmp_path / "2", original[1::2])
    found = story(one, two)
    assert found.says() == said(turns)
    assert {item.file for item in found.items if isinstance(item, CaptureItem)} == {0, 1}


def test_loopback_connections_of_two_hosts_are_two(tmp_path: Path) -> None:
    ends = (Endpoint("127.0.0.1", 40_000), Endpoint("127.0.0.1", 5930))
    one, two = dialogue(1), dialogue(2)
    found = story(record(tmp_path / "1", one, ends=ends), record(tmp_path / "2", two, ends=ends))
    assert sorted(found.says(c)[Side.CLIENT] for c in (1, 2)) == sorted(
        [said(one)[Side.CLIENT], said(two)[Side.CLIENT]]
    )


def test_what_is_no_spice_is_counted_and_dropped(tmp_path: Path) -> None:
    web = [
        (Side.CLIENT, b"GET / HTTP/1.1\r\n\r\n"),
        (Side.SERVER, b"HTTP/1.1 200 OK\r\n\r\n" + bytes(99_999)),
    ]
    banner = [(Side.SERVER, b"SSH-2.0-x\r\n"), (Side.CLIENT, b"SSH-2.0-y\r\n" + bytes(99_999))]
    for index, turns in enumerate((web, banner)):
        plain = save(tmp_path / f"b{index}", packets(record(tmp_path / f"a{index}", turns)))
        found = story(plain)
        assert found.items == []
        own = story(tmp_path / f"a{index}")  # our own recordings hold only what was meant for a server
        assert own.says() == said(turns)


def test_bad_magic_is_shown_where_the_server_answers_as_spice_does(tmp_path: Path) -> None:
    turns = [(Side.CLIENT, b"QDER" + bytes(16)), dialogue()[1]]
    found = story(save(tmp_path / "b", packets(record(tmp_path / "a", turns))))
    assert found.says() == said(turns)
    assert found.begins[0].client == CLIENT


@given(data=st.data())
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_mutated_bytes_never_raise(tmp_path: Path, data: st.DataObject) -> None:
    """Any bytes anywhere give items or one line, and no other exception."""
    whole = bytearray(record(tmp_path / "a", dialogue(turns=5, longest=3000)).read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    (tmp_path / "b").write_bytes(whole)
    story(tmp_path / "b")


@given(data=st.data())
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_mutated_packets_never_raise(tmp_path: Path, data: st.DataObject) -> None:
    original = packets(record(tmp_path / "a", dialogue(turns=5, longest=3000), segment=500))
    mutated = []
    for packet in original:
        raw = bytearray(packet.data)
        for _ in range(data.draw(st.integers(0, 2))):
            raw[data.draw(st.integers(0, min(45, len(raw) - 1)))] = data.draw(st.integers(0, 255))
        mutated.append(replace(packet, data=bytes(raw)))
    for link in (0, 1, 9, 101, 113, 276):
        story(save(tmp_path / "b", mutated, link))
