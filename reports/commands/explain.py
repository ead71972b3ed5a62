# SPDX-License-Identifier: GPL-2.0-only
"""Explains one requirement: its sentence, why it matters, its source, its tests and planted faults, and its
verdict on released servers."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import groupby
from textwrap import wrap

from dissectors.rules.catalogue import CATALOGUE, citations
from dissectors.rules.judgement import Evidence, Requirement
from dissectors.wire.visible_text import visible
from fixtures.system.hosts import UsageError
from reports.commands.requirements import MarkedTest, marked_tests
from reports.run import deviations
from reports.run.run_events import Deviation
from reports.views import known_verdicts

WIDTH, INDENT = 80, 12
JUDGED_BY = {
    Evidence.PACKETS: "the packets alone: a capture is enough",
    Evidence.HOST: "the packets, and the events and settings of the server's host",
    Evidence.TEST: "a test that makes its situation",
}
LEVELS = {
    "MUST": "a server that breaks it does not conform",
    "SHOULD": "a normative text recommends it: a difference is reported, not failed",
    "OBSERVED": "every release does so: a difference is reported, not failed",
    "ROBUST": "no input from a peer may end, hang or exhaust the server, or let a peer in",
}


def explain(identifier: str) -> str:
    """The explanation, at most 80 columns wide. Raises UsageError if there is no such requirement,
    HarnessError if the suites cannot be collected."""
    requirement = CATALOGUE.get(identifier.upper())
    if requirement is None:
        raise UsageError(f"no requirement {visible(identifier)}{_near(identifier)}")
    return explanation(requirement, *marked_tests(requirement.id)[0])


def explanation(requirement: Requirement, tests: list[MarkedTest], spoiled: list[MarkedTest]) -> str:
    """The explanation from a requirement, its tests, and the self-tests that mutate recordings for it."""
    lines = [f"{requirement.id}", "", *wrap(requirement.text, WIDTH), ""]
    lines += _entry("Level", f"{requirement.level}: {LEVELS[requirement.level]}")
    lines += _entry("Duty", f"the {requirement.duty}'s{_versions(requirement)}")
    lines += _entry("Why", requirement.why)
    lines += _entry(
        "Source", *[line for where, document in citations(requirement) for line in (where, f"  {document}")]
    )
    lines += _entry("Judged by", JUDGED_BY[requirement.evidence])
    lines += _entry("Needs", requirement.needs)
    lines += ["", "Tests", *_tests(tests)]
    planted, changed = [*_faults(tests)], [*_faults(spoiled)]
    if planted or not changed:
        lines += ["", "Planted faults (each must turn its test red: make prove)", *(planted or ["  none"])]
    if changed:
        lines += ["", "Changes of a recorded capture (the rule must find each: make selftest)", *changed]
    lines += ["", "Verdicts on libspice-server", *_verdicts(requirement, tests)]
    return "\n".join(line.rstrip() for line in lines)


def _near(identifier: str) -> str:
    """Similar ids, one of which the user may have meant."""
    wanted = identifier.upper()
    begin = [i for i in CATALOGUE if wanted and i.startswith(wanted)][:4]
    near = begin or get_close_matches(wanted, CATALOGUE, n=4)
    return f"; did you mean {', '.join(near)}?" if near else "; spice-conform requirements lists them"


def _versions(requirement: Requirement) -> str:
    return f", from version {requirement.versions.removeprefix('>=')} on" if requirement.versions else ""


def _entry(name: str, *paragraphs: str) -> Iterator[str]:
    """A name, and beside it paragraphs; a paragraph that begins with blanks is indented."""
    head = f"{name:<{INDENT}}"
    for paragraph in paragraphs:
        further = " " * (len(paragraph) - len(paragraph.lstrip()))
        more = " " * INDENT + further
        yield from wrap(
            paragraph.lstrip(),
            WIDTH,
            initial_indent=head + further,
            subsequent_indent=more,
            break_long_words=False,
            break_on_hyphens=False,
        )
        head = " " * INDENT


def _tests(tests: list[MarkedTest]) -> Iterator[str]:
    """The tests by file, each with its docstring's sentence and the number of its cases."""
    functions: dict[str, list[MarkedTest]] = {}
    for test in tests:
        functions.setdefault(test.function, []).append(test)
    for path, names in groupby(functions, key=lambda function: function.split("::")[0]):
        yield f"  {path}"
        for function in names:
            cases = functions[function]
            count = f" ({len(set(cases))} cases)" if len(set(cases)) > 1 else ""
            yield f"    {function.split('::')[1]}{count}"
            yield from wrap(cases[0].title, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    if not functions:
        yield "  none"


def _faults(tests: list[MarkedTest]) -> Iterator[str]:
    """The planted faults, and the test that shows each."""
    faults = dict.fromkeys((fault, test.function) for test in tests for fault in test.faults)
    for fault, function in faults:
        yield from wrap(fault, WIDTH, initial_indent="  ", subsequent_indent="    ")
        yield f"    in {function.split('::')[1]}"


def _verdicts(requirement: Requirement, tests: list[MarkedTest]) -> Iterator[str]:
    """Its verdicts by release, with the declared deviations."""
    verdicts = known_verdicts.read().get(requirement.id, {})
    for release, verdict in verdicts.items():
        yield f"  {release:<10}{verdict}"
    if not verdicts:
        yield "  no release has been judged yet"
    for deviation in deviations.load():
        if _may_show(deviation, requirement, tests):
            text = f"declared ({deviation.versions or 'all versions'}): {deviation.reason}"
            yield from wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _may_show(deviation: Deviation, requirement: Requirement, tests: list[MarkedTest]) -> bool:
    """Whether a deviation may show on this requirement: it names the requirement and tests that judge it."""
    shown = any(fnmatchcase(test.nodeid, glob) for test in tests for glob in deviation.tests)
    return fnmatchcase(requirement.id, deviation.requirement) and (shown or not deviation.tests)
