# SPDX-License-Identifier: GPL-2.0-only
"""The printed certificate: its words, and the two pages that a real browser prints."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dissectors.rules.judgement import Verdict
from reports.run.merged_runs import merge
from reports.run.run_events import Deviation
from reports.run.tally import Run
from reports.views.certificate_page import certificate_page
from suites.selftest.reports.run.report_samples import CRASH, MUST, ROBUST, case, found, run

BROWSER = shutil.which("chromium")
SECONDS = 60


def _many() -> Run:
    """More builds, failures and risks than a page can hold."""
    cases = [case(f"fail{n}", Verdict.FAIL, MUST, [found(MUST)], server=f"build{n}") for n in range(9)]
    words = "A long sentence of what happens when this build meets an input that nobody expects of it. " * 3
    declared = []
    for n in range(60):
        symptom = f"{CRASH} number {n};"
        declared.append(Deviation("ROBUST-*", symptom, f"{n}: {words}", ">=0.14.3,<=0.16.0"))
        cases.append(case(f"crash{n}", Verdict.DEVIATES, ROBUST, [found(ROBUST, symptom)], server="build1"))
    return run(*cases, deviations=declared)


def _full(made: Run, **changes: object) -> Run:
    return replace(made, started=replace(made.started, **changes))  # type: ignore[arg-type]


def test_conformant_is_said_of_a_full_run_alone() -> None:
    whole = run(case("a"))
    assert "<h1>CONFORMANT</h1>" in certificate_page(whole)
    part = certificate_page(_full(whole, selection=("--requirement LINK-*",)))
    assert "CONFORMANT</h1>" not in part
    assert "<h1>NOTHING FAILED</h1>" in part
    assert "not the full suite but a selection (--requirement LINK-*)" in part


def test_words_are_those_of_the_run() -> None:
    """Declared faults are risks; seal, build and scope are there; no text of a server becomes markup."""
    made = _many()
    made.seal = "ab" * 32
    text = certificate_page(made)
    for words in ("NOT CONFORMANT", "ab" * 32, "0.15.1", "cd" * 32, "A peer can end, stall or exhaust"):
        assert words in text
    evil = run(case("a", Verdict.FAIL, MUST, [found(MUST)], server="<script>x</script>"))
    assert "<script>x" not in certificate_page(evil)
    assert not re.search(r"(src|href)=", text)


@pytest.mark.skipif(not BROWSER, reason="UNSUPPORTED: no Chromium here")
@pytest.mark.parametrize("many", [False, True])
def test_prints_on_two_pages(many: bool, tmp_path: Path) -> None:
    """Whatever the run, Chromium's PDF has two pages."""
    made = _many() if many else merge([run(case("a")), run(case("b", server="other"))])
    made.seal = "ab" * 32
    page, pdf = tmp_path / "certificate.html", tmp_path / "certificate.pdf"
    page.write_text(certificate_page(made), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    command = [str(BROWSER), *options, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    done = subprocess.run(["pdfinfo", pdf], check=True, capture_output=True, text=True, timeout=SECONDS)
    assert re.search(r"Pages: +2\n", done.stdout), done.stdout
