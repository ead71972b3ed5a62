# SPDX-License-Identifier: GPL-2.0-only
"""A page of many tests in a real browser: it opens with few rows and builds the others when needed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dissectors.rules.judgement import Verdict
from reports.ladder.ladder_svg import svg
from reports.ladder.lanes import ladder
from reports.views import page
from suites.selftest.reports.run.report_samples import MUST, ROBUST, case, conversation, found, run
from suites.selftest.reports.views.browser import CHROMIUM, DRIVER, browser, complaints
from suites.selftest.reports.views.test_page_in_chromium import all_of, until

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="UNSUPPORTED: no Chromium with its driver")

TESTS = 400
#: The row of a test that passed: near the end of the list, its number in the page is its place in the run.
LATE = 391


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser, and the page of `TESTS` tests as a file."""
    folder = tmp_path_factory.mktemp("rows")
    cases = [case("red", Verdict.FAIL, MUST, [found(MUST)])]
    cases += [case(f"number_{n}", requirement=ROBUST) for n in range(2, TESTS + 1)]
    cases[LATE - 1] = replace(cases[LATE - 1], title="a <b>late</b> title & its signs")
    drawing = svg(ladder(conversation()), "a ladder")
    (folder / "index.html").write_text(page.page(run(*cases), lambda _: drawing))
    with browser(folder / "profile") as driver:
        yield driver, (folder / "index.html").as_uri()


@pytest.fixture
def fresh(opened: tuple[Any, str]) -> Iterator[tuple[Any, str]]:
    """The browser before the page is opened, and the page's address. In the end the console is empty."""
    driver, address = opened
    driver.get("about:blank")
    yield driver, address
    assert complaints(driver) == []


def _rows(driver: Any) -> int:
    return int(driver.execute_script("return document.querySelectorAll('.case').length"))


def _wait_for_more_rows(driver: Any, than: int) -> None:
    until(driver, lambda d: _rows(d) > than)


def test_opens_with_few_elements(fresh: tuple[Any, str]) -> None:
    driver, address = fresh
    driver.get(address)
    assert _rows(driver) == page.FIRST_ROWS
    assert driver.execute_script("return document.querySelectorAll('*').length") < 15 * page.FIRST_ROWS


def test_a_link_builds_its_row(fresh: tuple[Any, str]) -> None:
    """Its row alone, opened, with the ladder; its title is text, not markup."""
    driver, address = fresh
    driver.get(f"{address}#t{LATE}")
    until(driver, lambda d: all_of(d, f"#t{LATE} figure svg"))
    assert _rows(driver) == page.FIRST_ROWS + 1
    assert "a <b>late</b> title & its signs" in driver.find_element("id", f"t{LATE}").text
    assert driver.switch_to.active_element.tag_name == "summary"


def test_a_filter_finds_later_rows(fresh: tuple[Any, str]) -> None:
    driver, address = fresh
    driver.get(address)
    driver.find_element("id", "filter").send_keys("late")
    found = until(driver, lambda d: all_of(d, ".case"))
    assert [row.get_attribute("id") for row in found] == [f"t{LATE}"]
    assert "1 tests" in driver.find_element("id", "shown").text
    assert not all_of(driver, "#more")


def test_more_rows_by_keyboard(fresh: tuple[Any, str]) -> None:
    """Enter on the button builds rows in the order of the tests and goes on in the first; the last press
    takes the button away."""
    from selenium.webdriver.common.keys import Keys

    driver, address = fresh
    driver.get(address)
    built = page.FIRST_ROWS
    while buttons := all_of(driver, "#more"):
        buttons[0].send_keys(Keys.ENTER)
        _wait_for_more_rows(driver, built)
        focused = driver.switch_to.active_element.find_element("xpath", "..").get_attribute("id")
        assert focused == f"t{built + 1}"
        built = _rows(driver)
    ids = driver.execute_script("return [...document.querySelectorAll('.case')].map(row => row.id)")
    assert ids == [f"t{n}" for n in range(1, TESTS + 1)]


def test_paper_has_every_row(fresh: tuple[Any, str]) -> None:
    """Printed as a browser does it: each row, and no button."""
    driver, address = fresh
    driver.get(address)
    until(driver, lambda d: d.execute_script("return laterRows !== null"))
    paper = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert paper.startswith(b"%PDF")
    assert _rows(driver) == TESTS
