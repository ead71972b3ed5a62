# SPDX-License-Identifier: GPL-2.0-only
"""The page of a real run in a real browser: from a red cell to its packet, filters, keyboard, phone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from reports.run.environment import ROOT
from suites.selftest.reports.views.browser import CHROMIUM, DRIVER, PATIENCE, browser, complaints

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="UNSUPPORTED: no Chromium with its driver")

RUN_SECONDS = 120.0
#: A test that fails where nothing is declared, one that passes with parameters, two places of the matrix.
SELECTED = (
    "suites/robust/test_survival.py::test_unsolicited_flush_mark",
    "suites/link/test_authentication.py",
    "suites/matrix/test_matrix.py",
)
CHOSEN = "flush_mark or authentication or (test_other and inputs and open)"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over two builds, the installed library under two names, in which a death is not declared."""
    out = tmp_path_factory.mktemp("page") / "run"
    nothing = out.with_name("nothing.toml")
    nothing.write_text("")
    pytest_words = ["-q", "-p", "no:cacheprovider", *SELECTED, "-k", CHOSEN, "--deviations", str(nothing)]
    servers = ["--server", "system", "--server", f"lib:{_library()}"]
    command = [sys.executable, "-m", "pytest", *pytest_words, *servers, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, check=False, timeout=RUN_SECONDS, capture_output=True, text=True)
    assert (out / "index.html").exists(), done.stdout[-2000:]
    return out


def _library() -> Path:
    return next(p.resolve() for p in Path("/usr/lib").glob("*/libspice-server.so.1"))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(run: Path, opened: Any) -> Iterator[Any]:
    """The page just after opening; at the end the console must be empty."""
    opened.get("about:blank")
    opened.get((run / "index.html").as_uri())
    yield opened
    assert complaints(opened) == []


def until(driver: Any, what: Callable[[Any], Any]) -> Any:
    """Waits, with a deadline, for a script's result."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, PATIENCE).until(what)


def all_of(driver: Any, selector: str) -> list[Any]:
    """Every element that is shown."""
    return [found for found in driver.find_elements("css selector", selector) if found.is_displayed()]


def test_from_a_red_cell_to_its_packet(run: Path, page: Any) -> None:
    """Cell, requirement with its text, test with its ladder, packets: each a click away."""
    cell = next(c for c in all_of(page, "#matrix .cell") if "FAIL" in c.text)
    identifier = cell.get_attribute("href").rpartition("#")[2]
    cell.click()
    evidence = until(page, lambda d: all_of(d, f"#{identifier} .evidence a[href^='#t']"))
    assert all_of(page, f"#{identifier} .history")
    test = evidence[0].get_attribute("href").rpartition("#")[2]
    evidence[0].click()
    until(page, lambda d: all_of(d, f"#{test} figure svg"))
    packets = until(page, lambda d: all_of(d, f"#{test} a[href$='.pcapng.gz']"))
    path = Path(unquote(urlparse(packets[0].get_attribute("href")).path))
    assert path.is_file()
    assert path.is_relative_to(run)
    assert "frame" in page.find_element("id", test).text


def test_filters(page: Any) -> None:
    """Filters by verdict, area, level and text, alone and together; an empty result says so; all can be shown
    again."""
    from selenium.webdriver.support.ui import Select

    everything = len(all_of(page, ".requirement"))
    Select(page.find_element("id", "by-verdict")).select_by_visible_text("FAIL")
    failed = all_of(page, ".requirement")
    assert 0 < len(failed) < everything
    assert all("FAIL" in f.get_attribute("data-verdict") for f in failed)
    assert all(t.get_attribute("data-verdict") == "FAIL" for t in all_of(page, ".case"))
    page.find_element("css selector", "#filters button[type=reset]").click()
    until(page, lambda d: len(all_of(d, ".requirement")) == everything)
    Select(page.find_element("id", "by-area")).select_by_visible_text("link")
    assert {r.get_attribute("data-area") for r in all_of(page, ".requirement")} == {"link"}
    page.find_element("id", "filter").send_keys("LINK-013")
    assert [r.get_attribute("id") for r in all_of(page, ".requirement")] == ["LINK-013"]
    assert "1 requirements" in page.find_element("id", "shown").text
    page.find_element("id", "filter").send_keys(" nonsense")
    assert all_of(page, ".requirement") == all_of(page, ".case") == []


def test_an_area_opened_under_a_filter_obeys_it(page: Any) -> None:
    """The table of an area is built when it is opened: it shows what the filter leaves."""
    page.find_element("id", "filter").send_keys("LINK-013")
    (area,) = all_of(page, ".group")
    assert area.get_attribute("data-area") == "link"
    area.find_element("css selector", "summary").click()
    until(page, lambda d: all_of(d, ".group tr.row"))
    assert [row.text.split()[0] for row in all_of(page, ".group tr.row th")] == ["LINK-013"]
    page.find_element("css selector", "#filters button[type=reset]").click()
    until(page, lambda d: len(all_of(d, ".group tr.row")) > 1)


def test_titles_tell_cases_apart(page: Any) -> None:
    titles = [
        f"{c.find_element('css selector', '.text').text} {c.find_element('css selector', '.spec').text}"
        for c in all_of(page, ".case")
    ]
    assert len(titles) == len(set(titles))


def test_matrix_is_read_by_click_and_keys(page: Any) -> None:
    """A square shows its outcome and links to its test; arrow keys move on."""
    from selenium.webdriver.common.keys import Keys

    picture = all_of(page, ".picture")[0]
    picture.find_element("css selector", "summary").click()
    square = until(page, lambda d: all_of(d, "button.sq"))[0]
    square.click()
    result = page.find_element("id", "cell")
    first = result.text
    assert "\n" in first
    assert result.find_elements("css selector", "a[href^='#t']")
    square.send_keys(Keys.ARROW_DOWN)
    assert result.text != first
    assert page.switch_to.active_element.get_attribute("class").startswith("sq")


def test_labels_and_focus(page: Any) -> None:
    """Each control has a name, each id is used once, Tab reaches the first link, and it is visible."""
    from selenium.webdriver.common.keys import Keys

    nameless = page.execute_script(
        "return [...document.querySelectorAll('input, select, button')].filter(e => "
        "!e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim()).length"
    )
    assert nameless == 0
    assert page.execute_script("return document.documentElement.lang") == "en"
    page.find_element("css selector", "body").send_keys(Keys.TAB)
    assert page.switch_to.active_element.get_attribute("class") == "skip"


def test_fits_a_phone(run: Path, tmp_path: Path) -> None:
    """390 pixels wide: the page itself does not scroll sideways, and the squares of the matrix show beside
    the names of their rows."""
    with browser(tmp_path / "phone", 500, 844) as driver:
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
        )
        for name in ("index.html", "certificate.html"):
            driver.get((run / name).as_uri())
            width = driver.execute_script("return document.documentElement.scrollWidth")
            assert width <= 390, name
        driver.get((run / "index.html").as_uri())
        driver.find_element("css selector", ".picture summary").click()
        name = driver.find_element("css selector", ".picture[open] tbody tr:not(.area) th")
        assert name.size["width"] < 390 / 2
        assert complaints(driver) == []
