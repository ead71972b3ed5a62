# SPDX-License-Identifier: GPL-2.0-only
"""Allure's results of a run, made from its events so that they agree with the certificate.

A case that DEVIATES or DIFFERS is passed: a label names the verdict, the description gives the reason. A case
that could not be judged is skipped, with the reason. Only cases other than PASS have attachments: hard links
to the files in the run's own `tests/`, or copies."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from allure_commons.logger import AllureFileLogger
from allure_commons.model2 import Attachment, Label, Parameter, Status, StatusDetails, TestResult

from dissectors.rules.judgement import Verdict
from reports.run.packed_evidence import bring, path_alone
from reports.run.run_events import CaseFinished
from reports.run.tally import Run
from reports.views.junit import plain, sentence, without_build
from reports.views.titles import full_title

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
#: Allure's severity of a requirement's level; the most severe of a test's requirements counts.
SEVERITY = {"ROBUST": "blocker", "MUST": "critical", "SHOULD": "minor", "OBSERVED": "trivial"}
#: Allure's categories of tests that are not green.
CATEGORIES = (
    {"name": "Requirement not kept (FAIL)", "matchedStatuses": ["failed"]},
    {"name": "The suite's own trouble (ERROR)", "matchedStatuses": ["broken"]},
    {
        "name": "This build or its host cannot show it (UNSUPPORTED)",
        "matchedStatuses": ["skipped"],
        "messageRegex": "(?s)UNSUPPORTED.*",
    },
    {
        "name": "The situation could not be made (INCONCLUSIVE)",
        "matchedStatuses": ["skipped"],
        "messageRegex": "(?s)INCONCLUSIVE.*",
    },
)
_TYPES = {"pcapng": "application/gzip", "log": "text/plain"}


def write(run: Run, directory: Path, out: Path) -> None:
    """Writes a result for each case of the run in `directory` into `out`. Raises OSError."""
    logger = AllureFileLogger(str(out), clean=True)
    start = int(run.started.started * 1000)
    for case in run.cases:
        start += int(case.duration_s * 1000)
        result = _result(run, case, start)
        if case.verdict is not Verdict.PASS:
            result.attachments = list(_attached(case, directory, out))
        logger.report_result(result)
    (out / "categories.json").write_text(json.dumps(CATEGORIES, indent=1) + "\n", encoding="utf-8")
    lines = "".join(f"{name} = {value}\n" for name, value in _environment(run))
    (out / "environment.properties").write_text(lines, encoding="utf-8")


def _environment(run: Run) -> Iterator[tuple[str, str]]:
    yield "verdict", run.headline
    yield "scope", run.scope
    yield "suite", run.started.suite
    yield "seal", run.seal or "none"
    for number, server in enumerate(run.servers, 1):
        name = "server" if len(run.servers) == 1 else f"server.{number}"
        builds = run.identities.get(server, {}).values()
        versions = " > ".join(build.version or "version unknown" for build in builds)
        yield name, f"{plain(server)} ({versions})"
    yield from run.started.environment.items()


def _result(run: Run, case: CaseFinished, stop: int) -> TestResult:
    module, _, name = case.nodeid.partition("::")
    stable = f"{module}::{without_build(name, case.server)}"
    details = StatusDetails(
        message=f"{case.verdict}: {case.reason}" if case.verdict is not Verdict.PASS else None,
        trace="\n".join(map(sentence, case.findings)) or None,
    )
    return TestResult(
        uuid=uuid.uuid5(uuid.NAMESPACE_URL, f"{case.nodeid} {case.server}").hex,
        historyId=uuid.uuid5(uuid.NAMESPACE_URL, f"{stable} {plain(case.server)}").hex,
        testCaseId=uuid.uuid5(uuid.NAMESPACE_URL, stable).hex,
        fullName=case.nodeid,
        name=full_title(case),
        description=_description(run, case),
        status=STATUS[case.verdict],
        statusDetails=details,
        labels=[Label(name=name, value=value) for name, value in _labels(run, case, module)],
        parameters=[Parameter(name="server", value=plain(case.server))],
        start=stop - int(case.duration_s * 1000),
        stop=stop,
    )


def _description(run: Run, case: CaseFinished) -> str:
    """The reason for the verdict, and the sentences of the test's requirements."""
    lines = [f"**{case.verdict}**: {case.reason}"] if case.reason else []
    known = [run.requirements[i] for i in case.requirements if i in run.requirements]
    return "\n\n".join([*lines, *(f"{r.id} ({r.level}): {r.text}" for r in known)])


def _labels(run: Run, case: CaseFinished, module: str) -> Iterator[tuple[str, str]]:
    known = [run.requirements[i] for i in case.requirements if i in run.requirements]
    levels = [level for level in SEVERITY if any(r.level == level for r in known)]
    folder, _, file = module.removeprefix("suites/").rpartition("/")
    yield "parentSuite", plain(case.server)
    yield "suite", folder or file
    yield "subSuite", file.removesuffix(".py")
    yield "verdict", str(case.verdict)
    yield "tag", str(case.verdict)
    yield "host", plain(case.server)
    yield "framework", "pytest"
    if levels:
        yield "severity", SEVERITY[levels[0]]
    for requirement in known:
        yield "epic", requirement.area
        yield "story", requirement.id
        yield "requirement", requirement.id


def _attached(case: CaseFinished, directory: Path, out: Path) -> Iterator[Attachment]:
    for kind, path in case.artefacts.items():
        alone = Path(path_alone(path))
        name = f"{uuid.uuid5(uuid.NAMESPACE_URL, path).hex}-attachment{''.join(alone.suffixes[-2:])}"
        if _attach(directory, path, out / name):
            yield Attachment(name=alone.name, source=name, type=_TYPES.get(kind, "application/octet-stream"))


def _attach(directory: Path, path: str, target: Path) -> bool:
    """A second name for a file of the run, or a copy; False if there is none."""
    try:
        target.unlink(missing_ok=True)
        os.link(directory / path, target)
    except OSError:  # it is in an archive, or on another file system, or there are no hard links
        return bring(directory, path, target)
    return True
