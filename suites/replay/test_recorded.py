# SPDX-License-Identifier: GPL-2.0-only
"""Recorded conversations, played against other server processes: recordings of this run and of real
clients."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from dissectors.wire.constants import ChannelType, MsgMain
from fixtures import captures
from fixtures.bench import Bench
from fixtures.bench.planting import requirement
from fixtures.system.certificates import Authority
from fixtures.system.hosts import Ability
from suites.replay import capture_script as recording
from suites.replay.player import Replay


def clean(path: Path) -> bool:
    """Whether the recording shows no breach. `spice-conform replay` is for recordings with a breach."""
    note = captures.note_of(path)
    return note.exists() and not tomllib.loads(note.read_text(encoding="utf-8")).get("findings")


RECORDED = [path for path in captures.recorded() if clean(path)]
INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
#: The requirements that every migration shows, and those that each kind shows.
SHOWN = {
    "semi-seamless": ("MIG-SRC-015", "MIG-DST-002", "MIG-DST-004", "CONNID-005"),
    "tls": ("MIG-SRC-015", "MIG-DST-002", "MIG-DST-004", "CONNID-005"),
    "seamless": ("MIG-SRC-040", "MIG-DST-020", "MIG-DST-023"),
    "switch-host": ("MIG-SRC-018",),
}


def replayed(bench: Bench, path: Path) -> Replay:
    """The recording, played on hosts of the bench."""
    replay = Replay(bench, recording.read(path))
    replay.run()
    assert not replay.troubles
    return replay


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=path.name.removesuffix(".pcapng.gz"),
            marks=requirement(*SHOWN.get(path.name.removesuffix(".pcapng.gz"), ("MAIN-001",))),
        )
        for path in RECORDED
    ],
)
def test_recorded_by_a_real_client(bench: Bench, path: Path) -> None:
    """Repeats the messages of spice-gtk to QEMU to this build."""
    replayed(bench, path)


@pytest.fixture
def recorded(bench: Bench, tmp_path: Path, authority: Authority) -> Callable[[bool], Path]:
    """Records a migration on processes of its own, apart from the judged bench."""

    def record(seamless: bool) -> Path:
        own = Bench(bench.launchers, tmp_path, authority)
        try:
            source, target = own.pair(seamless=seamless)
            client = own.client(source, channels=(INPUTS,))
            source.announce(target)
            own.pump.until(lambda: client.target and client.target.linked, what="the links to the target")
            own.settle()
            source.complete(target)
            own.pump.until(lambda: client.left, what="the move to the target")
            if not seamless:
                client.main.expect(MsgMain.SPICE_MSG_MAIN_INIT)
            own.finish()
            own.pump.tape.write_pcapng(tmp_path / "recorded.pcapng")
        finally:
            own.close()
        return tmp_path / "recorded.pcapng"

    return record


@requirement("MIG-SRC-015", "MIG-DST-002", "MIG-DST-004", "CONNID-005")
def test_recorded_in_this_run(bench: Bench, recorded: Callable[[bool], Path]) -> None:
    """A semi-seamless migration of this build, repeated on other processes of it: they send the same."""
    assert not replayed(bench, recorded(False)).differences


@requirement("MIG-SRC-040", "MIG-SRC-041", "MIG-DST-020", "MIG-DST-023")
@pytest.mark.needs(Ability.SEAMLESS_DATA)
def test_seamless_recorded_in_this_run(bench: Bench, recorded: Callable[[bool], Path]) -> None:
    """The same for a seamless migration, with the migration data of the new run."""
    assert not replayed(bench, recorded(True)).differences
