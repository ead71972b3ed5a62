# SPDX-License-Identifier: GPL-2.0-only
"""`make same-verdicts`: what counts as a difference, and a real pair of short runs."""

from __future__ import annotations

import pytest

from fixtures.system.hosts import UsageError
from reports.commands.same_verdicts import differences, main


def test_differences_name_test_and_build() -> None:
    first = {("system", "a"): "PASS", ("system", "b"): "PASS", ("other", "a"): "FAIL"}
    other = {("system", "a"): "PASS", ("system", "b"): "FAIL", ("system", "c"): "PASS"}
    assert differences(first, first) == []
    assert differences(first, other) == [
        "a (other): FAIL, then not run",
        "b (system): PASS, then FAIL",
        "c (system): not run, then PASS",
    ]


@pytest.mark.parametrize("arguments", [[], ["1"], ["ten"]])
def test_too_few_runs(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="how many runs"):
        main(arguments)


@pytest.mark.parametrize("more", [[], ["--stand-still"]], ids=["busy", "standing still"])
def test_two_runs(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["2", *more, "--requirement", "LINK-006", "-n", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 of 2 runs gave equal lists of verdicts"
