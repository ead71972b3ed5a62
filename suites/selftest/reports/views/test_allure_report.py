# SPDX-License-Identifier: GPL-2.0-only
"""Allure's own command line makes a report of a run's results; it agrees with the certificate."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dissectors.rules.judgement import Verdict
from reports.commands.report import report
from reports.run.environment import ROOT
from reports.views import allure_results
from reports.views.certificate import certificate
from suites.selftest.reports.run.report_samples import (
    CRASH,
    DEVIATION,
    MUST,
    OBSERVED,
    ROBUST,
    case,
    found,
    run,
)
from suites.selftest.reports.views.allure_command import allure_command, generate

STATUS = {"PASS": "passed", "DEVIATES": "passed", "DIFFERS": "passed", "FAIL": "failed", "ERROR": "broken"}


@pytest.fixture(scope="session")
def allure() -> Path:
    """Allure's command line."""
    try:
        return allure_command()
    except OSError as error:
        pytest.skip(f"UNSUPPORTED: {error}")


def test_report_agrees_with_the_certificate(allure: Path, tmp_path: Path) -> None:
    """Counts equal the certificate's; a deviation is green and labelled; reasons and environment are
    there."""
    made = run(
        *(case(v.lower(), v) for v in Verdict),
        case("found", Verdict.FAIL, MUST, [found(MUST)]),
        case("seen", Verdict.DIFFERS, OBSERVED, [found(OBSERVED)]),
        case("crash", Verdict.DEVIATES, ROBUST, [found(ROBUST, CRASH)]),
        deviations=[DEVIATION],
    )
    made.seal = "ab" * 32
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "crash.pcapng").write_bytes(b"packets")
    results_of_it, told = tmp_path / "allure", tmp_path / "report"
    allure_results.write(made, tmp_path, results_of_it)
    generate(allure, results_of_it, told)
    stats = json.loads((told / "summary.json").read_text())["stats"]
    counts = Counter(STATUS.get(t["verdict"], "skipped") for t in certificate(made)["tests"])
    assert {name: n for name, n in stats.items() if name != "total"} == counts
    results = [json.loads(p.read_text()) for p in (told / "data" / "test-results").glob("*.json")]
    crash = next(r for r in results if r["name"] == "title of crash")
    assert crash["status"] == "passed"
    assert {"name": "verdict", "value": "DEVIATES"} in crash["labels"]
    assert {"name": "requirement", "value": "ROBUST-900"} in crash["labels"]
    assert "reason of crash" in json.dumps(crash)
    assert crash["attachments"]
    skipped = next(r for r in results if r["name"] == "title of unsupported")
    assert "reason of unsupported" in json.dumps(skipped)
    environment = json.loads((told / "widgets" / "allure_environment.json").read_text())
    assert {"verdict", "scope", "seal", "server"} <= {row["name"] for row in environment}


def test_alluredir(tmp_path: Path) -> None:
    """`pytest --alluredir` passes a declared deviation; `report --alluredir` writes the same afterwards."""
    test, place, out = "suites/robust/test_survival.py", tmp_path / "asked", tmp_path / "run"
    command = [sys.executable, "-m", "pytest", test, "-k", "flush_mark", "-q", "-p", "no:cacheprovider"]
    told = subprocess.run(
        [*command, f"--alluredir={place}", f"--out={out}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert told.returncode == 0, told.stdout
    report([out], None, tmp_path / "again")
    written = [
        sorted(path.read_bytes() for path in where.glob("*-result.json"))  # their names are random
        for where in (place, tmp_path / "again")
    ]
    assert written[0] == written[1]
    results = [json.loads(text) for text in written[0]]
    assert {result["status"] for result in results} == {"passed"}
    assert all((place / attached["source"]).is_file() for r in results for attached in r["attachments"])
