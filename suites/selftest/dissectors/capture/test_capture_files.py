# SPDX-License-Identifier: GPL-2.0-only
"""The reader reads every kind of capture file; it reports an error in one line, after everything that it
could read."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectors.capture import Begin, CaptureError, Chunk, HostRecord, read
from dissectors.capture.capture_files import CaptureFile
from dissectors.capture.pcapng_writer import PcapngWriter
from dissectors.capture.record import Record
from dissectors.framing.events import HostEvent
from dissectors.wire.constants import Side
from suites.selftest.dissectors.capture.capture_mutations import dialogue, packets, record, said, save, story

TURNS = dialogue(3, turns=10)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return record(tmp_path / "sample.pcapng", TURNS)


def one_record(path: Path) -> Record:
    (only,) = CaptureFile(path).records()
    return only


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("magic", "ticks", "extra", "more"),
    [
        (0xA1B2C3D4, 10**6, 0, 0),
        (0xA1B23C4D, 10**9, 0, 0),
        (0xA1B2CD34, 10**6, 8, 0),
        (0x1C0001AC, 10**9, 0, 4),
        (0x1C0001AB, 10**9, 0, 4),
    ],
)
def test_pcap_variants(tmp_path: Path, order: str, magic: int, ticks: int, extra: int, more: int) -> None:
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 99, 101 | 2 << 28) + bytes(more)
    body = struct.pack(order + "IIII", 1_700_000_000, ticks // 2, 3, 9) + bytes(extra) + b"abc"
    (tmp_path / "a").write_bytes(head + body)
    time, frame, link, buffer, start, end, wire, _ = one_record(tmp_path / "a")
    assert (time, frame, link, buffer[start:end], wire) == (1_700_000_000.5, 1, 101, b"abc", 9)


@pytest.mark.parametrize("extra", [0, 4, 8, 12])
@pytest.mark.parametrize("order", "<>")
def test_longer_record_headers_without_another_magic(tmp_path: Path, order: str, extra: int) -> None:
    head = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 99, 101)
    each = [
        struct.pack(order + "IIII", 1_700_000_000 + n, 500_000, n + 3, n + 60)
        + b"\xee" * extra
        + bytes([n]) * (n + 3)
        for n in range(6)
    ]
    (tmp_path / "a").write_bytes(head + b"".join(each))
    result = [(r[0], r[3][r[4] : r[5]]) for r in CaptureFile(tmp_path / "a").records()]
    assert result == [(1_700_000_000.5 + n, bytes([n]) * (n + 3)) for n in range(6)]


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str, *interfaces: bytes) -> bytes:
    head = block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    return head + b"".join(block(order, 1, interface) for interface in interfaces)


def interface(order: str, link: int, *options: tuple[int, bytes], snap: int = 0) -> bytes:
    coded = b"".join(
        struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)
        for code, value in options
    )
    return struct.pack(order + "HHI", link, 0, snap) + coded


def enhanced(order: str, index: int, ticks: int, data: bytes) -> bytes:
    head = struct.pack(order + "IIIII", index, ticks >> 32, ticks & 0xFFFFFFFF, len(data), 99)
    return block(order, 6, head + data + bytes(-len(data) % 4))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("resolution", "ticks", "offset"),
    [
        (b"\x06", 1_500_000, 0),
        (b"\x09", 1_500_000_000, 0),
        (b"\x8a", 1536, 0),
        (b"\x00", 1, 2),
        (b"\x03", 1500, -7),
    ],
)
def test_time_of_an_interface(tmp_path: Path, order: str, resolution: bytes, ticks: int, offset: int) -> None:
    options = ((9, resolution), (14, struct.pack(order + "q", offset)))
    (tmp_path / "a").write_bytes(
        section(order, interface(order, 1, *options)) + enhanced(order, 0, ticks, b"abc")
    )
    assert one_record(tmp_path / "a")[0] == (1.0 if resolution == b"\x00" else 1.5) + offset


def test_sections_interfaces_and_every_block(tmp_path: Path) -> None:
    """Frames are numbered through all sections, in all byte orders, as Wireshark numbers them."""
    little, big = "<", ">"
    (tmp_path / "a").write_bytes(
        section(little, interface(little, 1), interface(little, 101, snap=2))
        + enhanced(little, 1, 1_000_000, b"one")
        + block(little, 4, bytes(4))  # names
        + block(little, 5, bytes(12))  # statistics
        + block(little, 0x1234, b"unknown")
        + block(little, 0xBAD, bytes(8))  # custom: counted
        + block(
            little, 9, b"__REALTIME_TIMESTAMP=3000000\nMESSAGE=m\nLONG\n" + struct.pack("<Q", 3) + b"a\nb\n"
        )
        + section(big, interface(big, 113, snap=3))
        + block(big, 3, struct.pack(">I", 5) + b"hel")  # simple
        + block(big, 2, struct.pack(">HHIIII", 0, 0, 0, 4_000_000, 4, 7) + b"old!")  # obsolete
        + enhanced(big, 0, 5_000_000, b"last")
    )
    result = [(r[0], r[1], r[2], r[3][r[4] : r[5]], r[6]) for r in CaptureFile(tmp_path / "a").records()]
    assert result[0] == (1.0, 1, 101, b"one", 99)
    assert result[1][:3] == (3.0, 3, -1)
    assert result[2:] == [
        (3.0, 4, 113, b"hel", 5),
        (4.0, 5, 113, b"old!", 7),
        (5.0, 6, 113, b"last", 99),
    ]
    (host,) = [item for item in read([tmp_path / "a"]) if isinstance(item, HostRecord)]
    assert host.fields == {"__REALTIME_TIMESTAMP": "3000000", "MESSAGE": "m", "LONG": "a\nb"}


def test_gzip(tmp_path: Path, sample: Path) -> None:
    whole = sample.read_bytes()
    middle = len(whole) // 2
    two_members = gzip.compress(whole[:middle]) + gzip.compress(whole[middle:]) + bytes(5)
    (tmp_path / "a.gz").write_bytes(two_members)
    assert story(tmp_path / "a.gz").says() == said(TURNS)
    (tmp_path / "b.gz").write_bytes(gzip.compress(whole)[:-2000])
    found = story(tmp_path / "b.gz")
    assert found.error == f"{tmp_path / 'b.gz'}: the compressed data ends early"
    assert found.says()[Side.SERVER]
    damaged = bytearray(gzip.compress(whole))
    damaged[-5000:-4900] = bytes(100)
    (tmp_path / "c.gz").write_bytes(damaged)
    assert story(tmp_path / "c.gz").error == f"{tmp_path / 'c.gz'}: the compressed data is damaged"


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_zeros_are_no_capture(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """A few bytes that unpack to a gigabyte: the reader gives up after the first block."""
    bomb = pack(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0, 1) + bytes(32 << 20))
    (tmp_path / "a").write_bytes(bomb)
    found = story(tmp_path / "a")
    assert "damaged: nothing but empty records" in (found.error or "")


@pytest.mark.parametrize(("pack", "name"), [(lzma.compress, "xz"), (bz2.compress, "bz2")])
def test_xz_and_bzip2(tmp_path: Path, sample: Path, pack: Callable[[bytes], bytes], name: str) -> None:
    whole, path = sample.read_bytes(), tmp_path / f"a.{name}"
    middle = len(whole) // 2
    path.write_bytes(pack(whole[:middle]) + pack(whole[middle:]))
    assert story(path).says() == said(TURNS)
    path.write_bytes(pack(whole)[:-2000])
    assert story(path).error == f"{path}: the compressed data ends early"
    damaged = bytearray(pack(whole))
    damaged[2000:2100] = bytes(100)
    path.write_bytes(damaged)
    assert story(path).error == f"{path}: the compressed data is damaged"


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"snoop\0\0\0\0\0\0\2", "a Sun snoop capture; convert it first: editcap -F pcapng"),
        (b"GMBU\0\2", "a Microsoft NetMon 2 capture; convert it first: editcap"),
        (b"\x28\xb5\x2f\xfd....", "compressed with zstd; unpack it first: zstd -d FILE"),
        (b"\x04\x22\x4d\x18....", "compressed with lz4; unpack it first: lz4 -d FILE"),
        (b"PK\3\4....", "a zip archive; unpack it first: unzip FILE"),
        (b"name" + bytes(253) + b"ustar\0", "a tar archive; unpack it first: tar xf FILE"),
        (
            gzip.compress(gzip.compress(b"x", mtime=0), mtime=0),
            "compressed twice; unpack it first: gunzip FILE",
        ),
        (b"0000  45 00 00 3c 1c 46\n0010  40 06\n", "a hex dump; convert it first: text2pcap"),
        (b"12:00:00.000001 IP 10.0.0.1.5900 > 10.0.0.2.40000: Flags [S]\n", "what tcpdump or tshark prints"),
        (b"CLIENT_RANDOM " + b"ab" * 32 + b" " + b"cd" * 48 + b"\n", "a TLS key log: give it with --keylog"),
        (b"Dear all,\nplease find attached\n", "(neither pcap nor pcapng) but text"),
        (struct.pack("!QBBHHH", 1, 2, 4, 80, 0, 64).ljust(80, b"x") * 2, "an Endace ERF capture"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, head: bytes, words: str) -> None:
    """The error names the kind of file, and what to do with it."""
    (tmp_path / "a").write_bytes(head)
    assert words in (story(tmp_path / "a").error or "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"ab", "not a capture file (too short)"),
        (b"\x7fELF and more of it", "not a capture file (neither pcap nor pcapng)"),
        (b"\xd4\xc3\xb2\xa1", "not a capture file (too short)"),
        (
            struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0, 1) + bytes(7),
            "cut: its last record is not whole",
        ),
        (
            struct.pack("<IHHiIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 0, 1, 0, 0, 1 << 30, 1 << 30),
            "damaged: frame 1 claims 1073741824 bytes",
        ),
        (section("<")[:-4] + bytes(4) + bytes(12), "damaged: a block after frame 0 claims 0 bytes"),
        (b"\x0a\x0d\x0d\x0a" + bytes(24), "damaged: a section without a byte order mark"),
        (section("<") + enhanced("<", 0, 0, b"x"), "damaged: frame 1 does not fit its block"),
        (section("<") + block("<", 1, b""), "damaged: the block after frame 0 is too short"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a").write_bytes(content)
    assert story(tmp_path / "a").error == f"{tmp_path / 'a'}: {reason}"


def test_unreadable_paths(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "no", "no such file or directory"), (tmp_path, "is a directory")):
        with pytest.raises(CaptureError, match=reason):
            read([path])


def test_unknown_link_type(tmp_path: Path, sample: Path) -> None:
    found = story(save(tmp_path / "a", packets(sample), link=147))
    assert found.error == (
        "no packet could be read: link type 147 (user-defined); "
        "capture on an Ethernet interface or with tcpdump -i any"
    )


def test_a_cut_file_gives_what_it_has(tmp_path: Path, sample: Path) -> None:
    (tmp_path / "a").write_bytes(sample.read_bytes()[:-70])
    found = story(tmp_path / "a")
    assert found.says() == said(TURNS)
    assert found.error == f"{tmp_path / 'a'}: cut: its last record is not whole"


def test_counters_and_progress(sample: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    capture = read([sample], progress=lambda done, size: steps.append((done, size)))
    items = list(capture)
    every = packets(sample)
    assert (capture.packets, capture.bytes, capture.streams) == (len(every), sum(p.wire for p in every), 1)
    assert capture.seconds == pytest.approx(every[-1].time - every[0].time)
    assert steps[-1] == (sample.stat().st_size, sample.stat().st_size)
    assert capture.other_streams == 0
    dropped = read([sample])
    begin = next(dropped)
    assert isinstance(begin, Begin)
    dropped.drop(begin.connection)
    rest = [item for item in dropped if isinstance(item, Chunk)]
    assert len(rest) < len(items) - 1  # only what was held until the connection was known


def test_follow_a_growing_file(tmp_path: Path, sample: Path) -> None:
    """The reader reports what the file holds before it waits for more, whatever piece the file grows by."""
    whole = sample.read_bytes()
    growing = tmp_path / "growing"
    growing.write_bytes(b"")
    steps = iter(range(0, len(whole) + 5000, 5000))
    result: list[int] = []
    heard: list[bytes] = []

    def grow() -> bool:
        result.append(sum(map(len, heard)))
        if (start := next(steps, None)) is None:
            return False
        with growing.open("ab") as file:
            file.write(whole[start : start + 5000])
        return True

    for item in read([growing], follow=grow):
        if isinstance(item, Chunk):
            heard.append(item.data)
    assert sum(map(len, heard)) == sum(map(len, said(TURNS).values()))
    assert result == sorted(result)
    assert len(set(result)) > 5


def test_follow_ends_in_the_middle_of_a_record(tmp_path: Path, sample: Path) -> None:
    (tmp_path / "a").write_bytes(sample.read_bytes()[:-70])
    items = list(read([tmp_path / "a"], follow=lambda: False))
    assert (
        b"".join(i.data for i in items if isinstance(i, Chunk) and i.sender is Side.CLIENT)
        == (said(TURNS)[Side.CLIENT])
    )


@pytest.mark.parametrize("what", ["vanished", "was replaced", "was cut"])
def test_follow_a_file_that_goes_away(tmp_path: Path, sample: Path, what: str) -> None:
    def spoil() -> bool:
        if what == "was cut":
            os.truncate(sample, 10)
        else:
            sample.rename(tmp_path / "gone")
            if what == "was replaced":
                sample.write_bytes(b"new")
        return True

    result: list[object] = []
    with pytest.raises(CaptureError, match=f"{what} while it was followed"):
        result.extend(iter_into(read([sample], follow=spoil), result))
    assert sum(len(i.data) for i in result if isinstance(i, Chunk)) == sum(map(len, said(TURNS).values()))


def iter_into(items: Iterator[object], told: list[object]) -> list[object]:
    for item in items:
        told.append(item)
    return []


def test_follow_a_pipe(sample: Path) -> None:
    whole = sample.read_bytes()
    reader, writer = os.pipe()
    steps = iter(range(0, len(whole), 7000))

    def write() -> bool:
        if (start := next(steps, None)) is None:
            return False
        os.write(writer, whole[start : start + 7000])
        return True

    try:
        items = list(read([Path(f"/dev/fd/{reader}")], follow=write))
    finally:
        os.close(reader)
        os.close(writer)
    assert sum(len(i.data) for i in items if isinstance(i, Chunk)) == sum(map(len, said(TURNS).values()))


def test_only_one_file_is_followed(sample: Path) -> None:
    with pytest.raises(CaptureError, match="only one capture"):
        read([sample, sample], follow=lambda: False)


def test_host_events_come_back(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        writer = PcapngWriter(file, epoch=1_700_000_000)
        event = HostEvent(time=0.25, host="source", name="log", args={"text": "a\nb"}, clock_ms=10_000.5)
        assert writer.host_event(event) == 1
    (host,) = story(tmp_path / "a").items
    assert isinstance(host, HostRecord)
    assert (host.time, host.frame) == (1_700_000_000.25, 1)
    assert host.fields["SPICE_ARGS"] == '{"text": "a\\nb"}'
    assert [host.fields[f"SPICE_{n}"] for n in ("HOST", "NAME", "CLOCK_MS")] == ["source", "log", "10000.5"]


@given(
    data=st.binary(max_size=2000),
    magic=st.sampled_from([b"", b"\xd4\xc3\xb2\xa1", b"\x0a\x0d\x0d\x0a", b"\x1f\x8b\x08"]),
)
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_random_bytes_never_raise(tmp_path: Path, data: bytes, magic: bytes) -> None:
    (tmp_path / "a").write_bytes(magic + data)
    story(tmp_path / "a")
