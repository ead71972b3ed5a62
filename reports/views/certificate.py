# SPDX-License-Identifier: GPL-2.0-only
"""`certificate.json`: a run for machines. Keys are stable; others may be added (`format` counts incompatible
changes).

`verdict` of a requirement is the worst over the builds, null if no case judged it; `results` has it for
each build with its cases and evidence. `causes`: the bugs that a later release fixed, each with the
requirement that tells it and with its `consequences`. How often each test saw each requirement kept is in
`events.ndjson`;
the cells of the matrix are in `matrix.json`. Paths are relative to the run's directory, times are UTC.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dissectors.rules.judgement import Requirement, Verdict
from fixtures.system.hosts import UsageError
from reports.run.results import BuildFailure, CaseEvidence, Result
from reports.run.run_events import CaseFinished, FixedBug
from reports.run.tally import Occurrence, Run

FILE = "certificate.json"
#: 1: `tests` had `kept` and `matrix`, which other files of the run hold too.
FORMAT = 2
NOT_JUDGED = "NOT JUDGED"


def certificate(run: Run) -> dict[str, Any]:
    """The whole certificate as a dictionary that JSON can hold."""
    return {
        "format": FORMAT,
        "verdict": run.headline,
        "exit_status": int(run.exit),
        "interrupted": run.interrupted,
        "suite": {"name": "spice-conformance", "version": run.started.suite},
        "started": timestamp(run.started.started),
        "finished": timestamp(run.finished.finished) if run.finished else None,
        "seed": run.started.seed,
        "kind": run.started.kind,
        "scope": {
            "full": run.full,
            "text": run.scope,
            "selection": list(run.started.selection),
            "command": shlex.join(run.started.command),
        },
        "flaky": list(run.flaky),
        "seal": run.seal,
        "environment": dict(run.started.environment),
        "servers": [_server(run, server) for server in run.servers],
        "requirements": [_requirement(run, r) for r in run.requirements.values()],
        "tests": [_case(case) for case in run.cases],
        "deviations": [_occurrence(o) for o in run.occurrences],
        "causes": [_cause(failure.bug, failure) for failure in run.failures if failure.bug],
    }


def text(run: Run) -> str:
    """The whole certificate as JSON, with each entry of a list on a line of its own, so that two can be
    compared by line."""
    return (
        "{\n"
        + ",\n".join(f" {json.dumps(key)}: {_lines(value)}" for key, value in certificate(run).items())
        + "\n}\n"
    )


def _lines(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value, ensure_ascii=False)
    entries = (json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in value)
    return "[\n  " + ",\n  ".join(entries) + "\n ]"


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def counted(counts: Mapping[Verdict | None, int]) -> dict[str, int]:
    """Counts by name, in the order of the verdicts, with the unjudged last."""
    order: list[Verdict | None] = [*Verdict, None]
    return {(str(v) if v else NOT_JUDGED): counts[v] for v in order if counts.get(v)}


def load(directory: Path) -> dict[str, Any]:
    """Reads a certificate; UsageError with one line if there is none."""
    path = directory / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name a directory that certify wrote") from None
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UsageError(
            f"{path}: not a certificate of format {FORMAT}; write it with `spice-conform report {directory}`"
        )
    return data


def _server(run: Run, server: str) -> dict[str, Any]:
    builds = run.identities.get(server, {})
    return {
        "spec": server,
        "builds": {label: asdict(identity) for label, identity in builds.items()},
        "requirements": counted(run.counts(server)),
        "tests": counted(Counter(c.verdict for c in run.cases if c.server == server)),
    }


def _requirement(run: Run, requirement: Requirement) -> dict[str, Any]:
    results = [run.results[requirement.id, server] for server in run.servers]
    telling = [e for result in results for e in result.telling]
    verdict = run.verdict(requirement.id)
    return {
        **asdict(requirement),
        "verdict": verdict,
        "why": None if verdict else requirement.needs or "no test of this run reached it",
        "tests": list(dict.fromkeys(e.case.nodeid for e in telling)),
        "evidence": list(dict.fromkeys(p for e in telling if (p := e.case.artefacts.get("pcapng")))),
        "results": {result.server: _result(result) for result in results},
    }


def _result(result: Result) -> dict[str, Any]:
    """`kept`: how many times over all tests, `kept_by`: by how many tests; `not_kept`: each case with another
    verdict."""
    identifier = result.requirement.id
    kept = [e for e in result.evidence if e.verdict is Verdict.PASS]
    return {
        "verdict": result.verdict,
        "kept": sum(e.case.kept.get(identifier, 0) for e in kept),
        "kept_by": len(kept),
        "not_kept": [_evidence(e) for e in result.evidence if e.verdict is not Verdict.PASS],
    }


def _evidence(evidence: CaseEvidence) -> dict[str, Any]:
    return {
        "test": evidence.case.nodeid,
        "verdict": evidence.verdict,
        "findings": [f.as_dict() for f in evidence.findings],
        "causes": [bug.commit for bug in evidence.causes],
        "pcapng": evidence.case.artefacts.get("pcapng"),
    }


def _case(case: CaseFinished) -> dict[str, Any]:
    """A test without what other places hold: `identities` (`servers`), `kept` and `matrix` (see above)."""
    data = asdict(replace(case, identities={}, kept={}, matrix={}))
    del data["identities"], data["kept"], data["matrix"]
    return data


def _cause(bug: FixedBug, failure: BuildFailure) -> dict[str, Any]:
    """A bug that a later release fixed: the requirement that tells it, and what else it breaks."""
    tests = [e.case.nodeid for r in failure.results for e in r.blamed if bug in e.causes]
    return {
        "server": failure.server,
        "commit": bug.commit,
        "fixed_in": bug.fixed_in,
        "what": bug.what,
        "verdict": failure.verdict,
        "requirement": failure.ids[0],
        "consequences": list(failure.ids[1:]),
        "tests": list(dict.fromkeys(tests)),
    }


def _occurrence(occurrence: Occurrence) -> dict[str, Any]:
    return {
        **asdict(occurrence.deviation),
        "tests_that_showed_it": [case.nodeid for case in occurrence.cases],
        "no_longer_on": list(occurrence.stale_on),
    }
