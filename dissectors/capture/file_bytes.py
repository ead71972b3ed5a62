# SPDX-License-Identifier: GPL-2.0-only
"""The bytes of a capture file in large blocks: plain, gzip, xz or bzip2, a file that grows, a pipe."""

from __future__ import annotations

import bz2
import lzma
import os
import stat
import sys
import zlib
from io import FileIO
from pathlib import Path
from typing import Protocol

from dissectors.capture import archived
from dissectors.capture.capture_items import CaptureError, Wait

BLOCK = 1 << 20
GZIP, XZ, BZIP2 = b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh"
#: The dictionary of "xz -9" and a little more, bytes: a file that needs more memory is refused.
XZ_MEMORY = 80 << 20


class Source:
    """Reads `path` ("-": standard input) block by block.

    With `follow` the end of the file is not the end: `read` returns None when nothing new is there, and
    `wait` asks the caller's function whether to go on.
    """

    def __init__(self, path: Path, follow: Wait | None = None) -> None:
        self.name = str(path)
        self.size: int | None = None
        self.done = 0  # bytes read from the file
        archive = archived.archive_of(path)
        self.following = follow is not None and (
            archive is None or not archive.is_file()
        )  # else it is finished
        self._path = path
        self._follow = follow
        try:
            self._raw = FileIO(os.dup(sys.stdin.fileno())) if self.name == "-" else archived.opened(path)
            status = os.fstat(self._raw.fileno())
        except (OSError, ValueError) as error:
            raise self.error(_reason(error)) from None
        self.regular = stat.S_ISREG(status.st_mode)
        if self.regular:
            self.size = status.st_size
        elif follow is not None:
            os.set_blocking(self._raw.fileno(), False)
        self._inode = status.st_ino
        self._inflater: Inflater | None = None
        self._begun = False

    def error(self, text: str) -> CaptureError:
        """A one-line error that names the file."""
        return CaptureError(f"{self.name}: {text}")

    def read(self) -> bytes | None:
        """The next block; b"" at the end, None if a followed source has nothing new."""
        while True:
            if self._inflater and self._inflater.waiting:
                if plain := self._inflate(b""):
                    return plain
                continue
            try:
                block = self._raw.read(BLOCK)
            except OSError as error:
                raise self.error(_reason(error)) from None
            if block is None or (not block and self.regular and self.following):
                return None
            self.done += len(block)
            if not self._begun and block:
                self._begun = True
                self._inflater = _inflater(block)
            if self._inflater is None:
                return block
            if not block:
                if self._inflater.inside:
                    raise self.error("the compressed data ends early")
                return block
            if plain := self._inflate(block):
                return plain

    def _inflate(self, block: bytes) -> bytes:
        assert self._inflater is not None
        try:
            return self._inflater.feed(block)
        except (zlib.error, lzma.LZMAError, OSError, EOFError):
            raise self.error("the compressed data is damaged") from None

    def wait(self) -> bool:
        """Asks the caller's function whether to go on; False ends the following. Raises CaptureError if the
        file went away."""
        if self.regular:
            try:
                status = self._path.stat()
            except OSError:
                raise self.error("vanished while it was followed") from None
            if status.st_ino != self._inode:
                raise self.error("was replaced while it was followed")
            if status.st_size < self.done:
                raise self.error("was cut while it was followed")
        if self._follow is not None and self._follow():
            return True
        self.following = False
        return False

    def close(self) -> None:
        """Closes the file."""
        self._raw.close()


class Inflater(Protocol):
    """Decompresses bytes, at most a block at a time."""

    inside: bool  # in the middle of what was packed as one

    @property
    def waiting(self) -> bool:
        """Whether more plain bytes are available without new input."""

    def feed(self, block: bytes) -> bytes:
        """Up to a block of plain bytes; call again, with nothing, while it is `waiting`."""


class Gzip:
    """gzip members (RFC 1952)."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._left = b""
        self.inside = True

    @property
    def waiting(self) -> bool:
        """See `Inflater`."""
        return bool(self._left)

    def feed(self, block: bytes) -> bytes:
        """See `Inflater`."""
        data = self._left + block
        if not self.inside:
            data = data.lstrip(b"\0")  # padding between members is allowed
            if not data:
                self._left = b""
                return b""
            self._member = zlib.decompressobj(wbits=31)
            self.inside = True
        plain = self._member.decompress(data, BLOCK)
        self.inside = not self._member.eof
        self._left = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return plain


class Packed:
    """xz or bzip2 streams, one behind the other."""

    def __init__(self, magic: bytes) -> None:
        self._magic = magic
        self._stream = self._new()
        self._left = b""
        self.inside = True

    def _new(self) -> lzma.LZMADecompressor | bz2.BZ2Decompressor:
        if self._magic == XZ:
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
        return bz2.BZ2Decompressor()

    @property
    def waiting(self) -> bool:
        """See `Inflater`."""
        return bool(self._left) or (self.inside and not self._stream.needs_input)

    def feed(self, block: bytes) -> bytes:
        """See `Inflater`."""
        data, self._left = self._left + block, b""
        if not self.inside:
            data = data.lstrip(b"\0")
            if not data:
                return b""
            self._stream, self.inside = self._new(), True
        plain = self._stream.decompress(data, BLOCK)
        if self._stream.eof:
            self.inside, self._left = False, self._stream.unused_data
        return plain


def _inflater(head: bytes) -> Inflater | None:
    """The decompressor for a file with this beginning; None if it is not compressed."""
    if head[:2] == GZIP[: len(head)]:
        return Gzip()
    for magic in (XZ, BZIP2):
        if head.startswith(magic):
            return Packed(magic)
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
