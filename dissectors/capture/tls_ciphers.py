# SPDX-License-Identifier: GPL-2.0-only
"""The record protection of TLS 1.2 (RFC 5246, 5288, 6655, 7366, 7905) and 1.3 (RFC 8446), to read with."""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import new as new_hash
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

APPLICATION_DATA = 23


class Unreadable(Exception):
    """The key does not decrypt the record."""


@dataclass(frozen=True)
class Suite:
    """`kind` of cipher, `key` and `mac` in bytes, `hash` of the key derivation."""

    kind: str
    key: int
    hash: str = "sha256"
    mac: str = ""


_GCM = (Suite("gcm", 16), Suite("gcm", 32, "sha384"))
_CCM = (Suite("ccm", 16), Suite("ccm", 32))
_CCM8 = (Suite("ccm8", 16), Suite("ccm8", 32))
_CHACHA = Suite("chacha", 32)
_SHA1 = (Suite("cbc", 16, mac="sha1"), Suite("cbc", 32, mac="sha1"))
_SHA256 = (Suite("cbc", 16, mac="sha256"), Suite("cbc", 32, mac="sha256"))
_SHA384 = (Suite("cbc", 16, mac="sha256"), Suite("cbc", 32, "sha384", "sha384"))


def _pairs(suites: tuple[Suite, Suite], *first: int, step: int = 1) -> dict[int, Suite]:
    """Numbers of the 128-bit members and, `step` later, of the 256-bit members."""
    return {number + step * index: suite for number in first for index, suite in enumerate(suites)}


#: Cipher suites by number (IANA's registry): RSA, DHE-RSA, ECDHE-ECDSA and ECDHE-RSA key exchange.
SUITES: dict[int, Suite] = {
    0x1301: _GCM[0],
    0x1302: _GCM[1],
    0x1303: _CHACHA,
    0x1304: _CCM[0],
    0x1305: _CCM8[0],
    **_pairs(_GCM, 0x009C, 0x009E, 0xC02B, 0xC02F),
    **_pairs(_CCM, 0xC09C, 0xC09E, 0xC0AC),
    **_pairs(_CCM8, 0xC0A0, 0xC0A2, 0xC0AE),
    **_pairs(_SHA1, 0x002F, 0x0033, step=6),
    **_pairs(_SHA1, 0xC009, 0xC013),
    **_pairs(_SHA256, 0x003C),
    **_pairs(_SHA256, 0x0067, step=4),
    **_pairs(_SHA384, 0xC023, 0xC027),
    **dict.fromkeys((0xCCA8, 0xCCA9, 0xCCAA), _CHACHA),
}


class RecordCipher(Protocol):
    """Decrypts the records of one direction with its keys."""

    def open(self, header: bytes, body: bytes, sequence: int) -> tuple[int, bytes]:
        """(content type, plain bytes) of a record; Unreadable if the key or the number does not fit."""


def _aead(suite: Suite, key: bytes) -> Callable[[bytes, bytes, bytes], bytes]:
    """decrypt(nonce, data, additional data)"""
    if suite.kind == "gcm":
        return AESGCM(key).decrypt
    if suite.kind == "chacha":
        return ChaCha20Poly1305(key).decrypt
    return AESCCM(key, tag_length=8 if suite.kind == "ccm8" else 16).decrypt


class Tls13:
    """TLS 1.3; `secret` is a traffic secret."""

    def __init__(self, suite: Suite, secret: bytes) -> None:
        self._suite = suite
        self._secret = secret
        self._decrypt = _aead(suite, expand_label(suite, secret, "key", suite.key))
        self._iv = int.from_bytes(expand_label(suite, secret, "iv", 12))

    def open(self, header: bytes, body: bytes, sequence: int) -> tuple[int, bytes]:
        """See `RecordCipher`."""
        try:
            plain = self._decrypt((self._iv ^ sequence).to_bytes(12), body, header)
        except (InvalidTag, ValueError):
            raise Unreadable from None
        plain = plain.rstrip(b"\0")
        return (plain[-1], plain[:-1]) if plain else (0, b"")

    def updated(self) -> Tls13:
        """The cipher with the keys that follow a KeyUpdate."""
        size = len(self._secret)
        return Tls13(self._suite, expand_label(self._suite, self._secret, "traffic upd", size))


class Tls12Aead:
    """TLS 1.2 with GCM, CCM (explicit part of the nonce in the record) or ChaCha20."""

    def __init__(self, suite: Suite, key: bytes, iv: bytes) -> None:
        self._decrypt = _aead(suite, key)
        self._iv = iv
        self._tag = 8 if suite.kind == "ccm8" else 16
        self._explicit = 0 if suite.kind == "chacha" else 8

    def open(self, header: bytes, body: bytes, sequence: int) -> tuple[int, bytes]:
        """See `RecordCipher`."""
        mixed = (int.from_bytes(self._iv) ^ sequence).to_bytes(12)
        nonce = self._iv + body[:8] if self._explicit else mixed
        sealed = body[self._explicit :]
        size = len(sealed) - self._tag
        if size < 0:
            raise Unreadable
        try:
            aad = struct.pack("!Q", sequence) + header[:3] + struct.pack("!H", size)
            return header[0], self._decrypt(nonce, sealed, aad)
        except (InvalidTag, ValueError):
            raise Unreadable from None


class Tls12Cbc:
    """TLS 1.2 with AES-CBC and HMAC, in either order."""

    def __init__(self, suite: Suite, key: bytes, mac_key: bytes, encrypt_then_mac: bool) -> None:
        self._key = algorithms.AES(key)
        self._hash = suite.mac
        self._mac_key = mac_key
        self._mac_size = len(mac_key)
        self._mac_outside = encrypt_then_mac

    def open(self, header: bytes, body: bytes, sequence: int) -> tuple[int, bytes]:
        """See `RecordCipher`."""
        if self._mac_outside:
            body, mac = body[: -self._mac_size], body[-self._mac_size :]
            self._check(header, body, mac, sequence)
        if len(body) < 32 or len(body) % 16:
            raise Unreadable
        decryptor = Cipher(self._key, modes.CBC(body[:16])).decryptor()
        plain = decryptor.update(body[16:]) + decryptor.finalize()
        plain = plain[: -1 - plain[-1]]
        if not self._mac_outside:
            plain, mac = plain[: -self._mac_size], plain[-self._mac_size :]
            self._check(header, plain, mac, sequence)
        return header[0], plain

    def _check(self, header: bytes, data: bytes, mac: bytes, sequence: int) -> None:
        signed = struct.pack("!Q", sequence) + header[:3] + struct.pack("!H", len(data)) + data
        if hmac.digest(self._mac_key, signed, self._hash) != mac:
            raise Unreadable


def tls12_ciphers(
    suite: Suite, master: bytes, client_random: bytes, server_random: bytes, encrypt_then_mac: bool
) -> tuple[RecordCipher, RecordCipher]:
    """The keys of the client's and of the server's direction (RFC 5246, 6.3)."""
    mac = new_hash(suite.mac).digest_size if suite.mac else 0
    iv = {"cbc": 0, "chacha": 12}.get(suite.kind, 4)
    block = prf(suite, master, b"key expansion", server_random + client_random, 2 * (mac + suite.key + iv))
    parts = []
    for size in (mac, mac, suite.key, suite.key, iv, iv):
        parts.append(block[:size])
        block = block[size:]

    def direction(index: int) -> RecordCipher:
        mac_key, key, fixed = parts[index], parts[2 + index], parts[4 + index]
        if suite.kind == "cbc":
            return Tls12Cbc(suite, key, mac_key, encrypt_then_mac)
        return Tls12Aead(suite, key, fixed)

    return direction(0), direction(1)


def prf(suite: Suite, secret: bytes, label: bytes, seed: bytes, size: int) -> bytes:
    """The pseudorandom function of TLS 1.2 (RFC 5246, 5)."""
    out, step = b"", label + seed
    while len(out) < size:
        step = hmac.digest(secret, step, suite.hash)
        out += hmac.digest(secret, step + label + seed, suite.hash)
    return out[:size]


def expand_label(suite: Suite, secret: bytes, label: str, size: int) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 8446, 7.1); `size` is at most one hash."""
    name = b"tls13 " + label.encode()
    info = struct.pack("!HB", size, len(name)) + name + b"\0"
    return hmac.digest(secret, info + b"\1", suite.hash)[:size]
