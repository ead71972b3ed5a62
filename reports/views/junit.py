# SPDX-License-Identifier: GPL-2.0-only
"""`junit.xml` of a run, in the schema that CI systems read.

Not pytest's own: that calls a declared deviation a failure, cannot be made from a run that was killed, and
has no place for requirement, verdict, expected and seen. DEVIATES and DIFFERS count as passed, with the
verdict in a property; INCONCLUSIVE and UNSUPPORTED count as skipped. A test that is not PASS has
its findings and its evidence as output.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from dissectors.rules.judgement import Finding, Verdict
from reports.run.merged_runs import spec_of
from reports.run.run_events import CaseFinished, FixedBug
from reports.run.tally import Run
from reports.views.certificate import timestamp

FILE = "junit.xml"

_OUTCOME = {
    Verdict.FAIL: "failure",
    Verdict.ERROR: "error",
    Verdict.INCONCLUSIVE: "skipped",
    Verdict.UNSUPPORTED: "skipped",
}
#: Characters that XML 1.0 cannot contain.
_UNFIT = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(run: Run) -> bytes:
    """The file's bytes: a suite for each build."""
    root = ET.Element("testsuites", name="spice-conformance")
    for server in run.servers:
        _suite(root, run, server)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _suite(root: ET.Element, run: Run, server: str) -> None:
    cases = [case for case in run.cases if case.server == server]
    outcomes = Counter(_OUTCOME.get(case.verdict, "passed") for case in cases)
    suite = ET.SubElement(
        root,
        "testsuite",
        name=plain(server),
        tests=str(len(cases)),
        failures=str(outcomes["failure"]),
        errors=str(outcomes["error"]),
        skipped=str(outcomes["skipped"]),
        time=f"{sum(case.duration_s for case in cases):.3f}",
        timestamp=timestamp(run.started.started),
    )
    facts = {"suite": run.started.suite, "verdict": run.headline, "scope": run.scope, "server": server}
    facts |= {"seed": str(run.started.seed), "seal": run.seal or ""}
    facts |= {"command": shlex.join(run.started.command)}
    for label, build in run.identities.get(server, {}).items():
        facts |= {f"{label}.version": build.version or "", f"{label}.sha256": build.sha256 or ""}
    _properties(suite, facts)
    for case in cases:
        _case(suite, case, run.causes(case))


def _properties(parent: ET.Element, facts: dict[str, str]) -> None:
    properties = ET.SubElement(parent, "properties")
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=name, value=_fit(value))


def _case(suite: ET.Element, case: CaseFinished, causes: Sequence[FixedBug]) -> None:
    module, _, name = case.nodeid.partition("::")
    classname = module.removesuffix(".py").replace("/", ".")
    element = ET.SubElement(
        suite,
        "testcase",
        classname=classname,
        name=_fit(without_build(name, case.server) or module),
        file=module,
        time=f"{case.duration_s:.3f}",
    )
    facts = {"verdict": str(case.verdict), "title": case.title, **case.artefacts}
    facts |= {f"requirement.{n}": r for n, r in enumerate(case.requirements, 1)}
    facts |= {f"cause.{n}": str(bug) for n, bug in enumerate(causes, 1)}
    _properties(element, facts)
    outcome = _OUTCOME.get(case.verdict)
    if outcome:
        kind = case.findings[0].requirement if case.findings else str(case.verdict)
        fixes = "".join(f" ({bug.fix})" for bug in causes)
        child = ET.SubElement(
            element, outcome, type=kind, message=_fit(f"{case.verdict}: {case.reason}{fixes}")
        )
        child.text = _fit("\n".join(map(sentence, case.findings))) or None
    if case.verdict is Verdict.PASS:
        return  # its properties name its evidence
    told_lines = [f"{case.verdict}: {case.reason}".rstrip(": "), *map(sentence, case.findings)]
    told_lines += [f"cause: {bug!s}" for bug in causes]
    told_lines += [f"{kind}: {path}" for kind, path in case.artefacts.items()]
    ET.SubElement(element, "system-out").text = _fit("\n".join(told_lines))


def plain(server: str) -> str:
    """A SPEC without its directories, so that a name does not depend on a build's place."""
    return " > ".join(re.sub(r"^([a-z]+:|)/.*/", r"\1", part) for part in server.split(" > "))


def without_build(name: str, server: str) -> str:
    """A test's name without its build."""
    server = spec_of(server)
    return name.replace(f"[{server}-", "[").replace(f"[{server}]", "").replace(f"-{server}", "")


def sentence(finding: Finding) -> str:
    """A finding in one line."""
    where = f" (frame {finding.frame})" if finding.frame else ""
    return f"{finding.requirement} [{finding.level}] expected {finding.expected}; seen: {finding.seen}{where}"


def _fit(text: str) -> str:
    return _UNFIT.sub("?", text)
