# SPDX-License-Identifier: GPL-2.0-only
"""The pictures in `reports/pictures/`, all of them taken anew from one run of the full suite:

    spice-conform certify --out RUN
    python -m suites.selftest.reports.views.screenshots RUN [ALLURE_REPORT]

ALLURE_REPORT is what `allure generate` made of the run's results; without it, it is made here.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from reports.run import seal
from reports.run.environment import ROOT
from reports.run.tally import Run
from reports.views import allure_results
from suites.selftest.reports.views.allure_command import allure_command, generate
from suites.selftest.reports.views.browser import PATIENCE, browser

PICTURES = ROOT / "reports" / "pictures"
#: The test whose ladder is shown: two servers and a client, none of whom does anything wrong.
WHOLE_MIGRATION = "suites/migration/test_semi_seamless.py::test_whole_migration"


def main(run: Path, allure: Path | None = None) -> None:
    """Takes each picture and names it. Raises OSError, WebDriverException, UsageError."""
    run = run.absolute()
    with tempfile.TemporaryDirectory() as scratch, browser(Path(scratch) / "profile", 1180, 900) as driver:
        _page(driver, run)
        _ladder(driver, run)
        report = allure or Path(scratch) / "allure"
        if allure is None:
            results = Path(scratch) / "results"
            finished = Run.read(run)
            finished.seal = seal.read(run).seal
            allure_results.write(finished, run, results)
            generate(allure_command(), results, report)
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(report))) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            driver.get(f"http://127.0.0.1:{server.server_port}/")
            _until(driver, lambda d: d.find_elements("css selector", "svg") and "Severity" in d.page_source)
            driver.execute_script("scrollTo(0, 0)")
            _take(driver, "allure.png")
            server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _page(driver: Any, run: Path) -> None:
    """The page, its matrix and the certificate."""
    page = (run / "index.html").as_uri()
    driver.get(page)
    _take(driver, "index.png")
    driver.execute_script("document.querySelector('.picture').open = true; location.hash = 'cells';")
    _until(driver, lambda d: d.find_elements("css selector", ".picture[open] table td"))
    _take(driver, "matrix.png")
    driver.get((run / "certificate.html").as_uri())
    _take(driver, "certificate.png")


def _ladder(driver: Any, run: Path) -> None:
    """The ladder of a whole migration, and nothing around it."""
    cases = Run.read(run).cases
    number = next(n for n, case in enumerate(cases, 1) if case.nodeid.startswith(WHOLE_MIGRATION))
    driver.get(f"{(run / 'index.html').as_uri()}#t{number}")
    figure = _until(driver, lambda d: d.find_elements("css selector", f"#t{number} figure svg"))[0]
    driver.set_window_size(1180, 2 * int(figure.size["height"]))
    figure.screenshot(str(PICTURES / "ladder.png"))
    driver.set_window_size(1180, 900)
    print(PICTURES / "ladder.png")


def _until(driver: Any, what: Callable[[Any], Any]) -> Any:
    """Waits for what a script draws."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, PATIENCE).until(what)


def _take(driver: Any, name: str) -> None:
    driver.save_screenshot(str(PICTURES / name))
    print(PICTURES / name)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
