# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin that writes every report of a run that `reports.run.plugin` has recorded.

allure-pytest's `--alluredir DIR` fills DIR from the same events as the certificate. The plugin removes
allure-pytest's listener, which would call a declared deviation a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

SUMMARY = pytest.StashKey[str]()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Allure's results come from the run's events, not from allure-pytest's listener."""
    if config.getoption("--alluredir", None) and not config.getoption("--record-only"):
        if listener := config.pluginmanager.get_plugin("allure_listener"):
            config.pluginmanager.unregister(listener)


def pytest_spice_run_recorded(config: pytest.Config, directory: Path) -> None:
    from reports.views.publish import publish
    from reports.views.terminal import summary

    place = config.getoption("--alluredir", None)
    run = publish(directory, Path(place) if place else None)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    colour = bool(reporter and reporter.hasmarkup)
    config.stash[SUMMARY] = summary(run, directory, colour=colour)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    text = terminalreporter.config.stash.get(SUMMARY, "")
    if text:
        terminalreporter.write_line("")
        terminalreporter.write_line(text)
