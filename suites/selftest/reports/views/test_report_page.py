# SPDX-License-Identifier: GPL-2.0-only
"""The written reports: page, certificate, junit, table, comparison; and the checks of `verify`."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from dissectors.rules.judgement import Verdict
from reports.commands.compare import comparison
from reports.ladder.ladder_svg import svg
from reports.ladder.lanes import ladder
from reports.run.merged_runs import merge
from reports.run.run_events import CaseFinished, encode
from reports.run.tally import Run
from reports.views import certificate, junit, page
from reports.views.terminal import summary
from suites.selftest.reports.run.report_samples import (
    CATALOGUE,
    CRASH,
    DEVIATION,
    MUST,
    OBSERVED,
    ROBUST,
    case,
    conversation,
    found,
    identity,
    run,
)

EVIL = "<script>alert(1)</script>\x00 & “x”"


@pytest.fixture
def everything() -> Run:
    cases = [case(v.lower(), v) for v in Verdict]
    cases += [
        case("found", Verdict.FAIL, MUST, [found(MUST, EVIL)]),
        case("seen", Verdict.DIFFERS, OBSERVED, [found(OBSERVED)]),
        case("crash", Verdict.DEVIATES, ROBUST, [found(ROBUST, CRASH)]),
    ]
    return run(*cases, deviations=[DEVIATION])


def _drawn(case: CaseFinished) -> str:
    return svg(ladder(conversation()), case.title)


class _Page(HTMLParser):
    """Collects ids, links and external resources."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                assert value not in self.ids, f"id {value} stands twice"
                self.ids.add(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name in ("src", "srcset", "data"):
                self.loaded.append(value or "")


@pytest.mark.parametrize("many", [False, True])
def test_page_stands_alone(everything: Run, many: bool) -> None:
    """The page loads nothing, its links lead somewhere, and no text of a server becomes markup."""
    other = run(case("pass", server="other"))
    text = page.page(merge([everything, other]) if many else everything, _drawn)
    read = _Page(text)
    assert read.loaded == []
    assert "link" not in read.tags
    assert "@import" not in text
    assert "url(" not in text
    inner = {link[1:] for link in read.links if link.startswith("#")}
    assert inner <= read.ids
    assert set(CATALOGUE) <= read.ids
    assert not any(link.startswith(("http", "//", "/")) for link in read.links)
    assert "<script>alert" not in text
    assert ("matrix" in read.ids) is many
    assert "NOT CONFORMANT" in text
    assert "known since 2012" in text


def test_ladders_are_packed_once(everything: Run) -> None:
    """Each test's ladder has its place, and appears once its group is unpacked."""
    text = page.page(everything, _drawn)
    places = re.findall(r'<figure data-part="pack-(\d+)\.(\d+)">', text)
    assert len(places) == len(set(places)) == len(everything.cases)
    packed = dict(re.findall(r'id="pack-(\d+)">([^<]*)<', text))
    for group, index in places:
        parts = json.loads(gzip.decompress(base64.b64decode(packed[group])))
        assert parts[int(index)].startswith("<svg")


def test_certificate_is_json_and_whole(everything: Run) -> None:
    data = json.loads(json.dumps(certificate.certificate(everything)))
    rows = {row["id"]: row for row in data["requirements"]}
    assert {row["id"]: row["verdict"] for row in rows.values()} == {
        "MIG-DST-900": "FAIL",
        "LINK-900": "DIFFERS",
        "ROBUST-900": "DEVIATES",
        "MIG-CLI-900": None,
    }
    assert rows["MIG-CLI-900"]["why"] == "a real client"
    assert "tests/found" not in rows["ROBUST-900"]["tests"]
    assert rows["ROBUST-900"]["evidence"] == ["cases/crash.pcapng"]
    assert data["servers"][0]["builds"]["source"]["sha256"] == "cd" * 32
    assert data["deviations"][0]["tests_that_showed_it"] == ["suites/migration/test_x.py::crash"]


def test_junit_is_xml_whatever_was_seen(everything: Run) -> None:
    root = ET.fromstring(junit.junit(everything))
    suite = root[0]
    assert [suite.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["10", "2", "1", "2"]
    failure = next(e for e in suite.iter("failure") if "<script>" in (e.text or ""))
    assert "?" in (failure.text or "")


def test_table_fits_and_says_what_was_seen(everything: Run) -> None:
    text = summary(everything, Path("results/x"), colour=False)
    narrow = summary(everything, Path("results/x"), colour=False, width=80)
    assert max(map(len, text.splitlines())) <= 100
    assert max(map(len, narrow.splitlines())) <= 80
    assert MUST.text in text
    assert "\x1b" not in text
    for words in (
        "expected  nothing of the kind",
        "seen      INIT",
        "cases/found.pcapng",
        "known since 2012",
    ):
        assert words in text
    assert "\x1b" in summary(everything, Path("results/x"), colour=True)


@pytest.mark.parametrize(
    ("version", "words", "silent"),
    [
        ("0.12.8", "ROBUST-900, ROBUST-901 on 0.12.8 match deviations declared for >=0.14.3", "unknown"),
        (None, "The version of system is unknown: every requirement is judged", "deviations declared for"),
        ("0.15.1", "declared: known since 2012", "0.14.3"),
    ],
)
def test_versions_that_the_suite_does_not_know(version: str | None, words: str, silent: str) -> None:
    """Many failures of an old or nameless build have one remark, which says what to do."""
    other = replace(ROBUST, id="ROBUST-901")
    cases = [case(r.id, Verdict.FAIL, r, [found(r, CRASH)], version=version) for r in (ROBUST, other) * 2]
    nearly = replace(DEVIATION, versions=">=0.14.3,<=0.16.0")
    text = summary(run(*cases, deviations=[nearly]), Path("results/x"), colour=False, width=80)
    assert " ".join(text.split()).count(words) == 1
    assert silent not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_pair_is_named_by_both_builds() -> None:
    """Though its first case has shown the source alone."""
    first, second = case("a", server="old > new"), case("b", server="old > new")
    builds = {"source": identity("0.14.3", "old"), "target2": identity("0.16.0", "new")}
    pair = run(replace(first, identities={"source": builds["source"]}), replace(second, identities=builds))
    text = summary(pair, Path("results/x"), colour=False)
    assert "source old  0.14.3" in text
    assert "target new  0.16.0" in text


def test_a_path_acts_on_no_terminal() -> None:
    """A build's path is shown with its control characters visible."""
    one = run(case("a", server="lib:/tmp/\x1b[31m.so", version=None))
    text = summary(one, Path("out"), colour=False)
    assert "\x1b" not in text
    assert r"lib:/tmp/\x1b[31m.so" in text


def test_comparison() -> None:
    before = run(case("a"), case("b", Verdict.FAIL, ROBUST, [found(ROBUST)]))
    after = run(case("a", Verdict.FAIL, MUST, [found(MUST)]), case("b", requirement=ROBUST))
    text, worse = comparison(before, after)
    assert worse
    assert "worse  MIG-DST-900    PASS -> FAIL" in text
    assert "other  ROBUST-900     FAIL -> PASS" in text
    assert comparison(before, before) == ("system: 0 of 4 requirements changed", False)
    text, worse = comparison(run(case("a", server="one")), run(case("a", server="two")))
    assert (text, worse) == ("one -> two: 0 of 4 requirements changed", False)


def test_case_lines_are_one_line(everything: Run) -> None:
    assert all("\n" not in encode(c) for c in everything.cases)
