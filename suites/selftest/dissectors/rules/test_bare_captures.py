# SPDX-License-Identifier: GPL-2.0-only
"""`make bare-captures`: the packets of a real run accuse nobody falsely; a finding that appears is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fixtures.captures import DIRECTORY
from suites.selftest.dissectors.capture.capture_shapes import SHAPES, merged
from suites.selftest.dissectors.rules import bare_captures
from suites.selftest.dissectors.rules.bare_captures import main
from suites.selftest.dissectors.rules.test_harmless_changes import bare_packets
from suites.selftest.reports.real_run import real_run

#: Migrations by switch host, and links that are refused.
SELECTED = ("suites/migration/test_switch_host.py", "suites/link/test_connection_id.py::test_wrong_id")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over some tests of the installed library."""
    return real_run(tmp_path_factory.mktemp("bare") / "run", *SELECTED)


def test_nobody_is_accused_in_any_shape(run: Path) -> None:
    done = CliRunner().invoke(main, [str(run), "--shape", "all", "-n", "1"])
    assert (done.exit_code, done.output.count("\n")) == (0, 1), done.output
    for shape in SHAPES:
        assert f" {shape}" in done.output


def test_a_finding_that_appears_is_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bare_captures, "TRULY_SHOWN", ())  # the keys that the suite's hosts have ready
    done = CliRunner().invoke(main, [str(run), "-n", "1"])
    assert done.exit_code == 1
    assert "LINK-010 in suites/" in done.output
    assert "(bare), frame " in done.output


def test_a_directory_that_is_no_run(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [str(tmp_path)])
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1


def test_two_captures_with_a_port_in_common_are_not_merged() -> None:
    packets = bare_packets(DIRECTORY / "semi-seamless.pcapng.gz")
    assert merged(packets, packets) is None
