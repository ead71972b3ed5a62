# SPDX-License-Identifier: GPL-2.0-only
"""A file in a `.tar.xz` archive, named as if the archive were a directory: `RUN/tests/passed-1.tar.xz/NAME`.
A run keeps the packets of its passed tests in such archives."""

from __future__ import annotations

import lzma
import os
import tarfile
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO, FileIO
from pathlib import Path

SUFFIX = ".tar.xz"
#: The largest archive that is read, bytes, packed and unpacked: it is held in memory.
LARGEST = 64 << 20
#: The memory for unpacking, bytes: enough for the dictionary of "xz -9".
MEMORY = 80 << 20


def archive_of(path: Path) -> Path | None:
    """The archive that holds a file of this name; None if the name does not lead through an archive."""
    return path.parent if path.parent.name.endswith(SUFFIX) else None


def member(path: Path) -> bytes:
    """The content of a file in an archive. Raises OSError, with one line."""
    archive = archive_of(path)
    if archive is None:
        raise FileNotFoundError(2, os.strerror(2), os.fspath(path))
    status = archive.stat()
    try:
        return _members(archive, status.st_mtime_ns, status.st_size)[path.name]
    except KeyError:
        raise FileNotFoundError(2, f"no such file in {archive.name}", os.fspath(path)) from None


def opened(path: Path) -> FileIO:
    """A file, wherever it is. Raises OSError."""
    archive = archive_of(path)
    if archive is None or not archive.is_file():
        return FileIO(os.fspath(path))
    file = FileIO(os.memfd_create("member"), "r+")
    file.write(member(path))
    file.seek(0)
    return file


@lru_cache(1)
def _members(archive: Path, mtime_ns: int, size: int) -> Mapping[str, bytes]:
    """The files of an archive that is unchanged since `mtime_ns`; the tests of one are read in a row."""
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
    try:
        data = unpacker.decompress(archive.read_bytes() if size <= LARGEST else b"", LARGEST)
        if not unpacker.eof:
            raise OSError(f"{archive.name} is cut, or larger than {LARGEST >> 20} MB")
        with tarfile.open(fileobj=BytesIO(data), mode="r:") as tar:
            return {entry.name: _content(tar, entry) for entry in tar if _is_plain(entry)}
    except (lzma.LZMAError, tarfile.TarError, EOFError, ValueError):
        raise OSError(f"{archive.name} is damaged") from None


def _is_plain(entry: tarfile.TarInfo) -> bool:
    """Not a link and not a sparse file: small ones can stand for gigabytes."""
    return entry.isreg() and not entry.issparse()


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(entry)
    return file.read() if file else b""


def names(archive: Path) -> frozenset[str]:
    """The names of the files in an archive. Raises OSError."""
    status = archive.stat()
    return frozenset(_members(archive, status.st_mtime_ns, status.st_size))


def pack(files: Mapping[str, bytes]) -> bytes:
    """An archive of these files (name -> content); the same files make the same bytes."""
    out = BytesIO()
    with (
        lzma.open(out, "wb", preset=3) as packed,  # higher ones take longer and save little
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, BytesIO(content))
    return out.getvalue()
