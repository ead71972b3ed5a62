# SPDX-License-Identifier: GPL-2.0-only
"""A test's title in the reports: its sentence, and the parameters that distinguish its cases."""

from __future__ import annotations

from reports.run.run_events import CaseFinished
from reports.views.junit import without_build


def parameters(case: CaseFinished) -> str:
    """The case's parameters without its build; "" where it has none."""
    _, bracket, inner = without_build(case.nodeid, case.server).partition("[")
    return inner.removesuffix("]") if bracket else case.cell


def full_title(case: CaseFinished) -> str:
    """The title with the parameters: `Each link has a key of its own. (tls-mini)`."""
    inner = parameters(case)
    return f"{case.title} ({inner})" if inner and inner not in case.title else case.title
