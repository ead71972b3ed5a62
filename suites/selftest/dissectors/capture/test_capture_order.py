# SPDX-License-Identifier: GPL-2.0-only
"""Records are read in the order of their times; some must keep the order of the file."""

from __future__ import annotations

from pathlib import Path
from random import Random

from dissectors.capture import Note, read
from dissectors.capture.record import Record
from dissectors.capture.time_order import KEPT, ONE, SEVERAL, Order
from suites.selftest.dissectors.capture.capture_mutations import START, dialogue, record


def at(time: float, frame: int = 1) -> Record:
    return (START + time, frame, 1, b"", 0, 0, 0, 0)


def ordered(times: list[float], several: bool = False, batch: int = 7) -> list[float]:
    order = Order()
    if several:
        order.several()
    records = [at(time, frame) for frame, time in enumerate(times, 1)]
    result: list[Record] = []
    for start in range(0, len(records), batch):
        result += order.take(records[start : start + batch])
    result += order.rest()
    assert sorted(result, key=lambda one: one[1]) == records  # none is lost, none comes twice
    return [round(one[0] - START, 5) for one in result]


def test_records_in_order_pass_at_once() -> None:
    order = Order()
    batch = [at(n / 1000) for n in range(20)]
    assert order.take(batch) == batch
    assert order.rest() == []
    assert order.in_order


def test_a_slight_disorder_is_mended() -> None:
    random = Random(5)
    times = [round(n / 1000 + random.uniform(0, ONE / 2), 5) for n in range(300)]
    times[:2] = [0.002, 0.001]  # the first disorder is in the first batch
    assert ordered(times) == sorted(times)


def test_interfaces_that_hand_over_in_bursts_are_merged() -> None:
    one = [n / 10 for n in range(100)]
    other = [round(n / 10 + 0.05, 5) for n in range(100)]
    bursts = [time for n in range(0, 100, 10) for side in (one, other) for time in side[n : n + 10]]
    assert ordered(bursts, several=True) == sorted(bursts)


def test_a_clock_that_is_set_back_changes_no_order() -> None:
    times = [n / 100 for n in range(50)] + [n / 100 - 100 for n in range(50)]
    assert ordered(times) == times
    assert ordered(times, several=True) == times
    a_little = [n / 1000 for n in (*range(50), *range(40, 90))]  # 10 ms
    assert ordered(a_little) == a_little


def test_no_more_than_so_many_are_kept_back() -> None:
    order = Order()
    order.several()
    for n in range(10):
        order.take([at(n / 100 + k * SEVERAL / 1e6) for k in range(2000)])
    assert len(order.rest()) <= KEPT + 2000


def test_a_followed_file_that_ends_in_a_record_says_so(tmp_path: Path) -> None:
    path = record(tmp_path / "a.pcapng", dialogue(turns=3))
    path.write_bytes(path.read_bytes()[:-9])
    notes = [item.text for item in read([path], follow=lambda: False) if isinstance(item, Note)]
    assert notes == [f"{path}: the following ended in the middle of a record"]
