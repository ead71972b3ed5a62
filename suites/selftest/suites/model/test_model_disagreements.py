# SPDX-License-Identifier: GPL-2.0-only
"""Every disagreement of the installed library's model and the rules is explained, and told."""

from __future__ import annotations

import pytest

from fixtures.library import LibraryLauncher
from suites.model import disagreements, explained
from suites.model.conformance import file_of
from suites.model.subject import Subject

SUBJECT = Subject("target", seamless=True)


def test_every_disagreement_is_explained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LibraryLauncher() as launcher:
        file = file_of(launcher.identity.version, SUBJECT)
    if not file.is_file():
        pytest.skip("there is no model of the installed library: make models")
    assert disagreements.main(str(file)) == 0
    told = capsys.readouterr().out
    assert "0 not explained" in told
    assert "declared: MIGRATE_END after DST_DO_SEAMLESS ends the process" in told
    monkeypatch.setattr(explained, "EXPLAINED", explained.EXPLAINED[:-5:-1])
    assert disagreements.main(str(file)) == 1
    assert "NOT EXPLAINED" in capsys.readouterr().out
