# SPDX-License-Identifier: GPL-2.0-only
"""Allure's results of a run, made from its events so that they agree with the certificate.

What is declared, or only differs from other releases, is passed and says so in a label. Packets and logs are
not copied: an attachment names the file in the run's own `tests/`.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from allure_commons.logger import AllureFileLogger
from allure_commons.model2 import Attachment, Label, Parameter, Status, StatusDetails, TestResult

from dissectors.rules.judgement import Verdict
from reports.run.run_events import CaseFinished
from reports.run.tally import Run
from reports.views.junit import sentence

DIRECTORY = "allure"
STATUS: Mapping[Verdict, Status] = MappingProxyType(
    {
        Verdict.PASS: Status.PASSED,
        Verdict.DEVIATES: Status.PASSED,
        Verdict.DIFFERS: Status.PASSED,
        Verdict.FAIL: Status.FAILED,
        Verdict.ERROR: Status.BROKEN,
        Verdict.INCONCLUSIVE: Status.SKIPPED,
        Verdict.UNSUPPORTED: Status.SKIPPED,
    }
)
_TYPES = {"pcapng": "application/gzip", "log": "text/plain"}


def write(run: Run, directory: Path) -> None:
    """Writes a result for each case into `allure/` of a run's directory. Raises OSError."""
    out = directory / DIRECTORY
    shutil.rmtree(out, ignore_errors=True)
    logger = AllureFileLogger(str(out), clean=True)
    start = int(run.started.started * 1000)
    for case in run.cases:
        start += int(case.duration_s * 1000)
        logger.report_result(_result(case, start))


def _result(case: CaseFinished, stop: int) -> TestResult:
    module, _, name = case.nodeid.partition("::")
    identifier = uuid.uuid5(uuid.NAMESPACE_URL, f"{case.nodeid} {case.server}").hex
    labels = [("suite", module), ("tag", str(case.verdict)), ("host", case.server)]
    labels += [("story", requirement) for requirement in case.requirements]
    details = StatusDetails(
        message=f"{case.verdict}: {case.reason}" if case.verdict is not Verdict.PASS else None,
        trace="\n".join(map(sentence, case.findings)) or None,
    )
    return TestResult(
        uuid=identifier,
        historyId=identifier,
        testCaseId=identifier,
        fullName=case.nodeid,
        name=case.title,
        status=STATUS[case.verdict],
        statusDetails=details,
        labels=[Label(name=name, value=value) for name, value in labels],
        parameters=[Parameter(name="test", value=name), Parameter(name="server", value=case.server)],
        attachments=[
            Attachment(name=kind, source=f"../{path}", type=_TYPES.get(kind, "application/octet-stream"))
            for kind, path in case.artefacts.items()
        ],
        start=stop - int(case.duration_s * 1000),
        stop=stop,
    )
