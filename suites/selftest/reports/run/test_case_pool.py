# SPDX-License-Identifier: GPL-2.0-only
"""Questions about the cases of a run, in other processes."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from functools import cached_property

import pytest

from reports.run.case_pool import CHUNK, MANY, answers

COUNT = MANY + 3 * CHUNK


@dataclass(frozen=True)
class Case:
    """One that cannot be pickled, and that changes while it is looked at, as a case of a run does."""

    number: int

    @cached_property
    def looked_at(self) -> int:
        return self.number

    def __reduce__(self) -> str:
        raise RuntimeError("dictionary changed size during iteration")


@pytest.mark.parametrize("young", [None, 50_000])
def test_cases_that_change_meanwhile(young: int | None) -> None:
    """The answers come in order and are about the cases as they were at first."""
    cases = [Case(number) for number in range(COUNT)]
    frozen = gc.get_freeze_count()  # by a campaign that ran here before

    def ask(number: int) -> tuple[int, int, bool]:
        return cases[number].number, os.getpid(), "looked_at" in vars(cases[number])

    with answers(ask, COUNT, young) as found:
        assert [case.looked_at for case in cases] == list(range(COUNT))
        told = list(found)
    assert [number for number, _, _ in told] == list(range(COUNT))
    assert os.getpid() not in {pid for _, pid, _ in told}
    assert not any(changed for _, _, changed in told)
    assert gc.get_freeze_count() == (0 if young else frozen)


def test_few_cases_are_asked_about_here() -> None:
    with answers(lambda _: os.getpid(), MANY - 1) as found:
        assert set(found) == {os.getpid()}


@pytest.mark.parametrize("count", [MANY - 1, MANY])
def test_error(count: int) -> None:
    """It reaches the caller; the processes end."""

    def ask(number: int) -> int:
        raise ValueError(f"case {number}")

    with pytest.raises(ValueError, match="case 0"), answers(ask, count) as found:
        next(found)
