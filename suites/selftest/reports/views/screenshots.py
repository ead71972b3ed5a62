# SPDX-License-Identifier: GPL-2.0-only
"""The pictures in `reports/pictures/`, taken anew from a run's directory:

python -m suites.selftest.reports.views.screenshots RUN [ALLURE_REPORT]

RUN is what `certify --out RUN` wrote, ALLURE_REPORT what `allure generate RUN/allure -o ALLURE_REPORT` made.
"""

from __future__ import annotations

import sys
import tempfile
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from reports.run.environment import ROOT
from suites.selftest.reports.views.browser import browser

PICTURES = ROOT / "reports" / "pictures"
#: Unpacking and drawing, seconds.
DRAWN_S = 1.5


def main(run: Path, allure: Path | None = None) -> None:
    """Takes each picture. Raises OSError, WebDriverException."""
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile), 1180, 900) as driver:
        page = (run / "index.html").as_uri()
        _take(driver, page, "index.png")
        _take(driver, (run / "certificate.html").as_uri(), "certificate.png")
        driver.get(page)
        if driver.find_elements("css selector", ".picture"):  # a run of the matrix
            driver.execute_script("document.querySelector('.picture').open = true; location.hash = 'cells';")
            _take(driver, None, "matrix.png")
        if allure is not None:
            with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(allure))) as server:
                Thread(target=server.serve_forever, daemon=True).start()
                _take(driver, f"http://127.0.0.1:{server.server_port}/", "allure.png")
                server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _take(driver: Any, address: str | None, name: str) -> None:
    if address is not None:
        driver.get(address)
    time.sleep(DRAWN_S)
    driver.save_screenshot(str(PICTURES / name))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
