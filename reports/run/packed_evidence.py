# SPDX-License-Identifier: GPL-2.0-only
"""Makes the evidence of a finished run small: archives hold what the tests that passed have recorded, 32
recordings each, and the events are compressed. Recordings of other tests stay files of their own, which
Wireshark opens. A run of a few tests stays as it was written."""

from __future__ import annotations

import ctypes
import gzip
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from dissectors.capture import archived
from dissectors.rules.judgement import Verdict
from reports.run.run_events import (
    EVENTS,
    PACKED_EVENTS,
    CaseFinished,
    RunEvent,
    RunFinished,
    encode,
    read_events,
)

#: Evidence stays as it was written while the recordings that could be packed have less than this, bytes.
FEW = 2_000_000
#: The most recordings in an archive, and bytes of them, unpacked: similar ones pack better together, but to
#: read one all of them are unpacked.
TOGETHER, TOGETHER_BYTES = 32, 8_000_000
#: A recording of more than half of those bytes is alone in its archive. One of more than this stays a file of
#: its own, bytes.
LARGEST = 40_000_000
PACKING = 5
#: Blocks from this size on go back to the system when they are freed, bytes (mallopt(3); malloc.h).
MAPPED, _M_MMAP_THRESHOLD = 1 << 20, -3
#: The ending of a recording that is a file of its own; in an archive it lacks the last suffix.
_ALONE = ".pcapng.gz"


def pack(directory: Path) -> None:
    """Packs the evidence of a run that has ended; nothing happens to a run that was killed, or is packed.
    At every moment all evidence can be read. Raises OSError, UsageError."""
    if (directory / PACKED_EVENTS).exists():
        _remove_originals(directory)
        return
    events = read_events(directory)
    if not isinstance(events[-1], RunFinished):
        return
    candidates = {path: size for path in _packable(events) if (size := _size(directory / path)) is not None}
    if sum(size for size, _ in candidates.values()) < FEW:
        return
    groups = list(_groups({path: plain for path, (_, plain) in candidates.items()}))
    names = [
        f"{PurePosixPath(paths[0]).parent}/passed-{number:03}{archived.SUFFIX}"
        for number, paths in enumerate(groups, 1)
    ]
    places: dict[str, str] = {}
    # Else each thread's heap keeps the size of the largest recording. glibc alone has it.
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MAPPED)
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # lzma and zlib work beside Python
        for packed in threads.map(partial(_archive, directory), names, groups):
            places |= packed
    _put(directory, events, places)
    _remove_originals(directory)


def _packable(events: Sequence[RunEvent]) -> Iterator[str]:
    """The recordings of tests that passed, and of cells of the matrix that did not fail."""
    for case in events:
        if isinstance(case, CaseFinished) and (
            case.verdict is Verdict.PASS or (case.cell and case.verdict is Verdict.DEVIATES)
        ):
            path = case.artefacts.get("pcapng", "")
            if path.endswith(_ALONE) and "/" in path:
                yield path


def _size(path: Path) -> tuple[int, int] | None:
    """The bytes of a gzip file, packed and (its last four bytes, RFC 1952) unpacked; None if it is gone."""
    try:
        with path.open("rb") as file:
            size = file.seek(-4, 2) + 4
            return size, struct.unpack("<I", file.read(4))[0]
    except OSError:
        return None


def _groups(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """The recordings of each archive, in the order of the run and all from one directory."""
    group: list[str] = []
    total = 0
    for path, size in sizes.items():
        if size > TOGETHER_BYTES // 2:
            if size <= LARGEST:
                yield [path]
            continue
        elsewhere = bool(group) and Path(group[0]).parent != Path(path).parent
        if len(group) == TOGETHER or total + size > TOGETHER_BYTES or elsewhere:
            yield group
            group, total = [], 0
        group.append(path)
        total += size
    if group:
        yield group


def _archive(directory: Path, archive: str, paths: Sequence[str]) -> Mapping[str, str]:
    """Packs recordings into one archive; returns their new paths. A damaged one stays as it is."""
    files: dict[str, bytes] = {}
    places: dict[str, str] = {}
    for path in paths:
        name = PurePosixPath(path_alone(path)).name.removesuffix(".gz")
        try:
            files[name] = gzip.decompress((directory / path).read_bytes())
        except (OSError, EOFError, zlib.error):
            continue
        places[path] = f"{archive}/{name}"
    (directory / archive).write_bytes(archived.pack(files))
    return places


def _put(directory: Path, events: Sequence[RunEvent], places: Mapping[str, str]) -> None:
    """Writes the compressed events, with the recordings' new paths, completely or not at all."""
    part = directory / f".{PACKED_EVENTS}.part"
    with part.open("wb") as sink, gzip.GzipFile("", "wb", fileobj=sink, mtime=0) as file:
        for event in events:
            if isinstance(event, CaseFinished):
                moved = {kind: places.get(path, path) for kind, path in event.artefacts.items()}
                event = replace(event, artefacts=moved)
            file.write(f"{encode(event)}\n".encode())
    part.replace(directory / PACKED_EVENTS)


def _remove_originals(directory: Path) -> None:
    """Removes what the packed events and the archives hold."""
    (directory / EVENTS).unlink(missing_ok=True)
    for case in read_events(directory):
        if isinstance(case, CaseFinished) and (path := case.artefacts.get("pcapng")):
            if (alone := path_alone(path)) != path and (directory / file_of(path)).is_file():
                (directory / alone).unlink(missing_ok=True)


def path_alone(path: str) -> str:
    """The path, relative to the run's directory, that a recording has as a file of its own."""
    if (archive := archived.archive_of(Path(path))) is None:
        return path
    return f"{archive.parent.as_posix()}/{Path(path).name}.gz"


def file_of(path: str) -> str:
    """The file that holds a piece of evidence: itself, or its archive."""
    archive = archived.archive_of(Path(path))
    return path if archive is None else archive.as_posix()


def bring(directory: Path, path: str, target: Path) -> bool:
    """Copies a piece of evidence to a file, from an archive too; False if it is not there. Raises OSError."""
    if archived.archive_of(Path(path)) is None:
        source = directory / path
        if found := source.is_file():
            target.write_bytes(source.read_bytes())
        return found
    try:
        target.write_bytes(gzip.compress(archived.member(directory / path), PACKING, mtime=0))
    except OSError:
        return False
    return True
