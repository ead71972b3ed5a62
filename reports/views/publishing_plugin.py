# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin that writes every report of a run that `reports.run.plugin` has recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

SUMMARY = pytest.StashKey[str]()


def pytest_spice_run_recorded(config: pytest.Config, directory: Path) -> None:
    from reports.views.publish import publish
    from reports.views.terminal import summary

    run = publish(directory)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    colour = bool(reporter and reporter.hasmarkup)
    config.stash[SUMMARY] = summary(run, directory, colour=colour)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    text = terminalreporter.config.stash.get(SUMMARY, "")
    if text:
        terminalreporter.write_line("")
        terminalreporter.write_line(text)
