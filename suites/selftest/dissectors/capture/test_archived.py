# SPDX-License-Identifier: GPL-2.0-only
"""A capture in an archive is read as if the archive were a directory; a bad archive is one line."""

from __future__ import annotations

import gzip
import lzma
import re
import tarfile
from pathlib import Path

import pytest

from dissectors.capture import CaptureError, archived
from dissectors.capture.reader import EventReader, events
from fixtures.captures import DIRECTORY

CAPTURE = DIRECTORY / "semi-seamless.pcapng.gz"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / f"some{archived.SUFFIX}"
    path.write_bytes(archived.pack({"other": b"", "one.pcapng": gzip.decompress(CAPTURE.read_bytes())}))
    return path


def test_capture_in_an_archive(archive: Path) -> None:
    """Its events equal those of the capture as a file of its own, and tar(1) reads the archive too."""
    assert list(events([archive / "one.pcapng"])) == list(events([CAPTURE]))
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["other", "one.pcapng"]


def test_capture_in_an_archive_is_finished(archive: Path) -> None:
    """Following it ends with it."""
    path = archive / "one.pcapng"
    assert list(EventReader([path], follow=lambda: False)) == list(events([path]))


def test_archive_that_was_written_again(archive: Path) -> None:
    assert archived.member(archive / "other") == b""
    archive.write_bytes(archived.pack({"other": b"new"}))
    assert archived.member(archive / "other") == b"new"


def test_directory_that_is_called_like_an_archive(tmp_path: Path) -> None:
    directory = tmp_path / f"some{archived.SUFFIX}"
    directory.mkdir()
    (directory / "one.pcapng.gz").write_bytes(CAPTURE.read_bytes())
    assert list(events([directory / "one.pcapng.gz"])) == list(events([CAPTURE]))


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Links cost nothing, however many there are, and lead nowhere."""
    path = tmp_path / f"some{archived.SUFFIX}"
    with tarfile.open(path, "w:xz") as tar:
        for kind, target in ((tarfile.SYMTYPE, "two.pcapng"), (tarfile.LNKTYPE, "one.pcapng")):
            entry = tarfile.TarInfo("two.pcapng")
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
    assert archived.names(path) == frozenset()
    with pytest.raises(CaptureError, match="no such file in some"):
        list(events([path / "two.pcapng"]))


def _larger_than_allowed() -> bytes:
    return lzma.compress(bytes(archived.LARGEST + 1), preset=0)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cut, or larger"),
        (b"no archive at all", "is damaged"),
        (lzma.compress(b"no archive at all" * 100), "is damaged"),
        (archived.pack({"one": b"1" * 10_000})[:-40], "cut, or larger"),
        (archived.pack({"one": b""}), "no such file in some.tar.xz"),
        (None, "cut, or larger"),
    ],
    ids=["empty", "text", "xz of text", "cut", "other members", "bomb"],
)
def test_bad_archive(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / f"some{archived.SUFFIX}"
    path.write_bytes(_larger_than_allowed() if content is None else content)
    with pytest.raises(CaptureError, match=f"^{re.escape(str(path))}/two.pcapng: .*{why}"):
        list(events([path / "two.pcapng"]))
