# SPDX-License-Identifier: GPL-2.0-only
"""TLS key logs: the lines that SSLKEYLOGFILE writes (draft-ietf-tls-keylogfile)."""

from __future__ import annotations

import re
from pathlib import Path

from dissectors.capture.capture_items import CaptureError

_LINE = re.compile(rb"^([A-Z][A-Z0-9_]*) ([0-9a-fA-F]{64}) ((?:[0-9a-fA-F]{2})+)\s*$", re.MULTILINE)
MOST = 1 << 17  # secrets that are kept
#: A larger file is no key log.
LARGEST = 1 << 27


class KeyLog:
    """Secrets by label and client random; from a file, from the capture itself, or both.

    A file that grew is read again when a secret is not found: a live client adds lines as it connects.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._size = -1
        self._secrets: dict[tuple[str, bytes], bytes] = {}
        if path is not None:
            self._read(path)
            if self._size and not self._secrets:
                raise CaptureError(f"{path}: not a TLS key log (no line such as CLIENT_RANDOM <hex> <hex>)")

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def add(self, text: bytes) -> None:
        """The lines of a key log; what is no such line is ignored."""
        for label, random, secret in _LINE.findall(text):
            if len(self._secrets) >= MOST:
                return
            self._secrets[label.decode(), bytes.fromhex(random.decode())] = bytes.fromhex(secret.decode())

    def find(self, label: str, random: bytes) -> bytes | None:
        """The secret with this label of the connection with this client random."""
        if (label, random) not in self._secrets and self.path is not None:
            self._read(self.path)
        return self._secrets.get((label, random))

    def _read(self, path: Path) -> None:
        try:
            size = path.stat().st_size
            if size == self._size:
                return
            if size > LARGEST:
                raise CaptureError(f"{path}: too large for a TLS key log")
            self.add(path.read_bytes())
            self._size = size
        except OSError as error:
            raise CaptureError(f"{path}: {(error.strerror or str(error)).lower()}") from None
