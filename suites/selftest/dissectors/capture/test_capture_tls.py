# SPDX-License-Identifier: GPL-2.0-only
"""The reader decrypts TLS with known secrets, and unpacks WebSocket; if it cannot, one line says why."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import trustme
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dissectors.capture.pcapng_writer import PcapngWriter
from dissectors.capture.stream_context import OTHER
from dissectors.capture.tls_ciphers import SUITES, Tls13, expand_label
from dissectors.wire.constants import Side
from suites.selftest.dissectors.capture.capture_mutations import (
    CLIENT,
    LINK,
    SERVER,
    START,
    Turn,
    dialogue,
    duplicated,
    packets,
    record,
    said,
    save,
    shuffled,
    story,
    without,
)

TURNS = dialogue(9, turns=12, longest=40_000)
NO_ENCRYPT_THEN_MAC = 1 << 19  # of OpenSSL; the module does not name it
CIPHERS_1_2 = [
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "AES128-CCM",
    "AES256-CCM8",
    "AES128-CCM8",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "AES256-SHA256",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-RSA-AES128-SHA",
    "AES256-SHA",
]


@dataclass
class Recorded:
    """The bytes that two TLS ends sent to each other, and the secrets."""

    wire: list[Turn]
    keys: Path


@pytest.fixture(scope="module")
def authority() -> tuple[trustme.CA, trustme.LeafCert]:
    ca = trustme.CA(key_type=trustme.KeyType.RSA)
    return ca, ca.issue_cert("server.test", key_type=trustme.KeyType.RSA)


class Ends:
    """Two TLS ends in memory."""

    def __init__(
        self,
        authority: tuple[trustme.CA, trustme.LeafCert],
        keys: Path,
        version: ssl.TLSVersion,
        cipher: str | None,
        options: int = 0,
    ) -> None:
        ca, leaf = authority
        contexts = {
            Side.CLIENT: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            Side.SERVER: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        }
        ca.configure_trust(contexts[Side.CLIENT])
        leaf.configure_cert(contexts[Side.SERVER])
        contexts[Side.CLIENT].keylog_filename = str(keys)
        for context in contexts.values():
            context.options |= options
            context.minimum_version = context.maximum_version = version
            if cipher:
                context.set_ciphers(f"{cipher}:@SECLEVEL=0")
        pipes = {side: ssl.MemoryBIO() for side in Side}  # what each side reads
        self.pipes = pipes
        self.out = {side: ssl.MemoryBIO() for side in Side}
        self.ends = {
            side: contexts[side].wrap_bio(
                pipes[side],
                self.out[side],
                side is Side.SERVER,
                None if side is Side.SERVER else "server.test",
            )
            for side in Side
        }
        self.wire: list[Turn] = []

    def carry(self, side: Side) -> None:
        if data := self.out[side].read():
            self.wire.append((side, data))
            self.pipes[OTHER[side]].write(data)

    def handshake(self) -> None:
        waiting = list(Side)
        while waiting:
            for side in list(waiting):
                try:
                    self.ends[side].do_handshake()
                    waiting.remove(side)
                except ssl.SSLWantReadError:
                    pass
                self.carry(side)

    def say(self, turns: Iterable[Turn]) -> None:
        for side, data in turns:
            self.ends[side].write(data)
            self.carry(side)


def exchange(
    authority: tuple[trustme.CA, trustme.LeafCert],
    keys: Path,
    turns: Iterable[Turn] = TURNS,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    cipher: str | None = None,
) -> Recorded:
    ends = Ends(authority, keys, version, cipher)
    ends.handshake()
    ends.say(turns)
    return Recorded(ends.wire, keys)


@pytest.mark.parametrize("segment", [100, 1448, 65_495])
def test_tls_1_3(tmp_path: Path, authority: tuple[trustme.CA, trustme.LeafCert], segment: int) -> None:
    recorded = exchange(authority, tmp_path / "keys")
    every = packets(record(tmp_path / "a", recorded.wire, segment=segment))
    for mutated in (every, shuffled(every, 1), duplicated(every, 2)):
        found = story(save(tmp_path / "b", mutated), keylog=recorded.keys)
        assert found.error is None
        assert found.says() == said(TURNS)
        (begin,) = found.begins
        assert (begin.tls, begin.client, begin.server) == (True, CLIENT, SERVER)
        assert not found.notes


@pytest.mark.parametrize("cipher", CIPHERS_1_2)
def test_tls_1_2(tmp_path: Path, authority: tuple[trustme.CA, trustme.LeafCert], cipher: str) -> None:
    recorded = exchange(authority, tmp_path / "keys", version=ssl.TLSVersion.TLSv1_2, cipher=cipher)
    found = story(record(tmp_path / "a", recorded.wire), keylog=recorded.keys)
    assert found.says() == said(TURNS)
    assert [n.text for n in found.notes] == []


def test_tls_1_2_with_the_mac_inside(tmp_path: Path, authority: tuple[trustme.CA, trustme.LeafCert]) -> None:
    for cipher in ("AES128-SHA", "AES256-SHA256", "ECDHE-RSA-AES256-SHA384"):
        ends = Ends(authority, tmp_path / "keys", ssl.TLSVersion.TLSv1_2, cipher, NO_ENCRYPT_THEN_MAC)
        ends.handshake()
        ends.say(TURNS)
        found = story(record(tmp_path / "a", ends.wire), keylog=tmp_path / "keys")
        assert found.says() == said(TURNS)


def test_secrets_in_the_capture(tmp_path: Path, authority: tuple[trustme.CA, trustme.LeafCert]) -> None:
    recorded = exchange(authority, tmp_path / "keys")
    with (tmp_path / "a").open("wb") as file:
        writer = PcapngWriter(file, epoch=START)
        writer.secrets(recorded.keys.read_text())
        writer.open_connection(1, CLIENT, SERVER, 0)
        for side, data in recorded.wire:
            writer.segment(1, side, data, 1)
    assert story(tmp_path / "a").says() == said(TURNS)


def test_no_secret(tmp_path: Path, authority: tuple[trustme.CA, trustme.LeafCert]) -> None:
    recorded = exchange(authority, tmp_path / "keys")
    other = exchange(authority, tmp_path / "other", [])
    path = record(tmp_path / "a", recorded.wire)
    for keylog, reason, error in (
        (None, "no key log was given and the capture holds no secrets", None),
        (
            other.keys,
            "the key log has no SERVER_HANDSHAKE_TRAFFIC_SECRET for client random",
            "fits none of the 1",
        ),
    ):
        found = story(path, keylog=keylog)
        assert [b.tls for b in found.begins] == [True]
        (note,) = found.notes
        assert reason in note.text
        assert len(found.ends) == 1
        assert (error is None and found.error is None) or (error or "") in (found.error or "")


def test_wrong_secret(tmp_path: Path, authority: tuple[trustme.CA, trustme.LeafCert]) -> None:
    recorded = exchange(authority, tmp_path / "keys")
    lines = [line.rsplit(" ", 1)[0] + " " + "ab" * 48 + "\n" for line in recorded.keys.open()]
    recorded.keys.write_text("".join(line for line in lines if not line.startswith("#")))
    found = story(record(tmp_path / "a", recorded.wire), keylog=recorded.keys)
    assert ["does not fit" in note.text for note in found.notes] == [True]
    assert found.error is not None


def test_bad_key_logs(tmp_path: Path) -> None:
    path = record(tmp_path / "a", TURNS)
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "empty").write_text("")
    assert "not a TLS key log" in (story(path, keylog=tmp_path / "text").error or "")
    assert "no such file" in (story(path, keylog=tmp_path / "none").error or "")
    found = story(path, keylog=tmp_path / "empty")  # a live client may write it yet
    assert (found.error, found.says()) == (None, said(TURNS))


def test_resumes_after_lost_segments(tmp_path: Path, authority: tuple[trustme.CA, trustme.LeafCert]) -> None:
    """Data after the hole is read correctly: whole records, authenticated."""
    random = Random(4)
    turns = [*TURNS[:2], *((Side.SERVER, random.randbytes(3000)) for _ in range(60))]
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        recorded = exchange(authority, tmp_path / f"keys{version}", turns, version)
        every = packets(record(tmp_path / "a", recorded.wire))
        found = story(save(tmp_path / "b", without(every, [40, 41, 70])), keylog=recorded.keys)
        assert [gap.size for gap in found.gaps] == [None, None]
        assert not found.notes
        whole, heard = said(turns)[Side.SERVER], found.streams[1, Side.SERVER]
        assert len(whole) > len(heard) > len(whole) - 4 * 3000
        assert heard[-6000:] == whole[-6000:]


def test_lost_handshake_and_midstream(tmp_path: Path, authority: tuple[trustme.CA, trustme.LeafCert]) -> None:
    recorded = exchange(authority, tmp_path / "keys")
    every = packets(record(tmp_path / "a", recorded.wire))
    found = story(save(tmp_path / "b", without(every, [4])), keylog=recorded.keys)
    assert ["handshake" in note.text for note in found.notes] == [True]
    middle = [p for p in every if p.payload[:3] == b"\x17\x03\x03"][-1]
    found = story(save(tmp_path / "c", every[every.index(middle) :]), keylog=recorded.keys)
    assert ["began before the capture" in note.text for note in found.notes] == [True]
    assert [(b.tls, b.midstream) for b in found.begins] == [(True, True)]


def test_decrypted_web_traffic_is_dropped(
    tmp_path: Path, authority: tuple[trustme.CA, trustme.LeafCert]
) -> None:
    web = [(Side.CLIENT, b"GET / HTTP/1.1\r\n\r\n"), (Side.SERVER, bytes(50_000))]
    recorded = exchange(authority, tmp_path / "keys", web)
    found = story(save(tmp_path / "b", packets(record(tmp_path / "a", recorded.wire))), keylog=recorded.keys)
    assert found.items == []


def test_key_update() -> None:
    """RFC 8446, 7.2: the next secret is derived from the present one."""
    suite, secret = SUITES[0x1301], bytes(range(32))
    after = expand_label(suite, secret, "traffic upd", 32)
    key, iv = expand_label(suite, after, "key", 16), expand_label(suite, after, "iv", 12)
    header = b"\x17\x03\x03\x00\x15"
    sealed = AESGCM(key).encrypt(iv, b"data\x17\0\0", header)
    assert Tls13(suite, secret).updated().open(header, sealed, 0) == (23, b"data")


def test_prf_and_labels_against_published_values() -> None:
    """RFC 8448, 3: the server's handshake key and iv of the simple 1-RTT handshake."""
    secret = bytes.fromhex("b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38")
    suite = SUITES[0x1301]
    assert expand_label(suite, secret, "key", 16).hex() == "3fce516009c21727d0f2e4e86ee403bc"
    assert expand_label(suite, secret, "iv", 12).hex() == "5d313eb2671276ee13000b30"


def framed(turns: Iterable[Turn], seed: int = 1) -> list[Turn]:
    """A WebSocket connection: upgrade, then binary frames, whole or continued, pings among them."""
    random = Random(seed)
    key = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: binary\r\n\r\n"
    wire = [(Side.CLIENT, b"GET / HTTP/1.1\r\n" + key), (Side.SERVER, b"HTTP/1.1 101 Switching\r\n" + key)]
    for side, data in turns:
        pieces = (
            [data]
            if random.random() < 0.5 or len(data) < 2
            else [data[: len(data) // 2], data[len(data) // 2 :]]
        )
        for index, piece in enumerate(pieces):
            final = 0x80 if index == len(pieces) - 1 else 0
            wire.append((side, frame(final | (0 if index else 2), piece, side, random)))
            if random.random() < 0.3:
                wire.append((side, frame(0x89, b"ping", side, random)))
    return wire


def frame(first: int, data: bytes, side: Side, random: Random) -> bytes:
    size = len(data)
    short = size if size < 126 else 126 if size < 1 << 16 else 127
    extended = {126: struct.pack("!H", size & 0xFFFF), 127: struct.pack("!Q", size)}.get(short, b"")
    if side is Side.SERVER:
        return bytes([first, short]) + extended + data
    mask = random.randbytes(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    return bytes([first, short | 0x80]) + extended + mask + masked


@pytest.mark.parametrize("segment", [1, 3, 1448, 65_495])
def test_websocket(tmp_path: Path, segment: int) -> None:
    turns = dialogue(2, turns=8, longest=300 if segment < 100 else 100_000)
    every = packets(record(tmp_path / "a", framed(turns), segment=segment))
    found = story(save(tmp_path / "b", shuffled(every, 1, 4)))
    assert found.says() == said(turns)
    assert [(b.websocket, b.tls) for b in found.begins] == [(True, False)]


def test_websocket_in_tls(tmp_path: Path, authority: tuple[trustme.CA, trustme.LeafCert]) -> None:
    recorded = exchange(authority, tmp_path / "keys", framed(TURNS))
    found = story(save(tmp_path / "b", packets(record(tmp_path / "a", recorded.wire))), keylog=recorded.keys)
    assert found.says() == said(TURNS)
    assert [(b.websocket, b.tls) for b in found.begins] == [(True, True)]


def test_websocket_that_breaks(tmp_path: Path) -> None:
    turns = [(Side.CLIENT, LINK), (Side.SERVER, LINK), (Side.SERVER, bytes(9000)), (Side.CLIENT, b"last")]
    wire = framed(turns)
    every = packets(record(tmp_path / "a", wire))
    lost = [i for i, p in enumerate(every) if len(p.payload) == 1448][1]
    found = story(save(tmp_path / "b", without(every, [lost])))
    assert [gap.size for gap in found.gaps] == [None]
    assert ["the frames after them cannot be read" in note.text for note in found.notes] == [True]
    assert found.says()[Side.CLIENT] == LINK + b"last"
    refused = [wire[0], (Side.SERVER, b"HTTP/1.1 400 Bad\r\n\r\n")]
    found = story(record(tmp_path / "c", refused))
    assert [note.text for note in found.notes] == ["WebSocket: the server refused the upgrade: 400 Bad"]
    reserved = [*wire[:2], (Side.SERVER, b"\xf2\x01x")]
    found = story(record(tmp_path / "d", reserved))
    assert ["reserved" in note.text for note in found.notes] == [True]
