# SPDX-License-Identifier: GPL-2.0-only
"""Names the kind of a file that is no readable capture, and what to do with it: one line."""

from __future__ import annotations

import re

CONVERT = "convert it first: editcap -F pcapng FILE NEW.pcapng"

#: The first bytes of a file, its kind, and what to do.
KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"snoop\0\0\0", "a Sun snoop capture", CONVERT),
    (b"btsnoop\0", "a Bluetooth btsnoop capture", CONVERT),
    (b"GMBU", "a Microsoft NetMon 2 capture", CONVERT),
    (b"RTSS", "a Microsoft NetMon 1 capture", CONVERT),
    (b"TRSNIFF data", "a Sniffer (DOS) capture", CONVERT),
    (b"XCP\0", "a NetXray or Sniffer (Windows) capture", CONVERT),
    (b"ObserverPktBuffer", "a Viavi Observer capture", CONVERT),
    (b"\xaa\xaa\xaa\xaa", "an InfoVista 5View capture", CONVERT),
    (b"\x00\x00\x02\x00\x12\x05\x00\x10", "a Tektronix K12xx capture", CONVERT),
    (b"\x05VNF", "a Visual Networks capture", CONVERT),
    (b"\x7fver", "an EtherPeek or OmniPeek capture", CONVERT),
    (b"\x54\x52\x00\x64\x00", "an HP-UX nettl trace", CONVERT),
    (b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x07\xd0\x00", "an HP-UX nettl trace", CONVERT),
    (b"\x01\x10\x4c\x00", "a Novell LANalyzer capture", CONVERT),
    (b"+---------+-----", "a K12 text capture", CONVERT),
    (b"EyeSDN", "an EyeSDN trace", CONVERT),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first: zstd -d FILE"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "unpack it first: lz4 -d FILE"),
    (b"\x1f\x9d", "compressed with compress", "unpack it first: uncompress FILE"),
    (b"LZIP", "compressed with lzip", "unpack it first: lzip -d FILE"),
    (b"\x89LZO", "compressed with lzop", "unpack it first: lzop -d FILE"),
    (b"\xff\x06\0\0sNaPpY", "compressed with snappy", "unpack it first"),
    (b"PK\3\4", "a zip archive", "unpack it first: unzip FILE"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first: 7z x FILE"),
    (b"Rar!", "a rar archive", "unpack it first: unrar x FILE"),
    (b"\x1f\x8b", "compressed twice", "unpack it first: gunzip FILE"),
    (b"\xfd7zXZ\0", "compressed twice", "unpack it first: unxz FILE"),
    (b"BZh", "compressed twice", "unpack it first: bunzip2 FILE"),
)
SAME_CAPTURE = 1 << 20  # seconds between two records of one capture, at most
TAR_AT, TAR = 257, b"ustar"

_HEX_DUMP = re.compile(rb"^[0-9a-fA-F]{4,8}:?[ \t]+([0-9a-fA-F]{2}[ \t]?){2}", re.MULTILINE)
_TCPDUMP = re.compile(rb"^\s*(\d+\s+)?[\d:.\- ]{8,} .*(\bIP6?\b|->|\xe2\x86\x92|> ).*", re.MULTILINE)
_KEY_LOG = re.compile(rb"^(CLIENT_RANDOM|[A-Z_]+_TRAFFIC_SECRET(_0)?) [0-9a-f]{64} ", re.MULTILINE)


def describe(head: bytes) -> str:
    """Why a file with this beginning is not read, and what to do. `head`: at least its first four bytes."""
    for beginning, what, advice in KINDS:
        if head.startswith(beginning):
            return f"not read: {what}; {advice}"
    if head[TAR_AT : TAR_AT + len(TAR)] == TAR:
        return "not read: a tar archive; unpack it first: tar xf FILE"
    if _is_erf(head):
        return f"not read: an Endace ERF capture; {CONVERT}"
    if _is_text(head):
        return _describe_text(head)
    return "not a capture file (neither pcap nor pcapng)"


def _describe_text(head: bytes) -> str:
    if _KEY_LOG.search(head):
        return "not a capture file but a TLS key log: give it with --keylog"
    if _HEX_DUMP.search(head):
        return "not a capture file but a hex dump; convert it first: text2pcap FILE NEW.pcapng"
    if _TCPDUMP.search(head):
        return "not a capture file but what tcpdump or tshark prints; capture with -w FILE"
    return "not a capture file (neither pcap nor pcapng) but text"


def _is_text(head: bytes) -> bool:
    """Whether the bytes are mostly printable."""
    sample = head[:4096]
    shown = all(byte in b"\t\r\n" or 32 <= byte != 127 for byte in sample)
    return shown and sum(byte > 127 for byte in sample) * 10 < len(sample)


def _is_erf(head: bytes) -> bool:
    """Two ERF records follow each other: the format has no magic of its own."""
    place, times = 0, []
    for _ in range(2):
        record = head[place : place + 16]
        size, wire = int.from_bytes(record[10:12]), int.from_bytes(record[14:16])
        if len(record) < 16 or not 1 <= record[8] & 0x7F <= 48 or not 16 < size <= wire + 64:
            return False
        place += size
        times.append(int.from_bytes(record[4:8], "little"))  # whole seconds
    return abs(times[1] - times[0]) < SAME_CAPTURE
